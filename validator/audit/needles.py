"""Needle requests: a fact hidden somewhere in a long text, and asked for at the end. A context that is cut loses it.

Everything follows from the plan's seed, in a domain of its own: a needle is never one of the audit's drawn requests, is
judged by no bound, and serves its contract alone. Whoever serves the model can recognise needles by their form.
"""

from collections.abc import Iterable

from models.requests import ChatMessage
from scoring.hashing import tagged_digest
from scoring.probes import ProbeDraws
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import DrawnProbe, estimate_prompt_tokens
from validator.audit.records import Exchange

NEEDLE_EVERY, NEEDLE_PLACE = 16, 9
MAX_NEEDLES = 12
"""One request in sixteen, and no more than these: each costs as much as several others."""
DEPTHS_PERCENT = (10, 50, 90)
SENTENCES = 24
"""About 330 tokens: every context has room for them, and a model of 135M parameters still finds the fact."""
ANSWER_TOKENS = 16
MIN_BUDGET_TOKENS = 20_000
"""An audit with a smaller budget has better use for it."""
STRATUM = "needle"

LOOKS = ("old", "quiet", "green", "small", "bright", "narrow", "wooden", "empty", "tall", "busy", "round", "famous")
PLACES = ("garden", "library", "harbour", "market", "bridge", "mill", "station", "orchard", "school", "tower")
TOWNS = ("Lisbon", "Oslo", "Turin", "Leeds", "Ghent", "Porto", "Basel", "Malmo", "Nantes", "Graz", "Split", "Cork")
LINKS = ("stands near", "faces", "was built beside", "lies behind", "looks over", "leads to", "is older than")


def can_afford(budget_tokens: int | None) -> bool:
    """Return whether an audit with this budget asks for needles."""
    return budget_tokens is None or budget_tokens >= MIN_BUDGET_TOKENS


def find_depth(index: int) -> int | None:
    """Return at which depth in per cent request `index` hides a needle, None when it is another request."""
    number, place = divmod(index, NEEDLE_EVERY)
    return DEPTHS_PERCENT[number % len(DEPTHS_PERCENT)] if place == NEEDLE_PLACE and number < MAX_NEEDLES else None


def compute_needle_seed(plan: ProbingPlan, index: int) -> bytes:
    """Return the 32-byte seed of the needle of request `index`."""
    return tagged_digest("quiver-audit-needle", plan.seed, index.to_bytes(8, "big"))


def build_needle(seed: bytes, depth_percent: int) -> DrawnProbe:
    """Return the request that hides the fact of a seed at a depth, asked at temperature 0."""
    draws = ProbeDraws(seed, "quiver-needle-text")
    lines = [
        f"The {draws.pick(LOOKS)} {draws.pick(PLACES)} of {draws.pick(TOWNS)} {draws.pick(LINKS)} "
        f"the {draws.pick(LOOKS)} {draws.pick(PLACES)}."
        for _ in range(SENTENCES)
    ]
    fact = _draw_place(seed)
    lines.insert(SENTENCES * depth_percent // 100, f"The secret code of the {fact} is {find_code(seed)}.")
    text = f"{' '.join(lines)}\n\nWhat is the secret code of the {fact}? Answer in one short sentence."
    return DrawnProbe(
        messages=(ChatMessage(role="user", content=text),),
        max_tokens=ANSWER_TOKENS,
        temperature=0.0,
        top_p=1.0,
        sampler_seed=ProbeDraws(seed, "quiver-needle-sampler").below(2**53),
        stratum=build_stratum(depth_percent),
    )


def estimate_tokens(plan: ProbingPlan, index: int) -> int | None:
    """Return what the needle of request `index` costs, prompt and answer; None when it is another request."""
    depth = find_depth(index)
    if depth is None:
        return None
    return estimate_prompt_tokens(build_needle(compute_needle_seed(plan, index), depth).messages) + ANSWER_TOKENS


def list_needles(plan: ProbingPlan) -> Iterable[tuple[bytes, int]]:
    """Yield seed and depth of every needle of a plan."""
    for index in range(min(plan.requests, NEEDLE_EVERY * MAX_NEEDLES)):
        depth = find_depth(index)
        if depth is not None:
            yield compute_needle_seed(plan, index), depth


def is_needle(exchange: Exchange) -> bool:
    """Return whether an exchange is a needle that follows from the audit's plan."""
    return exchange.is_drawn and parse_stratum(exchange.stratum) is not None


def find_code(seed: bytes) -> str:
    """Return the four digits that are hidden."""
    return str(1000 + ProbeDraws(seed, "quiver-needle-code").below(9000))


def build_stratum(depth_percent: int) -> str:
    """Return how needles of a depth are called in journals and transcripts."""
    return f"{STRATUM}-{depth_percent}"


def parse_stratum(stratum: str | None) -> int | None:
    """Return the depth of a needle's stratum, None for those of other requests."""
    return next((depth for depth in DEPTHS_PERCENT if stratum == build_stratum(depth)), None)


def _draw_place(seed: bytes) -> str:
    return ProbeDraws(seed, "quiver-needle-place").pick(PLACES)
