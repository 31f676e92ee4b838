"""The documents of one answer: the unstreamed completion, the chunks of a stream, and the chunk with the receipt."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from challenges.signed import SignedReceipt
from validator.provider.chat_request import ChatRequest
from validator.provider.generation import Piece
from validator.provider.sse import encode_event


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """What every document of one answer repeats: `created_s` are unix seconds."""

    answer_id: str
    created_s: int
    model: str

    def to_json(self, kind: str) -> dict[str, Any]:
        """Return the members that come first."""
        return {"id": self.answer_id, "object": kind, "created": self.created_s, "model": self.model}


@dataclass(slots=True, kw_only=True)
class AnswerDraft:
    """An answer as it grows, piece by piece."""

    head: AnswerHead
    request: ChatRequest
    prompt_tokens: int
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[str, object]] = field(default_factory=list)
    finish_reason: str | None = None
    activation_proofs: tuple[str, ...] | None = None

    def add(self, piece: Piece) -> None:
        """Append what one step generated."""
        self.texts.append(piece.text)
        self.token_ids += piece.token_ids
        self.logprobs += piece.logprobs
        self.finish_reason = piece.finish_reason
        self.activation_proofs = piece.activation_proofs

    def build_usage(self) -> dict[str, int]:
        """Return the tokens that were used."""
        used = len(self.token_ids)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": used,
            "total_tokens": self.prompt_tokens + used,
        }

    def build_completion(self) -> dict[str, Any]:
        """Return the whole answer in unstreamed form, without the receipt."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(self.texts), "refusal": None},
            "logprobs": _build_logprobs(self.request, self.logprobs),
            "finish_reason": self.finish_reason,
        }
        if self.request.returns_token_ids:
            choice["token_ids"] = list(self.token_ids)
        return {**self.head.to_json("chat.completion"), "choices": [choice], "usage": self.build_usage()}

    def build_members(self, receipt: SignedReceipt) -> dict[str, Any]:
        """Return the members of our own: the receipt, and the activation proofs of a provider that sends them."""
        members: dict[str, Any] = {"quiver_receipt": receipt.to_json()}
        if self.activation_proofs is not None:
            members["quiver_toploc"] = list(self.activation_proofs)
        return members

    def encode_first_chunk(self) -> bytes:
        """Return the event that opens a stream: the role."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return self._encode_chunk([choice])

    def encode_piece(self, piece: Piece) -> bytes:
        """Return the event with one piece."""
        choice: dict[str, Any] = {
            "index": 0,
            "delta": {"content": piece.text} if piece.text else {},
            "logprobs": _build_logprobs(self.request, piece.logprobs),
            "finish_reason": piece.finish_reason,
        }
        if self.request.returns_token_ids:
            choice["token_ids"] = list(piece.token_ids)
        return self._encode_chunk([choice])

    def encode_usage(self) -> bytes:
        """Return the event with the usage, which has no choices."""
        return self._encode_chunk([], usage=self.build_usage())

    def encode_receipt(self, receipt: SignedReceipt) -> bytes:
        """Return the last event before [DONE]: the receipt (and proofs), no choices."""
        return self._encode_chunk([], **self.build_members(receipt))

    def _encode_chunk(self, choices: list[dict[str, Any]], **more: object) -> bytes:
        return encode_event({**self.head.to_json("chat.completion.chunk"), "choices": choices, **more})


def _build_logprobs(request: ChatRequest, entries: Iterable[dict[str, object]]) -> dict[str, object] | None:
    return None if request.logprobs is None else {"content": list(entries), "refusal": None}
