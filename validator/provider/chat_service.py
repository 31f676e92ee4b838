"""Answers chat completions: checks, cheats (test instruments), generation, receipt, and only then the last byte."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from challenges.signed import SignedReceipt
from validator.provider.answering import apply_terms, prepare_cheated, prepare_honest
from validator.provider.api_errors import ApiError, build_stream_error, map_to_api_error
from validator.provider.chat_answer import AnswerDraft, AnswerHead
from validator.provider.chat_request import ChatRequest, parse_chat_request
from validator.provider.config import ProviderConfig
from validator.provider.generation import GenerationThread, Prepare, Prepared, Shelf, Ticket
from validator.provider.misbehaviour import is_cheated, load_known_consumers, misbehave
from validator.provider.receipt_desk import JSON_FORM, STREAM_FORM, ReceiptDesk, build_stored_response
from validator.provider.request_body import parse_object, read_body
from validator.provider.sse import DONE

STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


class ChatService:
    """The handler of POST /v1/chat/completions."""

    def __init__(
        self, config: ProviderConfig, model_name: str, generation: GenerationThread, desk: ReceiptDesk
    ) -> None:
        self._config = config
        self._model_name = model_name
        self._generation = generation
        self._desk = desk

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; raises ApiError and other OracleErrors for the middleware."""
        document = parse_object(await read_body(request, self._config.max_body_bytes))
        chat = parse_chat_request(document)
        if chat.model != self._model_name:
            raise ApiError(404, f"the model {chat.model!r} is not served here", param="model", code="model_not_found")
        form = STREAM_FORM if chat.is_streamed else JSON_FORM
        known = self._desk.find_answer(chat.consumer, chat.nonce, chat.digest, form)
        if known is not None:
            return build_stored_response(known, form)
        with self._desk.hold(chat.consumer, chat.nonce) as nonce:
            held = replace(chat, nonce=nonce)
            await misbehave(self._config.cheats, request, nonce)
            ticket = await self._generation.submit(self._choose(held, nonce))
            try:
                draft = AnswerDraft(head=self._build_head(), request=held, prompt_tokens=ticket.prompt_tokens)
                if chat.is_streamed:
                    return await self._stream(request, document, nonce, draft, ticket)
                return await self._complete(document, nonce, draft, ticket)
            finally:
                # A client that hung up must not keep a row of the batch.
                self._generation.cancel(ticket)

    def _choose(self, chat: ChatRequest, nonce: bytes) -> Prepare:
        limits = {
            "default_max_tokens": self._config.default_max_tokens,
            "max_context": self._config.max_context_tokens,
        }
        cheats = self._config.cheats
        known = load_known_consumers(self._config.known_consumers_path) if cheats.is_two_faced else frozenset()
        cheats_now = is_cheated(cheats, chat.consumer, nonce, known)

        def prepare(shelf: Shelf) -> Prepared:
            if cheats_now:
                prepared = prepare_cheated(shelf, chat, cheats, **limits)
            else:
                prepared = prepare_honest(shelf, chat, **limits)
            return apply_terms(prepared, sampler=self._config.sampler, proves_activations=self._config.toploc)

        return prepare

    async def _complete(
        self, document: Mapping[str, Any], nonce: bytes, draft: AnswerDraft, ticket: Ticket
    ) -> web.StreamResponse:
        async for piece in self._generation.read(ticket):
            draft.add(piece)
        completion = draft.build_completion()

        bodies: list[bytes] = []

        def finish(receipt: SignedReceipt) -> bytes:
            bodies.append(json.dumps({**completion, **draft.build_members(receipt)}, ensure_ascii=False).encode())
            return bodies[0]

        consumer = draft.request.consumer
        await asyncio.to_thread(self._desk.issue, consumer, nonce, JSON_FORM, document, completion, finish)
        return build_stored_response(bodies[0], JSON_FORM)

    async def _stream(
        self, request: web.Request, document: Mapping[str, Any], nonce: bytes, draft: AnswerDraft, ticket: Ticket
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        sent = [draft.encode_first_chunk()]
        await response.write(sent[0])
        try:
            async for piece in self._generation.read(ticket):
                draft.add(piece)
                sent.append(draft.encode_piece(piece))
                await response.write(sent[-1])
            await response.write(await asyncio.to_thread(self._end_stream, document, nonce, draft, sent))
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the client must see that the answer is not whole
            # The status line is gone: the error travels as an event, and without [DONE] nothing looks complete.
            await response.write(build_stream_error(map_to_api_error(error)))
        await response.write_eof()
        return response

    def _end_stream(self, document: Mapping[str, Any], nonce: bytes, draft: AnswerDraft, sent: list[bytes]) -> bytes:
        """Return what is still to be sent once the receipt is stored with the bytes of the whole stream."""
        usage = draft.encode_usage() if draft.request.includes_usage else b""
        ends: list[bytes] = []

        def finish(receipt: SignedReceipt) -> bytes:
            ends.append(usage + draft.encode_receipt(receipt) + DONE)
            return b"".join(sent) + ends[0]

        self._desk.issue(draft.request.consumer, nonce, STREAM_FORM, document, draft.build_completion(), finish)
        return ends[0]

    def _build_head(self) -> AnswerHead:
        return AnswerHead(
            answer_id=f"chatcmpl-{secrets.token_hex(12)}", created_s=self._desk.now_s(), model=self._model_name
        )
