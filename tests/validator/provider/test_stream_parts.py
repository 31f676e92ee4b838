"""Event streams and the digest that is computed while they pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenges.receipt import compute_response_digest
from scoring.errors import InvalidInput
from validator.provider.proxy_answer import NotReceiptable, ObservedAnswer
from validator.provider.response_digest import ResponseDigest
from validator.provider.sse import DONE, EventSplitter, encode_event, read_data

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    st.one_of(st.none(), st.lists(st.integers(0, 2**32 - 1))),
    st.sampled_from(["stop", "length"]),
)
def test_the_running_digest_equals_that_of_the_whole_answer(pieces, token_ids, reason) -> None:
    digest = ResponseDigest()
    for piece in pieces:
        digest.push(piece)
    whole = compute_response_digest("m", "".join(pieces), token_ids, reason, USAGE)
    assert digest.finish("m", token_ids, reason, USAGE) == whole


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b)), st.data())
def test_events_are_the_same_however_the_stream_is_cut(payloads, data) -> None:
    ends = [data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n"])) for _ in payloads]
    events = [b"data: " + payload + end for payload, end in zip(payloads, ends, strict=True)]
    stream = b"".join(events) + b"rest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    splitter, found = EventSplitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += splitter.push(stream[start:end])
    assert found == events
    assert splitter.rest == b"rest"


def test_an_event_without_end_is_refused_at_the_limit() -> None:
    splitter = EventSplitter(max_event_bytes=100)
    assert list(splitter.push(b"x" * 100)) == []
    with pytest.raises(InvalidInput, match="over 100 bytes"):
        list(splitter.push(b"x"))


def test_reads_data_lines_and_nothing_else() -> None:
    assert read_data(b": comment\n\n") is None
    assert read_data(b"event: x\r\ndata: a\r\ndata:b\r\n\r\n") == b"a\nb"
    assert read_data(DONE) == b"[DONE]"


def chunk(*choices: dict, model: str = "m", **more: object) -> bytes:
    return encode_event({"id": "x", "model": model, "choices": list(choices), **more})


def delta(text: str | None = None, reason: str | None = None, **more: object) -> dict:
    return {"index": 0, "delta": {"content": text}, "finish_reason": reason, **more}


def observe(*events: bytes) -> ObservedAnswer:
    observed = ObservedAnswer()
    for event in events:
        observed.read_event(event)
    return observed


def test_a_stream_is_put_together() -> None:
    observed = observe(
        b": ping\n\n",
        chunk({"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}),
        chunk(delta("Hé", token_ids=[1])),
        chunk(delta("llo", "stop", token_ids=[2])),
        chunk(usage=USAGE),
        DONE,
    )
    response, digest = observed.build_response()
    assert digest == compute_response_digest("m", "Héllo", [1, 2], "stop", USAGE)
    assert response["choices"][0]["token_ids"] == [1, 2]


def test_knows_a_chunk_that_holds_the_usage_alone() -> None:
    observed = ObservedAnswer()
    assert not observed.read_event(chunk(delta("x"), usage=None))
    assert observed.read_event(chunk(usage=USAGE))
    assert not observed.read_event(chunk(prompt_filter_results=[]))
    assert not observed.read_event(DONE)


UNRECEIPTABLE = {
    "not JSON": [b"data: {\n\n"],
    "a list": [b"data: []\n\n"],
    "deep": [b"data: " + b"[" * 100_000 + b"\n\n"],
    "an error": [encode_event({"error": {"message": "x"}})],
    "no model": [encode_event({"choices": []})],
    "two models": [chunk(model="a"), chunk(model="b")],
    "two choices": [chunk(delta("a"), delta("b"))],
    "the second choice": [chunk({"index": 1, "delta": {"content": "x"}})],
    "no delta": [chunk({"index": 0})],
    "a tool call": [chunk({"index": 0, "delta": {"tool_calls": [{}]}})],
    "content that is a number": [chunk({"index": 0, "delta": {"content": 5}})],
    "half a surrogate pair": [b'data: {"model":"m","choices":[{"delta":{"content":"\\ud800"}}]}\n\n'],
    "no finish_reason": [chunk(delta("x")), chunk(usage=USAGE)],
    "no usage": [chunk(delta("x", "stop"))],
    "a usage that does not add up": [chunk(delta("x", "stop")), chunk(usage={**USAGE, "total_tokens": 9})],
    "a usage that is text": [chunk(delta("x", "stop")), chunk(usage={"prompt_tokens": "3"})],
    "token ids that are text": [chunk(delta("x", "stop", token_ids=["a"])), chunk(usage=USAGE)],
}


@pytest.mark.parametrize("events", UNRECEIPTABLE.values(), ids=UNRECEIPTABLE)
def test_refuses_to_receipt(events) -> None:
    with pytest.raises(NotReceiptable):
        observe(*events).build_response()


DOCUMENT = {"model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": USAGE}
UNRECEIPTABLE_DOCUMENTS = {
    "two choices": {**DOCUMENT, "choices": DOCUMENT["choices"] * 2},
    "tool calls": {
        **DOCUMENT,
        "choices": [{"message": {"content": "", "tool_calls": [{}]}, "finish_reason": "tool_calls"}],
    },
    "no content": {**DOCUMENT, "choices": [{"message": {"content": None}, "finish_reason": "stop"}]},
    "no usage": {**DOCUMENT, "usage": None},
    "no choices": {**DOCUMENT, "choices": []},
    "half a surrogate pair": {**DOCUMENT, "choices": [{"message": {"content": "\ud800"}, "finish_reason": "stop"}]},
}


@pytest.mark.parametrize("document", UNRECEIPTABLE_DOCUMENTS.values(), ids=UNRECEIPTABLE_DOCUMENTS)
def test_refuses_to_receipt_a_document(document) -> None:
    with pytest.raises(NotReceiptable):
        ObservedAnswer().read_document(document)
