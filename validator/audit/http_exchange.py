"""One HTTP exchange of an audit: the limits of `validator.fetch`, for streams too.

Identity encoding only, no redirects, a bounded body, a deadline for the whole and one between chunks. What goes wrong
is raised as `Failed` or as an error of the HTTP client, and becomes a `Failure` in `validator.audit.endpoint`.
"""

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from scoring.errors import InvalidInput
from validator.audit.hostile_text import MAX_ERROR_BYTES, make_printable, read_error_message
from validator.audit.records import Timing
from validator.audit.retry_after import parse_retry_after
from validator.audit.streamed import StreamedAnswer, StreamError
from validator.fetch import BASE_BODY_BYTES, BODY_BYTES_PER_TOKEN, MAX_DEADLINE_S, MAX_LOOP_LAG_S, FailureReason
from validator.hostile_json import parse_hostile_json

CONNECT_TIMEOUT_S = 10.0
CHUNK_TIMEOUT_S = 10.0
# A chunk of a stream repeats its head for every token; a log-probability takes its text, its bytes and a number.
STREAM_BYTES_PER_TOKEN = 1024
LOGPROB_BYTES = 256
_LOCAL_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLimits:
    """The limits of one request, from what it asks for. `logprobs` counts the log-probabilities of each token."""

    max_tokens: int
    logprobs: int = 0
    is_streamed: bool = False
    deadline_s: float = MAX_DEADLINE_S
    chunk_timeout_s: float = CHUNK_TIMEOUT_S

    @property
    def max_body_bytes(self) -> int:
        """64 KiB, and for each token 64 bytes, its log-probabilities and, in a stream, its chunk."""
        chunk = STREAM_BYTES_PER_TOKEN if self.is_streamed else 0
        return BASE_BODY_BYTES + self.max_tokens * (BODY_BYTES_PER_TOKEN + chunk + LOGPROB_BYTES * self.logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A parsed answer in unstreamed form, not yet read. `is_streamed` says how it came, whatever was asked for."""

    document: dict[str, Any]
    timing: Timing
    is_streamed: bool


class Failed(Exception):
    """Why there is no answer; `status` and `retry_after_s` when an HTTP status says it."""

    def __init__(
        self, reason: FailureReason, detail: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        self.reason, self.status, self.retry_after_s = reason, status, retry_after_s
        super().__init__(detail)


class HttpExchange:
    """One request and its answer: the clock, the byte count and the order of the checks.

    `budget_bytes` is what may still be received, whatever the limits of this request.
    """

    def __init__(self, client: httpx.AsyncClient, limits: AskLimits, budget_bytes: int) -> None:
        self._client = client
        self._limits = limits
        self._budget_bytes = budget_bytes
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self.received_bytes = 0

    async def run(self, method: str, url: str, body: Mapping[str, object] | None) -> Reply:
        """Send a request and return its answer, in unstreamed form; raises what goes wrong."""
        if self._budget_bytes <= 0:
            raise Failed(FailureReason.BYTE_BUDGET, "the bytes of this audit are used up")
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        async with (
            asyncio.timeout(self._limits.deadline_s),
            self._client.stream(method, url, content=content, headers=headers) as response,
        ):
            if not 200 <= response.status_code < 300:
                raise await self._explain_status(response)
            kind = _require_good_head(response)
            if kind == "text/event-stream":
                return await self._read_stream(response)
            data = b"".join([chunk async for chunk in self._chunks(response)])
        timing = Timing(total_ms=self.elapsed_ms())
        document = parse_hostile_json(data, self._limits.max_body_bytes, keeps_numbers=True)
        if not isinstance(document, dict):
            raise InvalidInput("expected an object", "answer")
        return Reply(document=document, timing=timing, is_streamed=False)

    async def _read_stream(self, response: httpx.Response) -> Reply:
        answer = StreamedAnswer()
        try:
            async for chunk in self._chunks(response, is_waiting=lambda: answer.first_token_at is None):
                answer.push(chunk, self._loop.time())
        except StreamError as error:
            raise Failed(FailureReason.DISCONNECTED, f"the stream broke off with an error: {error}") from None
        if not answer.is_done:
            raise Failed(FailureReason.DISCONNECTED, "the stream ended without [DONE]")
        first_ms = None if answer.first_token_at is None else (answer.first_token_at - self._start_s) * 1000
        timing = Timing(first_token_ms=first_ms, total_ms=self.elapsed_ms())
        return Reply(document=answer.build_document(), timing=timing, is_streamed=True)

    async def _chunks(
        self, response: httpx.Response, is_waiting: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[bytes]:
        """Yield the body within its limits. While `is_waiting` for a first token only the deadline counts."""
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:15]) > self._limits.max_body_bytes:
            raise Failed(FailureReason.TOO_LARGE, f"announced {announced[:20]} bytes")
        iterator = response.aiter_raw().__aiter__()
        while True:
            try:
                async with asyncio.timeout(None if is_waiting() else self._limits.chunk_timeout_s):
                    chunk = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                # The outer deadline cancels from outside and is not caught here.
                waited_s = self._limits.chunk_timeout_s
                raise Failed(FailureReason.STALLED, f"no bytes for {waited_s:g} s inside the body") from None
            self._count(len(chunk))
            yield chunk

    def _count(self, size: int) -> None:
        self.received_bytes += size
        if self.received_bytes > self._budget_bytes:
            raise Failed(FailureReason.BYTE_BUDGET, "the bytes of this audit are used up")
        if self.received_bytes > self._limits.max_body_bytes:
            raise Failed(FailureReason.TOO_LARGE, f"sent more than {self._limits.max_body_bytes} bytes")

    async def _explain_status(self, response: httpx.Response) -> Failed:
        status = response.status_code
        if 300 <= status < 400:
            where = make_printable(response.headers.get("location", "nowhere"), 120)
            return Failed(FailureReason.REDIRECT, f"answered with a redirect ({status}) to {where}", status)
        body = b""
        async for chunk in response.aiter_raw():
            self._count(len(chunk))
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
        wait_s = parse_retry_after(response.headers.get("retry-after", ""))
        detail = f"HTTP status {status}: {read_error_message(body[:MAX_ERROR_BYTES])}"
        return Failed(FailureReason.HTTP_STATUS, detail, status, wait_s)

    def explain_timeout(self) -> tuple[FailureReason, str]:
        """Say whether the provider was late, or our own event loop."""
        late_s = self._loop.time() - self._start_s - self._limits.deadline_s
        if late_s > MAX_LOOP_LAG_S:
            return FailureReason.OWN_STALL, f"our own event loop was {late_s:.1f} s late"
        return FailureReason.TIMEOUT, f"no complete answer within {self._limits.deadline_s:g} s"

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request was sent."""
        return (self._loop.time() - self._start_s) * 1000


def explain_error(error: Exception) -> tuple[FailureReason, str]:
    """Return the reason and a sentence for an error of the HTTP client; headers never come into it."""
    cause = _find_os_error(error)
    text = str(error) or type(error).__name__
    if isinstance(cause, socket.gaierror):
        is_ours = cause.errno == socket.EAI_AGAIN
        return (FailureReason.OWN_NETWORK if is_ours else FailureReason.RESOLVE), f"no such host: {text}"
    if cause is not None and cause.errno in _LOCAL_ERRORS:
        return FailureReason.OWN_NETWORK, text
    if isinstance(error, httpx.ConnectTimeout):
        return FailureReason.CONNECT, f"no connection within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, httpx.ConnectError):
        return FailureReason.CONNECT, text
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return FailureReason.ENDPOINT, text
    if isinstance(error, httpx.TimeoutException):
        return FailureReason.TIMEOUT, text
    if isinstance(error, httpx.NetworkError | OSError) or "disconnected" in text or "incomplete" in text:
        return FailureReason.DISCONNECTED, text
    return FailureReason.PROTOCOL, f"{type(error).__name__}: {text}"


def _require_good_head(response: httpx.Response) -> str:
    encodings = [value.strip().lower() for value in response.headers.get_list("content-encoding", split_commas=True)]
    if any(encoding not in ("", "identity") for encoding in encodings):
        raise Failed(FailureReason.ENCODING, "answered with a compressed body, identity was asked for")
    kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/event-stream"):
        raise Failed(FailureReason.CONTENT_TYPE, f"answered with content type {make_printable(kind, 80)!r}")
    return kind


def _find_os_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        error = error.__cause__ or error.__context__
    return None
