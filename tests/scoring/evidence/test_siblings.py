"""Models that an auditor names: names of their ratios, their part of the wealth, and what they are called."""

import math

import pytest

from scoring.evidence.appraisal import AuditAppraisal, build_evidence
from scoring.evidence.audit import MISSING, compute_gains
from scoring.evidence.audit_plan import SHARES, SIBLINGS_WEIGHT, build_audit_plan
from scoring.evidence.channel_ids import (
    CAPS,
    TEXT,
    build_sibling_name,
    find_ratio_cap,
    get_channel,
    is_audited,
    is_sibling,
    list_statistics_of,
    list_text_ids,
)

NAME = build_sibling_name(bytes(range(32)))
IDS = list_text_ids((NAME,))
NOT_SIBLINGS = {
    "its name alone": NAME,
    "another cap": IDS[0].replace("-c20-", "-c30-"),
    "another version": IDS[0].replace("-v1", "-v2"),
    "another channel": IDS[0].replace("text-", "seeded-"),
    "a digest that is too short": IDS[0].replace(NAME, NAME[:-1]),
    "letters that are no digits": IDS[0].replace(NAME, "sibling-" + "x" * 16),
    "something behind it": IDS[0] + "1",
    "something before it": "a" + IDS[0],
    "another statistic": "text-int4-c20-v1",
}


def test_the_ratios_of_a_sibling_are_of_the_text_under_every_cap():
    assert NAME == "sibling-0001020304050607"
    assert [find_ratio_cap(name) for name in IDS] == list(CAPS)
    assert {get_channel(name) for name in IDS} == {TEXT}
    assert all(is_sibling(name) and is_audited(name) for name in IDS)


@pytest.mark.parametrize("name", NOT_SIBLINGS.values(), ids=NOT_SIBLINGS.keys())
def test_no_sibling_is(name):
    assert not is_sibling(name)


def test_a_sibling_is_run_for_its_text_and_at_temperature_0_for_nothing():
    assert list_statistics_of(NAME, False) == IDS
    assert list_statistics_of(NAME, True) == ()


def test_siblings_share_a_part_of_the_wealth_however_many_there_are():
    other = list_text_ids((build_sibling_name(bytes(32)),))
    for names in (IDS, (*IDS, *other)):
        plan = build_audit_plan(dict.fromkeys(("text-any-v1", *names), 20_000), (TEXT,), False)
        parts = [statistic.part for statistic in plan.statistics if is_sibling(statistic.id)]
        assert parts == pytest.approx([SIBLINGS_WEIGHT / (1 + SIBLINGS_WEIGHT) / len(names)] * len(names))


def test_a_missing_answer_bets_the_smallest_factor_on_a_sibling_too():
    plan = build_audit_plan(dict.fromkeys(IDS, 60_000), (TEXT,), False)
    assert compute_gains(plan, MISSING) == pytest.approx([math.log(1 - share) for _ in IDS for share in SHARES])


def test_a_sibling_that_explains_the_answers_is_called_by_its_name():
    plan = build_audit_plan(dict.fromkeys(IDS, 60_000), (TEXT,), False)
    evidence = build_evidence(plan, 1e-6, is_calibrated=True, labels={NAME: "Small-1B"})
    appraisal = AuditAppraisal(index=0, units=(), log_ratios={NAME: 9.0}, verified_tokens=64)
    assert evidence.add(appraisal).explanations[0].name == "another model (Small-1B)"
