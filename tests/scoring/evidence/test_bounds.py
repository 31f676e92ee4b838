"""The betting upper bound: it covers, it is tight where the issue says so, and it refuses nonsense."""

import math
import random

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.bounds import STAKES, compute_upper_bound_ppm


def test_zeros_cost_about_log_one_over_delta_over_n():
    log = math.log(1e7)
    bound = compute_upper_bound_ppm([0] * 2000, log) / 1e6
    assert log / 2000 < bound < (log + 3) / 2000


def test_the_bound_is_the_first_ppm_whose_capital_reaches_one_over_delta():
    def compute_capital(mean):
        return sum((1 + share * mean / (1 - mean)) ** 300 for share in STAKES) / len(STAKES)

    bound = compute_upper_bound_ppm([0] * 300, math.log(1e7))
    assert compute_capital((bound - 1) / 1e6) < 1e7 <= compute_capital(bound / 1e6)


def test_one_large_value_among_thousands_costs_little_more_than_none():
    # With stakes that halve, the whole one goes bankrupt and half of it bounds the mean by twice as much.
    log = math.log(1e9)
    assert compute_upper_bound_ppm([0] * 4999 + [1_000_000], log) < 1.3 * compute_upper_bound_ppm([0] * 5000, log)


def test_more_requests_give_a_tighter_bound():
    values = [0, 0, 30_000, 0, 100_000]
    bounds = [compute_upper_bound_ppm(values * k, 16.0) for k in (10, 100, 1000, 10_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 1.15 * 26_000


def test_order_does_not_matter():
    values = [0] * 50 + [400_000] * 3 + [10] * 20
    assert compute_upper_bound_ppm(values, 10.0) == compute_upper_bound_ppm(values[::-1], 10.0)


def test_covers_the_mean_as_often_as_it_says():
    # 400 samples of a rare large value: at delta = 10 % far fewer than 1 in 10 bounds may lie below the mean.
    rng, mean = random.Random(7), 0.01
    missed = sum(
        compute_upper_bound_ppm([1_000_000 * (rng.random() < mean) for _ in range(400)], math.log(10)) < mean * 1e6
        for _ in range(300)
    )
    assert missed <= 30


def test_a_bound_that_forgot_the_small_sample_would_miss():
    # The test of the test: the plain mean plus two standard errors misses far more often than it says.
    rng, mean, missed = random.Random(7), 0.01, 0
    for _ in range(300):
        values = [float(rng.random() < mean) for _ in range(100)]
        centre = sum(values) / 100
        missed += centre + 2 * math.sqrt(centre * (1 - centre) / 100) < mean
    assert missed > 30


def test_all_ones_bound_the_mean_by_one():
    assert compute_upper_bound_ppm([1_000_000] * 10, 16.0) == 1_000_000


@pytest.mark.parametrize(
    ("values", "log"),
    [([], 16.0), ([-1], 16.0), ([1_000_001], 16.0), ([0], 0.0), ([0], math.inf), ([0], math.nan)],
    ids=["no values", "negative", "above one", "certainty", "infinite", "not a number"],
)
def test_refuses(values, log):
    with pytest.raises(InvalidInput):
        compute_upper_bound_ppm(values, log)
