"""The error budget of every rule of the library, by simulation: honest nulls of many kinds, looked at all the time.

Ville's inequality promises that an honest provider's wealth *ever* reaches 1/a with probability at most a. Each test
runs 10^5 martingales under a null, takes the largest wealth of each (the most that optional stopping could choose), and
asks whether the share at or above 1/a is compatible with a: Clopper and Pearson's lower bound of it, at one in a
million, is not above a. The rules run in numpy, all martingales at once; small tests hold each simulation to the
library's own functions.

Broken rules are kept at the end. They must fail the same check: that is the test of the tests.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.evidence.algebra import (
    CusumDetector,
    StartMixture,
    calibrate_p_value,
    compute_average_run_length,
    fold_cusum,
    fold_start,
    minimise_logs,
)
from scoring.evidence.betting import (
    MAX_SHARE,
    ONS_STEP,
    SHARES,
    Rule,
    build_bettors,
    compute_log_wealth,
    fold_bettors,
)
from scoring.evidence.change import JUMP_SHARE, JUMPS, POWERS, ChangeState, fold_change_epoch
from scoring.evidence.ledgers import compute_case_alpha
from scoring.evidence.pit import (
    BETA_SHAPES,
    BIN_COUNTS,
    RANGES,
    DriftBound,
    build_pit_martingales,
    compute_beta_log_ratios,
    fold_pits,
)
from scoring.evidence.ratios import DEFAULT_STAKE, RatioBet, build_martingales, fold_request

Floats = NDArray[np.float64]
RUNS = 100_000
ALPHAS = (0.05, 0.01, 1e-3)
MU = 0.08
CAP = 100.0


# The check.


def find_overspent(peaks: Floats) -> list[float]:
    """Return the error budgets a that the largest wealths overspend: P(at least so many of n | a) below 1e-6."""
    counts = {alpha: int(np.sum(peaks >= 1 / alpha)) for alpha in ALPHAS}
    return [alpha for alpha, count in counts.items() if compute_binomial_tail(len(peaks), alpha, count) < 1e-6]


def compute_binomial_tail(n: int, p: float, count: int) -> float:
    """Return P(X >= count) of X binomial(n, p): Clopper and Pearson's lower bound is where it equals the level."""
    if count <= n * p:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(count, min(n, count + 5000) + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def test_the_tail_is_that_of_the_binomial():
    assert compute_binomial_tail(10, 0.3, 5) == pytest.approx(0.150268, abs=1e-6)
    assert compute_binomial_tail(100_000, 0.01, 1000) == 1.0
    assert compute_binomial_tail(100_000, 0.01, 1160) < 1e-6 < compute_binomial_tail(100_000, 0.01, 1120)


def test_the_check_accepts_the_worst_that_is_allowed():
    # Wealth that stakes everything on one event of probability a spends exactly a.
    rng = np.random.default_rng(1)
    peaks = 1 / rng.uniform(0, 1, RUNS)
    assert find_overspent(peaks) == []
    assert find_overspent(peaks * 2) == list(ALPHAS)


# Bounded means: fixed shares, aGRAPA and ONS, averaged.


class Bettors:
    """`betting.build_bettors` on one statistic, for many runs at once."""

    def __init__(self, runs: int, mu: float = MU) -> None:
        self.mu, self.count = mu, 0
        self.fixed = np.ones((len(SHARES), runs))
        self.agrapa, self.ons = np.ones(runs), np.ones(runs)
        self.total, self.spread = np.zeros(runs), np.zeros(runs)
        self.ons_share, self.curvature = np.zeros(runs), np.ones(runs)
        self.agrapa_share = self.choose_agrapa()

    def choose_agrapa(self) -> Floats:
        excess = (0.5 + self.total) / (self.count + 1) - self.mu
        best = self.mu * excess / ((0.25 + self.spread) / (self.count + 1) + excess**2)
        return np.clip(best, 0.0, MAX_SHARE)

    def step(self, g: Floats) -> None:
        surplus = g / self.mu - 1
        self.fixed *= np.minimum(1 + np.array(SHARES)[:, None] * surplus, CAP)
        self.agrapa *= np.minimum(1 + self.agrapa_share * surplus, CAP)
        self.ons *= np.minimum(1 + self.ons_share * surplus, CAP)
        self.count, self.total = self.count + 1, self.total + g
        self.spread += (g - (0.5 + self.total) / (self.count + 1)) ** 2
        self.agrapa_share = self.choose_agrapa()
        gradient = surplus / (1 + self.ons_share * surplus)
        self.curvature += gradient**2
        self.ons_share = np.clip(self.ons_share + ONS_STEP * gradient / self.curvature, 0.0, MAX_SHARE)

    @property
    def wealth(self) -> Floats:
        return (self.fixed.sum(axis=0) + self.agrapa + self.ons) / (len(SHARES) + 2)


Draw = Callable[[np.random.Generator, Floats, Floats], Floats]
"""Next g of every run, from its wealth and its last g: all that an adversary within the null may look at."""


def independent(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    return (rng.random(len(wealth)) < MU).astype(float)


def smooth(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    return rng.beta(0.5, 0.5 * (1 - MU) / MU, len(wealth))


def heavy_tailed(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    """Pareto of infinite variance, clipped at 1: its mean is c / 0.1 (1 - (1 + 1/c)^-0.1) = 0.0795."""
    return np.minimum(rng.pareto(1.1, len(wealth)) * 0.0258, 1.0)


def dependent(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    """Bad answers come in runs of other shapes: the law depends on the last answer, the mean never exceeds mu."""
    calm, wild = rng.uniform(0, 2 * MU, len(wealth)), independent(rng, wealth, last)
    return np.where(last > MU, wild, calm)


def shifting_strata(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    """The provider chooses which stratum comes next: at mu while it is ahead, far below while it is behind."""
    return np.where(wealth > 0.5, independent(rng, wealth, last), rng.uniform(0, 0.02, len(wealth)))


def omitting(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    """Good answers are left out after they were seen; each counts as g = 0."""
    g = smooth(rng, wealth, last)
    return np.where((g < MU) & (rng.random(len(wealth)) < 0.9), 0.0, g)


def adversarial(rng: np.random.Generator, wealth: Floats, last: Floats) -> Floats:
    """Within the null, and out for trouble: no risk while behind, the widest spread while ahead, means below mu."""
    wide = independent(rng, wealth, last)
    return np.where(wealth > 3.0, wide, np.where(wealth > 0.5, (rng.random(len(wealth)) < MU / 0.4) * 0.4, MU))


NULLS = [independent, smooth, heavy_tailed, dependent, shifting_strata, omitting, adversarial]


def simulate_bettors(draw: Draw, runs: int = RUNS, requests: int = 50, mu: float = MU) -> Floats:
    """Return the largest wealth that each run ever reached."""
    rng, bettors = np.random.default_rng(21), Bettors(runs, mu)
    peaks, last = np.ones(runs), np.zeros(runs)
    for _ in range(requests):
        last = draw(rng, bettors.wealth, last)
        bettors.step(last)
        peaks = np.maximum(peaks, bettors.wealth)
    return peaks


@pytest.mark.parametrize("draw", NULLS)
def test_bets_on_a_mean_stay_within_the_budget(draw):
    assert find_overspent(simulate_bettors(draw)) == []


@pytest.mark.parametrize("draw", NULLS)
def test_the_nulls_have_a_mean_of_at_most_mu_whatever_came_before(draw):
    rng = np.random.default_rng(3)
    for wealth in (0.1, 2.0, 50.0):
        for last in (0.0, 1.0):
            g = draw(rng, np.full(200_000, wealth), np.full(200_000, last))
            assert g.min() >= 0 and g.max() <= 1
            assert g.mean() <= MU + 4.5 * g.std() / math.sqrt(len(g))


def test_the_simulated_bettors_are_the_librarys():
    answers = np.random.default_rng(5).beta(0.3, 1.5, 40)
    simulated, library = Bettors(1), build_bettors([MU])
    for g in answers:
        simulated.step(np.array([g]))
        library = fold_bettors(library, (float(g),), CAP)
        assert math.log(simulated.wealth[0]) == pytest.approx(compute_log_wealth(library), abs=1e-9)
    assert {bettor.rule for bettor in library} == set(Rule)


def test_contracts_that_honest_answers_break_at_their_rate_stay_within_the_budget():
    mu = 0.004
    peaks = simulate_bettors(lambda rng, wealth, _: (rng.random(len(wealth)) < mu).astype(float), mu=mu)
    assert find_overspent(peaks) == []


# Start mixtures, and calibrated p-values as the e-values inside.


def simulate_starts(factors: Callable[[np.random.Generator], Floats], steps: int = 60) -> Floats:
    """Return the largest wealth of the start mixture (`algebra.fold_start`) over factors of all runs."""
    rng = np.random.default_rng(31)
    running, peaks = 0.0, 1.0
    for number in range(1, steps + 1):
        running = (running + 1 / (number * (number + 1))) * factors(rng)
        peaks = np.maximum(peaks, running + 1 / (number + 1))
    return peaks


def draw_calibrated(rng: np.random.Generator) -> Floats:
    x = rng.exponential(1.0, RUNS) + 1e-3  # p = exp(-x)
    return (np.expm1(x) - x) / x**2


def draw_calibrated_discrete(rng: np.random.Generator) -> Floats:
    x = -np.log(np.ceil(rng.uniform(0, 1, RUNS) * 50) / 50) + 1e-3  # a permutation test of 50: never below 1/50
    return (np.expm1(x) - x) / x**2


def draw_spread(rng: np.random.Generator) -> Floats:
    return 1 + 0.9 / MU * ((rng.random(RUNS) < MU) - MU)


@pytest.mark.parametrize("factors", [draw_spread, draw_calibrated, draw_calibrated_discrete])
def test_a_mixture_over_starts_stays_within_the_budget(factors):
    assert find_overspent(simulate_starts(factors)) == []


def test_the_simulated_starts_and_calibrators_are_the_librarys():
    x = np.random.default_rng(5).exponential(1.0, 30) + 1e-3
    values = (np.expm1(x) - x) / x**2
    assert [math.log(value) for value in values] == pytest.approx([calibrate_p_value(math.exp(-y)) for y in x])
    mixture, largest = StartMixture(), 0.0
    for value in values:
        mixture = fold_start(mixture, math.log(value))
        largest = max(largest, mixture.log_wealth)
    queue = iter(values)
    peaks = simulate_starts(lambda _: np.array([next(queue)]), steps=30)
    assert math.log(peaks[0]) == pytest.approx(largest)


# Likelihood ratios of infinite variance in practice, with honest numerics that let the mean slip above 1.

SLIP = 1.08


def simulate_ratios(
    log_bound: float, runs: int = RUNS, requests: int = 40, widths: Sequence[float] = (0.5, 1.5, 3.0)
) -> Floats:
    """Return the largest wealth of three alternatives that depend on each other, lognormal ratios of mean 1.08.

    The adversary widens every ratio while the run is ahead. Cap 100, plain and tempered bets on each alternative.
    """
    rng = np.random.default_rng(41)
    products, peaks = np.ones((2, len(widths), runs)), np.ones(runs)
    for _ in range(requests):
        z = rng.standard_normal(runs)
        ahead = np.where(products.mean(axis=(0, 1)) > 2.0, 1.3, 1.0)
        for place, width in enumerate(widths):
            sigma = width * ahead
            log_ratio = sigma * z - sigma**2 / 2 + math.log(SLIP)
            for row, temper in enumerate((1.0, 0.5)):
                products[row, place] *= compute_ratio_factors(log_ratio, log_bound, temper)
        peaks = np.maximum(peaks, products.mean(axis=(0, 1)))
    return peaks


def compute_ratio_factors(log_ratio: Floats, log_bound: float, temper: float) -> Floats:
    """Return `1 - h + h (min(LR, 100) / max(1, U)) ** temper`."""
    tempered = temper * (np.minimum(log_ratio, math.log(CAP)) - max(log_bound, 0.0))
    return 1 - DEFAULT_STAKE + DEFAULT_STAKE * np.exp(tempered)


@pytest.mark.parametrize("widths", [(0.5, 1.5, 3.0), (0.2, 0.3, 0.4)], ids=["heavy tails", "narrow"])
def test_likelihood_ratios_stay_within_the_budget_when_divided_by_their_bound(widths):
    assert find_overspent(simulate_ratios(math.log(SLIP), widths=widths)) == []


def test_the_simulated_ratios_are_the_librarys():
    values = np.random.default_rng(5).normal(0.3, 3.0, 20)
    for temper in (1.0, 0.5):
        bet = RatioBet(alternative="a", log_cap=math.log(CAP), log_bound=0.2, temper=temper)
        martingales = build_martingales([bet])
        for value in values:
            martingales = fold_request(martingales, {"a": float(value)})
        simulated = np.log(compute_ratio_factors(values, 0.2, temper)).sum()
        assert martingales.log_wealth == pytest.approx(simulated)


def test_the_minimum_over_a_composite_null_stays_within_the_budget_of_each_member():
    # Heads with probability 0.3 or 0.5, bet on 0.7: whichever is true, the minimum of both ratios is an e-process.
    for truth in (0.3, 0.5):
        rng, logs, peaks = np.random.default_rng(43), np.zeros((2, RUNS)), np.ones(RUNS)
        for _ in range(60):
            heads = rng.random(RUNS) < truth
            for row, member in enumerate((0.3, 0.5)):
                logs[row] += np.where(heads, math.log(0.7 / member), math.log(0.3 / (1 - member)))
            peaks = np.maximum(peaks, np.exp(logs.min(axis=0)))
        assert find_overspent(peaks) == []
        assert minimise_logs([float(value) for value in logs[:, 0]]) == logs[:, 0].min()


# PIT bets, against an adversary that sees the bet and has all of the drift that honest numerics may have.


class Histograms:
    """`pit.Histogram` of one context, for many runs at once."""

    def __init__(self, runs: int) -> None:
        self.counts = [np.zeros((bins, runs)) for bins in BIN_COUNTS]
        self.products = np.ones((len(BIN_COUNTS), runs))
        self.seen, self.rows = 0, np.arange(runs)

    def compute_density(self) -> Floats:
        shares, density = self.products / self.products.sum(axis=0), np.zeros((1, len(self.rows)))
        for share, bins, counts in zip(shares, BIN_COUNTS, self.counts, strict=True):
            scale = share * bins / (self.seen + bins / 2)
            density = np.repeat(density, bins // len(density), axis=0) + scale * (counts + 0.5)
        return density

    def step(self, places: NDArray[np.int64]) -> None:
        for row, (bins, counts) in enumerate(zip(BIN_COUNTS, self.counts, strict=True)):
            coarse = places * bins // BIN_COUNTS[-1]
            self.products[row] *= bins * (counts[coarse, self.rows] + 0.5) / (self.seen + bins / 2)
            counts[coarse, self.rows] += 1
        self.seen += 1


def simulate_pits(
    distance: float, drift: DriftBound, runs: int = RUNS, requests: int = 16, tokens: int = 4, places: object = None
) -> Floats:
    """Return the largest wealth over ranges; each token takes `distance` of probability from the least paying bin.

    It goes to the most paying one. `places` replaces the drawn bins, one row per token.
    """
    rng, histograms = np.random.default_rng(51), Histograms(runs)
    limits = np.array(RANGES)[:, None]
    wealth, peaks = np.ones((len(RANGES), runs)), np.ones(runs)
    queue = None if places is None else iter(np.asarray(places))
    for _ in range(requests):
        products = np.ones((len(RANGES), runs))
        for _ in range(tokens):
            density = histograms.compute_density()
            best, worst = density.argmax(axis=0), density.argmin(axis=0)
            drawn = rng.integers(0, BIN_COUNTS[-1], runs)
            moved = (drawn == worst) & (rng.random(runs) < distance * BIN_COUNTS[-1])
            chosen = np.where(moved, best, drawn) if queue is None else next(queue)
            spread = density.max(axis=0) - density.min(axis=0)
            excess = density[chosen, histograms.rows] - 1
            products *= 1 + excess * np.minimum(1.0, limits / np.maximum(spread, 1e-300))
            histograms.step(chosen)
        allowed = np.exp(-limits * (drift.intercept + drift.slope * tokens))
        factors = np.minimum(products * allowed, CAP) / (1 + CAP * drift.miss_probability)
        wealth *= 1 - DEFAULT_STAKE + DEFAULT_STAKE * factors
        peaks = np.maximum(peaks, wealth.mean(axis=0))
    return peaks


EXACT = DriftBound(slope=0.0, intercept=0.0, miss_probability=0.0)


def test_pit_bets_stay_within_the_budget_at_the_drift_that_they_allow():
    assert find_overspent(simulate_pits(0.05, replace(EXACT, slope=0.05))) == []


def test_the_simulated_pit_bets_are_the_librarys():
    drift = DriftBound(slope=0.01, intercept=0.02, miss_probability=0.001)
    places = np.random.default_rng(5).binomial(15, 0.2, 24)
    martingales, largest = build_pit_martingales(drift, math.log(CAP)), 0.0
    for request in places.reshape(6, 4):
        martingales = fold_pits(martingales, [(place + 0.5) / 16 for place in request])
        largest = max(largest, martingales.log_wealth)
    peaks = simulate_pits(0.0, drift, runs=1, requests=6, places=places[:, None])
    assert math.log(peaks[0]) == pytest.approx(largest)


def simulate_betas(requests: int = 12, tokens: int = 10) -> Floats:
    """Return the largest wealth of the Beta dictionary under uniform u, each shape a capped likelihood ratio."""
    rng = np.random.default_rng(61)
    products, peaks = np.ones((len(BETA_SHAPES), RUNS)), np.ones(RUNS)
    for _ in range(requests):
        u = rng.random((tokens, RUNS)) * (1 - 1e-12) + 5e-13
        log_u, log_rest = np.log(u).sum(axis=0), np.log1p(-u).sum(axis=0)
        for place, (a, b) in enumerate(BETA_SHAPES):
            constant = tokens * (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
            products[place] *= compute_ratio_factors((a - 1) * log_u + (b - 1) * log_rest + constant, 0.0, 1.0)
        peaks = np.maximum(peaks, products.mean(axis=0))
    return peaks


def test_beta_bets_stay_within_the_budget():
    assert find_overspent(simulate_betas()) == []


def test_the_simulated_betas_are_the_librarys():
    u = np.array([0.2, 0.7, 0.01])
    for (a, b), found in zip(BETA_SHAPES, compute_beta_log_ratios(list(u)).values(), strict=True):
        constant = 3 * (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
        assert found == pytest.approx((a - 1) * np.log(u).sum() + (b - 1) * np.log1p(-u).sum() + constant)


# Conformal change detection under exchangeable scores, which may depend on each other.


def simulate_changes(scores: Floats, ties: Floats, epoch: int, cap: float) -> Floats:
    """Return the largest wealth at the end of an epoch; scores and ties are (observations, runs)."""
    runs = scores.shape[1]
    jumper, powers = np.full((len(JUMPS), runs), 1 / len(JUMPS)), np.ones((len(POWERS), runs))
    peaks, before = np.ones(runs), np.ones(runs)
    for number, (score, tie) in enumerate(zip(scores, ties, strict=True)):
        larger = (scores[:number] > score).sum(axis=0)
        equal = (scores[:number] == score).sum(axis=0) + 1
        p = (larger + tie * equal) / (number + 1)
        jumper = (1 - JUMP_SHARE) * jumper + JUMP_SHARE / len(JUMPS) * jumper.sum(axis=0)
        jumper *= 1 + np.array(JUMPS)[:, None] * (p - 0.5)
        exponents = np.array(POWERS)[:, None]
        powers *= exponents * p ** (exponents - 1)
        if (number + 1) % epoch == 0:
            wealth = (jumper.sum(axis=0) + powers.mean(axis=0)) / 2
            lowered = np.minimum(1.0, cap * before / wealth)
            jumper, powers, before = jumper * lowered, powers * lowered, wealth * lowered
            peaks = np.maximum(peaks, before)
    return peaks


def draw_heavy_scores(rng: np.random.Generator) -> Floats:
    return rng.pareto(0.8, (40, RUNS))


def draw_exchangeable_scores(rng: np.random.Generator) -> Floats:
    """Counts with a rate of their own for each run: dependent on each other, full of ties, exchangeable."""
    return rng.poisson(rng.gamma(1.0, 2.0, RUNS), (40, RUNS)).astype(float)


@pytest.mark.parametrize(("draw", "cap"), [(draw_heavy_scores, 1e9), (draw_exchangeable_scores, 100.0)])
def test_change_detection_stays_within_the_budget(draw, cap):
    rng = np.random.default_rng(71)
    scores = draw(rng)
    assert find_overspent(simulate_changes(scores, rng.random(scores.shape), 4, cap)) == []


def test_the_simulated_changes_are_the_librarys():
    rng = np.random.default_rng(5)
    scores, ties = np.concatenate([rng.poisson(2.0, 20), rng.poisson(9.0, 20)]).astype(float), rng.random(40)
    state, largest = ChangeState(), 0.0
    for start in range(0, 40, 4):
        epoch = slice(start, start + 4)
        state = fold_change_epoch(state, scores[epoch].tolist(), ties[epoch].tolist(), math.log(1.5))
        largest = max(largest, state.log_wealth)
    assert math.log(simulate_changes(scores[:, None], ties[:, None], 4, 1.5)[0]) == pytest.approx(largest)


# Ledgers: the alarm's average run length, and one error budget over all cases of a life.


def test_the_alarm_of_an_honest_provider_waits_as_long_as_it_promises():
    rng, threshold, runs = np.random.default_rng(81), 30.0, 4000
    statistic, waited, waiting = np.zeros(runs), np.zeros(runs), np.ones(runs, dtype=bool)
    for _ in range(600):
        waited += waiting
        statistic = np.maximum(statistic, 1.0) * (1 + 0.45 / MU * ((rng.random(runs) < MU) - MU))
        waiting &= statistic < threshold
    assert waited.mean() + 4 * waited.std() / math.sqrt(runs) >= compute_average_run_length(math.log(threshold))
    assert waiting.mean() < 0.5, "or else the wait says nothing"


def test_the_simulated_detector_is_the_librarys():
    detector, statistic = CusumDetector(), 0.0
    for factor in (0.5, 3.0, 2.0, 0.1, 4.0):
        detector = fold_cusum(detector, math.log(factor))
        statistic = max(statistic, 1.0) * factor
    assert detector.log_statistic == pytest.approx(math.log(statistic))


def simulate_life(cases: int, requests: int = 16) -> Floats:
    """Return, for each run, the largest case wealth times the share of alpha that its case may spend."""
    peaks = np.zeros(RUNS)
    for case_index in range(1, cases + 1):
        rng, wealth, largest = np.random.default_rng(90 + case_index), np.ones(RUNS), np.ones(RUNS)
        for _ in range(requests):
            wealth *= 1 + 0.7 / MU * ((rng.random(RUNS) < MU) - MU)
            largest = np.maximum(largest, wealth)
        peaks = np.maximum(peaks, largest * float(compute_case_alpha(2, case_index) * 2))
    return peaks


def test_all_cases_of_a_life_spend_one_budget_together():
    assert find_overspent(simulate_life(cases=8)) == []


# Tests of the tests: each rule slashes honest providers, and the same check must see it.


def see_back_dated_case() -> Floats:
    """Open a case when the alarm is raised, and count in it what raised the alarm."""
    rng, since_start = np.random.default_rng(101), np.ones(RUNS)
    peaks = np.ones(RUNS)
    for _ in range(150):
        since_start = np.maximum(since_start, 1.0) * (1 + 0.45 / MU * (independent(rng, peaks, peaks) - MU))
        peaks = np.maximum(peaks, np.where(since_start >= 10.0, since_start, 1.0))
    return peaks


def see_sigmoid_of_a_likelihood_ratio() -> Floats:
    """Score empty answers by the sigmoid of a log ratio of 0."""
    return simulate_bettors(lambda rng, wealth, _: np.full(len(wealth), 1 / (1 + math.exp(-0.0))), runs=2000)


def see_best_of_32_seeds() -> Floats:
    """Let the validator choose, of 32 seeds, the one whose honest answer looks worst."""
    return simulate_bettors(
        lambda rng, wealth, _: rng.beta(0.5, 0.5 * (1 - MU) / MU, (32, len(wealth))).max(axis=0), runs=2000
    )


def see_product_over_statistics() -> Floats:
    """Multiply the e-values of three statistics of one answer, which say much the same."""
    rng, wealth, peaks = np.random.default_rng(103), np.ones(RUNS), np.ones(RUNS)
    for _ in range(40):
        g = smooth(rng, wealth, wealth)
        for wobble in (1.0, 0.9, 0.8):
            wealth *= 1 + 0.45 / MU * (wobble * g - wobble * MU)
        peaks = np.maximum(peaks, wealth)
    return peaks


def see_mu_of_another_stratum() -> Floats:
    """Bet against the mean of instructions on answers to code, which is three times as large."""
    return simulate_bettors(lambda rng, wealth, _: (rng.random(len(wealth)) < 3 * MU).astype(float), runs=20_000)


def see_inverse_p_values() -> Floats:
    """Take 1/p for an e-value and multiply."""
    rng, wealth, peaks = np.random.default_rng(105), np.ones(RUNS), np.ones(RUNS)
    for _ in range(10):
        wealth *= np.minimum(1 / rng.random(RUNS), CAP)
        peaks = np.maximum(peaks, wealth)
    return peaks


def see_answers_left_out() -> Floats:
    """Leave unanswered probes out of the account instead of betting the smallest factor."""
    return simulate_bettors(
        lambda rng, wealth, _: rng.beta(0.5, 0.5 * (1 - MU) / MU, (4, len(wealth))).max(axis=0), runs=20_000
    )


def see_ratios_without_their_bound() -> Floats:
    """Do not divide ratios whose honest mean is 1.08 by it."""
    return simulate_ratios(0.0, widths=(0.2, 0.3, 0.4))


def see_pit_bets_without_their_drift() -> Floats:
    """Bet on u as if honest numerics were exact."""
    return simulate_pits(0.05, EXACT, runs=20_000)


def see_best_bet_in_hindsight() -> Floats:
    """Take the bettor that did best, not the average over bettors."""
    rng, bettors, peaks = np.random.default_rng(107), Bettors(RUNS), np.ones(RUNS)
    for _ in range(50):
        bettors.step(smooth(rng, peaks, peaks))
        peaks = np.maximum(peaks, np.maximum(bettors.fixed.max(axis=0), np.maximum(bettors.agrapa, bettors.ons)))
    return peaks


def see_cases_without_rising_thresholds() -> Floats:
    """Give every case of a life the whole of alpha."""
    rng, peaks = np.random.default_rng(109), np.ones(RUNS)
    for _ in range(4):
        wealth = np.ones(RUNS)
        for _ in range(16):
            wealth *= 1 + 0.7 / MU * (independent(rng, wealth, wealth) - MU)
            peaks = np.maximum(peaks, wealth)
    return peaks


BROKEN = [
    see_back_dated_case,
    see_sigmoid_of_a_likelihood_ratio,
    see_best_of_32_seeds,
    see_product_over_statistics,
    see_mu_of_another_stratum,
    see_inverse_p_values,
    see_answers_left_out,
    see_ratios_without_their_bound,
    see_pit_bets_without_their_drift,
    see_best_bet_in_hindsight,
    see_cases_without_rising_thresholds,
]


@pytest.mark.parametrize("simulate", BROKEN)
def test_the_check_sees_a_broken_rule(simulate):
    assert find_overspent(simulate()) != []
