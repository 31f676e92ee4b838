"""The algebra of e-processes: exact rules against explicit sums, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.algebra import (
    CusumDetector,
    StartMixture,
    add_logs,
    average_logs,
    calibrate_p_value,
    cap_log_epoch,
    cap_log_factor,
    compute_average_run_length,
    compute_p_value,
    fold_cusum,
    fold_start,
    minimise_logs,
    multiply_logs,
)

logs = st.floats(-30, 30) | st.just(-math.inf)
factors = st.lists(st.floats(-5, 5) | st.just(-math.inf), min_size=1, max_size=12)


def test_a_product_adds_logarithms_and_bankruptcy_is_final():
    assert multiply_logs([1.0, 2.5, -0.5]) == 3.0
    assert multiply_logs([5.0, -math.inf, 700.0]) == -math.inf
    assert multiply_logs([]) == 0.0


@given(st.lists(logs, min_size=1, max_size=6))
def test_an_average_is_the_mean_of_the_wealths(values):
    expected = sum(math.exp(value) for value in values) / len(values)
    assert math.exp(average_logs(values)) == pytest.approx(expected)


def test_weights_are_divided_by_their_sum():
    assert math.exp(average_logs([math.log(8), math.log(2)], [3, 1])) == pytest.approx(6.5)
    assert average_logs([1000.0, -math.inf], [0, 1]) == -math.inf


def test_an_average_of_huge_wealths_does_not_overflow():
    assert average_logs([2000.0, 2000.0]) == pytest.approx(2000.0)


@given(st.lists(logs, min_size=1, max_size=6))
def test_a_composite_null_is_as_strong_as_its_weakest_member(values):
    assert minimise_logs(values) == min(values) <= average_logs(values) + 1e-9


def test_the_minimum_of_products_is_at_least_the_product_of_minima():
    first, second = [2.0, -1.0], [-1.0, 2.0]
    of_products = minimise_logs([multiply_logs(first), multiply_logs(second)])
    assert of_products == 1.0 > multiply_logs([minimise_logs([a, b]) for a, b in zip(first, second, strict=True)])


def test_caps_only_lower():
    assert cap_log_factor(9.0, 2.0) == 2.0
    assert cap_log_factor(-9.0, 2.0) == -9.0
    assert cap_log_epoch(1.0, 9.0, 2.0) == 3.0
    assert cap_log_epoch(1.0, 2.5, 2.0) == 2.5
    assert cap_log_epoch(-math.inf, -math.inf, 2.0) == -math.inf


@given(factors)
def test_the_start_mixture_equals_the_sum_over_all_starts(values):
    mixture = StartMixture()
    for value in values:
        mixture = fold_start(mixture, value)
    products = [math.exp(sum(values[start:])) for start in range(len(values))]
    expected = 1 / (len(values) + 1) + sum(p / ((s + 1) * (s + 2)) for s, p in enumerate(products))
    assert math.exp(mixture.log_wealth) == pytest.approx(expected)


def test_a_start_mixture_begins_at_one_and_stays_there_without_bets():
    mixture = StartMixture()
    assert mixture.log_wealth == 0.0
    for _ in range(50):
        mixture = fold_start(mixture, 0.0)
    assert mixture.log_wealth == pytest.approx(0.0)


def test_a_sleeper_costs_the_start_mixture_only_its_weight():
    mixture = StartMixture()
    for value in [-1.0] * 100 + [2.0] * 10:
        mixture = fold_start(mixture, value)
    assert mixture.log_wealth == pytest.approx(20 - math.log(101 * 102), abs=0.7)


@given(factors)
def test_the_cusum_is_the_best_start_in_hindsight(values):
    detector = CusumDetector()
    for value in values:
        detector = fold_cusum(detector, value)
    assert detector.log_statistic == pytest.approx(max(sum(values[start:]) for start in range(len(values))))


def test_the_average_run_length_is_the_threshold():
    assert compute_average_run_length(math.log(1000)) == pytest.approx(1000)


@pytest.mark.parametrize("p", [1.0, 1 - 1e-9, 0.9, 0.5, math.exp(-1), 0.05, 1e-3, 1e-12, 1e-300])
def test_the_calibrator_equals_the_average_over_powers(p):
    steps = 20_000
    powers = ((k + 0.5) / steps for k in range(steps))
    integral = sum(power * math.exp((power - 1) * math.log(p)) for power in powers) / steps
    assert calibrate_p_value(p) == pytest.approx(math.log(integral), abs=1e-3)


@pytest.mark.parametrize("x", [1e-4, 1.0])
def test_the_calibrator_is_smooth_where_its_formula_changes(x):
    below, above = (calibrate_p_value(math.exp(-x * (1 + step))) for step in (-1e-6, 1e-6))
    assert below <= above <= below + 1e-5


def test_calibrated_uniform_p_values_have_mean_one():
    # The integral of e over p in (0, 1] is 1; the substitution p = exp(-x) makes it smooth.
    width = 0.01
    middles = [(k + 0.5) * width for k in range(60_000)]
    total = sum(width * math.exp(calibrate_p_value(math.exp(-x)) - x) for x in middles)
    assert total == pytest.approx(1.0, abs=3e-3)


def test_p_value_of_wealth():
    assert compute_p_value(math.log(20)) == pytest.approx(0.05)
    assert compute_p_value(-3.0) == compute_p_value(-math.inf) == 1.0


def test_adding_nothing_gives_bankruptcy():
    assert add_logs([]) == add_logs([-math.inf, -math.inf]) == -math.inf


REFUSED = {
    "infinite factor": lambda: multiply_logs([math.inf]),
    "factor that is not a number": lambda: multiply_logs([math.nan]),
    "average of nothing": lambda: average_logs([]),
    "average with NaN": lambda: average_logs([0.0, math.nan]),
    "too few weights": lambda: average_logs([0.0, 0.0], [1.0]),
    "negative weight": lambda: average_logs([0.0, 0.0], [2.0, -1.0]),
    "weight that is not a number": lambda: average_logs([0.0], [math.nan]),
    "no weight at all": lambda: average_logs([0.0], [0.0]),
    "null without members": lambda: minimise_logs([]),
    "member that is not a number": lambda: minimise_logs([0.0, math.nan]),
    "cap that forbids gain": lambda: cap_log_factor(1.0, 0.0),
    "cap that is not a number": lambda: cap_log_epoch(0.0, 1.0, math.nan),
    "infinite cap": lambda: cap_log_epoch(0.0, 1.0, math.inf),
    "infinite start": lambda: fold_start(StartMixture(), math.inf),
    "infinite step of a detector": lambda: fold_cusum(CusumDetector(), math.inf),
    "threshold of one": lambda: compute_average_run_length(0.0),
    "p-value of zero": lambda: calibrate_p_value(0.0),
    "p-value above one": lambda: calibrate_p_value(1.01),
    "p-value that is not a number": lambda: calibrate_p_value(math.nan),
    "wealth that is not a number": lambda: compute_p_value(math.nan),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
