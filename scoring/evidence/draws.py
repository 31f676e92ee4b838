"""Uniform numbers that follow from a beacon: the only randomness of the evidence, and anybody can draw it again."""

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest


def compute_uniform(beacon: bytes, purpose: str, item: bytes, index: int) -> float:
    """Return the number in (0, 1) of place `index` of `item` (a request's nonce, an epoch) for one purpose.

    Condition: the beacon became known after the data that it randomises was fixed, and nobody could choose it; then the
    numbers are independent uniforms, as far as keccak256 is a random function. The first 52 bits of
    `tagged_digest("quiver-uniform", ...)` plus one half, over 2**52: exact in a float, never 0 and never 1.
    Raises InvalidInput unless the beacon has 32 bytes and the index fits in 64 bits.
    """
    if len(beacon) != 32:
        raise InvalidInput(f"expected 32 bytes, got {len(beacon)}", "beacon")
    if not 0 <= index < 2**64:
        raise InvalidInput("must be from 0 to 2**64 - 1", "index")
    digest = tagged_digest("quiver-uniform", purpose.encode(), beacon, item, index.to_bytes(8, "big"))
    return ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2.0**52
