"""Calendar cases: what is folded, what it takes to prove, what is refused."""

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.cases import (
    AccountedProbe,
    CaseState,
    build_case,
    compute_case_index,
    compute_case_wealth,
    compute_challenge_e_value,
    compute_first_epoch,
    compute_threshold,
    fold_case_epoch,
    is_proven,
)
from scoring.evidence.wealth import ONE

GROSS = (1_000_000,) * 5
CLEAN = (0,) * 5


def build_epoch(own, others):
    return [AccountedProbe(is_own=True, statistics_ppm=g) for g in own] + [
        AccountedProbe(is_own=False, statistics_ppm=g) for g in others
    ]


def test_a_case_starts_with_wealth_one(plan):
    state = build_case(plan, 1)
    assert state.own_wealth == state.pooled_wealth == state.case_wealth == state.alarm_wealth == ONE


@pytest.mark.parametrize(("epoch", "case"), [(0, 1), (5, 1), (6, 2), (17, 3)])
def test_the_calendar_says_which_case_an_epoch_belongs_to(plan, epoch, case):
    assert compute_case_index(plan, epoch) == case
    assert compute_first_epoch(plan, case) <= epoch < compute_first_epoch(plan, case + 1)


def test_thresholds_spend_alpha_over_all_cases(plan):
    assert compute_threshold(plan, 1) == 6_000_000
    assert compute_threshold(plan, 2) == 18_000_000
    spent = sum(3 / compute_threshold(plan, j) for j in range(1, 10_000))
    assert spent < 1e-6


def test_case_wealth_is_the_average_of_own_and_pooled(plan):
    state = fold_case_epoch(plan, build_case(plan, 1), build_epoch([CLEAN] * 2, [(300_000,) * 5] * 6))
    assert state.own_wealth < ONE < state.pooled_wealth
    assert state.case_wealth == (state.own_wealth + state.pooled_wealth) // 2


def test_a_gross_cheat_needs_four_epochs_and_no_fewer(plan):
    state, proven = build_case(plan, 1), []
    for _ in range(4):
        state = fold_case_epoch(plan, state, build_epoch([GROSS] * 2, [GROSS] * 6))
        proven.append(is_proven(plan, state))
    assert proven == [False, False, False, True]


def test_one_terrible_day_proves_nothing_but_raises_the_alarm(plan):
    state = fold_case_epoch(plan, build_case(plan, 1), build_epoch([GROSS] * 32, [GROSS] * 32))
    assert state.case_wealth <= 100 * ONE
    assert state.alarm_wealth > compute_threshold(plan, 1) * ONE
    assert not is_proven(plan, state)


def test_a_sleeper_is_caught_after_it_wakes(plan):
    epochs = [build_epoch([CLEAN] * 2, [CLEAN] * 6)] * 2 + [build_epoch([GROSS] * 2, [GROSS] * 6)] * 4
    assert is_proven(plan, compute_case_wealth(plan, 1, epochs))


def test_missing_probes_are_counted_and_lose(plan):
    state = fold_case_epoch(plan, build_case(plan, 1), build_epoch([None] * 2, [None, CLEAN, None, CLEAN]))
    assert (state.accounted_probes, state.missing_probes) == (6, 4)
    answered = fold_case_epoch(plan, build_case(plan, 1), build_epoch([CLEAN] * 2, [CLEAN] * 4))
    assert state.case_wealth == answered.case_wealth < ONE


def test_refusing_every_probe_never_gains(plan):
    epochs = [build_epoch([None] * 2, [None] * 6)] * plan.case_length_epochs
    assert compute_case_wealth(plan, 1, epochs).case_wealth < ONE


def test_a_stranger_recomputes_the_same_state(plan):
    epochs = [build_epoch([GROSS, None], [CLEAN, (120_000, 0, 7, 999_999, 1)])] * 3
    state = build_case(plan, 2)
    for epoch in epochs:
        state = fold_case_epoch(plan, state, epoch)
    assert compute_case_wealth(plan, 2, epochs) == state


def test_a_case_survives_json_and_goes_on(plan):
    epoch = build_epoch([GROSS, None], [CLEAN, CLEAN])
    state = fold_case_epoch(plan, build_case(plan, 1), epoch)
    stored = CaseState.decode(state.encode())
    assert stored == state
    assert fold_case_epoch(plan, stored, epoch) == fold_case_epoch(plan, state, epoch)


def test_a_full_case_takes_no_more_epochs(plan):
    state = compute_case_wealth(plan, 1, [[]] * plan.case_length_epochs)
    with pytest.raises(InvalidInput, match="had its 6 epochs"):
        fold_case_epoch(plan, state, [])


def test_a_challenge_of_gross_receipts_is_worth_much_and_of_clean_ones_less_than_one(plan):
    assert compute_challenge_e_value(plan, [GROSS] * 3) > 1000 * ONE
    assert compute_challenge_e_value(plan, [CLEAN] * 3) < ONE
    assert compute_challenge_e_value(plan, [None]) == compute_challenge_e_value(plan, [CLEAN])


REFUSED_STATISTICS = {
    "too few": (0,) * 4,
    "too many": (0,) * 6,
    "negative": (0, 0, -1, 0, 0),
    "above one": (0, 0, 1_000_001, 0, 0),
    "a float": (0, 0, 0.5, 0, 0),
    "a bool": (0, 0, True, 0, 0),
}


@pytest.mark.parametrize("statistics", REFUSED_STATISTICS.values(), ids=REFUSED_STATISTICS.keys())
def test_refuses_statistics(plan, statistics):
    with pytest.raises(InvalidInput, match="statistics_ppm"):
        fold_case_epoch(plan, build_case(plan, 1), [AccountedProbe(is_own=True, statistics_ppm=statistics)])
    with pytest.raises(InvalidInput, match="statistics_ppm"):
        compute_challenge_e_value(plan, [statistics])


@pytest.mark.parametrize("count", [0, 9])
def test_refuses_challenges_of_no_or_too_many_receipts(plan, count):
    with pytest.raises(InvalidInput, match="receipts"):
        compute_challenge_e_value(plan, [CLEAN] * count)


def test_refuses_case_zero_and_epochs_before_the_first(plan):
    with pytest.raises(InvalidInput):
        build_case(plan, 0)
    with pytest.raises(InvalidInput):
        compute_threshold(plan, 0)
    with pytest.raises(InvalidInput):
        compute_case_index(plan, -1)
