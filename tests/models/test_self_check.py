"""Families of models: those that we run give their own logits batch or no batch, the others are refused by name."""

import dataclasses

import numpy as np
import pytest

from models.requests import GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow

SMALL = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
GPT2 = {"vocab_size": 300, "n_positions": 256, "n_embd": 64, "n_layer": 3, "n_head": 4, "initializer_range": 0.3}
FAMILIES = [
    ("Llama with eager attention", "LlamaConfig", SMALL, "eager"),
    ("GPT-2, with learned positions", "GPT2Config", {**GPT2, "bos_token_id": 256, "eos_token_id": 256}, "sdpa"),
    ("Mistral, with a sliding window", "MistralConfig", {**SMALL, "sliding_window": 8}, "sdpa"),
    (
        "Gemma 2, with soft caps and windows",
        "Gemma2Config",
        {**SMALL, "sliding_window": 8, "query_pre_attn_scalar": 16},
        "eager",
    ),
    ("Granite, with scaled logits", "GraniteConfig", {**SMALL, "logits_scaling": 4.0}, "sdpa"),
    ("Cohere, with scaled logits", "CohereConfig", {**SMALL, "logit_scale": 0.2}, "sdpa"),
]


def build_model(tiny, config_name, values, attention):
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**values)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    return dataclasses.replace(tiny, model=model, attention=attention)


@pytest.mark.parametrize(
    ("name", "config_name", "values", "attention"), FAMILIES, ids=[family[0] for family in FAMILIES]
)
def test_a_family_is_run_faithfully(tiny, name, config_name, values, attention):
    from models.generate import generate
    from models.reference import score_batch
    from models.self_check import verify_supported

    loaded = build_model(tiny, config_name, values, attention)
    verify_supported(loaded)
    prompts = [tuple(b"a"), tuple(b"some longer prompt"), tuple(range(40, 90))]
    requests = [
        GenerationRequest(prompt_ids=prompt, seed=number, max_tokens=10 + 5 * number)
        for number, prompt in enumerate(prompts)
    ]
    items = [
        ReferenceRequest(
            prompt_ids=request.prompt_ids,
            output_ids=answer.token_ids,
            seed=request.seed,
            sampler="gumbel-philox-v1",
        )
        for request, answer in zip(requests, generate(loaded, requests), strict=True)
    ]
    assert np.concatenate([found.margin for found in score_batch(loaded, items)]).max() == 0.0


def test_a_model_without_keys_and_values_is_refused(tiny):
    from models.self_check import verify_supported

    loaded = build_model(tiny, "MambaConfig", {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2}, "eager")
    with pytest.raises(InvalidInput, match="faithfully"):
        verify_supported(loaded)


def test_an_unknown_scaling_of_logits_is_refused(tiny, monkeypatch):
    from models import self_check

    project = self_check.project_logits
    monkeypatch.setattr(self_check, "project_logits", lambda loaded, hidden: project(loaded, hidden) * 1.5)
    with pytest.raises(InvalidInput, match="faithfully"):
        self_check.verify_supported(tiny)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_within_the_tolerance(tiny_folder, dtype):
    from models.load import load_model
    from models.self_check import verify_supported

    verify_supported(load_model(str(tiny_folder), dtype=dtype, device="cpu"))
