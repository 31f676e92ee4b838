"""What the proxy reads out of an upstream answer to receipt it: the five things that a response digest speaks about.

The upstream is another program with its own ideas; what cannot be receipted is NotReceiptable, and the proxy decides
what that means. Text is hashed as it passes and not kept.
"""

import json
from typing import Any

from challenges.receipt import compute_token_ids_digest, parse_answer
from scoring.canonical import verify_depth
from scoring.errors import InvalidInput, OracleError
from validator.provider.response_digest import ResponseDigest
from validator.provider.sse import read_data

MAX_TOKEN_IDS = 1 << 20


class NotReceiptable(OracleError):
    """This answer lacks what a receipt must name; the message says what."""


class ObservedAnswer:
    """An answer of the upstream as far as a receipt needs it, filled from a document or from a stream's chunks."""

    def __init__(self) -> None:
        self._digest = ResponseDigest()
        self._model: str | None = None
        self._token_ids: list[int] | None = None
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._head: dict[str, Any] = {}

    def read_document(self, document: dict[str, Any]) -> None:
        """Read an unstreamed answer; raises NotReceiptable."""
        try:
            answer = parse_answer(document)
            self._digest.push(answer.content)
        except InvalidInput as error:
            raise NotReceiptable(str(error)) from None
        if len(document["choices"]) != 1 or document["choices"][0]["message"].get("tool_calls"):
            raise NotReceiptable("more than one choice, or tool calls")
        self._model, self._finish_reason, self._usage = answer.model, answer.finish_reason, document["usage"]
        self._token_ids = None if answer.token_ids is None else list(answer.token_ids)

    def read_event(self, event: bytes) -> bool:
        """Read one event of a stream; return whether it is a chunk that says nothing but the usage.

        Raises NotReceiptable.
        """
        data = read_data(event)
        if data is None or data.strip() == b"[DONE]":
            return False
        chunk = _parse_chunk(data)
        if "error" in chunk:
            raise NotReceiptable("the stream reports an error")
        self._read_model(chunk.get("model"))
        if not self._head:
            self._head = {name: chunk[name] for name in ("id", "object", "created", "model") if name in chunk}
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            raise NotReceiptable("a chunk without one choice at most")
        if choices:
            self._read_choice(choices[0])
        return not choices and isinstance(chunk.get("usage"), dict) and "quiver_receipt" not in chunk

    @property
    def head(self) -> dict[str, Any]:
        """The members that every chunk of this stream begins with."""
        return dict(self._head)

    def build_response(self) -> tuple[dict[str, Any], bytes]:
        """Return the unstreamed form with an empty content, and the digest of the true one; raises NotReceiptable."""
        if self._model is None or self._finish_reason is None:
            raise NotReceiptable("no model or finish_reason was named")
        if self._usage is None:
            raise NotReceiptable("the upstream reports no usage")
        choice = {
            "message": {"content": ""},
            "finish_reason": self._finish_reason,
            "token_ids": self._token_ids,
        }
        response = {"model": self._model, "choices": [choice], "usage": self._usage}
        try:
            compute_token_ids_digest(parse_answer(response).token_ids)
            return response, self._digest.finish(self._model, self._token_ids, self._finish_reason, self._usage)
        except InvalidInput as error:
            raise NotReceiptable(str(error)) from None

    def _read_model(self, model: object) -> None:
        if not isinstance(model, str) or (self._model is not None and model != self._model):
            raise NotReceiptable("the chunks do not name one model")
        self._model = model

    def _read_choice(self, choice: object) -> None:
        if not isinstance(choice, dict) or choice.get("index", 0) != 0 or not isinstance(choice.get("delta"), dict):
            raise NotReceiptable("a chunk's choice is not the first one")
        if choice["delta"].get("tool_calls"):
            raise NotReceiptable("tool calls")
        content, reason, token_ids = (
            choice["delta"].get("content"), choice.get("finish_reason"), choice.get("token_ids")
        )  # fmt: skip
        if not isinstance(content, str | None) or not isinstance(reason, str | None):
            raise NotReceiptable("content and finish_reason must be text")
        try:
            self._digest.push(content or "")
        except InvalidInput as error:
            raise NotReceiptable(str(error)) from None
        self._finish_reason = reason or self._finish_reason
        if isinstance(token_ids, list):
            self._token_ids = self._token_ids or []
            self._token_ids += token_ids
            if len(self._token_ids) > MAX_TOKEN_IDS:
                raise NotReceiptable("too many token ids")


def _parse_chunk(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        verify_depth(text)
        chunk = json.loads(text)
    except (ValueError, InvalidInput):
        raise NotReceiptable("a chunk is not JSON") from None
    if not isinstance(chunk, dict):
        raise NotReceiptable("a chunk is not an object")
    return chunk
