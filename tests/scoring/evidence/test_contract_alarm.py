"""Broken contracts raise an alarm by a rule whose error holds, and are named."""

import random

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.appraisal import AuditAppraisal, build_evidence
from scoring.evidence.audit import Unit
from scoring.evidence.audit_plan import build_audit_plan
from scoring.evidence.channel_ids import TEXT
from scoring.evidence.contract_alarm import ALARM_IDS, MU, NEEDLE, build_contract_alarm
from scoring.evidence.contracts import (
    COMPLETION_TOKENS,
    FINISH_REASON,
    PROMPT_TOKENS,
    STREAMED,
    ContractOutcome,
    compare_completion_tokens,
    compare_prompt_tokens,
)

MORE, FEWER, KEPT = (compare_completion_tokens(5, claimed) for claimed in (9, 3, 5))
MU_PPM = {"text-any-v1": 20_000}


def outcome(contract_id, is_kept):
    return ContractOutcome(id=contract_id, is_kept=is_kept, expected="a", found="b")


def add(alarm, count, *outcomes):
    for _ in range(count):
        alarm = alarm.add(outcomes)
    return alarm


def build_audit(count, contracts, g_ppm=0, extra=0):
    evidence = build_evidence(build_audit_plan(MU_PPM, (TEXT,), False), 1e-6, is_calibrated=True)
    for index in range(count):
        appraisal = AuditAppraisal(
            index=index,
            units=(Unit(statistics_ppm=dict.fromkeys(MU_PPM, g_ppm)),),
            log_ratios={"int4": 30.0 if g_ppm else -5.0},
            extra_prompt_tokens=extra,
            verified_tokens=64,
            contracts=contracts,
        )
        evidence = evidence.add(appraisal)
    return evidence


def test_a_contract_broken_every_time_takes_nine_answers():
    assert add(build_contract_alarm(), 8, MORE).raised == ()
    assert add(build_contract_alarm(), 9, MORE).raised == (COMPLETION_TOKENS,)


def test_needles_that_are_never_found_take_five():
    lost = outcome("needle-at-10-v1", False)
    assert add(build_contract_alarm(), 4, lost).raised == ()
    assert add(build_contract_alarm(), 5, lost).raised == (NEEDLE,)


def test_needles_of_all_depths_are_one_bet_and_counted_apart():
    alarm = build_contract_alarm()
    for _ in range(4):
        for depth, is_kept in ((10, False), (50, False), (90, True)):
            alarm = alarm.add([outcome(f"needle-at-{depth}-v1", is_kept)])
    assert alarm.raised == (NEEDLE,)
    assert [(count.id, count.broken, count.is_alarm) for count in alarm.list_counts()] == [
        ("needle-at-10-v1", 4, True),
        ("needle-at-50-v1", 4, True),
        ("needle-at-90-v1", 0, False),
    ]


def test_a_few_broken_contracts_are_no_alarm():
    assert add(add(build_contract_alarm(), 5, MORE), 100, KEPT).raised == ()


def test_what_cannot_be_checked_neither_counts_nor_costs():
    alarm = add(build_contract_alarm(), 50, outcome(COMPLETION_TOKENS, None))
    assert alarm == build_contract_alarm()


def test_an_alarm_that_was_raised_stays():
    assert add(add(build_contract_alarm(), 12, MORE), 200, KEPT).raised == (COMPLETION_TOKENS,)


def test_only_the_broken_contract_is_named():
    alarm = add(build_contract_alarm(), 20, MORE, outcome(FINISH_REASON, True))
    assert alarm.describe() == ("usage counts more tokens than were returned",)
    assert [(count.id, count.checked, count.broken, count.is_alarm) for count in alarm.list_counts()] == [
        (COMPLETION_TOKENS, 20, 20, True),
        (FINISH_REASON, 20, 0, False),
    ]


def test_the_first_broken_answer_is_the_example():
    (count,) = add(add(add(build_contract_alarm(), 1, KEPT), 1, MORE), 1, FEWER).list_counts()
    assert count.example == MORE


@pytest.mark.parametrize("contract_id", ALARM_IDS)
def test_every_contract_has_words(contract_id):
    needle = outcome("needle-at-10-v1", False)
    broken = {COMPLETION_TOKENS: MORE, NEEDLE: needle}.get(contract_id, outcome(contract_id, False))
    (words,) = add(build_contract_alarm(), 9, broken).describe()
    assert words


def test_fewer_tokens_have_words_of_their_own():
    assert "fewer" in add(build_contract_alarm(), 9, FEWER).describe()[0]


REFUSED = {
    "a contract that nobody bets on": (compare_prompt_tokens(4, 5),),
    "a contract that comes twice": (MORE, KEPT),
    "two needles in one answer": (outcome("needle-at-10-v1", True), outcome("needle-at-50-v1", True)),
    "a needle below the text": (outcome("needle-at-101-v1", False),),
}


@pytest.mark.parametrize("outcomes", REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(outcomes):
    with pytest.raises(InvalidInput):
        build_contract_alarm().add(outcomes)


def test_honest_endpoints_at_the_assumed_rate_hardly_ever_alarm():
    draws = random.Random(7)
    raised = 0
    for _ in range(300):
        alarm = build_contract_alarm()
        for _ in range(60):
            alarm = alarm.add([outcome(name, draws.random() >= MU) for name in (FINISH_REASON, STREAMED)])
        raised += bool(alarm.raised)
    # One in a thousand at most: 300 audits with three alarms would be one in thirty.
    assert raised <= 2


def test_broken_contracts_are_suspect_and_never_proven():
    evidence = build_audit(300, (MORE,))
    assert evidence.verdict == "suspect"
    assert evidence.log10_e < evidence.log10_alarm
    assert evidence.explanations[0].name == "usage counts more tokens than were returned"
    assert "the claim" not in [item.name for item in evidence.explanations]


def test_kept_contracts_change_no_verdict():
    assert build_audit(8, (KEPT,)).verdict == build_audit(8, ()).verdict == "consistent"
    assert build_audit(8, (KEPT,)).is_settled


def test_a_proof_is_explained_by_the_weights_and_not_by_a_contract():
    evidence = build_audit(20, (MORE,), g_ppm=1_000_000)
    assert evidence.verdict == "proven"
    assert evidence.explanations[0].name == "int4 weights"


def test_a_hidden_prompt_and_a_broken_contract_are_both_named():
    names = [item.name for item in build_audit(12, (MORE,), extra=40).explanations]
    assert names[:2] == ["hidden system prompt of about 40 tokens", "usage counts more tokens than were returned"]


def test_prompt_tokens_are_counted_with_the_contracts():
    (count,) = build_audit(5, (), extra=40).contracts
    assert (count.id, count.checked, count.broken, count.is_alarm) == (PROMPT_TOKENS, 5, 5, True)
    assert count.example is not None and count.example.found == "40 tokens more"
    (kept,) = build_audit(5, (), extra=2).contracts
    assert (kept.broken, kept.is_alarm, kept.example) == (0, False, None)
