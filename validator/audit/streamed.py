"""Joins the chunks of a streamed answer into the final, unstreamed form, and notes when the first token came."""

from typing import Any

from scoring.errors import InvalidInput
from validator.hostile_json import parse_hostile_json
from validator.provider.sse import EventSplitter, read_data

MAX_EVENT_BYTES = 256 * 1024
_DONE = b"[DONE]"


class StreamError(InvalidInput):
    """The stream carried an error in the place of its end; the message is the provider's."""


class StreamedAnswer:
    """An answer as it grows. `first_token_at` is the caller's clock at the first piece of text or token."""

    def __init__(self) -> None:
        self._splitter = EventSplitter(MAX_EVENT_BYTES)
        self._texts: list[str] = []
        self._token_ids: list[object] | None = None
        self._logprobs: list[object] | None = None
        self._finish_reason: object = None
        self._head: dict[str, Any] = {}
        self._usage: object = None
        self._receipt: object = None
        self._proofs: object = None
        self._refusals: list[str] = []
        self._has_reasoning = False
        self.first_token_at: float | None = None
        self.is_done = False

    def push(self, chunk: bytes, now: float) -> None:
        """Take bytes as they come; raises InvalidInput on what is not a stream of chat completion chunks."""
        for event in self._splitter.push(chunk):
            data = read_data(event)
            if data is None or self.is_done:
                continue
            if data.strip() == _DONE:
                self.is_done = True
            else:
                self._take(_mapping(parse_hostile_json(data, MAX_EVENT_BYTES, keeps_numbers=True), "chunk"), now)

    def build_document(self) -> dict[str, Any]:
        """Return the whole answer; raises InvalidInput when the stream ended without [DONE]."""
        if not self.is_done:
            raise InvalidInput("the stream ended without [DONE]", "stream")
        message: dict[str, object] = {"role": "assistant", "content": "".join(self._texts)}
        message["refusal"] = "".join(self._refusals) or None
        if self._has_reasoning:
            message["reasoning"] = "(streamed)"
        choice: dict[str, object] = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        choice["token_ids"] = self._token_ids
        choice["logprobs"] = None if self._logprobs is None else {"content": self._logprobs}
        own = {"quiver_receipt": self._receipt, "quiver_toploc": self._proofs}
        return {**self._head, "choices": [choice], "usage": self._usage, **own}

    def _take(self, chunk: dict[str, Any], now: float) -> None:
        if chunk.get("error") is not None:
            error = chunk["error"]
            message = error.get("message") if isinstance(error, dict) else error
            raise StreamError(str(message)[:300], "stream")
        if "model" in chunk:
            self._head["model"] = chunk["model"]
        self._usage = self._usage if chunk.get("usage") is None else chunk["usage"]
        self._receipt = self._receipt if chunk.get("quiver_receipt") is None else chunk["quiver_receipt"]
        self._proofs = self._proofs if chunk.get("quiver_toploc") is None else chunk["quiver_toploc"]
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            raise InvalidInput("expected a list of at most one choice", "choices")
        for choice in choices:
            if self._take_choice(_mapping(choice, "choices[0]")) and self.first_token_at is None:
                self.first_token_at = now

    def _take_choice(self, choice: dict[str, Any]) -> bool:
        """Take one piece; return whether it brought text or tokens."""
        delta = _mapping(choice.get("delta") or {}, "choices[0].delta")
        text = delta.get("content") or ""
        if not isinstance(text, str):
            raise InvalidInput("expected a string or null", "choices[0].delta.content")
        self._texts.append(text)
        if isinstance(delta.get("refusal"), str):
            self._refusals.append(delta["refusal"])
        self._has_reasoning |= any(delta.get(name) for name in ("reasoning", "reasoning_content"))
        ids = _extend(choice.get("token_ids"), "choices[0].token_ids")
        if ids is not None:
            self._token_ids = self._token_ids or []
            self._token_ids.extend(ids)
        logprobs = _mapping(choice.get("logprobs") or {}, "choices[0].logprobs").get("content")
        entries = _extend(logprobs, "choices[0].logprobs.content")
        if entries is not None:
            self._logprobs = self._logprobs or []
            self._logprobs.extend(entries)
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        return bool(text or ids)


def _extend(value: object, field: str) -> list[object] | None:
    if value is not None and not isinstance(value, list):
        raise InvalidInput("expected a list or null", field)
    return value


def _mapping(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value
