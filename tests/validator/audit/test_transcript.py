"""Transcripts: what is read, what is refused with its line and reason, and that writing and reading agree."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.requests import ChatMessage
from scoring.errors import InvalidInput, Unavailable
from validator.audit import transcript
from validator.audit.outcomes import Entry
from validator.audit.records import Exchange, Missing
from validator.audit.transcript import (
    load_transcript,
    parse_document,
    parse_entry,
)

MESSAGES = [{"role": "user", "content": "Hi"}]
REQUEST = {"model": "m", "messages": MESSAGES, "temperature": 1.0, "max_tokens": 8, "seed": 7}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
RESPONSE = {
    "id": "x",
    "model": "m",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": {"cached": 0}},
}
LINE = {"request": REQUEST, "response": RESPONSE}


def change(document: dict, path: str, value: object) -> dict:
    """Return a copy of a document with another value at a path such as `response.choices.0.finish_reason`."""
    copy = json.loads(json.dumps(document))
    place = copy
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part] if isinstance(part, int) else place.setdefault(part, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


def read(document: object, earlier: list[Entry] | None = None) -> Entry:
    return parse_entry(parse_document(json.dumps(document).encode()), earlier or [])


LOGPROB = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}
LOGPROBS = {"content": [LOGPROB]}

REFUSED = [
    ("a list", [], "line: expected an object"),
    ("no request", change(LINE, "request", ...), "request: expected an object"),
    ("no response", change(LINE, "response", ...), "response: a line without response says in `error`"),
    ("a response and an error", {**LINE, "error": {"reason": "x"}}, "not both"),
    ("a member with a typo", {**LINE, "samplr": "none"}, "unknown member 'samplr'"),
    ("an unknown sampler", {**LINE, "sampler": "dice"}, "sampler: there are none"),
    ("a sampler that is a number", {**LINE, "sampler": 5}, "sampler: there are none"),
    ("no messages", change(LINE, "request.messages", []), "request.messages"),
    ("messages of text", change(LINE, "request.messages", "Hi"), "request.messages"),
    ("a message of text", change(LINE, "request.messages.0", "Hi"), "request.messages[0]: expected an object"),
    ("a role that is a number", change(LINE, "request.messages.0.role", 1), "request.messages[0].role"),
    ("content that is a number", change(LINE, "request.messages.0.content", 1), "request.messages[0].content"),
    ("half a character", change(LINE, "request.messages.0.content", "\ud800"), "lone surrogate"),
    ("a part of a wrong type", change(LINE, "request.messages.0.content", [{"type": "text", "text": 1}]), "[0].text"),
    ("a hot temperature", change(LINE, "request.temperature", 3), "request.temperature: must be between"),
    ("temperature in words", change(LINE, "request.temperature", "hot"), "request.temperature: expected a number"),
    ("temperature true", change(LINE, "request.temperature", True), "request.temperature: expected a number"),
    ("top_p 0", change(LINE, "request.top_p", 0), "request.top_p: must be above"),
    ("top_k a half", change(LINE, "request.top_k", 0.5), "request.top_k: expected an integer"),
    ("a negative seed", change(LINE, "request.seed", -1), "request.seed"),
    ("a seed with a fraction", change(LINE, "request.seed", 1.5), "request.seed: expected an integer"),
    ("a seed beyond 2**53", change(LINE, "request.seed", 2**53), "request.seed"),
    ("max_tokens 0", change(LINE, "request.max_tokens", 0), "request.max_tokens"),
    ("stop a number", change(LINE, "request.stop", 5), "request.stop"),
    ("stream a word", change(LINE, "request.stream", "yes"), "request.stream: expected true or false"),
    ("a sampler without a seed", {**change(LINE, "request.seed", ...), "sampler": "gumbel-philox-v1"}, "seed"),
    ("a response of text", change(LINE, "response", "Hello"), "response: expected an object"),
    ("no choices", change(LINE, "response.choices", []), "response.choices: expected a list with one choice"),
    (
        "two choices",
        change(LINE, "response.choices", [CHOICE, CHOICE]),
        "response.choices: expected a list with one choice",
    ),
    ("no message", change(LINE, "response.choices.0.message", ...), "response.choices[0].message: expected an object"),
    ("text that is a number", change(LINE, "response.choices.0.message.content", 5), "expected a string or null"),
    ("half a character in the answer", change(LINE, "response.choices.0.message.content", "\udfff"), "lone surrogate"),
    ("too much text", change(LINE, "response.choices.0.message.content", "x" * 9999), "too many for 8 tokens"),
    (
        "no finish reason",
        change(LINE, "response.choices.0.finish_reason", None),
        "response.choices[0].finish_reason: expected a string",
    ),
    ("token ids of text", change(LINE, "response.choices.0.token_ids", "1 2"), "token_ids: expected a list or null"),
    ("a token id of text", change(LINE, "response.choices.0.token_ids", ["1"]), "token_ids[0]: expected an integer"),
    ("a token id true", change(LINE, "response.choices.0.token_ids", [True]), "token_ids[0]: expected an integer"),
    ("a negative token id", change(LINE, "response.choices.0.token_ids", [-1]), "token_ids[0]: expected an integer"),
    ("too many tokens", change(LINE, "response.choices.0.token_ids", [1] * 10), "10 tokens, 8 were asked for"),
    ("log-probabilities of text", change(LINE, "response.choices.0.logprobs", "no"), "logprobs: expected an object"),
    (
        "a positive log-probability",
        change(LINE, "response.choices.0.logprobs", {"content": [{**LOGPROB, "logprob": 0.5}]}),
        "at most 0",
    ),
    (
        "a log-probability in words",
        change(LINE, "response.choices.0.logprobs", {"content": [{**LOGPROB, "logprob": "-1"}]}),
        "at most 0",
    ),
    (
        "bytes above 255",
        change(LINE, "response.choices.0.logprobs", {"content": [{**LOGPROB, "bytes": [256]}]}),
        "0 to 255",
    ),
    (
        "22 most probable tokens",
        change(LINE, "response.choices.0.logprobs", {"content": [{**LOGPROB, "top_logprobs": [LOGPROB] * 22}]}),
        "at most 20",
    ),
    ("usage of text", change(LINE, "response.usage", "much"), "response.usage: expected an object"),
    ("negative usage", change(LINE, "response.usage.prompt_tokens", -1), "response.usage.prompt_tokens: expected"),
    (
        "usage with a fraction",
        change(LINE, "response.usage.completion_tokens", 1.5),
        "response.usage.completion_tokens",
    ),
    ("a receipt of text", {**LINE, "receipt": "0x"}, "receipt: expected an object"),
    ("a receipt with a fraction", {**LINE, "receipt": {"a": 1.5}}, "receipt"),
    ("two receipts", {**change(LINE, "response.quiver_receipt", {"a": 1}), "receipt": {"a": 2}}, "differs from"),
    ("a proof of text", change(LINE, "response.quiver_toploc", "proof"), "response.quiver_toploc: expected a list"),
    ("a proof that is no base64", change(LINE, "response.quiver_toploc", ["?"]), "quiver_toploc"),
    ("a proof without a modulus", change(LINE, "response.quiver_toploc", ["AAAA"]), "quiver_toploc"),
    ("timing of text", {**LINE, "timing": "fast"}, "timing: expected an object"),
    ("timing with another member", {**LINE, "timing": {"ms": 1}}, "nothing else"),
    ("a negative time", {**LINE, "timing": {"total_ms": -1}}, "timing.total_ms"),
    ("an error without a reason", {"request": REQUEST, "response": None, "error": {}}, "error.reason"),
    ("an error of text", {"request": REQUEST, "error": "oops"}, "error: expected an object"),
    ("an audit with another member", {**LINE, "audit": {"is_drawn": True}}, "audit: unknown member"),
    ("a short seed", {**LINE, "audit": {"probe_seed": "0x00"}}, "audit.probe_seed"),
    ("a repeat of nothing", {**LINE, "audit": {"repeat_of": 0}}, "names no earlier request"),
    ("a repeat before the first", {**LINE, "audit": {"repeat_of": -1}}, "audit.repeat_of"),
]


@pytest.mark.parametrize(("document", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses(document, message) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(document)
    assert message in str(caught.value)


BAD_LINES = [
    ("no JSON", b"{oops}", "not JSON"),
    ("deep JSON", b"[" * 5000, "nested deeper than 32"),
    ("a duplicate key", b'{"request": {}, "request": {}}', "duplicate key"),
    ("NaN", b'{"request": NaN}', "not a number"),
    ("not UTF-8", b'{"\xff": 1}', "not UTF-8"),
]


@pytest.mark.parametrize(("line", "message"), [row[1:] for row in BAD_LINES], ids=[row[0] for row in BAD_LINES])
def test_names_the_line_that_is_bad(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n\n" + line + b"\n")
    with pytest.raises(InvalidInput, match="line 3: .*" + message):
        load_transcript(path)


@pytest.mark.parametrize(("count", "said"), [(1, "1 bad line in"), (2, "2 bad lines in"), (21, "and 1 more line")])
def test_counts_bad_lines_in_english(tmp_path: Path, count: int, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"{}\n" * count)
    with pytest.raises(InvalidInput) as caught:
        load_transcript(path)
    assert said in str(caught.value) and "more lines" not in str(caught.value)


def test_names_every_bad_line_and_counts_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes((json.dumps(LINE).encode() + b"\n{}\n") * 30)
    with pytest.raises(InvalidInput) as caught:
        load_transcript(path)
    assert "30 bad lines" in str(caught.value)
    assert "line 2: request" in str(caught.value) and "line 40: request" in str(caught.value)
    assert "line 42" not in str(caught.value) and "and 10 more lines" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_refuses_an_empty_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.jsonl").write_bytes(data)
    with pytest.raises(InvalidInput, match="has no lines"):
        load_transcript(tmp_path / "t.jsonl")


def test_refuses_a_long_line_without_reading_all_of_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transcript, "MAX_LINE_BYTES", 1000)
    (tmp_path / "t.jsonl").write_bytes(b"x" * 5000)
    with pytest.raises(InvalidInput, match="longer than 1000 bytes"):
        load_transcript(tmp_path / "t.jsonl")


def test_refuses_too_many_lines(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transcript, "MAX_LINES", 3)
    (tmp_path / "t.jsonl").write_bytes((json.dumps(LINE).encode() + b"\n") * 4)
    with pytest.raises(InvalidInput, match="line 4: more than 3 lines"):
        load_transcript(tmp_path / "t.jsonl")


def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot read"):
        load_transcript(tmp_path / "none.jsonl")


def test_takes_what_openai_and_others_add() -> None:
    document = change(LINE, "response.system_fingerprint", "fp_1")
    document = change(document, "response.choices.0.message.annotations", [])
    document["request"].update(user="me", metadata={}, store=True, stream_options=None, priority=3)
    found = read(document).outcome
    assert isinstance(found, Exchange)
    assert (found.content, found.prompt_tokens, found.seed, found.sampler) == ("Hello", 3, 7, "none")


def test_takes_a_request_with_nothing_but_messages() -> None:
    document = {"request": {"messages": MESSAGES}, "response": {"choices": [CHOICE]}}
    found = read(document).outcome
    assert isinstance(found, Exchange)
    assert (found.temperature, found.top_p, found.top_k, found.seed) == (1.0, 1.0, 0, None)
    assert (found.token_ids, found.logprobs, found.prompt_tokens) == (None, None, None)
    assert found.max_tokens >= len("Hello")


def test_takes_text_parts_and_the_developer_role() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    document = change(LINE, "request.messages", [{"role": "developer", "content": parts}])
    found = read(document).outcome
    assert isinstance(found, Exchange)
    assert found.messages == (ChatMessage(role="system", content="Hello"),)


def test_takes_token_ids_as_vllm_returns_them() -> None:
    document = change(LINE, "response.choices.0.token_ids", [5, 6])
    document = change(document, "response.prompt_token_ids", [1, 2, 3])
    assert read(document).outcome.token_ids == (5, 6)


@pytest.mark.parametrize(
    "entry", [{**LOGPROB, "id": 9}, {**LOGPROB, "token": "token_id:9"}], ids=["llama.cpp", "vLLM's text"]
)
def test_takes_token_ids_out_of_log_probabilities(entry) -> None:
    document = change(LINE, "response.choices.0.logprobs", {"content": [entry]})
    assert read(document).outcome.token_ids == (9,)


def test_token_ids_that_are_incomplete_are_none() -> None:
    document = change(LINE, "response.choices.0.logprobs", {"content": [{**LOGPROB, "id": 9}, LOGPROB]})
    assert read(document).outcome.token_ids is None


UNJUDGED = [
    ("penalties", "request.frequency_penalty", 0.5),
    ("tools", "request.tools", [{"type": "function"}]),
    ("another format", "request.response_format", {"type": "json_object"}),
    ("several choices", "request.n", 2),
    ("min_p", "request.min_p", 0.1),
    ("a flag for a number", "request.n", True),
    ("a picture", "request.messages.0.content", [{"type": "image_url", "image_url": {}}]),
    ("a tool's message", "request.messages.0.role", "tool"),
    ("no content", "request.messages.0.content", None),
    ("a refusal", "response.choices.0.message.refusal", "I cannot"),
    ("reasoning", "response.choices.0.message.reasoning_content", "hmm"),
    ("a filtered answer", "response.choices.0.finish_reason", "content_filter"),
]


@pytest.mark.parametrize(("path", "value"), [row[1:] for row in UNJUDGED], ids=[row[0] for row in UNJUDGED])
def test_what_the_reference_cannot_repeat_is_missing_and_not_wrong(path, value) -> None:
    found = read(change(LINE, path, value)).outcome
    assert isinstance(found, Missing)


@pytest.mark.parametrize(
    ("name", "value"), [("n", 1), ("frequency_penalty", 0.0), ("tools", []), ("logit_bias", None), ("top_k", -1)]
)
def test_neutral_parameters_change_nothing(name, value) -> None:
    assert read(change(LINE, f"request.{name}", value)).outcome == read(LINE).outcome


def test_a_repeat_names_the_same_request() -> None:
    first = read(LINE)
    again = {**LINE, "audit": {"repeat_of": 0}}
    assert read(again, [first]).outcome.repeat_of == 0
    with pytest.raises(InvalidInput, match="is not the same"):
        read(change(again, "request.seed", 8), [first])


def test_nothing_is_drawn_on_a_transcripts_word() -> None:
    line = {**LINE, "audit": {"probe_seed": "0x" + "00" * 32, "stratum": "prose"}}
    found = read(line).outcome
    assert (found.is_drawn, found.stratum) == (False, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PATHS = [row[1] for row in UNJUDGED] + [
    "request.messages.0", "request.seed", "request.stop", "response.choices.0.message", "response.choices.0.logprobs",
    "response.choices.0.token_ids", "response.usage", "response.model", "timing", "audit", "receipt", "error",
]  # fmt: skip


@given(st.sampled_from(PATHS), JSON)
def test_any_value_anywhere_is_read_or_refused(path: str, value: object) -> None:
    document = {**LINE, "timing": {}, "audit": {}}
    try:
        outcome = read(change(document, path, value)).outcome
    except InvalidInput:
        return
    assert isinstance(outcome, Exchange | Missing)
