"""What the judge is worth: measured once, in a process of its own, and said plainly."""

from validator.devnet.network import Network


def describe_judge(network: Network) -> str:
    """Return a sentence about the local judge's reliability and its weight in the score."""
    return "not measured"
