"""Bytes of tokens: every text is spelled exactly, from any byte on, and tokenizers that we cannot spell are refused."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInput

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def table(bundled):
    from models.token_bytes import TokenBytes

    return TokenBytes.build(bundled)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_canonical_ids_spell_their_text(table, bundled, text):
    ids = table.encode(text)
    if table.is_spelled(text, ids):
        assert bundled.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    else:
        # This vocabulary lacks some bytes.
        assert text.encode().startswith(table.join(ids))
        assert not table.find_prefixes(text.encode()[len(table.join(ids)) :])


@pytest.mark.parametrize("text", ["Hello, world!", "  two spaces", "größer 東京 🙂\n", "def f(x):\n\treturn x", ""])
def test_what_people_write_is_spelled(table, text):
    assert table.is_spelled(text, table.encode(text))


@settings(max_examples=200, deadline=None)
@given(text=st.text(min_size=1, max_size=30), data=st.data())
def test_a_text_is_spelled_from_any_byte_on(table, text, data):
    rest = text.encode()[data.draw(st.integers(min_value=0, max_value=len(text.encode()))) :]
    found = table.join(table.encode_rest(rest))
    assert rest.startswith(found)
    assert found == rest or not table.find_prefixes(rest[len(found) :])


def test_behind_half_a_character_a_rest_is_canonical_again(table):
    # Two line breaks are one token, but not the canonical ones here.
    behind = table.encode("\n\n1. One")
    assert table.values[behind[0]] == b"\n"
    assert table.encode_rest("é\n\n1. One".encode()[1:])[-len(behind) :] == behind


def test_prefixes_are_all_tokens_that_the_text_begins_with(table, bundled):
    found = table.find_prefixes(b" things")
    assert [table.values[token] for token in found] == sorted((table.values[token] for token in found), key=len)
    expected = {
        token
        for token in range(bundled.manifest.vocabulary_size)
        if table.values[token] and b" things".startswith(table.values[token])
    }
    assert set(found) == expected and len(expected) > 3


def test_special_tokens_have_no_bytes_and_their_names_are_text(table, bundled):
    assert all(table.values[token] == b"" for token in table.special)
    assert bundled.end_ids <= table.special
    ids = table.encode("\n\n1<|im_end|>b")
    assert not set(ids) & table.special
    assert ids[:3] == table.encode("\n\n1")


def build_model(backend, **special):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    return SimpleNamespace(tokenizer=tokenizer, manifest=SimpleNamespace(name="m"))


def build_sentencepiece():
    """A tokenizer in the way of Llama 2: a space in front, byte fallback."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "c", "▁a", "▁ab", "ab", "bc"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b"), ("b", "c")]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    return build_model(backend, unk_token="<unk>")


def test_sentencepiece_texts_begin_with_a_space_that_decoding_drops():
    from models.token_bytes import TokenBytes

    table = TokenBytes.build(build_sentencepiece())
    assert table.drops_first_space
    ids = table.encode("ab cé")
    assert table.join(ids) == " ab cé".encode()
    assert table.values[ids[0]] == b" ab"


@pytest.mark.parametrize("rest", [b"bc ab", b" ab", b"\xa9bc", b"ab\xc3"])
def test_sentencepiece_rests_get_no_space_in_front(rest):
    from models.token_bytes import TokenBytes

    table = TokenBytes.build(build_sentencepiece())
    assert table.join(table.encode_rest(rest)) == rest


def test_a_tokenizer_of_another_family_is_refused():
    from tokenizers import Tokenizer, decoders, models

    from models.token_bytes import TokenBytes

    backend = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    assert json.loads(backend.to_str())["decoder"]["type"] == "WordPiece"
    with pytest.raises(InvalidInput, match="spell"):
        TokenBytes.build(build_model(backend, unk_token="[UNK]"))
