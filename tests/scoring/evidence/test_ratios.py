"""Likelihood ratios: the bet's formula, mixtures of products, calibration of U, Wald's number, and what is refused."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.evidence.ratios import (
    RatioBet,
    build_martingales,
    calibrate_log_bound,
    compute_log_factor,
    compute_posterior,
    compute_required_requests,
    compute_wald_requests,
    fold_request,
)

CAP = math.log(100)
PLAIN = RatioBet(alternative="int4", log_cap=CAP, log_bound=0.0, stake=1.0)
ratios = st.floats(-50, 50) | st.just(-math.inf)


def fold_all(bets, history):
    martingales = build_martingales(bets)
    for log_ratios in history:
        martingales = fold_request(martingales, log_ratios)
    return martingales


def test_a_plain_bet_is_the_ratio_itself():
    assert compute_log_factor(PLAIN, 1.5) == pytest.approx(1.5)
    assert compute_log_factor(PLAIN, -math.inf) == -math.inf


@given(ratios)
def test_the_bet_follows_its_formula(log_ratio):
    bet = RatioBet(alternative="int4", log_cap=2.0, log_bound=0.3, temper=0.5, stake=0.8)
    expected = 0.2 + 0.8 * (min(math.exp(log_ratio), math.exp(2.0)) / math.exp(0.3)) ** 0.5
    assert math.exp(compute_log_factor(bet, log_ratio)) == pytest.approx(expected)


@pytest.mark.parametrize("log_bound", [-2.0, 0.0, 0.7])
def test_an_answer_without_information_never_gains(log_bound):
    bet = RatioBet(alternative="int4", log_cap=CAP, log_bound=log_bound)
    assert compute_log_factor(bet, 0.0) <= 1e-12


@given(ratios, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_missing_answer_bets_the_smallest_factor(log_ratio, temper, stake):
    bet = RatioBet(alternative="int4", log_cap=CAP, log_bound=0.1, temper=temper, stake=stake)
    assert compute_log_factor(bet, None) <= compute_log_factor(bet, log_ratio) + 1e-12


@pytest.mark.parametrize("temper", [0.25, 0.5, 1.0])
def test_tempering_keeps_the_mean_of_an_honest_ratio_at_most_one(temper):
    # A ratio that is 8 with probability 1/4 and 0 else has mean 2: it needs U = 2, and the same U serves every temper.
    bet = RatioBet(alternative="int4", log_cap=CAP, log_bound=math.log(2), temper=temper, stake=1.0)
    mean = math.exp(compute_log_factor(bet, math.log(8))) / 4 + math.exp(compute_log_factor(bet, -math.inf)) * 3 / 4
    assert mean <= 1 + 1e-12


def test_the_mixture_is_over_products_and_not_inside_requests():
    bets = [RatioBet(alternative=name, log_cap=CAP, log_bound=0.0, stake=1.0) for name in ("int4", "int8")]
    history = [{"int4": 2.0, "int8": -2.0}] * 3
    of_products = fold_all(bets, history).log_wealth
    assert of_products == pytest.approx(math.log((math.exp(6) + math.exp(-6)) / 2))
    inside_requests = 3 * math.log((math.exp(2) + math.exp(-2)) / 2)
    assert of_products > inside_requests


def test_weights_are_priors():
    bets = [
        RatioBet(alternative="int4", log_cap=CAP, log_bound=0.0, stake=1.0, weight=3.0),
        RatioBet(alternative="int8", log_cap=CAP, log_bound=0.0, stake=1.0, weight=1.0),
    ]
    wealth = math.exp(fold_all(bets, [{"int4": math.log(4), "int8": 0.0}]).log_wealth)
    assert wealth == pytest.approx(0.75 * 4 + 0.25)


def test_missing_requests_are_counted_and_cost_what_an_excluded_answer_costs():
    bets = [RatioBet(alternative="int4", log_cap=CAP, log_bound=0.0)]
    martingales = fold_all(bets, [None, {"int4": 1.0}, {"int8": 1.0}])
    assert (martingales.requests, martingales.missing) == (3, 1)
    answered = compute_log_factor(bets[0], 1.0)
    assert martingales.log_wealth == pytest.approx(answered + 2 * math.log(0.05))


def test_the_posterior_names_the_likeliest_alternative_first_and_sums_to_one():
    bets = [
        RatioBet(alternative="int4", log_cap=CAP, log_bound=0.0),
        RatioBet(alternative="t-0.9", log_cap=CAP, log_bound=0.0),
        RatioBet(alternative="t-0.9", log_cap=CAP, log_bound=0.0, temper=0.5),
    ]
    shares = compute_posterior(fold_all(bets, [{"int4": -1.0, "t-0.9": 1.0}] * 5))
    assert list(shares) == ["t-0.9", "int4"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["t-0.9"] > 0.99


def test_nothing_explains_a_bankrupt_mixture():
    assert compute_posterior(fold_all([PLAIN], [None])) == {"int4": 0.0}


def test_the_calibrated_bound_lies_above_the_mean_by_its_price():
    log_cap, rng = math.log(10), random.Random(5)
    honest = [math.log(2) if rng.random() < 0.5 else -math.inf for _ in range(4000)]
    bound = math.exp(calibrate_log_bound(honest, log_cap, math.log(1e7)))
    assert 1.0 < bound < 1.3


def test_calibration_caps_before_it_bounds():
    log_cap = math.log(2)
    assert math.exp(calibrate_log_bound([500.0] * 400, log_cap, 10.0)) == pytest.approx(2.0)


def test_calibration_rounds_ratios_up():
    log_cap, share = math.log(2), 0.3000005
    bound = calibrate_log_bound([math.log(share) + log_cap] * 400, log_cap, 10.0)
    assert math.exp(bound) == pytest.approx(2e-6 * compute_upper_bound_ppm([300_001] * 400, 10.0), rel=1e-9)


def test_calibration_asks_for_two_hundred_requests_per_unit_of_the_cap():
    assert compute_required_requests(math.log(100)) == pytest.approx(20_000, abs=1)
    with pytest.raises(InvalidInput, match="needs 400"):
        calibrate_log_bound([0.0] * 399, math.log(2), 10.0)


def test_wald_gives_the_numbers_of_the_measured_divergences():
    # int4 at 0.81 nats a token and int8 at 0.0048: 17 and about 2,860 tokens to one in a million.
    assert compute_wald_requests(math.log(1e6), 0.81) == pytest.approx(17, abs=0.1)
    assert compute_wald_requests(math.log(1e6), 0.0048) == pytest.approx(2_878, abs=1)
    with_doubt = compute_wald_requests(math.log(1e6), 0.81, alternatives=20)
    assert with_doubt == pytest.approx((math.log(1e6) + math.log(20)) / 0.81)


def test_a_likelihood_ratio_reaches_the_threshold_at_about_walds_number():
    # Geometric answers of rate 0.6 instead of 0.5: KL known, a mean over many runs.
    rng, kl = random.Random(11), 0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5)
    threshold, needed = math.log(1e3), []
    for _ in range(200):
        martingales = build_martingales([PLAIN])
        while martingales.log_wealth < threshold:
            heads = rng.random() < 0.6
            martingales = fold_request(martingales, {"int4": math.log(1.2) if heads else math.log(0.8)})
        needed.append(martingales.requests)
    assert sum(needed) / len(needed) == pytest.approx(compute_wald_requests(threshold, kl), rel=0.08)


REFUSED = {
    "no bet": lambda: build_martingales([]),
    "a cap that forbids gain": lambda: RatioBet(alternative="a", log_cap=0.0, log_bound=0.0),
    "a bound that is not a number": lambda: RatioBet(alternative="a", log_cap=1.0, log_bound=math.nan),
    "a temper of zero": lambda: RatioBet(alternative="a", log_cap=1.0, log_bound=0.0, temper=0.0),
    "a temper above one": lambda: RatioBet(alternative="a", log_cap=1.0, log_bound=0.0, temper=1.1),
    "a stake above one": lambda: RatioBet(alternative="a", log_cap=1.0, log_bound=0.0, stake=1.1),
    "no weight": lambda: RatioBet(alternative="a", log_cap=1.0, log_bound=0.0, weight=0.0),
    "a ratio that is not a number": lambda: compute_log_factor(PLAIN, math.nan),
    "calibration on NaN": lambda: calibrate_log_bound([math.nan] * 400, math.log(2), 10.0),
    "a cap beyond calibration": lambda: compute_required_requests(25.0),
    "a threshold of one": lambda: compute_wald_requests(0.0, 0.1),
    "no divergence": lambda: compute_wald_requests(1.0, 0.0),
    "no alternative": lambda: compute_wald_requests(1.0, 0.1, alternatives=0),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
