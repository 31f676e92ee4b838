"""The alarm ledger and the slash ledger: what opens, resets and closes, what the budget spends, what is refused."""

import math
from fractions import Fraction

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.cases import compute_threshold
from scoring.evidence.ledgers import (
    AlarmEvent,
    AlarmLedger,
    SlashLedger,
    close_alarm,
    compute_case_alpha,
    compute_case_threshold,
    fold_alarm,
    record_case,
)
from scoring.evidence.wealth import ONE

LOG_1000 = math.log(1000)
OFFENCE = b"\x01" * 32
SLASHES = SlashLedger(one_over_alpha=1_000_000, case_length_epochs=30)


def fold_all(factors, ledger=None):
    ledger = AlarmLedger(log_threshold=LOG_1000) if ledger is None else ledger
    for factor in factors:
        ledger = fold_alarm(ledger, ledger.epoch + 1, factor)
    return ledger


def test_an_alarm_is_raised_in_the_epoch_that_reaches_the_threshold():
    ledger = fold_all([3.0, 3.0, 1.0])
    assert ledger.is_open
    assert [(entry.epoch, entry.event) for entry in ledger.entries] == [(2, AlarmEvent.RAISED)]
    assert ledger.entries[0].log_statistic == pytest.approx(7.0)


def test_raising_an_alarm_resets_the_detector():
    assert fold_all([8.0]).detector.log_statistic == -math.inf


def test_a_long_honest_past_does_not_delay_an_alarm():
    assert fold_all([-0.5] * 1000 + [7.0]).entries[0].epoch == 1000


def test_while_an_alarm_is_open_no_other_is_raised():
    assert fold_all([8.0] * 5).raised == 1


def test_a_closed_alarm_can_be_followed_by_another_from_fresh_evidence_alone():
    closed = close_alarm(fold_all([8.0, 6.0]), 2)
    assert not closed.is_open
    assert fold_all([6.5], closed).raised == 1
    assert fold_all([6.5, 6.5], closed).raised == 2
    assert [entry.event for entry in closed.entries] == [AlarmEvent.RAISED, AlarmEvent.CLOSED]


def test_thresholds_are_those_of_the_cases_of_a_plan(plan):
    assert [compute_case_threshold(plan.one_over_alpha, j) for j in (1, 2, 9)] == [
        compute_threshold(plan, j) for j in (1, 2, 9)
    ]


def test_a_threshold_spends_a_third_of_what_one_validator_would():
    assert compute_case_alpha(1_000_000, 3) == Fraction(3, compute_case_threshold(1_000_000, 3))


def test_the_whole_life_of_a_provider_spends_at_most_alpha():
    ledger = SLASHES
    for case_index in range(1, 200):
        ledger = record_case(ledger, case_index, (case_index - 1) * 30, ONE, None)
    assert ledger.spent_alpha == Fraction(199, 200) / 1_000_000 < Fraction(1, 1_000_000)


WEALTHS = {
    "below": (6_000_000 * ONE - 1, OFFENCE, frozenset()),
    "at the threshold": (6_000_000 * ONE, OFFENCE, frozenset({OFFENCE})),
    "at the threshold without an offence": (6_000_000 * ONE, None, frozenset()),
}


@pytest.mark.parametrize(("wealth", "offence", "offences"), WEALTHS.values(), ids=WEALTHS.keys())
def test_an_offence_is_slashed_at_the_threshold_of_its_case(wealth, offence, offences):
    assert record_case(SLASHES, 1, 0, wealth, offence).offences == offences


def test_a_later_case_needs_more():
    assert record_case(SLASHES, 2, 30, 6_000_000 * ONE, OFFENCE).offences == frozenset()


def test_an_offence_that_did_not_slash_may_be_accused_again():
    once = record_case(SLASHES, 1, 0, ONE, OFFENCE)
    assert record_case(once, 2, 30, 18_000_000 * ONE, OFFENCE).offences == {OFFENCE}


OPEN = fold_all([8.0])
SLASHED = record_case(SLASHES, 2, 30, 18_000_000 * ONE, OFFENCE)
REFUSED = {
    "an alarm at one": lambda: AlarmLedger(log_threshold=0.0),
    "an epoch twice": lambda: fold_alarm(OPEN, 0, 1.0),
    "closing nothing": lambda: close_alarm(AlarmLedger(log_threshold=1.0), 0),
    "closing in the past": lambda: close_alarm(fold_all([0.0, 8.0]), 0),
    "alpha of one": lambda: SlashLedger(one_over_alpha=1, case_length_epochs=30),
    "an empty case": lambda: SlashLedger(one_over_alpha=100, case_length_epochs=0),
    "case zero": lambda: compute_case_threshold(100, 0),
    "the alpha of case zero": lambda: compute_case_alpha(100, 0),
    "a case twice": lambda: record_case(SLASHED, 2, 30, ONE, None),
    "an earlier case": lambda: record_case(SLASHED, 1, 0, ONE, None),
    "a case that opened after an alarm": lambda: record_case(SLASHES, 1, 12, ONE, None),
    "a case that counts the past": lambda: record_case(SLASHES, 2, 0, ONE, None),
    "negative wealth": lambda: record_case(SLASHES, 1, 0, -1, None),
    "an offence that was slashed": lambda: record_case(SLASHED, 3, 60, 36_000_000 * ONE, OFFENCE),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
