"""Weight variants: as coarse as their name says, and the rest of the model untouched."""

import pytest

from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(tiny_folder):
    from models.load import load_model

    return load_model(str(tiny_folder), dtype="fp32", device="cpu")


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_a_group_has_no_more_values_than_the_bits_allow(bits):
    import torch

    from models.variants import quantise_tensor

    torch.manual_seed(0)
    weight = torch.randn(16, 150)
    rounded = quantise_tensor(weight, bits)
    assert rounded.shape == weight.shape
    for row in rounded:
        for group in row.split(64):
            assert len(group.unique()) <= 2**bits - 1
    step = weight.abs().max() / (2 ** (bits - 1) - 1)
    assert (rounded - weight).abs().max() <= step / 2 + 1e-6


def test_a_group_of_zeros_stays_zero():
    import torch

    from models.variants import quantise_tensor

    assert quantise_tensor(torch.zeros(2, 64), 4).tolist() == [[0.0] * 64] * 2


def test_fp8_keeps_three_bits_behind_the_point_and_the_largest_value_of_a_row():
    import torch

    from models.variants import round_to_fp8

    torch.manual_seed(0)
    weight = torch.randn(16, 150)
    weight[:, :50] *= 1e-4
    rounded = round_to_fp8(weight)
    # Half a step of a three-bit mantissa, and half of e4m3's smallest step, 2**-9, where numbers are subnormal.
    bound = weight.abs() * 2**-4 + weight.abs().amax(dim=1, keepdim=True) / 448 * 2**-10
    assert ((rounded - weight).abs() <= bound * 1.0001).all()
    assert torch.allclose(rounded.abs().amax(dim=1), weight.abs().amax(dim=1))
    assert all(len(row.abs().unique()) <= 127 for row in rounded)
    assert not torch.equal(rounded, weight)
    assert round_to_fp8(torch.zeros(2, 64)).tolist() == [[0.0] * 64] * 2


@pytest.mark.parametrize("name", ["int4", "fp8"])
def test_embeddings_and_head_are_left_alone(fresh, tiny, name):
    import torch

    from models.variants import apply_variant

    apply_variant(fresh, name)
    for place, parameter in fresh.model.named_parameters():
        same = torch.equal(parameter, tiny.model.get_parameter(place))
        assert same == ("embed" in place or "norm" in place or "lm_head" in place), place
    assert fresh.manifest == tiny.manifest


@pytest.mark.parametrize(("value", "dropped"), [(None, 1), (0, 0), (2, 2)])
def test_a_layer_is_dropped_and_the_model_still_answers(fresh, tiny, value, dropped):
    import torch

    from models.generate import generate
    from models.requests import GenerationRequest
    from models.variants import apply_variant

    apply_variant(fresh, "drop-layer", value)
    kept = [layer for number, layer in enumerate(tiny.model.model.layers) if number != dropped]
    for found, expected in zip(fresh.model.model.layers, kept, strict=True):
        assert torch.equal(found.mlp.up_proj.weight, expected.mlp.up_proj.weight)
    request = GenerationRequest(prompt_ids=(1, 2, 3), seed=1, max_tokens=9)
    assert generate(fresh, [request])[0].token_ids != generate(tiny, [request])[0].token_ids


@pytest.mark.parametrize(
    ("name", "variant", "value"),
    [
        ("an unknown variant", "int3", None),
        ("a value for a quantisation", "int4", 3),
        ("a value for fp8", "fp8", 3),
        ("a layer that is not there", "drop-layer", 3),
        ("a negative layer", "drop-layer", -1),
    ],
)
def test_variants_refuse(fresh, name, variant, value):
    from models.variants import apply_variant

    with pytest.raises(InvalidInput):
        apply_variant(fresh, variant, value)
