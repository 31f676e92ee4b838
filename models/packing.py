"""Weights laid out for the processor once, instead of at every multiplication: same bits, up to twice as fast.

For bf16 on a CPU, PyTorch's oneDNN linear rearranges the weight matrix in each call, which is most of the time of a
small batch. The packed copy is private to the process (about 2 bytes a parameter). The operators are PyTorch's own but
not part of its stable interface: where they are missing, or do not give the same bits in a trial, nothing is packed.
"""

from typing import Any

from models.load import LoadedModel

TRIAL_ROWS = 8


def pack_linears(loaded: LoadedModel) -> bool:
    """Pack every linear layer of a bf16 model on the CPU in place; return whether that was possible.

    Call it last: what changes weights afterwards (`models.variants`) would not be seen.
    """
    import torch

    if loaded.dtype != "bf16" or loaded.device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    layers = [module for module in loaded.model.modules() if isinstance(module, torch.nn.Linear)]
    if not layers or not _is_equal_in_trial(layers[0]):
        return False
    for layer in layers:
        layer.forward = _build_forward(layer)
    return True


def _build_forward(layer: Any) -> Any:
    import torch

    packed, bias = _reorder(layer.weight.detach()), layer.bias
    multiply = torch.ops.mkldnn._linear_pointwise

    def forward(values: Any) -> Any:
        return multiply(values, packed, bias, "none", [], "")

    return forward


def _reorder(weight: Any) -> Any:
    import torch

    return torch.ops.mkldnn._reorder_linear_weight(weight, TRIAL_ROWS)


def _is_equal_in_trial(layer: Any) -> bool:
    import torch

    generator = torch.Generator().manual_seed(1)
    values = torch.randn(TRIAL_ROWS, layer.in_features, generator=generator).to(torch.bfloat16)
    try:
        with torch.inference_mode():
            return bool(
                torch.equal(_build_forward(layer)(values), torch.nn.functional.linear(values, layer.weight, layer.bias))
            )
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
