"""Text of a growing answer: the pieces are the whole text, and nothing of a stop string slips out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text_stream import TextStream


class ByteTokenizer:
    """Tokens are bytes; 256 is special and has no text."""

    def decode(self, token_ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert skip_special_tokens and not clean_up_tokenization_spaces
        return bytes(token for token in token_ids if token < 256).decode("utf-8", errors="replace")


def run(token_ids, stop=()):
    stream = TextStream(ByteTokenizer(), stop)
    pieces = []
    for token in token_ids:
        pieces.append(stream.push(token))
        if stream.is_stopped:
            break
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text
    return stream, pieces


@given(st.text(max_size=60))
def test_pieces_add_up_to_the_text(text):
    stream, _ = run(text.encode())
    assert stream.text == text


@given(st.binary(max_size=24))
def test_pieces_of_broken_bytes_add_up_to_what_decoding_at_once_gives(data):
    stream, _ = run(data)
    assert stream.text == data.decode("utf-8", errors="replace")


def test_a_character_of_several_tokens_comes_out_whole():
    _, pieces = run("é€😀".encode())
    assert [piece for piece in pieces if piece] == ["é", "€", "😀"]


def test_special_tokens_have_no_text():
    assert run([104, 256, 105, 256])[0].text == "hi"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "two"], "one "),
        ("aaab", ["ab"], "aa"),
        ("ends with a start of the stop: END", ["ENDE"], "ends with a start of the stop: END"),
        ("stop at once", ["s"], ""),
    ],
)
def test_a_stop_string_ends_the_text_and_is_cut(text, stop, expected):
    stream, _ = run(text.encode(), stop)
    assert stream.text == expected
    assert stream.is_stopped == (expected != text)


def test_what_may_begin_a_stop_string_is_held_back():
    stream = TextStream(ByteTokenizer(), ["END"])
    assert [stream.push(byte) for byte in b"xENy"] == ["x", "", "", "ENy"]
