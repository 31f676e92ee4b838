"""Test instruments: ways to serve something else than the claimed model, for the devnet and the benchmarks.

int4, int5, int6, int8 quantise every linear layer's weights (symmetric, round to nearest, groups of 64 along the
input), fp8 rounds them to e4m3 with one scale for each output channel; the output projection stays, and so do the
embeddings. The result is held in the model's own dtype. drop-layer leaves one decoder layer out.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from models.load import LoadedModel
from scoring.errors import InvalidInput

GROUP_SIZE = 64
QUANTISED_BITS = {"int8": 8, "int6": 6, "int5": 5, "int4": 4}
WEIGHT_VARIANTS = (*QUANTISED_BITS, "fp8")
"""The variants that change weights one by one and nothing else."""
VARIANTS = (*WEIGHT_VARIANTS, "drop-layer")


def apply_variant(loaded: LoadedModel, name: str, value: int | None = None) -> LoadedModel:
    """Change the loaded model in place and return it; `value` is the layer for drop-layer (default: the middle).

    The manifest stays what is claimed: that is the lie. Raises InvalidInput for an unknown name or layer.
    """
    if name in WEIGHT_VARIANTS:
        if value is not None:
            raise InvalidInput("takes no value", name)
        _round_linear_layers(loaded.model, build_rounding(name))
    elif name == "drop-layer":
        drop_layer(loaded.model, value)
    else:
        raise InvalidInput(f"must be one of {', '.join(VARIANTS)}", "variant")
    return loaded


def list_linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, module) of every linear layer that a weight variant changes: all but the output projection."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            yield name, module


def build_rounding(name: str) -> Callable[[Any], Any]:
    """Return the function of a weight [outputs, inputs] that one of WEIGHT_VARIANTS applies to every linear layer."""
    if name == "fp8":
        return round_to_fp8
    bits = QUANTISED_BITS[name]
    return lambda weight: quantise_tensor(weight, bits)


def quantise_tensor(weight: Any, bits: int) -> Any:
    """Return a weight [outputs, inputs] rounded to 2**(bits-1) - 1 steps either side of zero in each group."""
    outputs, inputs = weight.shape
    padding = -inputs % GROUP_SIZE
    groups = torch.nn.functional.pad(weight.float(), (0, padding)).reshape(outputs, -1, GROUP_SIZE)
    steps = 2 ** (bits - 1) - 1
    scale = groups.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / steps
    rounded = (groups / scale).round().clamp(-steps, steps) * scale
    return rounded.reshape(outputs, -1)[:, :inputs].to(weight.dtype)


def round_to_fp8(weight: Any) -> Any:
    """Return a weight [outputs, inputs] as e4m3 holds it when each row's largest value becomes 448, e4m3's largest.

    Format: "FP8 Formats for Deep Learning", arXiv 2209.05433; one scale a channel is what common servers do.
    """
    kind = torch.float8_e4m3fn
    largest = weight.float().abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    scale = largest / torch.finfo(kind).max
    return ((weight.float() / scale).to(kind).float() * scale).to(weight.dtype)


@torch.inference_mode()
def _round_linear_layers(model: Any, rounding: Callable[[Any], Any]) -> None:
    for _, module in list_linear_layers(model):
        # A new tensor and no write in place: the old one may be a page of a file that other processes map.
        module.weight = torch.nn.Parameter(rounding(module.weight), requires_grad=False)


def drop_layer(model: Any, index: int | None) -> None:
    """Leave a decoder layer out of a model in place (None: the middle one); raises InvalidInput where there is none."""
    layers = model.get_decoder().layers
    chosen = len(layers) // 2 if index is None else index
    if not 0 <= chosen < len(layers):
        raise InvalidInput(f"layers of this model are 0 to {len(layers) - 1}", "drop-layer")
    del layers[chosen]
    model.config.num_hidden_layers = len(layers)
    for place, layer in enumerate(layers):
        # The cache is addressed by this index, which must stay without holes.
        if hasattr(layer, "self_attn"):
            layer.self_attn.layer_idx = place
