"""JSON from adversaries: limits hold before the parser runs, and nothing but InvalidInput comes out."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from validator.hostile_json import DROPPED_NUMBER, parse_hostile_json
from validator.provider_answer import AnswerLimits, parse_provider_answer

LIMITS = AnswerLimits(max_tokens=4, vocabulary_size=10, max_content_bytes=100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

REFUSED = [
    ("oversize", b"[" + b"1," * 50_000 + b"1]", "over the limit"),
    ("bad UTF-8", b'"\xc3\x28"', "not UTF-8 at byte 1"),
    ("a byte-order mark", b"\xef\xbb\xbf1", "not JSON"),
    ("33 levels", b"[" * 33 + b"]" * 33, "nested deeper than 32"),
    ("33 levels of objects", b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32"),
    ("brackets without end", b"[" * 60_000, "nested deeper than 32"),
    ("a duplicate key", b'{"a":1,"a":1}', "duplicate key"),
    ("a duplicate key by escape", b'{"a":1,"\\u0061":1}', "duplicate key"),
    ("NaN", b"NaN", "not a number"),
    ("minus Infinity", b"[-Infinity]", "not a number"),
    ("17 digits", b"12345678901234567", "more than 16 digits"),
    ("a thousand digits", b"-" + b"9" * 1000, "more than 16 digits"),
    ("a comment", b"1 // one", "not JSON"),
    ("a control character", b'"\n"', "not JSON"),
    ("single quotes", b"{'a':1}", "not JSON"),
    ("nothing", b"", "not JSON"),
]


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_hostile_json(data, 65536)


def test_takes_32_levels_and_brackets_in_strings() -> None:
    parse_hostile_json(b"[" * 32 + b"]" * 32, 100)
    text = '\\"' + "[" * 100 + "\\\\"
    assert parse_hostile_json(json.dumps([text]).encode(), 1000) == [text]


def test_drops_numbers_with_a_fraction_or_an_exponent() -> None:
    parsed = parse_hostile_json(b"[1.5, -1e-7, 1e999999999, 3]", 100)
    assert parsed == [DROPPED_NUMBER, DROPPED_NUMBER, DROPPED_NUMBER, 3]


def test_keeps_numbers_for_those_who_need_them_but_no_infinity() -> None:
    assert parse_hostile_json(b"[1.5, -1e-7, 3]", 100, keeps_numbers=True) == [1.5, -1e-7, 3]
    with pytest.raises(InvalidInput, match="too large"):
        parse_hostile_json(b"[1e999999999]", 100, keeps_numbers=True)


@pytest.mark.parametrize(
    "data",
    [b'"' + b'\\"' * 500_000, b'"' * 1_000_001, b'{"' + b"\\" * 1_000_000, b'["' + b"a" * 1_000_000, b'""' * 500_000],
    ids=["escaped quotes", "quotes", "backslashes", "an open string", "empty strings"],
)
def test_takes_linear_time_over(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidInput):
        parse_hostile_json(data, 2_000_000)
    assert time.perf_counter() - started < 1.5


@given(JSON)
def test_agrees_with_the_standard_parser_on_what_it_takes(value: object) -> None:
    assert parse_hostile_json(json.dumps(value).encode(), 10**6) == value


@given(st.binary(max_size=200))
def test_raises_nothing_but_invalid_input_on_bytes(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        parse_hostile_json(data, 100)


@given(
    st.fixed_dictionaries(
        {
            "model": JSON | st.just("m"),
            "choices": JSON
            | st.lists(
                st.fixed_dictionaries(
                    {
                        "message": JSON | st.fixed_dictionaries({"content": JSON | st.text()}),
                        "finish_reason": JSON | st.just("stop"),
                        "token_ids": JSON | st.lists(st.integers(-2, 12)),
                    }
                ),
                max_size=2,
            ),
            "usage": JSON | st.just({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
            "quiver_receipt": JSON,
        }
    )
)
def test_raises_nothing_but_invalid_input_on_documents(document: dict[str, object]) -> None:
    try:
        answer = parse_provider_answer(document, LIMITS)
    except InvalidInput:
        return
    assert answer.token_ids is None or all(0 <= token_id < 10 for token_id in answer.token_ids)
    assert len(answer.content.encode()) <= 100
