"""Answers under other sampling than was asked for: what a fresh pass says, at the price of one."""

from dataclasses import replace

import pytest

from models import answer_pass
from models.answer_pass import Claim, ReferenceModel
from models.reference import score_batch
from models.requests import ReferenceRequest

SETTINGS = ((0.7, 0.9), (1.25, 1.0), (1.0, 0.95))


@pytest.fixture(scope="module")
def model(tiny_folder):
    return ReferenceModel(str(tiny_folder), device="cpu", dtype="fp32", alternatives=())


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
    seen, compute = [], answer_pass.compute_answer_states
    model._states.clear()

    def count(loaded, items):
        seen.append(sorted(len(item.output_ids) for item in items))
        return compute(loaded, items)

    monkeypatch.setattr(answer_pass, "compute_answer_states", count)
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
