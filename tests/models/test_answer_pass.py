"""Answers under other sampling than was asked for: what a fresh pass says, at the price of one."""

from dataclasses import replace

import pytest

from models import local_passes
from models.activation_format import parse_proofs
from models.alternatives import SECOND_RUN
from models.answer_pass import Claim, ReferenceModel, cut_columns
from models.generate import generate
from models.local_passes import LocalPasses
from models.reference import score_batch
from models.requests import GenerationRequest, ReferenceRequest

SETTINGS = ((0.7, 0.9), (1.25, 1.0), (1.0, 0.95))


@pytest.fixture(scope="module")
def model(tiny_folder):
    return ReferenceModel(LocalPasses(str(tiny_folder), device="cpu", dtype="fp32"), alternatives=())


@pytest.fixture
def claims():
    # Of several lengths, so that a pass puts them into another order.
    return [
        Claim(
            messages=(),
            request=ReferenceRequest(
                prompt_ids=tuple(b"a prompt"[: 8 - number]),
                output_ids=tuple(range(65, 67 + 3 * number)),
                seed=number,
                sampler="gumbel-philox-v1",
                temperature=0.9,
            ),
        )
        for number in range(4)
    ]


@pytest.fixture
def passes(model, monkeypatch):
    """The lengths of the answers that the decoder saw, pass by pass."""
    seen, compute = [], local_passes.compute_answer_states
    model.passes._states.clear()

    def count(loaded, items):
        seen.append(sorted(len(item.output_ids) for item in items))
        return compute(loaded, items)

    monkeypatch.setattr(local_passes, "compute_answer_states", count)
    return seen


@pytest.mark.parametrize(("temperature", "top_p"), SETTINGS)
def test_other_sampling_gives_what_a_fresh_pass_gives(model, claims, temperature, top_p):
    requests = [replace(claim.request, temperature=temperature, top_p=top_p) for claim in claims]
    found = model.examine_settings(claims, temperature, top_p)
    for columns, expected in zip(found, score_batch(model.loaded, requests), strict=True):
        assert columns.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert columns.margin == pytest.approx(expected.margin, abs=1e-4)


def test_the_decoder_sees_an_answer_once(model, claims, passes):
    for temperature, top_p in SETTINGS:
        model.examine_settings(claims[:3], temperature, top_p)
    model.fit_settings(claims[1:], 1.0)
    assert passes == [[2, 5, 8], [11]]


def test_no_claims_are_no_pass(model, passes):
    assert model.examine_settings([], 1.0, 1.0) == []
    assert passes == []


def test_a_second_run_is_made_of_seeded_claims_where_it_is_bounded(model, claims):
    unseeded = replace(claims[1], request=replace(claims[1].request, seed=None, sampler="none"))
    first, second = model.examine([claims[0], unseeded], {SECOND_RUN.id}, 0)
    # The tiny model is fp32 already: the second run is the first one again.
    assert first.second_run.margin == pytest.approx(first.tokens.margin, abs=1e-4)
    assert second.second_run is None
    assert model.examine(claims[:1], (), 0)[0].second_run is None


@pytest.fixture(scope="module")
def proven(model):
    """A claim with the proofs of the model's own answer."""
    request = GenerationRequest(prompt_ids=tuple(b"a prompt"), max_tokens=40, seed=3, proves_activations=True)
    (answer,) = generate(model.loaded, [request])
    claimed = ReferenceRequest(
        prompt_ids=request.prompt_ids, output_ids=answer.token_ids, seed=3, sampler="gumbel-philox-v1"
    )
    return Claim(messages=(), request=claimed, proofs=parse_proofs(answer.activation_proofs))


def test_proofs_of_the_claimed_answer_hold_and_those_of_another_do_not(model, proven):
    other = replace(proven, request=replace(proven.request, prompt_ids=tuple(b"A PROMPT")))
    honest, cheat = model.examine([proven, other], (), 0)
    assert honest.activation_error < 0.05
    assert cheat.activation_error > 0.3


def test_proofs_that_cannot_be_of_the_answer_say_nothing(model, proven):
    short = replace(proven, proofs=proven.proofs[:1])
    assert model.examine([short], (), 0)[0].activation_error is None


def test_the_error_of_an_answer_is_that_of_its_first_window(model, proven):
    (columns,) = model.examine([proven], (), 0)
    errors = [cut_columns(columns, start, 16, 16).activation_error for start in (0, 16)]
    assert errors == [columns.activation_error, None]
