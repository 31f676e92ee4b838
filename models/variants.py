"""Test instruments: ways to serve something else than the claimed model, for the devnet and the benchmarks.

int4, int5, int6, int8 quantise every linear layer's weights (symmetric, round to nearest, groups of 64 along the
input; embeddings and the output projection that is tied to them stay) and hold the result in the model's own dtype.
drop-layer leaves one decoder layer out.
"""

from typing import Any

import torch

from models.load import LoadedModel
from scoring.errors import InvalidInput

GROUP_SIZE = 64
QUANTISED_BITS = {"int8": 8, "int6": 6, "int5": 5, "int4": 4}
VARIANTS = (*QUANTISED_BITS, "drop-layer")


def apply_variant(loaded: LoadedModel, name: str, value: int | None = None) -> LoadedModel:
    """Change the loaded model in place and return it; `value` is the layer for drop-layer (default: the middle).

    The manifest stays what is claimed: that is the lie. Raises InvalidInput for an unknown name or layer.
    """
    if name in QUANTISED_BITS:
        if value is not None:
            raise InvalidInput("takes no value", name)
        _quantise_linear_layers(loaded.model, QUANTISED_BITS[name])
    elif name == "drop-layer":
        _drop_layer(loaded.model, value)
    else:
        raise InvalidInput(f"must be one of {', '.join(VARIANTS)}", "variant")
    return loaded


def quantise_tensor(weight: Any, bits: int) -> Any:
    """Return a weight [outputs, inputs] rounded to 2**(bits-1) - 1 steps either side of zero in each group."""
    outputs, inputs = weight.shape
    padding = -inputs % GROUP_SIZE
    groups = torch.nn.functional.pad(weight.float(), (0, padding)).reshape(outputs, -1, GROUP_SIZE)
    steps = 2 ** (bits - 1) - 1
    scale = groups.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / steps
    rounded = (groups / scale).round().clamp(-steps, steps) * scale
    return rounded.reshape(outputs, -1)[:, :inputs].to(weight.dtype)


@torch.inference_mode()
def _quantise_linear_layers(model: Any, bits: int) -> None:
    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            # A new tensor and no write in place: the old one may be a page of a file that other processes map.
            module.weight = torch.nn.Parameter(quantise_tensor(module.weight, bits), requires_grad=False)


def _drop_layer(model: Any, index: int | None) -> None:
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
