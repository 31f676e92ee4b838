"""The proxy's handlers: chat completions with receipts, everything else below /v1/ as it is.

Rules kept here: what the upstream says to a client is passed on byte for byte; only the receipt is added, and a usage
chunk that the proxy itself asked for is taken out. A request that names a `quiver_nonce` is promised a receipt: what
prevents one is an error. Without a nonce such an answer passes as it is, and the log says why.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from challenges.signed import SignedReceipt
from validator.provider.api_errors import ApiError
from validator.provider.chat_request import compute_digest, parse_consumer, parse_nonce
from validator.provider.config import ProxyConfig
from validator.provider.proxy_answer import NotReceiptable, ObservedAnswer
from validator.provider.proxy_issuer import Asked, ProxyIssuer
from validator.provider.proxy_stream import StreamRelay
from validator.provider.receipt_desk import JSON_FORM, STREAM_FORM, ReceiptDesk, build_stored_response
from validator.provider.request_body import parse_object, read_body
from validator.provider.upstream import Upstream, copy_headers

log = structlog.get_logger(__name__)


class ProxyService:
    """Passes requests to the upstream and receipts the answers."""

    def __init__(self, config: ProxyConfig, upstream: Upstream, desk: ReceiptDesk) -> None:
        self._config = config
        self._upstream = upstream
        self._desk = desk
        self._issuer = ProxyIssuer(config, desk)
        self._pending = 0

    async def handle_chat(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/chat/completions."""
        body = await read_body(request, self._config.max_body_bytes)
        document = parse_object(body)
        consumer, nonce = parse_consumer(document), parse_nonce(document)
        is_streamed = document.get("stream") is True
        if nonce is not None:
            # Before the upstream is asked: what has no digest cannot get the receipt that was asked for.
            digest = compute_digest(document)
            form = STREAM_FORM if is_streamed else JSON_FORM
            known = self._desk.find_answer(consumer, nonce, digest, form)
            if known is not None:
                return build_stored_response(known, form)
        with self._desk.hold(consumer, nonce) as held, self._count():
            options = document.get("stream_options")
            has_usage = isinstance(options, dict) and options.get("include_usage") is True
            asked = Asked(
                document=document,
                consumer=consumer,
                nonce=held,
                is_promised=nonce is not None,
                is_streamed=is_streamed,
                hides_usage=is_streamed and not has_usage,
            )
            async with self._upstream.send(request, build_upstream_body(body, asked)) as answer:
                return await self._answer(request, asked, answer)

    async def handle_other(self, request: web.Request) -> web.StreamResponse:
        """Pass any other request and its answer on, untouched."""
        body = await read_body(request, self._config.max_body_bytes)
        with self._count():
            async with self._upstream.send(request, body) as answer:
                return await self._pass_on(request, answer)

    async def _answer(self, request: web.Request, asked: Asked, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        is_plain = answer.headers.get("Content-Encoding", "identity").lower() == "identity"
        if answer.status != 200 or not is_plain:
            return await self._pass_on(request, answer)
        if answer.content_type == "text/event-stream":
            return await StreamRelay(self._config, self._issuer, asked).run(request, answer)
        if answer.content_type == "application/json":
            return await self._receipt_document(asked, answer)
        return await self._pass_on(request, answer)

    async def _receipt_document(self, asked: Asked, answer: aiohttp.ClientResponse) -> web.Response:
        body = await read_answer(answer, self._config.max_answer_bytes)
        headers = copy_headers(answer.headers.items())
        try:
            document = parse_answer_document(body)
            observed = ObservedAnswer()
            observed.read_document(document)
            receipted = await asyncio.to_thread(self._receipt, asked, observed, body, document)
        except NotReceiptable as error:
            refuse_if_promised(asked, error)
            receipted = body
        return web.Response(body=receipted, headers=headers)

    def _receipt(self, asked: Asked, observed: ObservedAnswer, body: bytes, document: dict[str, Any]) -> bytes:
        finished: list[bytes] = []

        def finish(receipt: SignedReceipt) -> bytes:
            finished.append(add_receipt(body, document, receipt))
            return finished[0]

        self._issuer.issue(asked, observed, finish)
        return finished[0]

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=copy_headers(answer.headers.items()))
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, TimeoutError):
            # The status is sent: a broken connection is the only way left to say that this is not the whole answer.
            log.warning("upstream_broke_off", path=request.path)
            if request.transport is not None:
                request.transport.abort()
        return response

    @contextmanager
    def _count(self) -> Iterator[None]:
        if self._pending >= self._config.max_pending:
            raise ApiError(429, "too many requests are pending: try again", code="overloaded", retry_after_s=1)
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1


def refuse_if_promised(asked: Asked, error: NotReceiptable) -> None:
    """Raise ApiError 502 when the client was promised a receipt, otherwise log why there is none."""
    if asked.is_promised:
        raise ApiError(502, f"this answer cannot be receipted: {error}", code="not_receiptable") from error
    log.warning("passed_without_receipt", reason=str(error))


def build_upstream_body(body: bytes, asked: Asked) -> bytes:
    """Return what the upstream is sent: the client's bytes, unless something of ours has to go in or out."""
    has_ours = any(name.startswith("quiver_") for name in asked.document)
    if not has_ours and not asked.hides_usage:
        return body
    document = {name: value for name, value in asked.document.items() if not name.startswith("quiver_")}
    if asked.hides_usage:
        # A receipt names the usage, so the stream has to report it.
        options = document.get("stream_options")
        document["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return json.dumps(document, ensure_ascii=False).encode("utf-8", errors="surrogatepass")


def parse_answer_document(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; raises NotReceiptable."""
    try:
        return parse_object(body)
    except ApiError as error:
        raise NotReceiptable(str(error)) from None


def add_receipt(body: bytes, document: dict[str, Any], receipt: SignedReceipt) -> bytes:
    """Return the answer's bytes with the receipt as one more member, the rest untouched."""
    encoded = json.dumps(receipt.to_json(), separators=(",", ":")).encode()
    if "quiver_receipt" in document:
        # Someone behind us receipts too; ours is the one that belongs to our offer.
        return json.dumps({**document, "quiver_receipt": receipt.to_json()}, ensure_ascii=False).encode()
    return body.rstrip()[:-1].rstrip() + b', "quiver_receipt": ' + encoded + b"}"


async def read_answer(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the upstream's whole body; raises ApiError 502 when it is over the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            raise ApiError(
                502, f"the upstream's answer is over the limit of {max_bytes} bytes", code="answer_too_large"
            )
        chunks.append(chunk)
    return b"".join(chunks)
