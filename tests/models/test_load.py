"""Loading: safetensors folders and the bundled model; pickles and wrong paths refused with a sentence."""

import shutil

import pytest

from models.load import check_vocabulary, decode_tokens, encode_text, load_model, render_prompt
from models.requests import ChatMessage
from scoring.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.slow


def test_a_folder_loads_with_its_manifest(tiny, tiny_folder):
    assert tiny.manifest.vocabulary_size == 300
    assert tiny.manifest.context_length == 256
    assert tiny.end_ids == {256}
    again = load_model(str(tiny_folder), dtype="bf16", device="cpu")
    assert again.manifest == tiny.manifest


def test_the_bundled_model_is_the_same_model_in_every_dtype(bundled, bundled_fp32):
    assert bundled.manifest == bundled_fp32.manifest
    assert bundled.manifest.name == "smollm2-135m-instruct"
    assert bundled.manifest.parameter_count == 134_515_008
    assert bundled.end_ids == {2}


def test_a_conversation_is_rendered_in_the_template(bundled):
    ids = render_prompt(bundled, [ChatMessage(role="user", content="Hi")])
    assert bundled.tokenizer.decode(ids).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_text_survives_encoding_and_decoding(bundled):
    text = "Grüße, 世界! def f(x): return x  # 😀"
    assert decode_tokens(bundled, encode_text(bundled, text)) == text


def test_a_model_without_template_answers_no_conversation(tiny_folder):
    loaded = load_model(str(tiny_folder), dtype="fp32", device="cpu")
    loaded.tokenizer.chat_template = None
    with pytest.raises(InvalidInput, match="no chat template"):
        render_prompt(loaded, [ChatMessage(role="user", content="Hi")])


def test_an_empty_conversation_is_refused(tiny):
    with pytest.raises(InvalidInput):
        render_prompt(tiny, [])


def test_a_template_that_refuses_is_an_invalid_input(tiny_folder):
    loaded = load_model(str(tiny_folder), dtype="fp32", device="cpu")
    loaded.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidInput, match="roles must alternate"):
        render_prompt(loaded, [ChatMessage(role="user", content="Hi")])


def test_tokens_out_of_the_vocabulary_are_refused(tiny):
    check_vocabulary(tiny, (0, 299), "token_ids")
    for token in (300, -1):
        with pytest.raises(InvalidInput):
            check_vocabulary(tiny, (token,), "token_ids")


def keep_only(folder, target, names):
    target.mkdir()
    for name in names:
        shutil.copy(folder / name, target / name)
    return target


def test_pickled_weights_are_refused(tiny_folder, tmp_path):
    folder = keep_only(tiny_folder, tmp_path / "pickled", ["config.json", "tokenizer.json", "tokenizer_config.json"])
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidInput, match="pickled"):
        load_model(str(folder))


def test_a_model_that_brings_code_is_refused(tiny_folder, tmp_path):
    folder = tmp_path / "code"
    shutil.copytree(tiny_folder, folder)
    (folder / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}'
    )
    (folder / "own.py").write_text("raise SystemExit('this must never run')")
    with pytest.raises(InvalidInput):
        load_model(str(folder))


REFUSED = [
    ("a folder that is not there", {"name_or_path": "./no/such/folder"}, "is not a model folder"),
    ("a gguf file that is not there", {"name_or_path": "/nowhere/m.gguf"}, "no file"),
    ("an unknown dtype", {"name_or_path": "bundled", "dtype": "int4"}, "dtype"),
    ("an unknown device", {"name_or_path": "bundled", "device": "tpu"}, "device"),
    ("an unknown attention", {"name_or_path": "bundled", "attn": "flash"}, "attn"),
]


@pytest.mark.parametrize(("name", "arguments", "sentence"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_loading_refuses(name, arguments, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        load_model(**arguments)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"config\.json"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="safetensors"):
        load_model(str(tmp_path))


def test_a_hub_model_that_cannot_be_fetched_is_unavailable(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable):
        load_model("quiver-oracle/no-such-model-here")
