"""Endpoints that misbehave: each costs one failure with its reason, within the limits of time and bytes."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web

from models.activation_format import ActivationProof
from validator.audit.answered import parse_answered
from validator.audit.asker import Asker
from validator.audit.endpoint import Endpoint, Failure
from validator.audit.http_exchange import AskLimits, Reply
from validator.audit.retry_after import MAX_TOLD_S, parse_retry_after
from validator.fetch import FailureReason

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
# Generous, so that a busy machine changes nothing; rows about time have their own.
LIMITS = AskLimits(max_tokens=8, deadline_s=30.0, chunk_timeout_s=20.0)
PROOF = ActivationProof(modulus=65497, coefficients=(1, 2, 3))
LIMITS_BY_REASON = {
    FailureReason.TIMEOUT: replace(LIMITS, deadline_s=1.0),
    FailureReason.STALLED: replace(LIMITS, chunk_timeout_s=0.3),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def chunk(**choice: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {}, **choice}]}).encode() + b"\n\n"


async def begin(request: web.Request, kind: str = "text/event-stream", **headers: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind, **headers})
    await response.prepare(request)
    return response


async def slow_drip(request: web.Request) -> web.StreamResponse:
    response = await begin(request, "application/json")
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.1)


async def stalls(request: web.Request) -> web.StreamResponse:
    response = await begin(request, "application/json")
    await response.write(b'{"choices": ')
    await asyncio.sleep(30)
    return response


async def stream_stalls(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await response.write(chunk(delta={"content": "a"}))
    await asyncio.sleep(30)
    return response


async def never_answers(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def huge_body(request: web.Request) -> web.StreamResponse:
    response = await begin(request, "application/json")
    while True:
        await response.write(b" " * 65536)


async def announces_too_much(request: web.Request) -> web.StreamResponse:
    return await begin(request, "application/json", **{"Content-Length": "9999999999"})


async def huge_stream(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    while True:
        await response.write(b": nothing\n\n" * 4096)


async def endless_event(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await response.write(b"data: ")
    while True:
        await response.write(b"x" * 8192)


async def disconnects(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await response.write(chunk(delta={"content": "a"}))
    request.transport.abort()
    return response


async def hangs_up(request: web.Request) -> web.StreamResponse:
    request.transport.abort()
    return web.Response()


async def ends_without_done(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await response.write(chunk(delta={"content": "a"}, finish_reason="stop"))
    await response.write_eof()
    return response


async def breaks_off_with_an_error(request: web.Request) -> web.StreamResponse:
    response = await begin(request)
    await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')
    await response.write_eof()
    return response


def answers(data: bytes, kind: str = "application/json", status: int = 200, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, content_type=kind, status=status, headers=headers)

    return handler


def stream_of(*events: bytes) -> Handler:
    return answers(b"".join(events) + b"data: [DONE]\n\n", "text/event-stream")


ROWS = [
    ("a slow drip", slow_drip, FailureReason.TIMEOUT, "no complete answer within 1 s"),
    ("a body that stalls", stalls, FailureReason.STALLED, "no bytes for 0.3 s"),
    ("a stream that stalls after its first token", stream_stalls, FailureReason.STALLED, "no bytes for 0.3 s"),
    ("silence", never_answers, FailureReason.TIMEOUT, "no complete answer"),
    ("a huge body", huge_body, FailureReason.TOO_LARGE, "more than 66048 bytes"),
    ("a huge body that is announced", announces_too_much, FailureReason.TOO_LARGE, "announced 9999999999"),
    ("a stream of comments", huge_stream, FailureReason.TOO_LARGE, "more than"),
    ("an event without end", endless_event, FailureReason.TOO_LARGE, "more than"),
    ("a stream that is cut", disconnects, FailureReason.DISCONNECTED, ""),
    ("a connection that is cut", hangs_up, FailureReason.DISCONNECTED, ""),
    ("a stream without [DONE]", ends_without_done, FailureReason.DISCONNECTED, "without [DONE]"),
    ("a stream with an error", breaks_off_with_an_error, FailureReason.DISCONNECTED, "out of memory"),
    ("a redirect", answers(b"", status=302, Location="http://127.0.0.1:1/"), FailureReason.REDIRECT, "127.0.0.1:1"),
    ("gzip", answers(b"{}", **{"Content-Encoding": "gzip"}), FailureReason.ENCODING, "compressed"),
    ("a web page", answers(b"<html>", "text/html"), FailureReason.CONTENT_TYPE, "text/html"),
    ("no JSON", answers(b"{oops"), FailureReason.MALFORMED, "not JSON"),
    ("deep JSON", answers(b"[" * 50_000), FailureReason.MALFORMED, "nested deeper"),
    ("a list", answers(b"[]"), FailureReason.MALFORMED, "expected an object"),
    ("not UTF-8", answers(b'{"a": "\xff"}'), FailureReason.MALFORMED, "not UTF-8"),
    ("NaN", answers(b'{"a": NaN}'), FailureReason.MALFORMED, "not a number"),
    ("an infinite number", answers(b'{"a": 1e999}'), FailureReason.MALFORMED, "too large"),
    ("a stream of no JSON", stream_of(b"data: {oops\n\n"), FailureReason.MALFORMED, "not JSON"),
    ("a stream of deep JSON", stream_of(b"data: " + b"[" * 99 + b"\n\n"), FailureReason.MALFORMED, "nested deeper"),
    ("a stream of lists", stream_of(b"data: []\n\n"), FailureReason.MALFORMED, "expected an object"),
    ("a stream of two choices", stream_of(b'data: {"choices": [{}, {}]}\n\n'), FailureReason.MALFORMED, "one choice"),
    ("a stream of numbers", stream_of(chunk(delta={"content": 5})), FailureReason.MALFORMED, "expected a string"),
    ("token ids that are none", stream_of(chunk(token_ids="no")), FailureReason.MALFORMED, "expected a list"),
    ("the key in an answer", answers(b'{"a": ["x sk-secret x"]}'), FailureReason.MALFORMED, "repeats the API key"),
    ("the key in a name", answers(b'{"sk-secret": 1}'), FailureReason.MALFORMED, "repeats the API key"),
    (
        "a refusal",
        answers(b'{"error": {"message": "no\\u001b[31m"}}', status=400),
        FailureReason.HTTP_STATUS,
        "no?[31m",
    ),
    ("the key in a refusal", answers(b"bad key sk-secret", status=400), FailureReason.HTTP_STATUS, "(the API key)"),
]


@pytest.mark.parametrize(("handler", "reason", "detail"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_is_a_failure(served, handler, reason, detail) -> None:
    served.fake.handler = handler
    async with Endpoint(served.url, api_key="sk-secret") as endpoint:
        start_s = time.monotonic()
        found = await endpoint.ask(BODY, LIMITS_BY_REASON.get(reason, LIMITS))
        # Far below the 30 s that these handlers would take.
        assert time.monotonic() - start_s < 20
    assert isinstance(found, Failure)
    assert (found.reason, detail in found.detail) == (reason, True), found
    assert "sk-secret" not in found.detail
    assert endpoint.received_bytes < 2 * LIMITS.max_body_bytes


async def test_a_slow_first_token_is_not_a_stall(served) -> None:
    async def thinks(request: web.Request) -> web.StreamResponse:
        response = await begin(request)
        await response.write(chunk(delta={"role": "assistant", "content": ""}))
        await asyncio.sleep(0.6)
        await response.write(chunk(delta={"content": "a"}, finish_reason="stop") + b"data: [DONE]\n\n")
        return response

    served.fake.handler = thinks
    async with Endpoint(served.url) as endpoint:
        found = await endpoint.ask(BODY, replace(LIMITS, chunk_timeout_s=0.3))
    assert isinstance(found, Reply)
    assert found.timing.first_token_ms is not None and found.timing.first_token_ms > 500


async def test_joins_a_stream(served) -> None:
    first = chunk(delta={"role": "assistant", "content": "Hel"}, token_ids=[1], logprobs={"content": [_logprob("Hel")]})
    last = chunk(
        delta={"content": "lo"}, token_ids=[2, 3], logprobs={"content": [_logprob("lo")]}, finish_reason="stop"
    )
    usage = b'data: {"model": "m", "choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}\n\n'
    receipt = b'data: {"choices": [], "quiver_receipt": {"receipt": {}}}\n\n'
    proofs = f'data: {{"choices": [], "quiver_toploc": ["{PROOF.encode()}"]}}\n\n'.encode()
    served.fake.handler = stream_of(b": hello\n\n", first, last, usage, receipt, proofs)
    async with Endpoint(served.url) as endpoint:
        found = await endpoint.ask(BODY, LIMITS)
    assert isinstance(found, Reply) and found.is_streamed
    answered = parse_answered(found.document, 8)
    assert (answered.content, answered.token_ids, answered.finish_reason) == ("Hello", (1, 2, 3), "stop")
    assert (answered.prompt_tokens, answered.completion_tokens, answered.model) == (4, 3, "m")
    assert [entry.chosen.text for entry in answered.logprobs or ()] == ["Hel", "lo"]
    assert (answered.receipt, answered.proofs) == (b'{"receipt":{}}', (PROOF,))


async def test_the_byte_budget_holds_over_all_requests(served) -> None:
    served.fake.handler = answers(b'{"a": "' + b"x" * 5000 + b'"}')
    async with Endpoint(served.url, byte_budget=12_000) as endpoint:
        found = [await endpoint.ask(BODY, LIMITS) for _ in range(4)]
    assert [isinstance(reply, Reply) for reply in found] == [True, True, False, False]
    assert found[-1].reason is FailureReason.BYTE_BUDGET
    assert endpoint.is_exhausted


async def test_nothing_is_taken_from_the_surroundings(served, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with Endpoint(served.url) as endpoint:
        assert isinstance(await endpoint.ask({**BODY, "max_tokens": 2}, LIMITS), Reply)
    assert served.fake.headers[0]["Accept-Encoding"] == "identity"
    assert "Authorization" not in served.fake.headers[0]


async def test_tries_again_what_may_pass(served) -> None:
    served.fake.failures = [web.Response(status=503), web.Response(status=429, headers={"Retry-After": "0"})]
    async with Endpoint(served.url) as endpoint:
        assert isinstance(await Asker(endpoint).ask({**BODY, "max_tokens": 2}, LIMITS), Reply)
    assert len(served.fake.asked) == 3
    assert served.fake.asked[0] == served.fake.asked[2]


async def test_does_not_try_again_what_is_wrong(served) -> None:
    served.fake.failures = [web.Response(status=400), web.Response(status=400)]
    async with Endpoint(served.url) as endpoint:
        found = await Asker(endpoint).ask(BODY, LIMITS)
    assert isinstance(found, Failure) and found.status == 400
    assert len(served.fake.asked) == 1


async def test_does_not_try_again_what_is_not_implemented(served) -> None:
    served.fake.failures = [web.Response(status=501), web.Response(status=501)]
    async with Endpoint(served.url) as endpoint:
        await Asker(endpoint).ask(BODY, LIMITS)
    assert len(served.fake.asked) == 1


async def test_gives_up_after_four_tries(served) -> None:
    served.fake.failures = [web.Response(status=429, headers={"Retry-After": "0.01"}) for _ in range(9)]
    async with Endpoint(served.url) as endpoint:
        found = await Asker(endpoint).ask(BODY, LIMITS)
    assert isinstance(found, Failure) and found.status == 429
    assert len(served.fake.asked) == 4


async def test_all_requests_wait_when_one_is_told_to(served) -> None:
    served.fake.failures = [web.Response(status=429, headers={"Retry-After": "0.5"})]
    async with Endpoint(served.url) as endpoint:
        asker = Asker(endpoint)
        start_s = time.monotonic()
        first = asyncio.create_task(asker.ask({**BODY, "max_tokens": 2}, LIMITS))
        while not asker.waits:
            await asyncio.sleep(0.01)
        await asker.ask({**BODY, "max_tokens": 2}, LIMITS)
        assert time.monotonic() - start_s >= 0.5
        assert isinstance(await first, Reply)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("3600", 3600.0),
        ("1e9", MAX_TOLD_S),
        ("inf", MAX_TOLD_S),
        ("Wed, 01 Jan 2200 00:00:00 GMT", MAX_TOLD_S),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("9" * 1000, MAX_TOLD_S),
    ],
)
def test_retry_after_is_bounded(text, seconds) -> None:
    assert parse_retry_after(text) == seconds


def _logprob(text: str) -> dict[str, object]:
    return {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}
