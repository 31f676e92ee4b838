"""A provider may do anything: each row is a server that does, over a real socket, and the one failure it costs."""

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from scoring.records import Offer
from validator.fetch import FailureReason, FetchedAnswer, FetchFailure, FetchLimits, ProviderClient

PROVIDER = b"p" * 20
# Generous, so that a busy machine changes nothing; rows about time have their own.
LIMITS = FetchLimits(max_tokens=8, vocabulary_size=100, deadline_s=30.0, chunk_timeout_s=20.0)
LIMITS_BY_REASON = {
    FailureReason.TIMEOUT: replace(LIMITS, deadline_s=0.6),
    FailureReason.STALLED: replace(LIMITS, chunk_timeout_s=0.25),
}
GOOD = {
    "id": "x",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hej"},
            "finish_reason": "stop",
            "token_ids": [1, 2, 99],
            "logprobs": {"content": [{"token": "h", "logprob": -0.5, "top_logprobs": [{"logprob": -1e-9}]}]},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6, "cost": 0.1},
    "quiver_receipt": {"receipt": {"counter": 1}, "signature": "0x00"},
}

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(status: str = "200 OK", content_type: str = "application/json", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def response(body: bytes, *more: str, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    return head(status, content_type, f"Content-Length: {len(body)}", *more) + body


def says(data: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return script


def answers(**changes: object) -> Script:
    return says(response(json.dumps(GOOD | changes).encode()))


def choice(**changes: object) -> Script:
    return answers(choices=[GOOD["choices"][0] | changes])  # type: ignore[index]


def raw(body: bytes) -> Script:
    return says(response(body))


def hangs(data: bytes = b"") -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(60)

    return script


def repeats(first: bytes, chunk: bytes, pause_s: float = 0.0) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return script


@asynccontextmanager
async def provider(script: Script) -> AsyncIterator[str]:
    """Serve every connection with one script, after its request has been read; yield the endpoint."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(script: Script, limits: FetchLimits = LIMITS, **options: object) -> FetchedAnswer | FetchFailure:
    async with provider(script) as endpoint, ProviderClient(allows_private_endpoints=True, **options) as client:
        return await client.ask(endpoint, {"model": "m", "temperature": 0.5}, limits, provider=PROVIDER, epoch=1)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    writer.transport.abort()


async def compress_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(b"0" * 50_000_000)
    writer.write(response(body, "Content-Encoding: gzip"))
    await writer.drain()


BIG = head("200 OK", "application/json", "Transfer-Encoding: chunked")
DEEP = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
R = FailureReason

HOSTILE: list[tuple[str, Script, FailureReason]] = [
    ("hangs before the headers", hangs(), R.TIMEOUT),
    ("hangs inside the headers", hangs(b"HTTP/1.1 200 OK\r\nContent-Type: app"), R.TIMEOUT),
    ("hangs inside the body", hangs(head("200 OK", "application/json", "Content-Length: 500") + b'{"a'), R.STALLED),
    ("sends one byte at a time forever", repeats(BIG, b"1\r\n \r\n", 0.05), R.TIMEOUT),
    ("sends header lines forever", repeats(b"HTTP/1.1 200 OK\r\n", b"X-Flood: " + b"a" * 900 + b"\r\n"), R.PROTOCOL),
    ("sends one endless header line", repeats(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65536), R.PROTOCOL),
    ("sends interim responses forever", repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), R.TIMEOUT),
    ("answers with gigabytes in chunks", repeats(BIG, b"10000\r\n" + b"x" * 65536 + b"\r\n"), R.TOO_LARGE),
    ("announces gigabytes", says(head("200 OK", "application/json", "Content-Length: 9999999999")), R.TOO_LARGE),
    ("streams gigabytes until it closes", repeats(head(), b"x" * 65536), R.TOO_LARGE),
    (
        "announces an endless length",
        says(head("200 OK", "application/json", f"Content-Length: {'9' * 40}")),
        R.PROTOCOL,
    ),
    ("breaks off in the body", says(response(json.dumps(GOOD).encode())[:-20]), R.DISCONNECTED),
    ("closes without an answer", says(b""), R.DISCONNECTED),
    ("resets the connection", reset, R.DISCONNECTED),
    ("speaks no HTTP", says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), R.PROTOCOL),
    ("speaks random bytes", says(bytes(range(256)) * 8), R.PROTOCOL),
    ("breaks the chunked coding", says(BIG + b"zz\r\nabc"), R.PROTOCOL),
    ("is a gzip bomb", compress_bomb, R.ENCODING),
    ("compresses with a made-up coding", says(response(b"{}", "Content-Encoding: x-mine")), R.ENCODING),
    ("redirects", says(response(b"", "Location: http://169.254.169.254/", status="302 Found")), R.REDIRECT),
    ("fails", says(response(b"{}", status="500 Internal Server Error")), R.HTTP_STATUS),
    ("is overloaded", says(response(b"{}", status="429 Too Many Requests")), R.HTTP_STATUS),
    ("answers with no content", says(head("204 No Content")), R.HTTP_STATUS),
    ("switches protocols", says(head("101 Switching Protocols", "x/y", "Upgrade: x")), R.HTTP_STATUS),
    ("answers with HTML", says(response(b"<html>", content_type="text/html")), R.CONTENT_TYPE),
    ("answers with an event stream", says(response(b"data: {}", content_type="text/event-stream")), R.CONTENT_TYPE),
    ("names a broken content type", says(response(b"{}", content_type="application/json/;;=;")), R.CONTENT_TYPE),
    ("answers with nothing", raw(b""), R.MALFORMED),
    ("answers with text", raw(b"I am a teapot"), R.MALFORMED),
    ("answers with two documents", raw(b"{}{}"), R.MALFORMED),
    ("answers with half a document", raw(b'{"choices": ['), R.MALFORMED),
    ("answers with an open string", raw(b'{"' + b'\\"' * 30_000), R.MALFORMED),
    ("sends broken UTF-8", raw(b'{"model": "\xff\xfe"}'), R.MALFORMED),
    ("sends UTF-16", raw(json.dumps(GOOD).encode("utf-16")), R.MALFORMED),
    ("sends a byte-order mark", raw(b"\xef\xbb\xbf{}"), R.MALFORMED),
    ("sends a lone surrogate", choice(message={"content": "\ud800"}), R.MALFORMED),
    ("nests deeply", raw(DEEP[:60_000]), R.MALFORMED),
    ("repeats a key", raw(b'{"model": "a", "model": "b"}'), R.MALFORMED),
    ("sends NaN", raw(b'{"model": NaN}'), R.MALFORMED),
    ("sends a huge integer", raw(b'{"created": 1' + b"0" * 5000 + b"}"), R.MALFORMED),
    ("sends a list", raw(b"[]"), R.MALFORMED),
    ("sends no choices", answers(choices=[]), R.MALFORMED),
    ("sends two choices", answers(choices=GOOD["choices"] * 2), R.MALFORMED),  # type: ignore[operator]
    ("sends a choice of the wrong type", answers(choices=["hej"]), R.MALFORMED),
    ("sends no message", choice(message=None), R.MALFORMED),
    ("sends content of the wrong type", choice(message={"content": 3}), R.MALFORMED),
    ("sends too long a content", choice(message={"content": "x" * 4000}), R.MALFORMED),
    ("sends a made-up finish reason", choice(finish_reason="tired"), R.MALFORMED),
    ("sends a finish reason of the wrong type", choice(finish_reason=["stop"]), R.MALFORMED),
    ("sends negative token ids", choice(token_ids=[-1]), R.MALFORMED),
    ("sends token ids beyond the vocabulary", choice(token_ids=[100]), R.MALFORMED),
    ("sends token ids that are booleans", choice(token_ids=[True]), R.MALFORMED),
    ("sends token ids that are floats", choice(token_ids=[1.0]), R.MALFORMED),
    ("sends token ids that are strings", choice(token_ids=["1"]), R.MALFORMED),
    ("sends too many tokens", choice(token_ids=[1] * 10), R.MALFORMED),
    ("sends no usage", answers(usage=None), R.MALFORMED),
    (
        "sends negative usage",
        answers(usage={"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0}),
        R.MALFORMED,
    ),
    ("sends usage that does not add up", answers(usage=GOOD["usage"] | {"total_tokens": 7}), R.MALFORMED),  # type: ignore[operator]
    ("sends a nameless model", answers(model=""), R.MALFORMED),
    ("sends a long model name", answers(model="m" * 300), R.MALFORMED),
    ("sends a receipt of the wrong type", answers(quiver_receipt="yes"), R.MALFORMED),
    ("sends a receipt with floats", answers(quiver_receipt={"counter": 1.5}), R.MALFORMED),
    ("sends a huge receipt", answers(quiver_receipt={"a": "x" * 9000}), R.MALFORMED),
    ("sends no receipt", answers(quiver_receipt=None), R.NO_RECEIPT),
]


@pytest.mark.parametrize(("script", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
async def test_costs_one_failure_when_the_provider(script: Script, reason: FailureReason) -> None:
    started = time.monotonic()
    result = await ask(script, LIMITS_BY_REASON.get(reason, LIMITS))
    assert isinstance(result, FetchFailure)
    assert (result.reason, result.is_provider_fault) == (reason, True), result.detail
    assert time.monotonic() - started < 15.0
    assert result.body_bytes <= LIMITS.max_body_bytes + 2**18


async def test_returns_the_fields_that_count_and_drops_the_rest() -> None:
    result = await ask(answers())
    assert isinstance(result, FetchedAnswer), result
    assert result.answer.token_ids == (1, 2, 99)
    assert (result.answer.content, result.answer.finish_reason, result.answer.usage) == ("hej", "stop", (3, 3))
    assert result.answer.receipt == b'{"receipt":{"counter":1},"signature":"0x00"}'
    assert "logprobs" not in str(result.answer.to_response())
    assert 0 <= result.ttft_ms <= result.latency_ms


async def test_measures_the_first_byte_apart_from_the_last() -> None:
    body = json.dumps(GOOD).encode()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(response(body)[:-10])
        await asyncio.sleep(0.2)
        writer.write(body[-10:])

    result = await ask(slow)
    assert isinstance(result, FetchedAnswer)
    assert result.ttft_ms >= 95 and result.latency_ms >= result.ttft_ms + 190


async def test_takes_an_answer_without_token_ids_and_with_one_more_than_asked_for() -> None:
    bare = await ask(choice(token_ids=None))
    assert isinstance(bare, FetchedAnswer) and bare.answer.token_ids is None
    longer = await ask(choice(token_ids=[1] * 9))
    assert isinstance(longer, FetchedAnswer)


async def test_blames_the_provider_for_a_closed_port_and_an_unknown_name() -> None:
    async with ProviderClient(allows_private_endpoints=True) as client:
        refused = await client.ask("http://127.0.0.1:1", {}, LIMITS, provider=PROVIDER, epoch=1)
        unknown = await client.ask("http://no-such-host.invalid", {}, LIMITS, provider=PROVIDER, epoch=1)
    assert isinstance(refused, FetchFailure) and refused.reason is R.CONNECT and refused.is_provider_fault
    assert isinstance(unknown, FetchFailure) and unknown.reason in (R.RESOLVE, R.OWN_NETWORK)


ENDPOINTS = [
    ("loopback", "http://127.0.0.1:8080"),
    ("loopback in short form", "http://127.1:8080"),
    ("loopback as one number", "http://2130706433:8080"),
    ("loopback by name", "http://localhost:8080"),
    ("loopback in IPv6", "http://[::1]:8080"),
    ("loopback mapped into IPv6", "http://[::ffff:127.0.0.1]:8080"),
    ("a private network", "http://10.0.0.7"),
    ("the metadata service of a cloud", "http://169.254.169.254"),
    ("every address", "http://0.0.0.0:8080"),
    ("multicast", "http://224.0.0.1"),
    ("another scheme", "file:///etc/passwd"),
    ("no host", "http://"),
    ("credentials", "http://user:password@203.0.113.1"),
    ("a port that is none", "http://203.0.113.1:99999"),
    ("nothing", ""),
]


@pytest.mark.parametrize("endpoint", [row[1] for row in ENDPOINTS], ids=[row[0] for row in ENDPOINTS])
async def test_refuses_an_endpoint_that_is(endpoint: str) -> None:
    async with ProviderClient() as client:
        result = await client.ask(endpoint, {}, LIMITS, provider=PROVIDER, epoch=1)
    assert isinstance(result, FetchFailure)
    assert result.reason is R.ENDPOINT, result.detail


async def test_says_that_it_was_our_own_stall_when_the_loop_stood_still() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        time.sleep(2.0)  # the server shares our loop

    result = await ask(stall, replace(LIMITS, deadline_s=0.6))
    assert isinstance(result, FetchFailure)
    assert (result.reason, result.is_provider_fault) == (R.OWN_STALL, False)


async def test_opens_at_most_two_connections_to_a_provider() -> None:
    open_now = peak = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, peak
        open_now += 1
        peak = max(peak, open_now)
        await asyncio.sleep(0.05)
        writer.write(response(json.dumps(GOOD).encode()))
        open_now -= 1

    async with provider(count) as endpoint, ProviderClient(allows_private_endpoints=True) as client:
        asked = [client.ask(endpoint, {}, LIMITS, provider=PROVIDER, epoch=1) for _ in range(6)]
        results = await asyncio.gather(*asked)
    assert all(isinstance(result, FetchedAnswer) for result in results)
    assert peak == 2


async def test_stops_listening_when_the_bytes_of_an_epoch_are_used_up() -> None:
    flood = repeats(BIG, b"10000\r\n" + b"x" * 65536 + b"\r\n")
    async with (
        provider(flood) as endpoint,
        ProviderClient(allows_private_endpoints=True, byte_budget=100_000) as client,
    ):
        reasons = []
        for epoch in (1, 1, 1, 2):
            result = await client.ask(endpoint, {}, LIMITS, provider=PROVIDER, epoch=epoch)
            assert isinstance(result, FetchFailure)
            reasons.append(result.reason)
    assert reasons[0] is R.TOO_LARGE and reasons[2] is R.BYTE_BUDGET and reasons[3] is R.TOO_LARGE


async def test_keeps_its_memory_bounded_while_gigabytes_come() -> None:
    tracemalloc.start()
    try:
        result = await ask(repeats(BIG, b"10000\r\n" + b"x" * 65536 + b"\r\n"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(result, FetchFailure) and result.reason is R.TOO_LARGE
    assert peak < 8_000_000


async def test_passes_cancelling_on() -> None:
    async with provider(hangs()) as endpoint, ProviderClient(allows_private_endpoints=True) as client:
        task = asyncio.create_task(client.ask(endpoint, {}, LIMITS, provider=PROVIDER, epoch=1))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_gives_an_offer_ten_times_what_it_advertises_and_a_minute_at_most() -> None:
    offer = Offer(
        provider=PROVIDER,
        model="m",
        manifest_digest=bytes(32),
        sampler="none",
        context_length_tokens=1,
        input_price_wei=1,
        output_price_wei=1,
        advertised_ttft_ms=500,
        advertised_tokens_per_s=48,
        endpoint="http://x",
        issued_s=1,
        expires_s=2,
    )
    assert FetchLimits.for_offer(offer, 48, 100).deadline_s == pytest.approx(15.0)
    assert FetchLimits.for_offer(replace(offer, advertised_tokens_per_s=0), 48, 100).deadline_s == 60.0
