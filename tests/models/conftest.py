"""Models for the tests: the bundled one, loaded once for all, and a tiny random one in fp32."""

import json
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)


@pytest.fixture(scope="session")
def bundled():
    """The bundled model in bf16, packed as wherever it runs; variants must not be applied to it."""
    from models.packing import load_packed

    return load_packed("bundled", dtype="bf16")


@pytest.fixture(scope="session")
def bundled_fp32():
    """The bundled model in fp32; variants must not be applied to it."""
    from models.load import load_model

    return load_model("bundled", dtype="fp32")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A folder with a random Llama of three layers and a byte tokenizer, as Hugging Face lays it out."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """The tiny model in fp32."""
    from models.load import load_model

    return load_model(str(tiny_folder), dtype="fp32", device="cpu")


def write_tiny_model(folder: Path) -> None:
    """Write a random Llama with 300 tokens: 256 bytes, an end token, and some that mean nothing."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=256,
        bos_token_id=None,
        pad_token_id=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.add_tokens([f"<unused{number}>" for number in range(43)])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
