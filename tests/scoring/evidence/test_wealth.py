"""Fixed-point wealth: exact rules, refused inputs, and agreement with a float implementation."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.wealth import (
    CEILING,
    FACTOR_ONE,
    ONE,
    Bet,
    Portfolio,
    build_portfolio,
    compute_factor,
    compute_log10_milli,
    compute_mixture,
    fold_epoch,
)

BETS = (
    Bet(statistic=0, mu_ppm=50_000, lambda_ppm=4_000_000),
    Bet(statistic=0, mu_ppm=50_000, lambda_ppm=18_000_000),
    Bet(statistic=1, mu_ppm=120_000, lambda_ppm=7_000_000),
)
g_values = st.integers(0, 1_000_000)
requests = st.one_of(st.none(), st.tuples(g_values, g_values))
epochs = st.lists(st.lists(requests, max_size=8), max_size=6)


def fold(history, bets=BETS, epoch_cap=100):
    portfolio = build_portfolio(bets)
    for epoch in history:
        portfolio = fold_epoch(portfolio, bets, epoch, 100, epoch_cap)
    return portfolio


def compute_float_wealth(history, bets=BETS):
    """Sum the start mixture over all starts, one product each: no recursion, no cap, floats."""
    total = 1 / (len(history) + 1)
    for start in range(len(history)):
        weight = 1 / ((start + 1) * (start + 2))
        for bet in bets:
            product = 1.0
            for request in (r for epoch in history[start:] for r in epoch):
                g = (request[bet.statistic] if request else 0) / 1e6
                product *= min(1 + bet.lambda_ppm / 1e6 * (g - bet.mu_ppm / 1e6), 100.0)
            total += weight * product / len(bets)
    return total


def test_starts_at_one():
    assert build_portfolio(BETS).wealth == ONE


@given(epochs)
def test_recursion_equals_the_explicit_start_mixture(history):
    wealth = fold(history, epoch_cap=None).wealth / ONE
    assert wealth == pytest.approx(compute_float_wealth(history), rel=1e-9)


@given(epochs)
def test_integer_wealth_is_never_above_the_exact_one(history):
    exact = Fraction(1, len(history) + 1)
    for start in range(len(history)):
        for bet in BETS:
            product = Fraction(1)
            for request in (r for epoch in history[start:] for r in epoch):
                product *= Fraction(compute_factor(bet, request, 100), FACTOR_ONE)
            exact += product / ((start + 1) * (start + 2) * len(BETS))
    assert Fraction(fold(history, epoch_cap=None).wealth, ONE) <= exact


@given(epochs, st.lists(requests, max_size=8))
def test_an_epoch_never_multiplies_wealth_by_more_than_its_cap(history, last):
    before = fold(history)
    after = fold_epoch(before, BETS, last, 100, 100)
    assert after.wealth <= 100 * before.wealth


@given(epochs)
def test_capped_wealth_is_never_above_the_uncapped(history):
    assert fold(history).wealth <= fold(history, epoch_cap=None).wealth


def test_a_capped_epoch_uses_the_whole_cap():
    portfolio = fold([[(1_000_000, 1_000_000)] * 8] * 3)
    assert 10**6 * ONE * 999 // 1000 < portfolio.wealth <= 10**6 * ONE


@pytest.mark.parametrize("bets", itertools.permutations(BETS))
def test_the_cap_takes_no_more_than_it_must(bets):
    lopsided = fold([[(1_000_000, 0)] * 8], bets)
    assert 99 * ONE < lopsided.wealth <= 100 * ONE


def test_an_epoch_below_its_cap_is_left_alone():
    history = [[(100_000, 0), None]] * 4
    assert fold(history) == fold(history, epoch_cap=None)


def test_the_cap_lowers_the_boldest_bets_first():
    portfolio = fold([[(1_000_000, 0)] * 8])
    gross, cautious = portfolio.capitals[1], portfolio.capitals[0]
    assert gross == cautious, "both earned more than the common ceiling"
    assert portfolio.capitals[2] < ONE // 1000, "the losing bet is not scaled with them"


def test_a_cheat_on_alternate_days_still_loses():
    # With capitals scaled by the total alone, the boldest bet would own everything and lose it on each honest day.
    cheating, honest = [(1_000_000, 1_000_000)] * 8, [(0, 0)] * 8
    portfolio = fold([cheating, honest] * 10)
    assert portfolio.wealth > 10**10 * ONE


def test_a_missing_probe_bets_the_smallest_factor():
    for bet in BETS:
        missing = compute_factor(bet, None, 100)
        assert missing == compute_factor(bet, (0, 0), 100)
        assert all(missing <= compute_factor(bet, (g, g), 100) for g in range(0, 1_000_001, 50_000))


@given(epochs, st.integers(0, 5), st.integers(0, 7))
def test_leaving_out_an_answer_never_gains(history, epoch, index):
    if epoch >= len(history) or index >= len(history[epoch]):
        return
    omitted = [list(probes) for probes in history]
    omitted[epoch][index] = None
    assert fold(omitted, epoch_cap=None).wealth <= fold(history, epoch_cap=None).wealth


def test_one_request_is_capped():
    bold = Bet(statistic=0, mu_ppm=1_000, lambda_ppm=900_000_000)
    assert compute_factor(bold, (1_000_000,), 100) == 100 * FACTOR_ONE


def test_wealth_saturates_below_two_to_the_256():
    portfolio = fold([[(1_000_000, 1_000_000)] * 8] * 30)
    assert portfolio.wealth <= CEILING < 2**256
    assert portfolio.wealth > CEILING * 99 // 100
    assert fold([[(1_000_000, 1_000_000)] * 400], epoch_cap=None).wealth <= CEILING


def test_an_epoch_without_probes_moves_cash_and_no_wealth():
    portfolio = fold([[], [], []])
    assert ONE - 10 < portfolio.wealth <= ONE
    assert portfolio.cash == ONE // 4


def test_order_of_probes_in_an_epoch_changes_the_last_digits_alone():
    probes = [(10_000, 3_000), None, (900_000, 20_000), (0, 1_000_000)]
    forward, backward = fold([probes] * 3).wealth, fold([probes[::-1]] * 3).wealth
    assert forward == pytest.approx(backward, rel=1e-12)


def test_the_mixture_of_a_challenge_is_the_mean_of_products():
    wealth = compute_mixture(BETS, [(200_000, 500_000), None], 100) / ONE
    expected = sum(
        math.prod(compute_factor(bet, request, 100) / FACTOR_ONE for request in [(200_000, 500_000), None])
        for bet in BETS
    )
    assert wealth == pytest.approx(expected / 3)


@pytest.mark.parametrize(
    ("wealth", "milli"), [(ONE, 0), (10 * ONE, 1000), (ONE // 2, -302), (0, -18_000), (CEILING, 40_000)]
)
def test_log10_for_display(wealth, milli):
    assert compute_log10_milli(wealth) == milli


REFUSED_BETS = {
    "mu of zero": {"mu_ppm": 0, "lambda_ppm": 1},
    "mu of one": {"mu_ppm": 1_000_000, "lambda_ppm": 1},
    "no stake": {"mu_ppm": 50_000, "lambda_ppm": 0},
    "negative stake": {"mu_ppm": 50_000, "lambda_ppm": -1},
    "a stake that can go bankrupt": {"mu_ppm": 50_000, "lambda_ppm": 20_000_000},
}


@pytest.mark.parametrize("fields", REFUSED_BETS.values(), ids=REFUSED_BETS.keys())
def test_refuses_a_bet(fields):
    with pytest.raises(InvalidInput):
        Bet(statistic=0, **fields)


def test_refuses_bets_of_another_plan():
    with pytest.raises(InvalidInput, match="capitals"):
        fold_epoch(build_portfolio(BETS), BETS[:2], [], 100, 100)


def test_refuses_capital_beyond_the_ceiling():
    with pytest.raises(InvalidInput, match="ceiling"):
        Portfolio(epochs=1, capitals=(CEILING,))


@settings(max_examples=30)
@given(epochs)
def test_a_portfolio_survives_json(history):
    portfolio = fold(history)
    assert Portfolio.decode(portfolio.encode()) == portfolio
