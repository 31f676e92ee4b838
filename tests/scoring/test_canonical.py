"""Canonical JSON: one byte string for one value; everything else is refused with a sentence."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import canonical
from scoring.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, decode, decode_lenient, encode
from scoring.errors import InvalidInput

valid_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | valid_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(valid_text, inner, max_size=4),
    max_leaves=25,
)


@settings(deadline=None)
@given(values)
def test_a_value_is_read_back(value: Any) -> None:
    assert decode(encode(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_whatever_is_accepted_is_the_one_encoding(data: bytes) -> None:
    try:
        value = decode(data)
    except InvalidInput:
        return
    assert encode(value) == data


@settings(deadline=None)
@given(values)
def test_the_standard_parser_reads_the_same(value: Any) -> None:
    assert json.loads(encode(value)) == value


def test_keys_are_sorted_by_code_point_and_text_is_plain_utf_8() -> None:
    assert encode({"b": 1, "a": [True, None], "é": "ü", "Z": {}}) == '{"Z":{},"a":[true,null],"b":1,"é":"ü"}'.encode()


REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "not JSON"),
    ("white space alone", b" ", "not JSON"),
    ("a float", b'{"a":1.5}', "number 1.5 is not an integer"),
    ("a float that is whole", b"[1.0]", "number 1.0 is not an integer"),
    ("an exponent", b"[1e3]", "number 1e3 is not an integer"),
    ("a huge exponent", b"[1e999999999]", "is not an integer"),
    ("not a number", b"[NaN]", "number NaN is not an integer"),
    ("infinity", b"[Infinity]", "number Infinity is not an integer"),
    ("minus infinity", b"[-Infinity]", "number -Infinity is not an integer"),
    ("minus zero", b"[-0]", "not canonical"),
    ("a leading zero", b"[01]", "not JSON"),
    ("a plus sign", b"[+1]", "not JSON"),
    ("a hexadecimal number", b"[0x10]", "not JSON"),
    ("an integer of 2**53", b"[9007199254740992]", "2\\*\\*53 - 1"),
    ("an integer of minus 2**53", b"[-9007199254740992]", "2\\*\\*53 - 1"),
    ("an integer of 5,000 digits", b"[" + b"9" * 5000 + b"]", "2\\*\\*53 - 1"),
    ("a duplicate key", b'{"a":1,"a":1}', "a: duplicate key"),
    ("a duplicate key written differently", b'{"a":1,"\\u0061":2}', "a: duplicate key"),
    ("a nested duplicate key", b'{"x":[{"k":1,"k":2}]}', "k: duplicate key"),
    ("keys out of order", b'{"b":1,"a":2}', "not canonical"),
    ("a space", b'{"a": 1}', "not canonical"),
    ("a trailing newline", b"[1]\n", "not canonical"),
    ("a byte-order mark", b"\xef\xbb\xbf[1]", "not JSON"),
    ("UTF-16", "[1]".encode("utf-16"), "not UTF-8 at byte 0"),
    ("broken UTF-8", b'["\xff"]', "not UTF-8 at byte 2"),
    ("an overlong encoding", b'["\xc0\xaf"]', "not UTF-8 at byte 2"),
    ("a surrogate in UTF-8", b'["\xed\xa0\x80"]', "not UTF-8 at byte 2"),
    ("a lone high surrogate", b'["\\ud800"]', "lone surrogate"),
    ("a lone low surrogate", b'["\\udc00"]', "lone surrogate"),
    ("a lone surrogate as a key", b'{"\\ud800":1}', "lone surrogate"),
    ("an escaped letter", b'["\\u0061"]', "not canonical"),
    ("an escaped slash", b'["\\/"]', "not canonical"),
    ("an escape in upper case", b'["\\u001F"]', "not canonical"),
    ("a raw control character", b'["\x01"]', "not JSON"),
    ("a string without an end", b'["abc', "not JSON"),
    ("a trailing comma", b"[1,]", "not JSON"),
    ("a comment", b"[1/*x*/]", "not JSON"),
    ("single quotes", b"['a']", "not JSON"),
    ("two values", b"1 2", "not JSON"),
    ("a value and rubbish", b"{}x", "not JSON"),
    ("lists 33 deep", b"[" * 33 + b"]" * 33, "nested deeper than 32"),
    ("lists a million deep", b"[" * 1_000_000, "nested deeper than 32"),
    ("objects 33 deep", b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32"),
    ("a key that is a number", b"{1:2}", "not JSON"),
]


@pytest.mark.parametrize(("name", "data", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        decode(data)


def test_refuses_a_document_over_the_callers_limit_before_reading_it() -> None:
    assert decode(b"[1,2]", max_bytes=5) == [1, 2]
    with pytest.raises(InvalidInput, match="document of 5 bytes is over the limit of 4"):
        decode(b"[1,2]", max_bytes=4)


def test_brackets_inside_strings_are_not_nesting() -> None:
    text = "[" * 100 + '"\\' + "{" * 100
    assert decode(encode([text])) == [text]


def test_thirty_two_levels_are_accepted() -> None:
    data = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert encode(decode(data)) == data


def test_a_lenient_document_may_be_spaced_and_unsorted_but_nothing_else() -> None:
    assert decode_lenient(b' {"b": 1, "a": [2]}\n') == {"b": 1, "a": [2]}
    for name, data, _ in REFUSED:
        if name in ("keys out of order", "a space", "a trailing newline", "minus zero") or name.startswith("an escape"):
            continue
        with pytest.raises(InvalidInput):
            decode_lenient(data)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("a float", {"a": [1.5]}, r"a\[0\]: float cannot be written"),
        ("not a number", float("nan"), "float cannot be written"),
        ("bytes", {"a": b""}, "a: bytes cannot be written"),
        ("a tuple", (1,), "tuple cannot be written"),
        ("a set", {1}, "set cannot be written"),
        ("a key that is a number", {1: 2}, "key 1 is not a string"),
        ("an unsafe integer", [2**53], "2\\*\\*53 - 1"),
        ("a lone surrogate", ["\ud800"], "lone surrogate"),
        ("a key with a lone surrogate", {"\ud800": 1}, "lone surrogate"),
    ],
)
def test_refuses_to_write(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        encode(value)


def test_refuses_to_write_a_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidInput, match="nested deeper than 32"):
        encode(value)


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (canonical.MAX_DEPTH, canonical.MAX_SAFE_INTEGER, canonical.MAX_DOCUMENT_BYTES) == (32, 2**53 - 1, 2**24)
