"""The reference pass: honest answers are their own winners, other weights are not, hostile tokens are refused."""

import numpy as np
import pytest

from models.requests import ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

SAMPLER = "gumbel-philox-v1"
QUESTIONS = (
    "Tell me a story about a fox.",
    "What is the capital of France?",
    "Explain photosynthesis to a child.",
    "How do magnets work?",
    "Write a letter to a neighbour.",
    "Give me a recipe for bread.",
)


def build_prompts(loaded):
    from models.load import render_prompt

    return [tuple(render_prompt(loaded, [ChatMessage(role="user", content=text)])) for text in QUESTIONS]


def answer(loaded, prompts, max_tokens=40, **sampling):
    from models.generate import generate

    requests = [
        GenerationRequest(prompt_ids=prompt, seed=100 + number, max_tokens=max_tokens, **sampling)
        for number, prompt in enumerate(prompts)
    ]
    return [
        ReferenceRequest(
            prompt_ids=request.prompt_ids,
            output_ids=found.token_ids,
            seed=request.seed,
            sampler=SAMPLER,
            **sampling,
        )
        for request, found in zip(requests, generate(loaded, requests), strict=True)
    ]


def collect_margins(loaded, items):
    from models.reference import score_batch

    return np.concatenate([statistics.margin for statistics in score_batch(loaded, items)])


@pytest.fixture(scope="module")
def honest(bundled):
    return answer(bundled, build_prompts(bundled))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.6}, {"top_p": 0.8}, {"top_k": 7}, {"temperature": 0.0}])
def test_in_fp32_every_honest_token_is_the_winner(tiny, sampling):
    items = answer(tiny, [tuple(b"x"), tuple(b"a longer prompt"), tuple(range(50, 100))], **sampling)
    assert collect_margins(tiny, items).tolist() == [0.0] * sum(len(item.output_ids) for item in items)


def test_statistics_do_not_depend_on_company(tiny, monkeypatch):
    from models import reference

    items = answer(tiny, [tuple(b"x"), tuple(b"a longer prompt"), tuple(range(50, 100))] * 3)
    together = reference.score_batch(tiny, items)
    monkeypatch.setattr(reference, "BATCH_TOKENS", 1)
    monkeypatch.setattr(reference, "CHUNK_POSITIONS", 3)
    for found, expected in zip(reference.score_batch(tiny, items), together, strict=True):
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert found.margin == pytest.approx(expected.margin, abs=1e-4)


def test_log_probabilities_are_those_of_a_full_forward_pass(tiny):
    import torch

    from models.reference import score_batch

    item = ReferenceRequest(prompt_ids=tuple(b"some prompt"), output_ids=(5, 256, 299, 0))
    with torch.inference_mode():
        logits = tiny.model(input_ids=torch.tensor([item.prompt_ids + item.output_ids])).logits[0].float()
    expected = torch.log_softmax(logits, dim=-1)
    start = len(item.prompt_ids) - 1
    found = score_batch(tiny, [item])[0].logprob
    assert found == pytest.approx(
        [float(expected[start + place, token]) for place, token in enumerate(item.output_ids)], abs=1e-4
    )


def test_honest_bf16_answers_are_nearly_always_the_winner(bundled, honest):
    margins = collect_margins(bundled, honest)
    assert (margins == 0.0).mean() > 0.95
    assert np.minimum(margins, 0.5).mean() < 0.01


def test_fp32_and_bf16_disagree_a_little(bundled_fp32, honest):
    margins = collect_margins(bundled_fp32, honest)
    assert 0.9 < (margins == 0.0).mean() < 1.0
    assert np.minimum(margins, 0.5).mean() < 0.01


@pytest.mark.parametrize(("variant", "least"), [("int4", 0.08), ("int5", 0.03), ("drop-layer", 0.04)])
def test_other_weights_show(bundled, variant, least):
    from models.load import load_model
    from models.packing import pack_linears
    from models.variants import apply_variant

    cheat = apply_variant(load_model("bundled", dtype="bf16"), variant)
    pack_linears(cheat)
    margins = collect_margins(bundled, answer(cheat, build_prompts(bundled)[:3]))
    assert np.minimum(margins, 0.5).mean() > least
    assert (margins > 0).mean() > 0.12


def test_another_seed_shows_at_once(bundled, honest):
    item = honest[0]
    wrong = ReferenceRequest(prompt_ids=item.prompt_ids, output_ids=item.output_ids, seed=1, sampler=SAMPLER)
    assert np.minimum(collect_margins(bundled, [wrong]), 0.5).mean() > 0.2


def test_an_empty_answer_has_empty_statistics(tiny):
    from models.reference import score_batch

    found = score_batch(tiny, [ReferenceRequest(prompt_ids=(1,), output_ids=(), seed=1, sampler=SAMPLER)])[0]
    assert (found.logprob, found.margin) == ((), ())
    assert score_batch(tiny, []) == []


REFUSED = [
    ("a prompt token out of the vocabulary", {"prompt_ids": (300,), "output_ids": (1,)}, "prompt_ids"),
    ("an output token out of the vocabulary", {"prompt_ids": (1,), "output_ids": (1, 2**20)}, "output_ids"),
    ("an answer longer than the context", {"prompt_ids": (1,) * 200, "output_ids": (1,) * 57}, "output_ids"),
]


@pytest.mark.parametrize(("name", "change", "field"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_scoring_refuses(tiny, name, change, field):
    from models.reference import score_batch

    with pytest.raises(InvalidInput) as refusal:
        score_batch(tiny, [ReferenceRequest(**change)])
    assert refusal.value.field == field
