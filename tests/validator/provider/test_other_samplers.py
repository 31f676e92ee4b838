"""A provider with another sampler and activation proofs: declared, sent, and true under the reference."""

import httpx
import numpy as np
import pytest

pytestmark = pytest.mark.slow

ASKED = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Name three colours of the rainbow."}],
    "max_tokens": 24,
    "seed": 7,
    "top_p": 0.95,
    "return_token_ids": True,
}


@pytest.fixture(scope="module")
def running(launch):
    return launch("validator.provider.server", sampler="vllm-exponential", toploc=True)


@pytest.fixture(scope="module")
def answer(running) -> dict:
    return httpx.post(f"{running.url}/v1/chat/completions", json=ASKED, timeout=60).json()


@pytest.fixture(scope="module")
def claim(answer):
    """The loaded model and the answer as a claim to check."""
    from models.load import render_prompt
    from models.packing import load_packed
    from models.requests import ChatMessage, ReferenceRequest

    loaded = load_packed("bundled")
    messages = [ChatMessage(role=row["role"], content=row["content"]) for row in ASKED["messages"]]
    return loaded, ReferenceRequest(
        prompt_ids=tuple(render_prompt(loaded, messages)),
        output_ids=tuple(answer["choices"][0]["token_ids"]),
        top_p=ASKED["top_p"],
        seed=ASKED["seed"],
        sampler="vllm-exponential",
    )


def test_the_offer_names_the_sampler(running) -> None:
    assert running.offer.offer.sampler == "vllm-exponential"


def test_the_tokens_are_those_that_the_seed_draws(claim) -> None:
    import torch

    from models.forward import compute_hidden, project_logits
    from models.samplers_seeded import compute_seeded_margin, open_noise

    loaded, request = claim
    with torch.inference_mode():
        hidden = compute_hidden(loaded, torch.tensor([request.prompt_ids + request.output_ids]))
        logits = project_logits(loaded, hidden[0, len(request.prompt_ids) - 1 : -1]).numpy()
    noise = open_noise(request)
    margins = [
        compute_seeded_margin(logits[position], token, request, position, noise)[0]
        for position, token in enumerate(request.output_ids)
    ]
    assert np.minimum(margins, 0.5).mean() < 0.02


def test_the_activation_proofs_fit_the_answer(answer, claim) -> None:
    from models.activation_format import parse_proofs
    from models.activation_proofs import score_activation_proofs

    assert score_activation_proofs(*claim, parse_proofs(answer["quiver_toploc"])) < 0.13


def test_a_stream_carries_the_proofs_beside_the_receipt(running, answer) -> None:
    body = httpx.post(f"{running.url}/v1/chat/completions", json={**ASKED, "stream": True}, timeout=60).text
    last = body.split("\n\n")[-3].removeprefix("data: ")
    document = httpx.Response(200, content=last).json()
    assert document["choices"] == [] and "quiver_receipt" in document
    assert len(document["quiver_toploc"]) == len(answer["quiver_toploc"])
