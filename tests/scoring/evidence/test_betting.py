"""Betting in floats: agreement with the integers, the adaptive rules against their formulas, and what is refused."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.betting import (
    MAX_SHARE,
    Bettor,
    Rule,
    build_bettors,
    build_float_portfolio,
    compute_log_wealth,
    fold_bettors,
    fold_float_epoch,
    rescale_statistic,
)
from scoring.evidence.wealth import ONE, Bet, build_portfolio, fold_epoch

BETS = (
    Bet(statistic=0, mu_ppm=50_000, lambda_ppm=4_000_000),
    Bet(statistic=0, mu_ppm=50_000, lambda_ppm=18_000_000),
    Bet(statistic=1, mu_ppm=120_000, lambda_ppm=7_000_000),
)
unit = st.floats(0, 1)
ppm = st.integers(0, 1_000_000)
epochs_ppm = st.lists(st.lists(st.none() | st.tuples(ppm, ppm), max_size=8), max_size=6)


def fold_all(bettors, answers, cap=100.0):
    for g in answers:
        bettors = fold_bettors(bettors, g, cap)
    return bettors


@pytest.mark.parametrize("cap", [None, 100])
@given(history=epochs_ppm)
def test_the_float_portfolio_agrees_with_the_integers_to_rounding(cap, history):
    floats, integers = build_float_portfolio(BETS), build_portfolio(BETS)
    for epoch in history:
        integers = fold_epoch(integers, BETS, epoch, 100, cap)
        requests = [None if g is None else (g[0] / 1e6, g[1] / 1e6) for g in epoch]
        floats = fold_float_epoch(floats, BETS, requests, 100.0, cap)
        assert floats.wealth == pytest.approx(integers.wealth / ONE, rel=1e-9)
        assert floats.capitals == pytest.approx([capital / ONE for capital in integers.capitals], rel=1e-9, abs=1e-15)


def test_the_float_portfolio_saturates_with_the_integers():
    floats, integers = build_float_portfolio(BETS), build_portfolio(BETS)
    for _ in range(4):
        floats = fold_float_epoch(floats, BETS, [(1.0, 1.0)] * 100, 100.0, None)
        integers = fold_epoch(integers, BETS, [(1_000_000, 1_000_000)] * 100, 100, None)
    assert floats.wealth == pytest.approx(integers.wealth / ONE, rel=1e-9)


def test_a_fixed_share_multiplies_as_written():
    bettor = Bettor(statistic=0, mu=0.1, rule=Rule.FIXED, share=0.5)
    (after,) = fold_all((bettor,), [(0.3,), (0.0,), None])
    assert math.exp(after.log_wealth) == pytest.approx((1 + 0.5 / 0.1 * 0.2) * 0.5 * 0.5)


def test_agrapa_follows_its_formula():
    mu, answers = 0.1, [0.4, 0.0, 0.9, 0.3]
    (bettor,) = (b for b in build_bettors([mu]) if b.rule is Rule.AGRAPA)
    wealth, seen, spread = 1.0, [], 0.25
    for g in answers:
        mean = (0.5 + sum(seen)) / (len(seen) + 1)
        stake = (mean - mu) / (spread / (len(seen) + 1) + (mean - mu) ** 2)
        assert bettor.share == pytest.approx(min(max(stake * mu, 0.0), MAX_SHARE))
        wealth *= 1 + bettor.share / mu * (g - mu)
        seen.append(g)
        spread += (g - (0.5 + sum(seen)) / (len(seen) + 1)) ** 2
        (bettor,) = fold_bettors((bettor,), (g,), 100.0)
    assert math.exp(bettor.log_wealth) == pytest.approx(wealth)


def test_ons_starts_without_a_stake_and_steps_towards_what_pays():
    (bettor,) = (b for b in build_bettors([0.1]) if b.rule is Rule.ONS)
    assert bettor.share == 0.0
    (bettor,) = fold_bettors((bettor,), (0.4,), 100.0)
    assert bettor.share == pytest.approx(2 / (2 - math.log(3)) * 3 / (1 + 9))
    before, gradient = bettor.share, -1 / (1 - bettor.share)
    (bettor,) = fold_bettors((bettor,), (0.0,), 100.0)
    assert bettor.share == pytest.approx(max(before + 2 / (2 - math.log(3)) * gradient / (10 + gradient**2), 0.0))
    assert 0.0 < bettor.share < before


@pytest.mark.parametrize("rule", [Rule.AGRAPA, Rule.ONS])
def test_an_adaptive_rule_learns_to_stake_on_a_cheat_and_not_on_the_honest(rule):
    rng = random.Random(3)
    (start,) = (b for b in build_bettors([0.1]) if b.rule is rule)
    (cheated,) = fold_all((start,), [(rng.uniform(0.2, 0.6),) for _ in range(60)])
    (honest,) = fold_all((start,), [(rng.uniform(0.0, 0.1),) for _ in range(60)])
    assert cheated.log_wealth > 14 > 1 > honest.log_wealth
    assert cheated.share > 0.1 > honest.share


@given(st.lists(st.none() | st.tuples(unit, unit), max_size=20))
def test_no_share_can_go_bankrupt_whatever_the_answers(answers):
    bettors = fold_all(build_bettors([0.05, 0.3]), answers)
    assert all(0.0 <= bettor.share <= MAX_SHARE and bettor.log_wealth > -math.inf for bettor in bettors)


@given(st.lists(st.tuples(unit), max_size=10), unit)
def test_the_stake_of_a_request_is_known_before_its_answer(history, g):
    before = fold_all(build_bettors([0.1]), history)
    shares = [bettor.share for bettor in before]
    after = fold_bettors(before, (g,), 1e9)
    for share, old, new in zip(shares, before, after, strict=True):
        assert new.log_wealth - old.log_wealth == pytest.approx(math.log(1 + share * (g / 0.1 - 1)), abs=1e-9)


@given(st.lists(st.tuples(unit), min_size=1, max_size=10))
def test_a_missing_answer_is_the_smallest_factor_of_every_bet(history):
    before = fold_all(build_bettors([0.1]), history[:-1])
    missing, answered = fold_bettors(before, None, 100.0), fold_bettors(before, history[-1], 100.0)
    assert all(a.log_wealth <= b.log_wealth for a, b in zip(missing, answered, strict=True))


def test_wealth_is_the_average_over_bettors():
    bettors = fold_all(build_bettors([0.1, 0.2]), [(0.5, 0.1), (0.0, 0.9)])
    mean = sum(math.exp(bettor.log_wealth) for bettor in bettors) / len(bettors)
    assert math.exp(compute_log_wealth(bettors)) == pytest.approx(mean)
    assert compute_log_wealth(build_bettors([0.1])) == 0.0


def test_one_request_is_capped():
    bettor = Bettor(statistic=0, mu=0.001, rule=Rule.FIXED, share=0.9)
    (after,) = fold_bettors((bettor,), (1.0,), 100.0)
    assert after.log_wealth == pytest.approx(math.log(100))


def test_a_finer_scale_clips_and_stretches():
    assert [rescale_statistic(g, 0.2) for g in (0.0, 0.1, 0.2, 0.9)] == [0.0, 0.5, 1.0, 1.0]


START = build_bettors([0.1])
REFUSED = {
    "mu of zero": lambda: build_bettors([0.0]),
    "mu of one": lambda: build_bettors([1.0]),
    "mu that is not a number": lambda: build_bettors([math.nan]),
    "a share that can go bankrupt": lambda: build_bettors([0.1], [1.0]),
    "a negative share": lambda: build_bettors([0.1], [-0.1]),
    "g below zero": lambda: fold_bettors(START, (-0.01,), 100.0),
    "g above one": lambda: fold_bettors(START, (1.01,), 100.0),
    "too few statistics": lambda: fold_bettors(build_bettors([0.1, 0.1]), (0.1,), 100.0),
    "g that is not a number": lambda: fold_bettors(START, (math.nan,), 100.0),
    "a cap that forbids gain": lambda: fold_bettors(START, (0.1,), 1.0),
    "an infinite cap": lambda: fold_bettors(START, (0.1,), math.inf),
    "a scale of zero": lambda: rescale_statistic(0.5, 0.0),
    "a scale above one": lambda: rescale_statistic(0.5, 1.5),
    "bets of another plan": lambda: fold_float_epoch(build_float_portfolio(BETS), BETS[:2], [], 100.0, None),
    "g above one in a portfolio": lambda: fold_float_epoch(
        build_float_portfolio(BETS), BETS, [(1.1, 0.0)], 100.0, None
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
