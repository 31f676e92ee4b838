"""Chat requests: what is understood, and one named row for every refusal."""

import pytest

from challenges.receipt import compute_request_digest
from validator.provider.api_errors import ApiError
from validator.provider.chat_request import parse_chat_request
from validator.provider.request_body import parse_object

MESSAGES = [{"role": "user", "content": "Hello"}]
BASE = {"model": "m", "messages": MESSAGES}


def test_the_defaults_are_those_of_openai() -> None:
    request = parse_chat_request(BASE)
    assert (request.temperature, request.top_p, request.max_tokens, request.seed) == (1.0, 1.0, None, None)
    assert (request.stop, request.logprobs, request.is_streamed, request.returns_token_ids) == ((), None, False, False)
    assert (request.nonce, request.consumer) == (None, bytes(20))


UNDERSTOOD = {
    "null is absent": ({"seed": None, "stop": None, "tools": None, "n": None}, {"seed": None}),
    "one choice": ({"n": 1}, {}),
    "seed zero": ({"seed": 0}, {"seed": 0}),
    "largest seed": ({"seed": 2**53 - 1}, {"seed": 2**53 - 1}),
    "an integer temperature": ({"temperature": 0}, {"temperature": 0.0}),
    "the new name of max_tokens": ({"max_completion_tokens": 5}, {"max_tokens": 5}),
    "one stop string": ({"stop": "\n"}, {"stop": ("\n",)}),
    "four stop strings": ({"stop": ["a", "b", "c", "d"]}, {"stop": ("a", "b", "c", "d")}),
    "logprobs alone": ({"logprobs": True}, {"logprobs": 0}),
    "top logprobs": ({"logprobs": True, "top_logprobs": 20}, {"logprobs": 20}),
    "a stream with usage": (
        {"stream": True, "stream_options": {"include_usage": True}},
        {"is_streamed": True, "includes_usage": True},
    ),
    "what says nothing about the answer": ({"user": "u", "metadata": {"a": "b"}, "store": False}, {}),
    "values that change nothing": ({"frequency_penalty": 0, "tools": [], "response_format": {"type": "text"}}, {}),
    "filters and penalties that are switched off": ({"top_k": -1, "min_p": 0, "repetition_penalty": 1}, {}),
    "a nonce and a consumer": (
        {"quiver_nonce": "0x" + "11" * 32, "quiver_consumer": "0x" + "22" * 20},
        {"nonce": b"\x11" * 32, "consumer": b"\x22" * 20},
    ),
}


@pytest.mark.parametrize(("more", "expected"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_understands(more, expected) -> None:
    request = parse_chat_request({**BASE, **more})
    assert {name: getattr(request, name) for name in expected} == expected


def test_text_parts_are_joined_and_a_developer_speaks_as_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_chat_request({"model": "m", "messages": [{"role": "developer", "content": parts}]})
    assert [(row.role, row.content) for row in request.messages] == [("system", "ab")]


def test_the_digest_is_that_of_the_receipt() -> None:
    document = {**BASE, "temperature": 0.7, "stream": True, "quiver_nonce": "0x" + "11" * 32}
    assert parse_chat_request(document).digest == compute_request_digest(document)


REFUSED = {
    "no model": ({"model": None}, "model"),
    "a model that is a number": ({"model": 4}, "model"),
    "a long model name": ({"model": "m" * 300}, "model"),
    "no messages": ({"messages": []}, "messages"),
    "messages that are text": ({"messages": "hi"}, "messages"),
    "too many messages": ({"messages": MESSAGES * 300}, "messages"),
    "a message that is text": ({"messages": ["hi"]}, "messages[0]"),
    "an unknown role": ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    "a tool's message": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content",
    ),
    "an unknown member": ({"messages": [{"role": "user", "content": "x", "weight": 1}]}, "messages[0]"),
    "half a surrogate pair": ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
    "two choices": ({"n": 2}, "n"),
    "n as a float": ({"n": 1.0}, "n"),
    "n true": ({"n": True}, "n"),
    "temperature below zero": ({"temperature": -0.1}, "temperature"),
    "temperature above two": ({"temperature": 2.1}, "temperature"),
    "temperature as text": ({"temperature": "1"}, "temperature"),
    "temperature true": ({"temperature": True}, "temperature"),
    "an infinite temperature": ({"temperature": 1e999}, "temperature"),
    "top_p zero": ({"top_p": 0}, "top_p"),
    "top_p above one": ({"top_p": 1.01}, "top_p"),
    "a negative seed": ({"seed": -1}, "seed"),
    "a seed that is no integer": ({"seed": 1.5}, "seed"),
    "a seed of 54 bits": ({"seed": 2**53}, "seed"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "max_tokens as a float": ({"max_tokens": 5.0}, "max_tokens"),
    "two limits": ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    "five stop strings": ({"stop": list("abcde")}, "stop"),
    "an empty stop string": ({"stop": ""}, "stop"),
    "a stop that is a number": ({"stop": [1]}, "stop"),
    "a long stop string": ({"stop": "x" * 300}, "stop"),
    "top_logprobs alone": ({"top_logprobs": 3}, "top_logprobs"),
    "too many top_logprobs": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "logprobs as a number": ({"logprobs": 1}, "logprobs"),
    "stream as text": ({"stream": "yes"}, "stream"),
    "stream_options without a stream": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "unknown stream_options": ({"stream": True, "stream_options": {"x": 1}}, "stream_options"),
    "include_usage as a number": (
        {"stream": True, "stream_options": {"include_usage": 1}},
        "stream_options.include_usage",
    ),
    "an unknown parameter": ({"best_of": 3}, "best_of"),
    "a penalty": ({"frequency_penalty": 0.5}, "frequency_penalty"),
    "a filter": ({"top_k": 40}, "top_k"),
    "another filter": ({"min_p": 0.05}, "min_p"),
    "a penalty of vLLM's": ({"repetition_penalty": 1.1}, "repetition_penalty"),
    "a bias": ({"logit_bias": {"5": 1}}, "logit_bias"),
    "tools": ({"tools": [{"type": "function"}]}, "tools"),
    "a JSON format": ({"response_format": {"type": "json_object"}}, "response_format"),
    "a nonce that is too short": ({"quiver_nonce": "0x11"}, "quiver_nonce"),
    "a nonce in capitals": ({"quiver_nonce": "0x" + "AB" * 32}, "quiver_nonce"),
    "a consumer without 0x": ({"quiver_consumer": "11" * 20}, "quiver_consumer"),
    "a consumer that is a number": ({"quiver_consumer": 5}, "quiver_consumer"),
}


@pytest.mark.parametrize(("more", "param"), REFUSED.values(), ids=REFUSED)
def test_refuses_and_names_the_parameter(more, param) -> None:
    with pytest.raises(ApiError) as refused:
        parse_chat_request({**BASE, **more})
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.to_json()["error"]["type"] == "invalid_request_error"


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "broken UTF-8": b'{"a": "\xff"}',
    "deep": b'{"a":' + b"[" * 100_000,
    "a duplicate key": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "an endless integer": b'{"a": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_refuses_a_body_that_is_no_object(body) -> None:
    with pytest.raises(ApiError) as refused:
        parse_object(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")
