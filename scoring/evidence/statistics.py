"""From what the reference pass says about one answer to bounded statistics of the request: g in [0, 1], integer ppm.

The unit is the request: tokens of one answer depend on each other. Rules kept by every statistic:

* it grows when the answer fits the claimed weights and seed worse, and an answer without information scores 0 (no
  tokens, a deterministic answer, no seed for a seeded statistic): silence must not look like a cheat;
* it is clipped at the level of the request, at several scales: the fine ones see small deviations, the coarse ones
  end gross ones in few requests (verification section 5: the price of a bound is proportional to the range);
* sums over tokens are divided by at least half of max_tokens, so that one odd token of a very short answer is not
  taken for the rate of a whole one.

Margins and gaps are in logit units (Token-DiFR, arXiv 2511.20621, has the mean margin). None of these numbers is
trusted to be small for honest runs: the tolerance profile measures it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs
from scoring.records import PPM

EXCESS_MARGIN = 0.15
"""Logit units that honest bf16 arithmetic hardly ever costs a token: nine in ten of its flips stay below."""
GAP_NOISE_HONEST = 0.08
GAP_NOISE_ALTERNATIVES = (0.2, 0.5, 1.2)
TEXT_RATIO_LIMIT = 4.0


class TokenColumns(Protocol):
    """One number per output position, as the reference engine returns them.

    `logprob` and `grid_logprob` (a row of alternatives per position) are natural logarithms and may be -inf. `margin`
    and `gap` are None without a seed; a margin is 0 for the seeded winner and inf for a token that the filter removed.
    """

    @property
    def logprob(self) -> Sequence[float]: ...
    @property
    def grid_logprob(self) -> Sequence[Sequence[float]]: ...
    @property
    def margin(self) -> Sequence[float] | None: ...
    @property
    def gap(self) -> Sequence[float] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticSpec:
    """A versioned statistic: its id is sealed in plans, so its formula never changes under the same id."""

    id: str
    needs_seed: bool
    compute: Callable[[TokenColumns, int], float]


def compute_statistics(tokens: TokenColumns, max_tokens: int, ids: Sequence[str] | None = None) -> tuple[int, ...]:
    """Return g of one answer in ppm, in the order of `ids` (the plan's `statistic_ids`; None: all, registry order).

    Positions beyond `max_tokens` are not looked at. Raises InvalidInput on an unknown id or on columns that hold NaN.
    """
    if max_tokens < 1:
        raise InvalidInput("must be at least 1", "max_tokens")
    _refuse_nan(tokens)
    specs = STATISTICS if ids is None else tuple(find_statistic(name) for name in ids)
    return tuple(to_ppm(_compute_one(spec, tokens, max_tokens)) for spec in specs)


def find_statistic(statistic_id: str) -> StatisticSpec:
    """Return the statistic of an id; raises InvalidInput when this version does not know it."""
    for spec in STATISTICS:
        if spec.id == statistic_id:
            return spec
    raise InvalidInput(f"unknown statistic {statistic_id!r}", "statistic")


def _refuse_nan(tokens: TokenColumns) -> None:
    columns = (tokens.logprob, tokens.margin or (), tokens.gap or (), *tokens.grid_logprob)
    if any(math.isnan(value) for column in columns for value in column):
        raise InvalidInput("the token statistics hold NaN", "tokens")


def _compute_one(spec: StatisticSpec, tokens: TokenColumns, max_tokens: int) -> float:
    if not len(tokens.logprob) or (spec.needs_seed and (tokens.margin is None or tokens.gap is None)):
        return 0.0
    return spec.compute(tokens, max_tokens)


def to_ppm(value: float) -> int:
    """Return a number as integer ppm of [0, 1], rounded down."""
    # Rounded down: rounding is one more thing that may not make an answer look worse.
    return math.floor(min(max(value, 0.0), 1.0) * PPM)


def _mean_margin(beyond: float, limit: float, clip: float) -> Callable[[TokenColumns, int], float]:
    """Return the mean over tokens of min(max(margin - beyond, 0), limit) / limit, clipped at `clip`, in units of it."""

    def compute(tokens: TokenColumns, max_tokens: int) -> float:
        margins = (tokens.margin or ())[:max_tokens]
        total = sum(min(max(margin - beyond, 0.0), limit) for margin in margins)
        return total / (limit * max(len(margins), max_tokens / 2) * clip)

    return compute


def _gap_ratio(tokens: TokenColumns, max_tokens: int) -> float:
    """Return the one-sided squashed likelihood ratio of wide against honest noise in the scores."""
    return squash(compute_noise_log_ratio(tokens, max_tokens))


def compute_noise_log_ratio(tokens: TokenColumns, max_tokens: int) -> float:
    """Return the log likelihood ratio (nats) of wide against honest noise in the seeded scores; 0 without tokens.

    Under Laplace noise of scale b in the difference of two scores, the seeded winner with gap d is kept with
    probability 1 - exp(-d/b)/2, and another token with margin m is taken with about exp(-m/b)/2.
    """
    margins, gaps = (tokens.margin or ())[:max_tokens], (tokens.gap or ())[:max_tokens]
    ratios = []
    for noise in GAP_NOISE_ALTERNATIVES:
        pairs = zip(margins, gaps, strict=True)
        ratios.append(sum(_compare_noise(margin, gap, noise) for margin, gap in pairs))
    return log_mean_exp(ratios)


def _compare_noise(margin: float, gap: float, noise: float) -> float:
    if margin > 0.0:
        limited = min(margin, 2.0)  # one wild token is not taken for certainty
        return limited / GAP_NOISE_HONEST - limited / noise
    return math.log1p(-0.5 * math.exp(-gap / noise)) - math.log1p(-0.5 * math.exp(-gap / GAP_NOISE_HONEST))


def _text_grid(tokens: TokenColumns, max_tokens: int) -> float:
    """Return the one-sided squashed likelihood ratio of the temperature x top-p grid against the claim, text only.

    The alternatives of a position are clipped at exp(4) against the claim; the mixture is over whole answers.
    """
    rows = tokens.grid_logprob[:max_tokens]
    claimed = tokens.logprob[:max_tokens]
    totals = [0.0] * (len(rows[0]) if rows else 0)
    for row, logprob in zip(rows, claimed, strict=True):
        for index, alternative in enumerate(row):
            # -inf against -inf says nothing about this alternative, and is not a number either
            ratio = 0.0 if alternative == logprob else alternative - logprob
            totals[index] += min(ratio, TEXT_RATIO_LIMIT)
    return squash(log_mean_exp(totals)) if totals else 0.0


def squash(log_ratio: float) -> float:
    """Return 1 - exp(-max(llr, 0)/2): 0 for every answer that the alternative does not explain better."""
    return -math.expm1(-max(log_ratio, 0.0) / 2)


def log_mean_exp(values: Sequence[float]) -> float:
    """Return the logarithm of the mean of exponentials, -inf for none."""
    return add_logs(values) - math.log(len(values)) if values else -math.inf


STATISTICS: tuple[StatisticSpec, ...] = (
    StatisticSpec(id="seeded-margin-fine-v1", needs_seed=True, compute=_mean_margin(0.0, 0.5, 0.05)),
    StatisticSpec(id="seeded-margin-coarse-v1", needs_seed=True, compute=_mean_margin(0.0, 0.5, 0.2)),
    StatisticSpec(id="seeded-excess-v1", needs_seed=True, compute=_mean_margin(EXCESS_MARGIN, 0.5, 0.05)),
    StatisticSpec(id="seeded-gap-ratio-v1", needs_seed=True, compute=_gap_ratio),
    StatisticSpec(id="text-grid-ratio-v2", needs_seed=False, compute=_text_grid),
)
"""Every statistic of this version, in the order of a profile."""

STATISTIC_IDS: tuple[str, ...] = tuple(spec.id for spec in STATISTICS)
