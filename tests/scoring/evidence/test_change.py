"""Conformal change detection: p-values by hand, martingales of mean one, shifts found, blips capped, refusals."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.change import (
    JUMPS,
    POWERS,
    ChangeState,
    bet_jumper,
    bet_powers,
    compute_conformal_p_value,
    fold_change_epoch,
    is_change_alarm,
)
from scoring.evidence.draws import compute_uniform

CAP = math.log(100)


def fold_all(epochs, log_cap=CAP):
    state, item = ChangeState(), 0
    for scores in epochs:
        ties = [compute_uniform(b"\x07" * 32, "ties", b"endpoint", item + place) for place in range(len(scores))]
        state, item = fold_change_epoch(state, scores, ties, log_cap), item + len(scores)
    return state


P_VALUES = {
    "the first": ([], 3.0, 0.3),
    "larger than all": ([1.0, 2.0], 3.0, 0.3 / 3),
    "smaller than all": ([1.0, 2.0], 0.0, 2.3 / 3),
    "tied with one": ([1.0, 2.0, 3.0], 2.0, (1 + 0.3 * 2) / 4),
    "tied with all": ([2.0, 2.0], 2.0, 0.3),
}


@pytest.mark.parametrize(("scores", "score", "expected"), P_VALUES.values(), ids=P_VALUES.keys())
def test_conformal_p_values(scores, score, expected):
    assert compute_conformal_p_value(scores, score, 0.3) == pytest.approx(expected)


def test_p_values_of_exchangeable_scores_are_uniform_with_ties_too():
    rng, seen, pits = random.Random(4), [], []
    for _ in range(3000):
        score = float(rng.randrange(5))
        pits.append(compute_conformal_p_value(sorted(seen), score, rng.random()))
        seen = sorted([*seen, score])
    assert max(abs(p - (rank + 0.5) / 3000) for rank, p in enumerate(sorted(pits))) < 0.03


capitals = st.tuples(*[st.floats(-5, 5)] * len(JUMPS))


@given(capitals)
def test_the_jumper_has_mean_one_under_a_uniform_p_value(values):
    # The factors are linear in p: the mean over two symmetric points is exact.
    before = sum(math.exp(value) for value in values)
    after = [sum(math.exp(value) for value in bet_jumper(values, p)) for p in (0.25, 0.75)]
    assert sum(after) / 2 == pytest.approx(before)


def test_the_jumper_mixes_before_it_bets():
    after = bet_jumper([0.0, -math.inf, -math.inf], 0.75)
    assert [math.exp(value) for value in after] == pytest.approx([(0.99 + 0.01 / 3) * 0.75, 0.01 / 3, 0.01 / 3 * 1.25])


@pytest.mark.parametrize("place", range(len(POWERS)))
def test_a_power_has_mean_one_under_a_uniform_p_value(place):
    # The substitution p = x^5 tames the pole at 0.
    steps = 4000
    middles = [(k + 0.5) / steps for k in range(steps)]
    total = sum(5 * x**4 * math.exp(bet_powers([0.0] * len(POWERS), x**5)[place]) for x in middles) / steps
    assert total == pytest.approx(1.0, abs=2e-3)


def test_wealth_starts_at_one():
    assert ChangeState().log_wealth == pytest.approx(0.0)


def test_finds_an_endpoint_that_changes_for_good_in_either_direction():
    rng = random.Random(8)
    for shift in (-1.5, 1.5):
        before = [[rng.gauss(0, 1) for _ in range(5)] for _ in range(20)]
        after = [[rng.gauss(shift, 1) for _ in range(5)] for _ in range(20)]
        assert is_change_alarm(fold_all(before + after), math.log(1000))


def test_leaves_an_endpoint_alone_that_stays_as_it_is():
    rng = random.Random(8)
    assert not is_change_alarm(fold_all([[rng.gauss(0, 1) for _ in range(5)] for _ in range(40)]), math.log(20))


def test_one_bad_day_raises_no_alarm_and_would_without_the_cap():
    rng = random.Random(8)
    usual = [[rng.gauss(0, 1) for _ in range(30)] for _ in range(10)]
    blip = [[rng.gauss(6, 1) for _ in range(60)]]
    assert not is_change_alarm(fold_all(usual + blip), math.log(1000))
    assert is_change_alarm(fold_all(usual + blip, log_cap=700.0), math.log(1000))


@given(st.lists(st.lists(st.floats(-9, 9), max_size=6), max_size=5), st.lists(st.floats(-9, 9), max_size=12))
def test_an_epoch_never_grows_by_more_than_its_cap(history, last):
    before = fold_all(history, 0.5)
    after = fold_change_epoch(before, last, [0.5] * len(last), 0.5)
    assert after.log_wealth <= before.log_wealth + 0.5 + 1e-9


def test_scores_are_kept_in_rising_order():
    assert fold_all([[3.0, 1.0], [2.0, 1.0]]).scores == (1.0, 1.0, 2.0, 3.0)


REFUSED = {
    "a score that is not a number": lambda: compute_conformal_p_value([], math.nan, 0.5),
    "a tie of zero": lambda: compute_conformal_p_value([], 1.0, 0.0),
    "a tie of one": lambda: compute_conformal_p_value([], 1.0, 1.0),
    "too few ties": lambda: fold_change_epoch(ChangeState(), [1.0], [], CAP),
    "a cap that forbids gain": lambda: fold_change_epoch(ChangeState(), [1.0], [0.5], 0.0),
    "a p-value of zero in the jumper": lambda: bet_jumper([0.0] * 3, 0.0),
    "a p-value above one in the powers": lambda: bet_powers([0.0] * 4, 1.1),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
