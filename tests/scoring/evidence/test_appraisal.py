"""From appraisals to a verdict and an explanation in words."""

import pytest

from scoring.evidence.appraisal import UNKNOWN_NAME, AuditAppraisal, build_evidence, describe_alternative
from scoring.evidence.audit import MISSING, Unit
from scoring.evidence.audit_plan import build_audit_plan
from scoring.evidence.channel_ids import GRID_IDS, TEXT
from scoring.evidence.other_weights import OTHER_WEIGHTS_IDS

MU_PPM = {"text-any-v1": 20_000, "text-int4-c100-v1": 12_000}
NAMED = ("int4", "int6", "hidden-prompt-safe")


def build(is_calibrated=True, covers_all_settings=False):
    return build_evidence(build_audit_plan(MU_PPM, (TEXT,), covers_all_settings), 1e-6, is_calibrated)


def add(evidence, count, g_ppm=0, ratio=-5.0, extra=0, names=NAMED, **changes):
    for _ in range(count):
        values = {
            "index": evidence.requests,
            "units": (Unit(statistics_ppm=dict.fromkeys(MU_PPM, g_ppm)),),
            "log_ratios": dict.fromkeys(names, ratio),
            "verified_tokens": 64,
            "extra_prompt_tokens": extra,
        }
        evidence = evidence.add(AuditAppraisal(**{**values, **changes}))
    return evidence


def test_nothing_asked_is_uninformative():
    assert build().verdict == "uninformative"


def test_a_few_honest_answers_are_uninformative():
    assert add(build(), 2).verdict == "uninformative"


def test_many_honest_answers_are_consistent_and_settle_it():
    evidence = add(build(), 6)
    assert evidence.verdict == "consistent"
    assert evidence.is_settled


def test_an_alternative_that_is_not_excluded_keeps_it_open():
    evidence = add(add(build(), 6), 6, ratio=-0.1, names=("fp8",))
    assert evidence.verdict == "consistent"
    assert not evidence.is_settled


def test_the_finest_alternative_is_not_waited_for():
    assert add(add(build(), 6), 6, ratio=-0.1, names=("int8",)).is_settled


@pytest.mark.parametrize("name", OTHER_WEIGHTS_IDS)
def test_weights_that_nobody_named_are_neither_waited_for_nor_nameless(name):
    evidence = add(add(build(), 6), 6, ratio=-0.1, names=(name,))
    assert evidence.is_settled
    assert add(build(), 6, ratio=3.0, names=(name,)).explanations[0].name == UNKNOWN_NAME


def test_a_gross_cheat_is_proven():
    evidence = add(build(), 6, g_ppm=1_000_000, ratio=40.0)
    assert evidence.verdict == "proven"
    assert evidence.is_settled


def test_the_same_text_is_suspect_where_any_sampling_is_allowed_and_settles_it_once_no_point_of_the_grid_explains_it():
    told = dict.fromkeys(MU_PPM, 1_000_000)
    kindest = {**dict.fromkeys(range(len(GRID_IDS)), told), 3: dict.fromkeys(MU_PPM, 0)}
    explained = Unit(statistics_ppm=told, by_settings=kindest)
    unexplained = Unit(statistics_ppm=told, by_settings={**kindest, 3: told})
    for unit, is_settled in ((explained, False), (unexplained, True)):
        evidence = add(build(covers_all_settings=True), 9, ratio=40.0, names=("int4",), units=(unit,))
        assert (evidence.verdict, evidence.log10_e, evidence.can_prove) == ("suspect", 0.0, False)
        assert evidence.is_settled is is_settled
        assert evidence.explanations[0].name == "int4 weights"


def test_without_calibration_the_same_evidence_is_suspect():
    assert add(build(is_calibrated=False), 6, g_ppm=1_000_000).verdict == "suspect"


def test_missing_answers_are_no_good_word():
    evidence = add(build(), 6)
    evidence = add(evidence, 6, units=(MISSING,), log_ratios={}, verified_tokens=0, is_missing=True)
    assert evidence.verdict == "uninformative"


def test_hidden_tokens_that_the_provider_counts_are_an_alarm_and_no_proof():
    evidence = add(build(), 6, extra=17)
    assert evidence.verdict == "suspect"
    assert evidence.explanations[0].name == "hidden system prompt of about 17 tokens"


@pytest.mark.parametrize("extra", [-1, 1, 4], ids=["one less", "begin of text", "four"])
def test_honest_ways_to_count_are_no_alarm(extra):
    assert add(build(), 6, extra=extra).verdict == "consistent"


def test_the_likeliest_explanation_comes_first():
    evidence = add(add(build(), 3, ratio=12.0, names=("int4",)), 3, ratio=4.0, names=("t91-p100",))
    assert [item.name for item in evidence.explanations][:1] == ["int4 weights"]


def test_the_claim_explains_honest_answers():
    assert add(build(), 4).explanations[0].name == "the claim"


def test_evidence_that_no_name_explains_is_called_unknown():
    evidence = add(build(), 6, g_ppm=1_000_000, ratio=-9.0)
    assert evidence.explanations[0].name.startswith("other weights")


WORDS = {
    "int4": "int4 weights",
    "t91-p100": "temperature near 0.91",
    "t100-p90": "top-p near 0.9",
    "t111-p95": "temperature near 1.1, top-p near 0.95",
    "hidden-prompt-safe": "hidden system prompt",
    "template-none": "another chat template",
    "last-128-tokens": "context cut to its last 128 tokens",
}


@pytest.mark.parametrize(("alternative", "words"), WORDS.items(), ids=WORDS.keys())
def test_alternatives_have_words(alternative, words):
    assert describe_alternative(alternative) == words


def test_every_point_of_the_grid_has_words():
    assert all(describe_alternative(name) for name in GRID_IDS)
