"""The examiner on the real model: what hostile or uncalibrated answers are worth, and that none stops an audit."""

import hashlib
from dataclasses import replace

import pytest
from exchanges import PLAIN

from models.activation_format import parse_proofs
from models.generate import generate
from models.load import encode_text
from models.local_passes import LocalPasses
from models.profiles import load_profile
from models.requests import ChatMessage, GenerationRequest
from scoring.errors import InvalidInput, Unavailable
from scoring.evidence.channel_ids import ACTIVATIONS_IDS, LOGPROBS_IDS
from scoring.evidence.contracts import COMPLETION_TOKENS, FINISH_REASON
from scoring.evidence.tolerance import build_bound
from validator.audit.calibration import Calibration
from validator.audit.examiner import ModelExaminer
from validator.audit.needles import build_needle, find_code
from validator.audit.records import ExaminerSettings, Missing, ReturnedLogprob, ReturnedToken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examiner():
    return ModelExaminer(ExaminerSettings(model="bundled", alternatives=()), LocalPasses("bundled", device="cpu"))


@pytest.fixture
def begun(examiner):
    examiner.begin(("seeded", "text"))
    return examiner


def test_a_profile_of_another_model_or_engine_is_refused(examiner) -> None:
    passes, profile = examiner._model.passes, load_profile("bundled_audit")
    for changes, reason in (
        ({"manifest_digest": bytes(32)}, "another model than the claimed one"),
        ({"engine": "vllm"}, "made with vllm as the reference"),
    ):
        settings = ExaminerSettings(model="bundled", profile=replace(profile, **changes))
        with pytest.raises(InvalidInput, match=reason):
            ModelExaminer(settings, passes)


def test_prompts_of_a_generator_that_was_not_calibrated_are_bounded_as_any_others(examiner) -> None:
    passes = examiner._model.passes
    drawn = replace(PLAIN, is_drawn=True, stratum="prose")
    for generator, is_drawn in (("quiver-probes-v2", True), ("quiver-probes-v1", False)):
        own = ModelExaminer(ExaminerSettings(model="bundled", alternatives=(), generator=generator), passes)
        own.begin(("text",))
        (found,) = own.examine([drawn])
        assert [unit.is_drawn for unit in found.units] == [is_drawn]


SAMPLINGS = {"the profile's": ({}, True), "hotter": ({"temperature": 1.2}, False), "filtered": ({"top_p": 0.95}, False)}


@pytest.mark.parametrize(("change", "is_drawn"), SAMPLINGS.values(), ids=SAMPLINGS.keys())
def test_honest_means_are_those_of_the_sampling_that_they_were_measured_with(begun, change, is_drawn) -> None:
    (found,) = begun.examine([replace(PLAIN, is_drawn=True, stratum="prose", **change)])
    assert [unit.is_drawn for unit in found.units] == [is_drawn]


TEXTS = {"plain": ({}, True), "top-k": ({"top_k": 1}, False), "a narrow nucleus": ({"top_p": 0.1}, False)}


@pytest.mark.parametrize(("change", "is_bet_on"), TEXTS.values(), ids=TEXTS.keys())
def test_no_text_is_bet_on_that_a_narrow_filter_left(begun, change, is_bet_on) -> None:
    (found,) = begun.examine([replace(PLAIN, **change)])
    (unit,) = found.units
    told = [*unit.statistics_ppm, *(name for member in unit.by_settings.values() for name in member)]
    assert any(name.startswith("text-") for name in told) is is_bet_on


HOSTILE = {
    "ids beyond the vocabulary": ({"token_ids": (2**19,)}, "cannot be re-run"),
    "ids of another text": ({"token_ids": (5, 6, 7)}, "do not spell"),
    "more ids than the context": ({"token_ids": (5,) * 9000}, "cannot be re-run"),
    "broken characters": ({"content": "\ufffd"}, "characters are broken"),
}


@pytest.mark.parametrize(("change", "note"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_never_gains_and_stops_nothing(begun, change, note):
    (appraisal,) = begun.examine([replace(PLAIN, **change)])
    assert note in appraisal.note
    assert all(value <= 0.0 for value in appraisal.log10_by_channel.values())
    assert appraisal.verified_tokens == 0


@pytest.mark.parametrize("temperature", [0.0, 0.2, 1.9])
def test_a_temperature_outside_of_the_envelope_is_no_evidence(begun, temperature):
    (appraisal,) = begun.examine([replace(PLAIN, temperature=temperature)])
    assert appraisal.units == ()


def test_a_repeated_request_is_no_evidence(begun):
    (appraisal,) = begun.examine([replace(PLAIN, index=1, repeat_of=0)])
    assert appraisal.units == ()


CLAIMED_TOKENS = {"as many as returned": (0, True), "more than returned": (7, False)}


@pytest.mark.parametrize(("more", "is_kept"), CLAIMED_TOKENS.values(), ids=CLAIMED_TOKENS.keys())
def test_contracts_are_checked_with_the_real_tokenizer(examiner, begun, more, is_kept):
    loaded = examiner._model.loaded
    ids = (*encode_text(loaded, PLAIN.content), min(loaded.end_ids))
    (appraisal,) = begun.examine([replace(PLAIN, token_ids=ids, completion_tokens=len(ids) + more)])
    kept = {outcome.id: outcome.is_kept for outcome in appraisal.contracts}
    assert kept == {COMPLETION_TOKENS: is_kept, FINISH_REASON: True}


LOST = {"found": ("It is {}.", True), "lost": ("I do not know.", False)}


@pytest.mark.parametrize(("answer", "is_kept"), LOST.values(), ids=LOST.keys())
def test_a_needle_that_the_model_finds_is_its_contract_and_no_evidence(examiner, answer, is_kept):
    seed = hashlib.sha256(b"5").digest()  # the bundled model is sure to find it
    probe = build_needle(seed, 90)
    examiner.begin(("text", "greedy"))
    needle = replace(
        PLAIN,
        messages=probe.messages,
        temperature=0.0,
        is_drawn=True,
        stratum=probe.stratum,
        probe_seed=seed,
        content=answer.format(find_code(seed)),
    )
    (appraisal,) = examiner.examine([needle])
    assert (appraisal.units, appraisal.verified_tokens) == ((), 0)
    assert {outcome.id: outcome.is_kept for outcome in appraisal.contracts}["needle-at-90-v1"] is is_kept


def test_a_failure_of_ours_is_not_held_against_the_provider(begun):
    ours, theirs = begun.examine(
        [Missing(index=0, reason="timeout", is_provider_fault=False), Missing(index=1, reason="timeout")]
    )
    assert (len(ours.units), len(theirs.units)) == (0, 1)
    assert ours.is_missing and theirs.is_missing


def test_hostile_discovery_names_no_sampler(begun):
    assert begun.identify_sampler([replace(PLAIN, token_ids=(2**19,) * 30)]) is None


UNCALIBRATED = {
    "a filter": {"sampler": "gumbel-philox-v1", "top_p": 0.9},
    "inverse-cdf": {"sampler": "inverse-cdf"},
    "vllm-exponential": {"sampler": "vllm-exponential"},
}


@pytest.mark.parametrize("change", UNCALIBRATED.values(), ids=UNCALIBRATED.keys())
def test_margins_that_are_not_calibrated_are_not_looked_at(begun, change):
    (appraisal,) = begun.examine([replace(PLAIN, **change)])
    assert not any(name.startswith("seeded") for name in appraisal.units[0].statistics_ppm)


def test_margins_of_the_calibrated_sampler_are(begun):
    (appraisal,) = begun.examine([replace(PLAIN, sampler="gumbel-philox-v1")])
    assert any(name.startswith("seeded") for name in appraisal.units[0].statistics_ppm)


WORDS = ("Blue", " is", " a", " colour", ".")


def build_logprobs(*values):
    tokens = [ReturnedToken(text=text, logprob=value) for text, value in zip(WORDS, values, strict=False)]
    return tuple(ReturnedLogprob(chosen=token) for token in tokens)


@pytest.fixture
def listening(examiner, monkeypatch):
    # The bundled profile's own bounds do not matter here: what is looked at does.
    monkeypatch.setattr(Calibration, "find_bounds", lambda *_: dict.fromkeys(LOGPROBS_IDS, build_bound(50_000)))
    examiner.begin(("text", "logprobs"))
    return examiner


def compute_shortfalls(listening, logprobs):
    (appraisal,) = listening.examine([replace(PLAIN, logprobs=logprobs)])
    return [appraisal.units[0].statistics_ppm[name] for name in LOGPROBS_IDS]


def test_tokens_that_are_reported_far_less_likely_than_they_are_fall_short(listening):
    assert min(compute_shortfalls(listening, build_logprobs(*(-30.0,) * 5))) >= 500_000


def test_tokens_that_are_reported_certain_never_fall_short(listening):
    assert compute_shortfalls(listening, build_logprobs(*(0.0,) * 5)) == [0, 0]


@pytest.mark.parametrize("logprobs", [None, build_logprobs(-30.0, -30.0)], ids=["none", "too few"])
def test_logprobs_that_are_left_out_or_belong_to_other_tokens_bet_the_smallest_factor(listening, logprobs):
    assert compute_shortfalls(listening, logprobs) == [0, 0]


@pytest.fixture(scope="module")
def proven(examiner):
    """An honest answer with its activation proofs, and how long it is."""
    loaded = examiner._model.loaded
    request = GenerationRequest(
        prompt_ids=examiner._model.render(PLAIN.messages), max_tokens=24, seed=5, proves_activations=True
    )
    (answer,) = generate(loaded, [request])
    proofs = parse_proofs(answer.activation_proofs)
    return replace(
        PLAIN,
        max_tokens=24,
        content=answer.text,
        token_ids=answer.token_ids,
        finish_reason=answer.finish_reason,
        seed=5,
        proofs=proofs,
    )


@pytest.fixture
def weighing(examiner, monkeypatch):
    monkeypatch.setattr(Calibration, "find_bounds", lambda *_: dict.fromkeys(ACTIVATIONS_IDS, build_bound(50_000)))
    examiner.begin(("text", "activations"))
    return examiner


def weigh(weighing, exchange):
    (appraisal,) = weighing.examine([exchange])
    return [appraisal.units[0].statistics_ppm[name] for name in ACTIVATIONS_IDS]


def test_honest_proofs_weigh_little_and_those_of_another_prompt_much(weighing, proven):
    other = replace(proven, messages=(ChatMessage(role="user", content="Name a river."),))
    assert weigh(weighing, proven)[1] == 0
    assert min(weigh(weighing, other)) >= 500_000


PROOFS = {"none": {"proofs": None}, "of another length": {"proofs": ()}, "of a text": {"token_ids": None}}


@pytest.mark.parametrize("change", PROOFS.values(), ids=PROOFS.keys())
def test_proofs_that_are_left_out_or_cannot_be_checked_bet_the_smallest_factor(weighing, proven, change):
    assert weigh(weighing, replace(proven, **change)) == [0, 0]


def test_a_long_answer_is_several_units(begun):
    (appraisal,) = begun.examine([replace(PLAIN, content="Blue. " * 60, max_tokens=200, finish_reason="length")])
    assert len(appraisal.units) > 1
    assert not any(unit.is_drawn for unit in appraisal.units)


@pytest.mark.parametrize("place", ["examine", "find_sure_answer"])
def test_a_reference_that_runs_out_of_memory_is_nobodys_evidence(begun, monkeypatch, place):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(begun._model, place, fail)
    needle = replace(PLAIN, is_drawn=True, stratum="needle-50", probe_seed=b"\x01" * 32, temperature=0.0)
    with pytest.raises(Unavailable, match="no room"):
        begun.examine([replace(PLAIN, index=0), replace(needle, index=1)])
