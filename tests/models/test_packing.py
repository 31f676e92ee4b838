"""Packed weights answer with the same bits as plain ones, widened ones with the same sums."""

import dataclasses
from types import SimpleNamespace

import pytest

from models.forward import project_alternative, project_unrounded
from models.generate import generate
from models.load import load_model
from models.packing import KEPT_WIDE_ROWS, WIDE_ROWS, has_bf16_instructions, multiply_bf16, pack_linears
from models.requests import GenerationRequest

torch = pytest.importorskip("torch")


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass
class Loaded:
    model: torch.nn.Module
    dtype = "bf16"
    device = "cpu"


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(256, 192).to(torch.bfloat16)


@pytest.mark.slow
@pytest.mark.skipif(not has_bf16_instructions(), reason="this processor has no bf16 instructions")
def test_a_packed_model_generates_the_same_tokens() -> None:
    loaded = load_model("bundled")
    requests = [GenerationRequest(prompt_ids=(1, 2, 3, 4 + seed), max_tokens=12, seed=seed) for seed in range(5)]
    plain = [answer.token_ids for answer in generate(loaded, requests)]
    assert pack_linears(loaded)
    assert [answer.token_ids for answer in generate(loaded, requests)] == plain


@pytest.mark.slow
def test_weights_in_fp32_are_left_alone() -> None:
    assert not pack_linears(load_model("bundled", dtype="fp32"))


def test_nothing_is_packed_when_the_trial_differs(layer: torch.nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    before = layer.forward
    monkeypatch.setattr("models.packing.has_bf16_instructions", lambda: True)
    monkeypatch.setattr("models.packing._reorder", lambda weight: 2 * weight)
    assert not pack_linears(Loaded(torch.nn.Sequential(layer)))  # type: ignore[arg-type]
    assert layer.forward == before


@pytest.mark.parametrize("kept_from", [1, 10**9], ids=["kept", "widened anew"])
@pytest.mark.parametrize("rows", [1, KEPT_WIDE_ROWS, WIDE_ROWS, 100])
def test_without_bf16_instructions_the_products_are_those_of_fp32_rounded_once(
    layer: torch.nn.Linear, monkeypatch: pytest.MonkeyPatch, rows: int, kept_from: int
) -> None:
    monkeypatch.setattr("models.packing.has_bf16_instructions", lambda: False)
    monkeypatch.setattr("models.packing.KEPT_WEIGHTS", kept_from)
    values = torch.randn(rows, 256, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    with torch.inference_mode():
        plain = layer(values)
        assert pack_linears(Loaded(torch.nn.Sequential(layer)))  # type: ignore[arg-type]
        widened = layer(values)
        exact = torch.nn.functional.linear(values.double(), layer.weight.double(), layer.bias.double())
    assert widened.dtype == torch.bfloat16
    # Half a unit in the last of eight places, and what the order of the sum may add to a small result.
    assert bool((widened.double() - exact).abs().le(exact.abs() * 2**-8 + 1e-5).all())
    assert float((widened != plain).float().mean()) < 0.01


def test_products_by_bf16_are_those_of_fp32_and_other_products_are_left_alone() -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(576, 4096).to(torch.bfloat16).float()
    values, others = torch.randn(64, 576).to(torch.bfloat16).float(), torch.randn(64, 576)
    with torch.inference_mode():
        before = layer(others)
        found = multiply_bf16(values, layer.weight, layer.bias)
        after = layer(others)
        exact = torch.nn.functional.linear(values.double(), layer.weight.double(), layer.bias.double())
    assert found.dtype == torch.float32
    assert float((found.double() - exact).abs().max()) < 1e-5
    assert torch.equal(before, after)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_an_alternative_has_the_logits_of_the_reference(dtype: str) -> None:
    head = torch.nn.Linear(576, 4096, bias=False).to(DTYPES[dtype])
    model = SimpleNamespace(get_output_embeddings=lambda: head, config=SimpleNamespace())
    hidden = torch.randn(64, 576).to(DTYPES[dtype])
    with torch.inference_mode():
        found = [project(SimpleNamespace(model=model), hidden) for project in (project_alternative, project_unrounded)]
    assert float((found[0] - found[1]).abs().max()) < 1e-5
