"""Verdicts: one row for each way to reach one, and properties that no input may break."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.verdict import (
    EvidenceSummary,
    Verdict,
    compute_power_floor,
    decide_verdict,
    find_excluded,
)

THRESHOLD, ALARM = math.log(1e6), math.log(1e3)
QUIET = EvidenceSummary(
    log_e=-2.0,
    log_alarm_e=-1.0,
    log_threshold=THRESHOLD,
    log_alarm_threshold=ALARM,
    informative_requests=30,
    floors={"int4 weights": 40.0, "int8 weights": 2.0},
    missing_share=0.0,
    log_change_e=0.0,
    is_calibrated=True,
)

ROWS = {
    "quiet with power": ({}, Verdict.CONSISTENT),
    "at the threshold": ({"log_e": THRESHOLD}, Verdict.PROVEN),
    "below the threshold, above the alarm": ({"log_e": 13.0, "log_alarm_e": 13.0}, Verdict.SUSPECT),
    "one terrible day, capped": ({"log_e": 4.6, "log_alarm_e": 40.0}, Verdict.SUSPECT),
    "at the alarm": ({"log_alarm_e": ALARM}, Verdict.SUSPECT),
    "at the threshold without calibration": ({"log_e": 99.0, "is_calibrated": False}, Verdict.SUSPECT),
    "quiet without calibration": ({"is_calibrated": False}, Verdict.UNINFORMATIVE),
    "no cheat would have been caught": ({"floors": {"int8 weights": 2.0}}, Verdict.UNINFORMATIVE),
    "a cheat would have raised an alarm only": ({"floors": {"int8 weights": 9.0}}, Verdict.UNINFORMATIVE),
    "a cheat would just have been caught": ({"floors": {"int8 weights": THRESHOLD}}, Verdict.CONSISTENT),
    "no cheat was named": ({"floors": {}}, Verdict.UNINFORMATIVE),
    "a fifth of the answers missing": ({"missing_share": 0.2}, Verdict.CONSISTENT),
    "more than a fifth missing": ({"missing_share": 0.21}, Verdict.UNINFORMATIVE),
    "proven although most answers are missing": ({"log_e": 14.0, "missing_share": 0.9}, Verdict.PROVEN),
    "four requests": ({"informative_requests": 4}, Verdict.CONSISTENT),
    "three requests": ({"informative_requests": 3}, Verdict.UNINFORMATIVE),
    "nothing asked": ({"informative_requests": 0, "floors": {}, "log_e": 0.0}, Verdict.UNINFORMATIVE),
    "quiet but differs from itself": ({"log_change_e": ALARM}, Verdict.UNSTABLE),
    "suspect and differs from itself": ({"log_alarm_e": 9.0, "log_change_e": 9.0}, Verdict.UNSTABLE),
    "proven and differs from itself": ({"log_e": 14.0, "log_change_e": 99.0}, Verdict.PROVEN),
    "bankrupt": ({"log_e": -math.inf, "log_alarm_e": -math.inf}, Verdict.CONSISTENT),
}


@pytest.mark.parametrize(("changes", "verdict"), ROWS.values(), ids=ROWS.keys())
def test_verdict(changes, verdict):
    assert decide_verdict(replace(QUIET, **changes)).verdict is verdict


def test_a_good_word_names_what_it_excludes():
    decision = decide_verdict(QUIET)
    assert (decision.excluded, decision.reason) == (("int4 weights",), "cheats-excluded")


def test_nothing_is_excluded_by_proven_evidence():
    assert find_excluded(replace(QUIET, log_e=THRESHOLD)) == ()


def test_only_proven_slashes():
    assert [verdict for verdict in Verdict if verdict.is_slashable] == [Verdict.PROVEN]


logs = st.floats(-1e3, 1e3) | st.just(-math.inf)
summaries = st.builds(
    EvidenceSummary,
    log_e=logs,
    log_alarm_e=logs,
    log_threshold=st.just(THRESHOLD),
    log_alarm_threshold=st.just(ALARM),
    informative_requests=st.integers(0, 100),
    floors=st.dictionaries(st.sampled_from(["int4", "int8"]), st.floats(-50, 50)),
    missing_share=st.floats(0, 1),
    log_change_e=logs,
    is_calibrated=st.booleans(),
)


@given(summaries)
def test_an_uncalibrated_cell_is_never_proven(summary):
    assert decide_verdict(replace(summary, is_calibrated=False)).verdict is not Verdict.PROVEN


@given(summaries)
def test_proven_needs_the_threshold_and_consistent_needs_power(summary):
    decision = decide_verdict(summary)
    if decision.verdict is Verdict.PROVEN:
        assert summary.log_e >= THRESHOLD
    if decision.verdict is Verdict.CONSISTENT:
        assert decision.excluded and summary.log_alarm_e < ALARM and summary.missing_share <= 0.2


@given(summaries, st.floats(0, 1))
def test_leaving_out_answers_never_earns_a_good_word(summary, more):
    worse = replace(summary, missing_share=max(summary.missing_share, more))
    if decide_verdict(worse).verdict is Verdict.CONSISTENT:
        assert decide_verdict(summary).verdict is Verdict.CONSISTENT


def test_the_floor_is_what_the_worst_cheat_of_that_mean_and_variance_falls_to_in_one_run_of_twenty():
    # Cantelli's inequality is an equality for two values: 3 in 95 % of runs, -7 in 5 %.
    mean, variance = 2.5, 100 * 0.95 * 0.05
    assert compute_power_floor(mean, variance, 1) == pytest.approx(-7.0)


def test_a_resampled_cheat_stays_above_its_floor():
    rng = random.Random(6)
    totals = [sum(2.0 if rng.random() < 0.8 else -3.0 for _ in range(20)) for _ in range(2000)]
    assert sum(total < compute_power_floor(1.0, 25 * 0.8 * 0.2, 20) for total in totals) <= 0.05 * 2000


def test_the_floor_of_a_steady_cheat_is_its_mean():
    assert compute_power_floor(1.5, 0.0, 10) == 15.0
    assert compute_power_floor(1.5, 4.0, 0) == 0.0


REFUSED = {
    "an e-value that is not a number": {"log_e": math.nan},
    "an alarm that is not a number": {"log_alarm_e": math.nan},
    "a change that is not a number": {"log_change_e": math.nan},
    "a threshold of one": {"log_threshold": 0.0},
    "an alarm threshold of one": {"log_alarm_threshold": 0.0},
    "an alarm above the threshold": {"log_alarm_threshold": THRESHOLD + 1},
    "negative requests": {"informative_requests": -1},
    "more missing than drawn": {"missing_share": 1.1},
    "a floor that is not a number": {"floors": {"int4": math.nan}},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(changes):
    with pytest.raises(InvalidInput, match=next(iter(changes))):
        replace(QUIET, **changes)


@pytest.mark.parametrize("arguments", [(math.nan, 1.0, 1), (1.0, -1.0, 1), (1.0, math.inf, 1), (1.0, 1.0, -1)], ids=str)
def test_refuses_a_floor(arguments):
    with pytest.raises(InvalidInput):
        compute_power_floor(*arguments)
