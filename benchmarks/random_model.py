"""Models with random weights, built where they run: the cost of a size without its download.

`random-7b` has the shapes of an 8-billion-parameter Llama 3 (8.0 billion parameters, 128,256 tokens), `random-tiny` is
for tests. The tokenizer knows bytes; the model's answers mean nothing and never end by themselves.
"""

from collections.abc import Mapping
from typing import Any

from models.load import LoadedModel
from models.manifest import DTYPES, ModelManifest
from scoring.errors import InvalidInput

SHAPES: Mapping[str, Mapping[str, int]] = {
    "random-7b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "random-tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
CONTEXT_TOKENS = 8192
_TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"


def build_random_model(name: str, *, dtype: str = "bf16", device: str = "cpu", attention: str = "sdpa") -> LoadedModel:
    """Return a Llama of random weights, made on the device itself from seed 1; raises InvalidInput for another name."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if name not in SHAPES:
        raise InvalidInput(f"must be one of {', '.join(SHAPES)}", "model")
    config = LlamaConfig(
        **SHAPES[name],
        max_position_embeddings=CONTEXT_TOKENS,
        rope_theta=500_000.0,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation=attention,
    )
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    previous = torch.get_default_dtype()
    torch.manual_seed(1)
    try:
        torch.set_default_dtype(kind)
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(previous)
    return LoadedModel(
        model=model.eval().requires_grad_(False),
        tokenizer=_build_tokenizer(),
        manifest=_build_manifest(name, model),
        dtype=dtype,
        device=device,
        attention=attention,
        end_ids=frozenset(),
        source=name,
    )


def _build_manifest(name: str, model: Any) -> ModelManifest:
    return ModelManifest(
        name=name,
        weights_digest=bytes(32),
        tokenizer_digest=bytes(32),
        chat_template_digest=bytes(32),
        dtypes=DTYPES,
        context_length=CONTEXT_TOKENS,
        vocabulary_size=model.config.vocab_size,
        parameter_count=model.num_parameters(),
    )


def _build_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
