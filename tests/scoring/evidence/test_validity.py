"""Validity by simulation: honest nulls of many kinds never spend more than their budget, whenever one stops.

The martingales run in numpy, many at once (their agreement with the integers is a test here). A budget is checked at
coarse alphas, where excess shows: the rule is the same at 1e-6. Broken rules must fail the same check: they are the
tests of the tests.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.evidence.wealth import ONE, Bet, build_portfolio, fold_epoch

Floats = NDArray[np.float64]

MU = 0.08
BETS = tuple(
    Bet(statistic=0, mu_ppm=80_000, lambda_ppm=share * 125_000) for share in (6, 20, 45, 70, 92)
)  # shares of 1/mu
LAMBDAS = np.array([bet.lambda_ppm / 1e6 for bet in BETS])
RUNS, EPOCHS, REQUESTS = 100_000, 12, 4
ALPHAS = (0.2, 0.05, 0.01)

Draw = Callable[[np.random.Generator, Floats], Floats]
"""Next g of every run, given each run's wealth so far (everything that an adversary within the null may look at)."""


def simulate_peaks(draw: Draw, runs: int = RUNS, epochs: int = EPOCHS, requests: int = REQUESTS) -> Floats:
    """Return the largest wealth that each run ever reached, looked at after every single request."""
    rng = np.random.default_rng(11)
    capitals, cash = np.zeros((runs, len(LAMBDAS))), 1.0
    peaks = np.ones(runs)
    for number in range(1, epochs + 1):
        capitals += 1 / (number * (number + 1)) / len(LAMBDAS)
        cash = 1 / (number + 1)
        for _ in range(requests):
            g = draw(rng, capitals.sum(axis=1) + cash)
            capitals *= np.minimum(1 + LAMBDAS * (g[:, None] - MU), 100)
            peaks = np.maximum(peaks, capitals.sum(axis=1) + cash)
    return peaks


def is_within_budget(peaks: Floats) -> bool:
    """Tell whether the share of runs that ever reached 1/alpha is at most alpha, within four standard errors."""
    return all(
        np.mean(peaks >= 1 / alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / len(peaks)) for alpha in ALPHAS
    )


def bernoulli(rng: np.random.Generator, wealth: Floats) -> Floats:
    return (rng.random(len(wealth)) < MU).astype(float)


def smooth(rng: np.random.Generator, wealth: Floats) -> Floats:
    return rng.beta(0.5, 0.5 * (1 - MU) / MU, len(wealth))


def heavy_tailed(rng: np.random.Generator, wealth: Floats) -> Floats:
    return np.minimum(rng.pareto(1.1, len(wealth)) * 0.0258, 1.0)


def gambler(rng: np.random.Generator, wealth: Floats) -> Floats:
    """The worst within the null: it takes the widest spread while it is ahead, and none while it is behind."""
    wide = (rng.random(len(wealth)) < MU).astype(float)
    return np.where(wealth > 1.0, wide, MU)


def shifting_strata(rng: np.random.Generator, wealth: Floats) -> Floats:
    """Two strata in turns of the provider's choosing, one far below mu, one at it."""
    hard = rng.random(len(wealth)) < 0.5
    return np.where(hard, bernoulli(rng, wealth), 0.01)


def omitting(rng: np.random.Generator, wealth: Floats) -> Floats:
    """A validator or provider drops answers after it has seen them; a missing answer is accounted as g = 0."""
    g = bernoulli(rng, wealth)
    dropped = (g < 0.5) & (rng.random(len(wealth)) < 0.9)
    return np.where(dropped, 0.0, g)


def dependent(rng: np.random.Generator, wealth: Floats) -> Floats:
    """All runs of a block share one bad day: dependence between validators, none on the past."""
    blocks = rng.random(math.ceil(len(wealth) / 50)) < MU
    return np.repeat(blocks, 50)[: len(wealth)].astype(float)


NULLS = [bernoulli, smooth, heavy_tailed, gambler, shifting_strata, omitting]


@pytest.mark.parametrize("draw", NULLS)
def test_an_honest_provider_stays_within_the_budget_under_optional_stopping(draw):
    assert is_within_budget(simulate_peaks(draw))


@pytest.mark.parametrize("draw", [*NULLS, dependent])
def test_the_nulls_have_a_mean_of_at_most_mu(draw):
    rng = np.random.default_rng(3)
    g = np.concatenate([draw(rng, np.full(100_000, wealth)) for wealth in (0.5, 2.0)])
    assert g.min() >= 0 and g.max() <= 1
    assert g.mean() <= MU + 4 * g.std() / math.sqrt(len(g)) * (7 if draw is dependent else 1)


def test_the_simulation_agrees_with_the_integers():
    rng = np.random.default_rng(5)
    history = (rng.beta(0.3, 2.0, (EPOCHS, REQUESTS)) * 1e6).astype(int)
    flat = iter(history.flatten() / 1e6)
    peaks = simulate_peaks(lambda _, wealth: np.full(len(wealth), next(flat)), runs=1)
    portfolio, largest = build_portfolio(BETS), float(ONE)
    for epoch in history:
        for count in range(1, REQUESTS + 1):
            requests = [(int(g),) for g in epoch[:count]]
            largest = max(largest, float(fold_epoch(portfolio, BETS, requests, 100, None).wealth))
        portfolio = fold_epoch(portfolio, BETS, [(int(g),) for g in epoch], 100, None)
    assert peaks[0] == pytest.approx(largest / ONE, rel=1e-9)


def simulate_slashes(draw: Draw, alpha: float, cases: int = 3, validators: int = 4, runs: int = 20_000) -> float:
    """Return how often a provider is slashed over its cases: three of four validators at their own thresholds.

    Each validator has two own probes an epoch and re-scores all; the re-scores differ a little between validators.
    """
    rng = np.random.default_rng(17)
    slashed = np.zeros(runs, dtype=bool)
    for case in range(1, cases + 1):
        own, pooled = np.zeros((2, validators, runs, len(LAMBDAS)))
        reached = np.zeros((validators, runs), dtype=bool)
        for number in range(1, 7):
            own, pooled = (capitals + 1 / (number * (number + 1)) / len(LAMBDAS) for capitals in (own, pooled))
            for _ in range(2):
                for drawer in range(validators):
                    g = draw(rng, np.ones(runs))
                    factors = 1 + LAMBDAS * (g[:, None] - MU)
                    pooled = pooled * factors
                    own[drawer] = own[drawer] * factors
            wealth = (own.sum(axis=2) + pooled.sum(axis=2)) / 2 + 1 / (number + 1)
            reached |= wealth >= 3 * case * (case + 1) / alpha
        slashed |= reached.sum(axis=0) * 3 > 2 * validators
    return float(slashed.mean())


@pytest.mark.parametrize("alpha", [0.5, 0.1])
@pytest.mark.parametrize("draw", [bernoulli, dependent])
def test_a_certificate_slashes_the_honest_within_alpha_over_all_cases(draw, alpha):
    assert simulate_slashes(draw, alpha) <= alpha


def test_a_case_is_not_so_strict_that_nothing_is_ever_slashed():
    assert simulate_slashes(lambda rng, wealth: (rng.random(len(wealth)) < 0.5).astype(float), 1e-6, runs=500) > 0.99


# Tests of the tests: each of these rules slashes honest providers, and the check above must see it.


def test_sees_a_sigmoid_of_a_likelihood_ratio_on_empty_answers():
    peaks = simulate_peaks(lambda rng, wealth: np.full(len(wealth), 0.5), runs=1_000)
    assert not is_within_budget(peaks)


def test_sees_mu_of_another_stratum():
    assert not is_within_budget(simulate_peaks(lambda rng, w: (rng.random(len(w)) < 3 * MU).astype(float), runs=20_000))


def test_sees_the_best_of_32_seeds():
    def choose(rng: np.random.Generator, wealth: Floats) -> Floats:
        return rng.beta(0.5, 0.5 * (1 - MU) / MU, (len(wealth), 32)).max(axis=1)

    assert not is_within_budget(simulate_peaks(choose, runs=5_000))


def test_sees_answers_left_out_of_the_account():
    # Unanswered probes are not counted at all, so that only the bad ones are ever bet on.
    def leave_out(rng: np.random.Generator, wealth: Floats) -> Floats:
        g = np.stack([bernoulli(rng, wealth) for _ in range(4)])
        return g.max(axis=0)

    assert not is_within_budget(simulate_peaks(leave_out, runs=20_000))


def test_sees_a_case_that_is_back_dated():
    # The case opens at the best moment of the past: wealth is never below 1, so every low point is forgotten.
    rng = np.random.default_rng(11)
    wealth, peaks = np.ones(RUNS // 10), np.ones(RUNS // 10)
    for _ in range(EPOCHS * REQUESTS * 10):
        factor = 1 + LAMBDAS[2] * (bernoulli(rng, wealth) - MU)
        wealth = np.maximum(wealth, 1.0) * factor
        peaks = np.maximum(peaks, wealth)
    assert not is_within_budget(peaks)


def test_sees_a_product_over_statistics_of_one_answer():
    rng = np.random.default_rng(11)
    wealth, peaks = np.ones(RUNS), np.ones(RUNS)
    for _ in range(EPOCHS * REQUESTS):
        g = bernoulli(rng, wealth)
        wealth *= (1 + LAMBDAS[1] * (g - MU)) ** 3  # three statistics that say the same
        peaks = np.maximum(peaks, wealth)
    assert not is_within_budget(peaks)
