"""Linear layers in bf16 as fast as the processor can: weights laid out once, or products in fp32 where it has no bf16.

For bf16 on a CPU, PyTorch's oneDNN linear rearranges the weight matrix in each call, which is most of the time of a
small batch. The packed copy is private to the process (about 2 bytes a parameter). The operators are PyTorch's own but
not part of its stable interface: where they are missing, or do not give the same bits in a trial, nothing is packed.
Same bits, up to twice as fast.

A processor without bf16 instructions (AVX2 alone) multiplies bf16 one by one, seven times slower than fp32. There the
operands are widened, which is exact, multiplied in fp32 and rounded to bf16 once, as bf16 instructions do it too: the
same sum in another order, one result in ten thousand rounded the other way. Weights are widened anew in each call, but
for the projection to the vocabulary: to find memory for it each time takes longer than the product, so that one stays.
"""

from typing import Any

from models.load import LoadedModel, load_model

TRIAL_ROWS = 8
WIDE_ROWS, KEPT_WIDE_ROWS = 6, 3
"""From so many rows on a product is worth widening the weights for it, or reading weights that are twice as wide."""
KEPT_WEIGHTS = 4_000_000
"""A layer of so many weights is kept widened, beside its own: 4 bytes each."""


def load_packed(name_or_path: str, **options: str) -> LoadedModel:
    """Return what `load_model` does, packed where that is possible: for weights that nobody changes afterwards."""
    loaded = load_model(name_or_path, **options)
    pack_linears(loaded)
    return loaded


def pack_linears(loaded: LoadedModel) -> bool:
    """Pack or widen every linear layer of a bf16 model on the CPU in place; return whether that was possible.

    Call it last: what changes weights afterwards (`models.variants`) would not be seen.
    """
    import torch

    if loaded.dtype != "bf16" or loaded.device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    layers = [module for module in loaded.model.modules() if isinstance(module, torch.nn.Linear)]
    build = _build_packed if has_bf16_instructions() else _build_widened
    if not layers or (build is _build_packed and not _is_equal_in_trial(layers[0])):
        return False
    for layer in layers:
        layer.forward = build(layer)
    return True


def has_bf16_instructions() -> bool:
    """Return whether oneDNN multiplies bf16 with instructions made for it; True where PyTorch does not say."""
    import torch

    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:
        return True


def _build_widened(layer: Any) -> Any:
    import torch

    weight, bias, multiply = layer.weight.detach(), layer.bias, torch.nn.functional.linear
    is_kept = weight.numel() >= KEPT_WEIGHTS
    rows = KEPT_WIDE_ROWS if is_kept else WIDE_ROWS

    def forward(values: Any) -> Any:
        if values.numel() < rows * values.shape[-1]:
            return multiply(values, weight, bias)
        wide = get_wide_weight(layer) if is_kept else weight.float()
        return multiply(values.float(), wide, None if bias is None else bias.float()).to(values.dtype)

    return forward


def get_wide_weight(layer: Any) -> Any:
    """Return a layer's weights in fp32, which are kept with it."""
    if not hasattr(layer, "weight_fp32"):
        layer.weight_fp32 = layer.weight.detach().float()
    return layer.weight_fp32


def multiply_bf16(values: Any, weight: Any, bias: Any) -> Any:
    """Return the products of a linear layer in fp32, for values [..., in] and weights [out, in] that are bf16 widened.

    They lose nothing on the way back, and bf16 instructions add their products in fp32: where a processor has them,
    oneDNN may use them here, and takes half the time.
    """
    import torch

    settings: Any = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    if has_bf16_instructions():
        # It holds for all threads of a process: one of them runs models.
        settings.fp32_precision = "bf16"
    try:
        return torch.nn.functional.linear(values, weight, bias)
    finally:
        settings.fp32_precision = before


def _build_packed(layer: Any) -> Any:
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
                torch.equal(_build_packed(layer)(values), torch.nn.functional.linear(values, layer.weight, layer.bias))
            )
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
