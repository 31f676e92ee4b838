"""Packed weights answer with the same bits as plain ones."""

import dataclasses

import pytest

from models.generate import generate
from models.load import load_model
from models.packing import pack_linears
from models.requests import GenerationRequest

torch = pytest.importorskip("torch")


@pytest.mark.slow
def test_a_packed_model_generates_the_same_tokens() -> None:
    loaded = load_model("bundled")
    requests = [GenerationRequest(prompt_ids=(1, 2, 3, 4 + seed), max_tokens=12, seed=seed) for seed in range(5)]
    plain = [answer.token_ids for answer in generate(loaded, requests)]
    assert pack_linears(loaded)
    assert [answer.token_ids for answer in generate(loaded, requests)] == plain


@pytest.mark.slow
def test_weights_in_fp32_are_left_alone() -> None:
    assert not pack_linears(load_model("bundled", dtype="fp32"))


def test_nothing_is_packed_when_the_trial_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(16, 16, bias=False).to(torch.bfloat16)

    @dataclasses.dataclass
    class Loaded:
        model = torch.nn.Sequential(layer)
        dtype = "bf16"
        device = "cpu"

    before = layer.forward
    monkeypatch.setattr("models.packing._reorder", lambda weight: 2 * weight)
    assert not pack_linears(Loaded())  # type: ignore[arg-type]
    assert layer.forward == before
