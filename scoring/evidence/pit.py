"""Bets on the probability integral transform: they find what no alternative named, from the text alone.

`u_j = F(y-) + U p(y)`, F the verifier's distribution function over tokens ordered by decreasing probability, y the
token at position j and U from the beacon, is uniform given everything before when y was drawn from p (M. Rosenblatt
1952; the randomised form for discrete outcomes: A. E. Brockwell, "Universal residuals", 2007). An honest provider draws
from q, the same weights in its own numerics, so u is nearly uniform. Two kinds of bets, each with the bound it needs:

**Adaptive histograms.** For each token a density b on [0, 1] that depends on what came before alone, of range
`max b - min b <= R`. *Assumed*: with d_j the total variation distance of q_j and p_j (filters applied; given the past),
`d_1 + ... + d_n <= B(n) = intercept + slope n` fails for an honest answer of n tokens with probability at most pi,
given everything before the request. Where the density ratio q/p is known within `1 - eps ... 1 + eps`, d_j <= eps / 2.
Then

    e = min(exp(-R B(n)) b_1(u_1) ... b_n(u_n), C) / (1 + C pi)

is an e-value for *every* such b. Proof: u is uniform on an interval p_j(y) wide when y is drawn, which q_j does with
probability q_j(y) (what p_j excludes sits at u = 1), so the law G of u_j given the past has a distance of at most d_j
from uniform. For b of integral 1, `E[b(u_j)] = 1 + integral of (b - min b) d(G - uniform) <= 1 + R d_j`. Hence
`W_j = prod b_i / (1 + R d_i)` is a supermartingale and E[W_n] <= 1. Where the sum stays below B(n),
`exp(-R B(n)) prod b_i <= W_n`, as `1 + x <= exp(x)`; elsewhere, with probability at most pi, the capped product is at
most C. So its mean is at most 1 + C pi. QED.

**Beta bets** have unbounded densities and no bound of that kind. They are a finite dictionary of fixed bets: the
product of Beta(a, b) densities over an answer is a likelihood ratio against a named alternative (`ratios`), with its
own cap and calibrated U. An average of them with weights from the past has a mean of at most their largest U.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs, average_logs
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.evidence.draws import compute_uniform
from scoring.evidence.ratios import DEFAULT_STAKE
from scoring.records import PPM

BIN_COUNTS = (2, 4, 8, 16)
"""Histograms that are averaged; each refines the one before."""
RANGES = (0.05, 0.15, 0.5, 1.5)
"""Bets are flattened to these ranges R; each range is a martingale of its own."""
BETA_SHAPES = ((0.8, 1.0), (0.9, 1.0), (1.1, 1.0), (1.25, 1.0), (1.0, 0.8), (1.0, 1.25), (0.9, 0.9), (1.1, 1.1))
EDGE = 2.0**-53


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftBound:
    """How far honest numerics may be from the verifier's: total variation over an answer of n tokens, see the module.

    At most `intercept + slope n`, but with probability `miss_probability` (pi).
    """

    slope: float
    intercept: float
    miss_probability: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.slope < math.inf and 0.0 <= self.intercept < math.inf):
            raise InvalidInput("must not be negative", "slope")
        if not 0.0 <= self.miss_probability < 1.0:
            raise InvalidInput("must be at least 0 and below 1", "miss_probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """What was seen of u: counts by bin for each bin count, and the logarithm of what each would have earned."""

    counts: tuple[tuple[int, ...], ...] = tuple((0,) * bins for bins in BIN_COUNTS)
    log_products: tuple[float, ...] = (0.0,) * len(BIN_COUNTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PitMartingales:
    """Histograms by context (classes of positions that are told apart), and the wealth of each range R in nats."""

    drift: DriftBound
    log_cap: float
    histograms: tuple[Histogram, ...]
    log_products: tuple[float, ...] = (0.0,) * len(RANGES)
    requests: int = 0
    missing: int = 0

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the average over ranges: one e-process."""
        return average_logs(self.log_products)


def compute_pits(
    pit_low: Sequence[float], pit_high: Sequence[float], beacon: bytes, request_id: bytes
) -> tuple[float, ...]:
    """Return u of each position from `[F(y-), F(y)]` and the beacon, inside (0, 1).

    Condition: the beacon was unknown when the answer was fixed (see `draws`). A token that the filter removed has an
    interval of length 0 at the top. Raises InvalidInput on intervals that are none.
    """
    if len(pit_low) != len(pit_high):
        raise InvalidInput(f"{len(pit_low)} lower and {len(pit_high)} upper ends", "pit_low")
    values = []
    for index, (low, high) in enumerate(zip(pit_low, pit_high, strict=True)):
        if not 0.0 <= low <= high <= 1.0 + 1e-6:
            raise InvalidInput(f"position {index} holds no interval of [0, 1]", "pit_low")
        value = low + compute_uniform(beacon, "pit", request_id, index) * (high - low)
        values.append(min(max(value, EDGE), 1.0 - EDGE))
    return tuple(values)


def build_pit_martingales(drift: DriftBound, log_cap: float, contexts: int = 1) -> PitMartingales:
    """Return the martingales before the first request, with the drift and the cap C they are divided by."""
    if not 0.0 < log_cap < math.inf:
        raise InvalidInput("expected the logarithm of a number above 1", "log_cap")
    if contexts < 1:
        raise InvalidInput("must be at least 1", "contexts")
    return PitMartingales(drift=drift, log_cap=log_cap, histograms=(Histogram(),) * contexts)


def fold_pits(
    martingales: PitMartingales, pits: Sequence[float] | None, contexts: Sequence[int] | None = None
) -> PitMartingales:
    """Return the martingales after one more request; None is a request without an answer.

    Condition: the module's for histograms; `contexts` (one per position, all 0 when None) follow from what is known
    before the token, such as the entropy of the verifier's distribution. Each factor is staked like a likelihood
    ratio, `1 - h + h e`, so a missing answer bets `1 - h`, and learns nothing.
    """
    if pits is None:
        lost = tuple(value + math.log1p(-DEFAULT_STAKE) for value in martingales.log_products)
        return replace(
            martingales, log_products=lost, requests=martingales.requests + 1, missing=martingales.missing + 1
        )
    places = (0,) * len(pits) if contexts is None else tuple(contexts)
    if len(places) != len(pits) or not all(0 <= place < len(martingales.histograms) for place in places):
        raise InvalidInput("expected one known context per position", "contexts")
    histograms, totals = list(martingales.histograms), [0.0] * len(RANGES)
    for u, place in zip(pits, places, strict=True):
        bets = compute_bets(histograms[place], u)
        totals = [total + math.log(bet) for total, bet in zip(totals, bets, strict=True)]
        histograms[place] = fold_histogram(histograms[place], u)
    factors = [
        _compute_log_factor(martingales, total, limit, len(pits)) for total, limit in zip(totals, RANGES, strict=True)
    ]
    return replace(
        martingales,
        histograms=tuple(histograms),
        log_products=tuple(a + b for a, b in zip(martingales.log_products, factors, strict=True)),
        requests=martingales.requests + 1,
    )


def compute_density(histogram: Histogram) -> tuple[float, ...]:
    """Return the density that the past predicts, constant on each of the finest bins, of integral 1.

    In each histogram of K bins the estimate of Krichevsky and Trofimov ("The performance of universal encoding", 1981),
    `K (count + 1/2) / (total + K/2)`; the histograms are averaged by what each has earned so far.
    """
    log_total = add_logs(histogram.log_products)
    density = [0.0] * BIN_COUNTS[-1]
    for bins, counts, log_product in zip(BIN_COUNTS, histogram.counts, histogram.log_products, strict=True):
        scale = math.exp(log_product - log_total) * bins / (sum(counts) + bins / 2)
        width = BIN_COUNTS[-1] // bins
        for index in range(BIN_COUNTS[-1]):
            density[index] += scale * (counts[index // width] + 0.5)
    return tuple(density)


def compute_bets(histogram: Histogram, u: float) -> tuple[float, ...]:
    """Return b(u) of each range R: the predicted density, drawn towards 1 until its range is at most R."""
    density = compute_density(histogram)
    spread = max(density) - min(density)
    excess = density[_find_bin(u, BIN_COUNTS[-1])] - 1.0
    return tuple(1.0 + (excess if spread <= limit else excess * limit / spread) for limit in RANGES)


def fold_histogram(histogram: Histogram, u: float) -> Histogram:
    """Return the histogram after one more u."""
    counts, log_products = [], []
    for bins, old, log_product in zip(BIN_COUNTS, histogram.counts, histogram.log_products, strict=True):
        place = _find_bin(u, bins)
        log_products.append(log_product + math.log(bins * (old[place] + 0.5) / (sum(old) + bins / 2)))
        counts.append((*old[:place], old[place] + 1, *old[place + 1 :]))
    return Histogram(counts=tuple(counts), log_products=tuple(log_products))


def compute_beta_log_ratios(pits: Sequence[float]) -> dict[str, float]:
    """Return the log product of each Beta density of the dictionary over one answer, by name.

    Condition: none for this number; the bet on it is `ratios.RatioBet`, whose U must be calibrated on honest answers
    (and covers tokens that depend on each other). An answer without tokens gives 0.
    """
    _check_pits(pits)
    log_u = math.fsum(math.log(u) for u in pits)
    log_rest = math.fsum(math.log1p(-u) for u in pits)
    return {
        f"beta-{a:g}-{b:g}": (a - 1) * log_u
        + (b - 1) * log_rest
        + len(pits) * (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
        for a, b in BETA_SHAPES
    }


def calibrate_drift(
    development: Sequence[tuple[int, float]], hold_out: Sequence[tuple[int, float]], log_one_over_delta: float
) -> DriftBound:
    """Return the drift bound of honest requests, each a pair (tokens, total variation summed over them).

    The line is drawn through the development requests: their mean per token, raised until none is above it. pi is an
    upper bound, with probability 1 - delta, of the share above the line, from hold-out requests that did not choose it.
    Condition: both are independent requests of the drawn prompts, of the stratum and cell that the bound is for.
    """
    if not development or not hold_out:
        raise InvalidInput("needs development and hold-out requests", "development")
    slope = math.fsum(total for _, total in development) / max(1, sum(tokens for tokens, _ in development))
    intercept = max(0.0, *(total - slope * tokens for tokens, total in development))
    above_ppm = [PPM * (total > intercept + slope * tokens) for tokens, total in hold_out]
    miss_ppm = compute_upper_bound_ppm(above_ppm, log_one_over_delta)
    return DriftBound(slope=slope, intercept=intercept, miss_probability=miss_ppm / PPM)


def _compute_log_factor(martingales: PitMartingales, log_product: float, limit: float, tokens: int) -> float:
    drift = martingales.drift
    allowance = limit * (drift.intercept + drift.slope * tokens)
    log_divisor = math.log1p(math.exp(martingales.log_cap) * drift.miss_probability)
    log_e = min(log_product - allowance, martingales.log_cap) - log_divisor
    return add_logs((math.log1p(-DEFAULT_STAKE), math.log(DEFAULT_STAKE) + log_e))


def _find_bin(u: float, bins: int) -> int:
    _check_pits((u,))
    return int(u * bins)


def _check_pits(pits: Sequence[float]) -> None:
    if not all(0.0 < u < 1.0 for u in pits):
        raise InvalidInput("expected numbers above 0 and below 1", "pits")
