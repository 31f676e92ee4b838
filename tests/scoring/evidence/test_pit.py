"""PIT bets: the transform, densities that integrate to one, the exact bound under near-uniform u, and refusals."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.draws import compute_uniform
from scoring.evidence.pit import (
    BETA_SHAPES,
    BIN_COUNTS,
    RANGES,
    DriftBound,
    Histogram,
    build_pit_martingales,
    calibrate_drift,
    compute_beta_log_ratios,
    compute_bets,
    compute_density,
    compute_pits,
    fold_histogram,
    fold_pits,
)

BEACON = b"\x07" * 32
EXACT = DriftBound(slope=0.0, intercept=0.0, miss_probability=0.0)
CAP = math.log(100)
inside = st.floats(1e-9, 1 - 1e-9)
MIDDLES = [(k + 0.5) / BIN_COUNTS[-1] for k in range(BIN_COUNTS[-1])]


def train(pits):
    histogram = Histogram()
    for u in pits:
        histogram = fold_histogram(histogram, u)
    return histogram


def test_u_lies_in_its_interval_where_the_beacon_says():
    (u,) = compute_pits([0.25], [0.75], BEACON, b"nonce")
    assert u == 0.25 + 0.5 * compute_uniform(BEACON, "pit", b"nonce", 0)


def test_a_removed_token_sits_at_the_top_and_stays_inside():
    assert 0.999 < compute_pits([1.0], [1.0], BEACON, b"nonce")[0] < 1.0


def test_u_of_tokens_drawn_from_the_verifiers_own_distribution_is_uniform():
    rng, shares = random.Random(2), (0.5, 0.3, 0.2)
    tokens = rng.choices(range(3), shares, k=5000)
    low = [sum(shares[:token]) for token in tokens]
    pits = sorted(compute_pits(low, [min(1.0, a + shares[t]) for a, t in zip(low, tokens, strict=True)], BEACON, b"n"))
    assert max(abs(u - (rank + 0.5) / 5000) for rank, u in enumerate(pits)) < 0.025


@given(st.lists(inside, max_size=40))
def test_a_predicted_density_integrates_to_one_and_is_positive(pits):
    density = compute_density(train(pits))
    assert sum(density) / len(density) == pytest.approx(1.0)
    assert min(density) > 0.0


@given(st.lists(inside, max_size=40))
def test_a_bet_integrates_to_one_and_stays_in_its_range(pits):
    bets = [compute_bets(train(pits), u) for u in MIDDLES]
    for limit, values in zip(RANGES, zip(*bets, strict=True), strict=True):
        assert sum(values) / len(values) == pytest.approx(1.0)
        assert min(values) > 0.0
        assert max(values) - min(values) <= limit + 1e-12


@given(st.lists(inside, max_size=30))
def test_the_densities_multiply_to_the_average_of_the_histograms(pits):
    # Bayes: predicting with weights by past success is the same as averaging the products.
    total, histogram = 0.0, Histogram()
    for u in pits:
        total += math.log(compute_density(histogram)[int(u * BIN_COUNTS[-1])])
        histogram = fold_histogram(histogram, u)
    average = sum(math.exp(value) for value in histogram.log_products) / len(BIN_COUNTS)
    assert math.exp(total) == pytest.approx(average)


def test_krichevsky_trofimov_of_two_bins():
    histogram = train([0.1, 0.2, 0.9])
    expected = 2 * (0.5 / 1) * 2 * (1.5 / 2) * 2 * (0.5 / 3)
    assert math.exp(histogram.log_products[0]) == pytest.approx(expected)


def compute_worst_mean(histogram, distance, drift, log_cap):
    """Return the exact mean of each range's factor over two tokens, drawn by an adversary at that distance.

    It sees the bets and moves as much probability as it may from the least to the most paying bin, twice.
    """

    def compute_law(state):
        density, law = compute_density(state), [1 / BIN_COUNTS[-1]] * BIN_COUNTS[-1]
        law[density.index(max(density))] += distance
        law[density.index(min(density))] -= distance
        return law

    means = [0.0] * len(RANGES)
    start = replace(build_pit_martingales(drift, log_cap), histograms=(histogram,))
    first = compute_law(histogram)
    for (a, u), (b, v) in itertools.product(enumerate(MIDDLES), repeat=2):
        probability = first[a] * compute_law(fold_histogram(histogram, u))[b]
        after = fold_pits(start, [u, v])
        means = [mean + probability * math.exp(x) for mean, x in zip(means, after.log_products, strict=True)]
    return means


SKEWED = train([0.03] * 30 + [0.9] * 5)


def test_under_exact_numerics_the_mean_of_every_range_is_one():
    assert compute_worst_mean(SKEWED, 0.0, EXACT, CAP) == pytest.approx([1.0] * len(RANGES))


@pytest.mark.parametrize("distance", [0.01, 0.05])
def test_the_drift_bound_holds_against_the_worst_law_at_that_distance(distance):
    drift = DriftBound(slope=distance, intercept=0.0, miss_probability=0.0)
    assert all(mean <= 1.0 + 1e-12 for mean in compute_worst_mean(SKEWED, distance, drift, CAP))


def test_without_the_drift_bound_near_uniform_u_would_gain():
    # The test of the test: the same adversary, undivided.
    assert max(compute_worst_mean(SKEWED, 0.05, EXACT, CAP)) > 1.05


def test_misses_are_paid_for_at_the_cap():
    # With probability pi anything may happen, at most the cap: 1 + C pi divides.
    drift = DriftBound(slope=0.0, intercept=0.0, miss_probability=0.01)
    (start, *_) = fold_pits(build_pit_martingales(drift, math.log(50)), []).log_products
    assert math.exp(start) == pytest.approx(0.05 + 0.95 / 1.5)


def test_a_skewed_provider_is_found_and_an_honest_one_is_not():
    cheating, honestly = random.Random(9), random.Random(10)
    drift = DriftBound(slope=0.01, intercept=0.0, miss_probability=0.0)
    cheat = honest = build_pit_martingales(drift, CAP)
    for _ in range(40):
        cheat = fold_pits(cheat, [cheating.betavariate(1.0, 1.6) for _ in range(32)])
        honest = fold_pits(honest, [honestly.betavariate(1.0, 1.01) for _ in range(32)])
    assert cheat.log_wealth > 20
    assert honest.log_wealth < 0


def test_contexts_learn_apart():
    martingales = build_pit_martingales(EXACT, CAP, contexts=2)
    after = fold_pits(martingales, [0.1, 0.9, 0.2], [0, 1, 0])
    assert after.histograms == (train([0.1, 0.2]), train([0.9]))


def test_a_missing_answer_bets_the_smallest_factor_and_teaches_nothing():
    start = build_pit_martingales(EXACT, CAP)
    after = fold_pits(start, None)
    assert after.log_products == pytest.approx([math.log(0.05)] * len(RANGES))
    assert after.histograms == start.histograms
    assert (after.requests, after.missing) == (1, 1)


@settings(max_examples=30)
@given(st.lists(inside, max_size=12))
def test_an_answer_never_costs_more_than_a_missing_one_and_never_gains_more_than_the_cap(pits):
    after = fold_pits(build_pit_martingales(EXACT, CAP), pits)
    assert all(math.log(0.05) - 1e-12 <= value <= CAP for value in after.log_products)


def test_one_answer_gains_no_more_than_the_cap():
    (*_, widest) = fold_pits(build_pit_martingales(EXACT, math.log(2)), [0.1] * 40).log_products
    assert math.exp(widest) == pytest.approx(0.05 + 0.95 * 2)


@pytest.mark.parametrize("shape", BETA_SHAPES)
def test_a_beta_density_has_mean_one_under_uniform_u(shape):
    a, b = shape
    name, steps = f"beta-{a:g}-{b:g}", 5_000
    mean = sum(math.exp(compute_beta_log_ratios([(k + 0.5) / steps])[name]) for k in range(steps)) / steps
    assert mean == pytest.approx(1.0, abs=3e-3)


def test_beta_ratios_multiply_over_tokens_and_say_nothing_without_any():
    one, other, both = (compute_beta_log_ratios(pits) for pits in ([0.2], [0.7], [0.2, 0.7]))
    assert all(both[name] == pytest.approx(one[name] + other[name]) for name in both)
    assert set(compute_beta_log_ratios([]).values()) == {0.0}


def test_calibration_draws_the_line_above_development_and_counts_hold_out():
    development = [(60, 0.6 + 0.01 * k) for k in range(50)] + [(10, 0.1)]
    hold_out = [(60, 0.6)] * 995 + [(60, 9.0)] * 5
    drift = calibrate_drift(development, hold_out, math.log(100))
    assert all(total <= drift.intercept + drift.slope * tokens + 1e-12 for tokens, total in development)
    assert 0.005 < drift.miss_probability < 0.03


START = build_pit_martingales(EXACT, CAP)
REFUSED = {
    "negative drift": lambda: DriftBound(slope=-0.1, intercept=0.0, miss_probability=0.0),
    "drift that is not a number": lambda: DriftBound(slope=0.0, intercept=math.nan, miss_probability=0.0),
    "certain misses": lambda: DriftBound(slope=0.0, intercept=0.0, miss_probability=1.0),
    "a cap that forbids gain": lambda: build_pit_martingales(EXACT, 0.0),
    "no context": lambda: build_pit_martingales(EXACT, CAP, contexts=0),
    "ends of different number": lambda: compute_pits([0.1], [], BEACON, b"n"),
    "an interval upside down": lambda: compute_pits([0.5], [0.4], BEACON, b"n"),
    "an interval that is not a number": lambda: compute_pits([math.nan], [0.4], BEACON, b"n"),
    "an interval above one": lambda: compute_pits([0.5], [1.1], BEACON, b"n"),
    "u of zero": lambda: fold_pits(START, [0.0]),
    "u of one": lambda: fold_pits(START, [1.0]),
    "u that is not a number": lambda: fold_pits(START, [math.nan]),
    "too few contexts": lambda: fold_pits(START, [0.5, 0.5], [0]),
    "an unknown context": lambda: fold_pits(START, [0.5], [1]),
    "calibration on nothing": lambda: calibrate_drift([], [(1, 0.1)], 10.0),
    "no hold-out": lambda: calibrate_drift([(1, 0.1)], [], 10.0),
    "beta of u = 1": lambda: compute_beta_log_ratios([1.0]),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
