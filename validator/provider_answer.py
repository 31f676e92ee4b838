"""What a provider answered, as a record: an OpenAI chat completion with one choice, token ids and a receipt.

Unknown fields are dropped (log probabilities, fingerprints, timings); the fields that a receipt and a score speak about
are checked for type and size. Whether the receipt is true is not decided here.
"""

from dataclasses import dataclass
from typing import Any

from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput

FINISH_REASONS = frozenset({"stop", "length"})
MAX_MODEL_BYTES = 256
MAX_RECEIPT_BYTES = 8192
MAX_USAGE_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """What was asked for: at most `max_tokens`, ids below `vocabulary_size`, text of at most `max_content_bytes`."""

    max_tokens: int
    vocabulary_size: int
    max_content_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """One answer. `token_ids` is None when none were returned; `receipt` is the canonical JSON of `quiver_receipt`.

    `usage` is (prompt_tokens, completion_tokens): the provider's word, compared with the token ids elsewhere.
    """

    model: str
    content: str
    token_ids: tuple[int, ...] | None
    finish_reason: str
    usage: tuple[int, int]
    receipt: bytes | None

    def to_response(self) -> dict[str, Json]:
        """Return the final, unstreamed form that digests and transcripts speak about, without the receipt."""
        prompt, completion = self.usage
        message: dict[str, Json] = {"content": self.content, "role": "assistant"}
        choice: dict[str, Json] = {
            "finish_reason": self.finish_reason,
            "index": 0,
            "message": message,
            "token_ids": None if self.token_ids is None else list(self.token_ids),
        }
        usage: dict[str, Json] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        return {"choices": [choice], "model": self.model, "usage": usage}


def parse_provider_answer(document: object, limits: AnswerLimits) -> ProviderAnswer:
    """Read a parsed chat completion; raises InvalidInput with the field's name."""
    answer = _mapping(document, "answer")
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise InvalidInput("expected a list with one choice", "choices")
    choice = _mapping(choices[0], "choices[0]")
    message = _mapping(choice.get("message"), "choices[0].message")
    finish_reason = choice.get("finish_reason")
    if not isinstance(finish_reason, str) or finish_reason not in FINISH_REASONS:
        raise InvalidInput('expected "stop" or "length"', "choices[0].finish_reason")
    model = _text(answer.get("model"), "model", MAX_MODEL_BYTES)
    if not model:
        raise InvalidInput("is empty", "model")
    return ProviderAnswer(
        model=model,
        content=_text(message.get("content"), "choices[0].message.content", limits.max_content_bytes),
        token_ids=_token_ids(choice.get("token_ids"), limits),
        finish_reason=finish_reason,
        usage=_usage(_mapping(answer.get("usage"), "usage")),
        receipt=_receipt(answer.get("quiver_receipt")),
    )


def _mapping(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value


def _text(value: object, field: str, max_bytes: int) -> str:
    if not isinstance(value, str):
        raise InvalidInput("expected a string", field)
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("lone surrogate in a string", field) from None
    if size > max_bytes:
        raise InvalidInput(f"{size} bytes are over the limit of {max_bytes}", field)
    return value


def _token_ids(value: object, limits: AnswerLimits) -> tuple[int, ...] | None:
    field = "choices[0].token_ids"
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidInput("expected a list or null", field)
    # One more than asked for: some servers count the end-of-text token apart.
    if len(value) > limits.max_tokens + 1:
        raise InvalidInput(f"{len(value)} token ids, {limits.max_tokens} were asked for", field)
    for index, token_id in enumerate(value):
        if type(token_id) is not int or not 0 <= token_id < limits.vocabulary_size:
            raise InvalidInput(f"expected an integer in 0..{limits.vocabulary_size - 1}", f"{field}[{index}]")
    return tuple(value)


def _usage(usage: dict[str, Any]) -> tuple[int, int]:
    counts = []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        value = usage.get(name)
        if type(value) is not int or not 0 <= value <= MAX_USAGE_TOKENS:
            raise InvalidInput(f"expected an integer in 0..{MAX_USAGE_TOKENS}", f"usage.{name}")
        counts.append(value)
    if counts[2] != counts[0] + counts[1]:
        raise InvalidInput("is not the sum of its parts", "usage.total_tokens")
    return counts[0], counts[1]


def _receipt(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", "quiver_receipt")
    try:
        encoded = canonical.encode(value)
    except InvalidInput as error:
        raise InvalidInput(str(error), "quiver_receipt") from None
    if len(encoded) > MAX_RECEIPT_BYTES:
        raise InvalidInput(f"{len(encoded)} bytes are over the limit of {MAX_RECEIPT_BYTES}", "quiver_receipt")
    return encoded
