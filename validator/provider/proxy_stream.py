"""Streams through the proxy: every event passes as it came, the receipt goes in before [DONE]."""

import asyncio

import aiohttp
import structlog
from aiohttp import web

from challenges.signed import SignedReceipt
from scoring.errors import InvalidInput
from validator.provider.api_errors import ApiError, build_stream_error
from validator.provider.config import ProxyConfig
from validator.provider.proxy_answer import NotReceiptable, ObservedAnswer
from validator.provider.proxy_issuer import Asked, ProxyIssuer
from validator.provider.sse import EventSplitter, encode_event, read_data
from validator.provider.upstream import copy_headers

log = structlog.get_logger(__name__)


class StreamRelay:
    """One stream on its way through. Text is hashed as it passes; bytes are kept up to `max_replay_bytes`."""

    def __init__(self, config: ProxyConfig, issuer: ProxyIssuer, asked: Asked) -> None:
        self._config = config
        self._issuer = issuer
        self._asked = asked
        self._observed = ObservedAnswer()
        self._splitter = EventSplitter()
        self._problem: NotReceiptable | None = None
        self._kept: bytearray | None = bytearray()
        self._received = 0
        self._is_done = False

    async def run(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the upstream's stream on to the client; what breaks on the way ends it with an error event."""
        response = web.StreamResponse(status=answer.status, headers=copy_headers(answer.headers.items()))
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_any():
                for event in self._split(chunk):
                    await self._write(response, await self._take(event))
            await self._write(response, self._splitter.rest)
            self._require_done()
        except ApiError as error:
            await response.write(build_stream_error(error))
        except (aiohttp.ClientPayloadError, aiohttp.ServerConnectionError, TimeoutError, InvalidInput) as error:
            broken = ApiError(502, f"the upstream's stream broke off: {type(error).__name__}", code="upstream_failed")
            await response.write(build_stream_error(broken))
        await response.write_eof()
        return response

    def _split(self, chunk: bytes) -> list[bytes]:
        self._received += len(chunk)
        if self._received > self._config.max_answer_bytes:
            limit = self._config.max_answer_bytes
            raise ApiError(502, f"the upstream's answer is over the limit of {limit} bytes", code="answer_too_large")
        return list(self._splitter.push(chunk))

    async def _take(self, event: bytes) -> bytes:
        """Return what the client gets for one event."""
        if (read_data(event) or b"").strip() == b"[DONE]":
            self._is_done = True
            return await self._finish(event)
        if self._problem is not None:
            return event
        try:
            is_only_usage = self._observed.read_event(event)
        except NotReceiptable as problem:
            self._problem = problem
            return event
        return b"" if is_only_usage and self._asked.hides_usage else event

    async def _finish(self, done: bytes) -> bytes:
        """Return the receipt's event and [DONE], once both are stored with all that went before."""
        if self._problem is None:
            try:
                return await asyncio.to_thread(self._issue, done)
            except NotReceiptable as problem:
                self._problem = problem
        if self._asked.is_promised:
            raise ApiError(502, f"this answer cannot be receipted: {self._problem}", code="not_receiptable")
        log.warning("passed_without_receipt", reason=str(self._problem))
        return done

    def _issue(self, done: bytes) -> bytes:
        ends: list[bytes] = []

        def finish(receipt: SignedReceipt) -> bytes | None:
            chunk = {**self._observed.head, "choices": [], "quiver_receipt": receipt.to_json()}
            ends.append(encode_event(chunk) + done)
            return None if self._kept is None else bytes(self._kept) + ends[0]

        self._issuer.issue(self._asked, self._observed, finish)
        return ends[0]

    def _require_done(self) -> None:
        if not self._is_done and self._asked.is_promised:
            raise ApiError(502, "the upstream's stream ended without [DONE]: no receipt", code="not_receiptable")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if not data:
            return
        if self._kept is not None and len(self._kept) + len(data) <= self._config.max_replay_bytes:
            self._kept += data
        else:
            self._kept = None
        await response.write(data)
