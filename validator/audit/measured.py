"""Latency and throughput of an audit's answers: quantiles of what was measured on the way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from validator.audit.progress import count_answer_tokens
from validator.audit.records import Exchange, Outcome

MIN_TOKENS_FOR_SPEED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Of `count` values the smallest, the median, the one that 95 in 100 do not exceed, and the largest."""

    count: int
    low: float
    median: float
    p95: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Milliseconds to the first token (streamed answers) and to the last, and tokens a second; None without answers."""

    first_token_ms: Quantiles | None
    total_ms: Quantiles | None
    tokens_per_s: Quantiles | None


def measure(outcomes: Iterable[Outcome]) -> Measured:
    """Return the quantiles over the answers that came."""
    exchanges = [outcome for outcome in outcomes if isinstance(outcome, Exchange)]
    return Measured(
        first_token_ms=compute_quantiles([exchange.timing.first_token_ms for exchange in exchanges]),
        total_ms=compute_quantiles([exchange.timing.total_ms for exchange in exchanges]),
        tokens_per_s=compute_quantiles([compute_tokens_per_s(exchange) for exchange in exchanges]),
    )


def compute_tokens_per_s(exchange: Exchange) -> float | None:
    """Return how fast an answer was written: after its first token when that was seen, else over all of it.

    None for answers of less than MIN_TOKENS_FOR_SPEED tokens, whose time says more about the network.
    """
    count, timing = count_answer_tokens(exchange), exchange.timing
    if count < MIN_TOKENS_FOR_SPEED or not timing.total_ms:
        return None
    if timing.first_token_ms is None:
        return 1000 * count / timing.total_ms
    written_ms = timing.total_ms - timing.first_token_ms
    # An endpoint that holds its tokens back and sends them at once has no speed of writing.
    return 1000 * (count - 1) / written_ms if written_ms > 1 else None


def compute_quantiles(values: Sequence[float | None]) -> Quantiles | None:
    """Return the quantiles of the values that there are, None when there are none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    last = len(known) - 1
    return Quantiles(
        count=len(known),
        low=known[0],
        median=known[last // 2] if last % 2 == 0 else (known[last // 2] + known[last // 2 + 1]) / 2,
        p95=known[min(last, -(-95 * len(known) // 100) - 1)],
        high=known[last],
    )
