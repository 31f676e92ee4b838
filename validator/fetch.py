"""Asking a provider, which is an adversary: its answer is hostile bytes, and whatever it does costs one failure.

Rules kept here: identity encoding only, no redirects, no cookies, no proxies from the surroundings; a bounded body, a
deadline for the whole and one between chunks, two connections and a byte budget per provider; strict JSON. What goes
wrong is returned as a FetchFailure, never raised, and says whether the provider caused it: a failure is never a score.

Times are wall-clock milliseconds from just before the connection is opened. The request is not streamed, so `ttft_ms`
is the time until the status line and headers are there; that is an upper bound of the time to the first token.
"""

import asyncio
import errno
import socket
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from scoring.errors import InvalidInput
from scoring.records import Offer
from validator.endpoint_policy import EndpointRefused, build_connector, require_public_endpoint
from validator.hostile_json import parse_hostile_json
from validator.provider_answer import AnswerLimits, ProviderAnswer, parse_provider_answer

CHAT_PATH = "/v1/chat/completions"
CONNECTIONS_PER_PROVIDER = 2
BASE_BODY_BYTES = 64 * 1024
BODY_BYTES_PER_TOKEN = 64
CONTENT_BYTES_PER_TOKEN = 256
MAX_DEADLINE_S = 60.0
# A timer that fires this late means that our own event loop stalled: not the provider's fault.
MAX_LOOP_LAG_S = 1.0
_LOCAL_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENETUNREACH}
)


class FailureReason(StrEnum):
    """Why there is no answer. Goes into `ProbeOutcome.reason`."""

    CONNECT = "connect"
    RESOLVE = "resolve"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    DISCONNECTED = "disconnected"
    PROTOCOL = "protocol"
    REDIRECT = "redirect"
    HTTP_STATUS = "http-status"
    ENCODING = "encoding"
    CONTENT_TYPE = "content-type"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    NO_RECEIPT = "no-receipt"
    BYTE_BUDGET = "byte-budget"
    ENDPOINT = "endpoint"
    OWN_NETWORK = "own-network"
    OWN_STALL = "own-stall"


_OWN_FAULTS = frozenset({FailureReason.OWN_NETWORK, FailureReason.OWN_STALL})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """The limits of one request. Seconds for waiting, bytes for bodies."""

    max_tokens: int
    vocabulary_size: int
    deadline_s: float = MAX_DEADLINE_S
    chunk_timeout_s: float = 10.0
    requires_receipt: bool = True

    @classmethod
    def for_offer(cls, offer: Offer, max_tokens: int, vocabulary_size: int) -> Self:
        """Return the limits that an offer earns: deadline min(60 s, 10x the advertised time)."""
        advertised_s = offer.advertised_ttft_ms / 1000 + max_tokens / max(1, offer.advertised_tokens_per_s)
        return cls(
            max_tokens=max_tokens, vocabulary_size=vocabulary_size, deadline_s=min(MAX_DEADLINE_S, 10 * advertised_s)
        )

    @property
    def max_body_bytes(self) -> int:
        """64 KiB and 64 bytes per token asked for."""
        return BASE_BODY_BYTES + BODY_BYTES_PER_TOKEN * self.max_tokens

    @property
    def answer(self) -> AnswerLimits:
        """The limits of the parsed answer."""
        return AnswerLimits(
            max_tokens=self.max_tokens,
            vocabulary_size=self.vocabulary_size,
            max_content_bytes=min(self.max_body_bytes, 1024 + CONTENT_BYTES_PER_TOKEN * self.max_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedAnswer:
    """An answer in good form; its receipt and its truth are checked elsewhere."""

    answer: ProviderAnswer
    ttft_ms: int
    latency_ms: int
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailure:
    """No answer: why, in a word and in a sentence for the log, and whether the provider caused it."""

    reason: FailureReason
    detail: str
    latency_ms: int
    body_bytes: int

    @property
    def is_provider_fault(self) -> bool:
        """Whether it counts against the provider's uptime."""
        return self.reason not in _OWN_FAULTS


class _Failed(Exception):
    def __init__(self, reason: FailureReason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class ProviderClient:
    """Asks providers within limits; one for each validator, closed at the end.

    `byte_budget` bounds what one provider may send in one epoch, over all requests. `allows_private_endpoints` lets
    requests go to loopback and private networks (devnets); otherwise an offer cannot point us at our own machines.
    """

    def __init__(self, *, allows_private_endpoints: bool = False, byte_budget: int = 16 * 1024 * 1024) -> None:
        self._allows_private_endpoints = allows_private_endpoints
        self._byte_budget = byte_budget
        self._spent_bytes: dict[tuple[int, bytes], int] = defaultdict(int)
        self._slots: dict[bytes, asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=build_connector(self._allows_private_endpoints),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, endpoint: str, request: Mapping[str, object], limits: FetchLimits, *, provider: bytes, epoch: int
    ) -> FetchedAnswer | FetchFailure:
        """Send one chat completion request to `endpoint` and return the answer or what went wrong.

        Waits for one of the provider's two connections first; that wait is not measured. Raises nothing that a provider
        can cause; cancelling is passed on.
        """
        if self._session is None:
            raise RuntimeError("ProviderClient is used outside `async with`")
        async with self._slots.setdefault(provider, asyncio.Semaphore(CONNECTIONS_PER_PROVIDER)):
            exchange = _Exchange(self._session, limits, self._byte_budget - self._spent_bytes[epoch, provider])
            result = await exchange.run(endpoint, request, self._allows_private_endpoints)
            self._spent_bytes[epoch, provider] += exchange.body_bytes
            return result

    def forget_before(self, epoch: int) -> None:
        """Drop the byte counts of epochs before this one."""
        for key in [key for key in self._spent_bytes if key[0] < epoch]:
            del self._spent_bytes[key]


class _Exchange:
    """One request and its answer: the clock, the byte count and the order of the checks."""

    def __init__(self, session: aiohttp.ClientSession, limits: FetchLimits, budget_bytes: int) -> None:
        self._session = session
        self._limits = limits
        self._max_bytes = min(limits.max_body_bytes, budget_bytes)
        self._budget_bytes = budget_bytes
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._ttft_ms = 0
        self._latency_ms = 0
        self.body_bytes = 0

    async def run(
        self, endpoint: str, request: Mapping[str, object], allows_private: bool
    ) -> FetchedAnswer | FetchFailure:
        try:
            if self._max_bytes <= 0:
                raise _Failed(FailureReason.BYTE_BUDGET, "the provider has used up its bytes of this epoch")
            if not allows_private:
                require_public_endpoint(endpoint)
            answer = await self._exchange(_build_url(endpoint), request)
        except _Failed as failed:
            return self._fail(failed.reason, str(failed))
        except InvalidInput as error:
            return self._fail(FailureReason.MALFORMED, str(error))
        except TimeoutError:
            return self._fail(*self._explain_timeout())
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            return self._fail(*_explain_error(error))
        return FetchedAnswer(
            answer=answer, ttft_ms=self._ttft_ms, latency_ms=self._latency_ms, body_bytes=self.body_bytes
        )

    async def _exchange(self, url: str, request: Mapping[str, object]) -> ProviderAnswer:
        async with asyncio.timeout(self._limits.deadline_s):
            async with self._session.post(url, json=request, allow_redirects=False) as response:
                self._ttft_ms = self._elapsed_ms()
                try:
                    _require_good_head(response)
                    body = await self._read_body(response)
                    self._latency_ms = self._elapsed_ms()
                finally:
                    # Hanging up at once: `async with` alone would wait for the rest of the body.
                    response.close()
        answer = parse_provider_answer(parse_hostile_json(body, self._limits.max_body_bytes), self._limits.answer)
        if self._limits.requires_receipt and answer.receipt is None:
            raise _Failed(FailureReason.NO_RECEIPT, "the answer carries no quiver_receipt")
        return answer

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        if response.content_length is not None and response.content_length > self._max_bytes:
            raise self._too_large(f"announced {response.content_length} bytes")
        chunks: list[bytes] = []
        while True:
            try:
                async with asyncio.timeout(self._limits.chunk_timeout_s):
                    chunk = await response.content.readany()
            except TimeoutError:
                # The outer deadline cancels from outside and is not caught here.
                raise _Failed(
                    FailureReason.STALLED, f"no bytes for {self._limits.chunk_timeout_s} s inside the body"
                ) from None
            if not chunk:
                return b"".join(chunks)
            self.body_bytes += len(chunk)
            if self.body_bytes > self._max_bytes:
                raise self._too_large(f"sent more than {self._max_bytes} bytes")
            chunks.append(chunk)

    def _too_large(self, detail: str) -> _Failed:
        is_budget = self._budget_bytes < self._limits.max_body_bytes
        return _Failed(FailureReason.BYTE_BUDGET if is_budget else FailureReason.TOO_LARGE, detail)

    def _explain_timeout(self) -> tuple[FailureReason, str]:
        late_s = self._loop.time() - self._start_s - self._limits.deadline_s
        if late_s > MAX_LOOP_LAG_S:
            return FailureReason.OWN_STALL, f"our own event loop was {late_s:.1f} s late"
        return FailureReason.TIMEOUT, f"no complete answer within {self._limits.deadline_s} s"

    def _elapsed_ms(self) -> int:
        return round((self._loop.time() - self._start_s) * 1000)

    def _fail(self, reason: FailureReason, detail: str) -> FetchFailure:
        return FetchFailure(
            reason=reason, detail=detail[:300], latency_ms=self._elapsed_ms(), body_bytes=self.body_bytes
        )


def _build_url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise _Failed(FailureReason.ENDPOINT, "the offer's endpoint is not a plain http or https URL")
    return endpoint.rstrip("/") + CHAT_PATH


def _require_good_head(response: aiohttp.ClientResponse) -> None:
    if 300 <= response.status < 400:
        raise _Failed(FailureReason.REDIRECT, f"answered with a redirect ({response.status})")
    if response.status != 200:
        raise _Failed(FailureReason.HTTP_STATUS, f"answered with HTTP status {response.status}")
    encodings = [value.strip().lower() for value in response.headers.getall("Content-Encoding", [])]
    if any(encoding not in ("", "identity") for encoding in encodings):
        raise _Failed(FailureReason.ENCODING, "answered with a compressed body, identity was asked for")
    if response.content_type != "application/json":
        raise _Failed(FailureReason.CONTENT_TYPE, f"answered with content type {response.content_type[:80]}")


def _explain_error(error: Exception) -> tuple[FailureReason, str]:
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, EndpointRefused | aiohttp.InvalidURL):
        return FailureReason.ENDPOINT, detail
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        is_ours = getattr(error.os_error, "errno", None) == socket.EAI_AGAIN
        return (FailureReason.OWN_NETWORK if is_ours else FailureReason.RESOLVE), detail
    if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
        return FailureReason.OWN_NETWORK, detail
    if isinstance(error, aiohttp.ClientConnectorError):
        return FailureReason.CONNECT, detail
    if isinstance(error, aiohttp.ServerConnectionError | aiohttp.ClientPayloadError | OSError):
        return FailureReason.DISCONNECTED, detail
    return FailureReason.PROTOCOL, detail
