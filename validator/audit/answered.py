"""The answer of one exchange: an OpenAI chat completion, hostile bytes that were parsed but not believed.

Unknown fields are ignored. Everything that is read is checked for type and size: text, log-probabilities, usage, the
receipt, activation proofs, and token ids (`choices[0].token_ids` as vLLM and we return them, or the ids inside
`logprobs.content`).
"""

import re
from dataclasses import dataclass

from models.activation_format import ActivationProof, parse_proofs
from models.requests import MAX_TOP_LOGPROBS
from scoring import canonical
from scoring.errors import InvalidInput
from validator.audit.records import ReturnedLogprob, ReturnedToken

CONTENT_BYTES_PER_TOKEN = 256
MAX_RECEIPT_BYTES = 8192
MAX_MODEL_CHARACTERS = 256
MAX_TOKEN_CHARACTERS = 1024
MAX_USAGE_TOKENS = 2**31 - 1
MAX_TOKEN_ID = 2**31 - 1
_TOKEN_ID_TEXT = re.compile(r"token_id:(\d{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer. What the provider did not tell is None; `refusal` and `reasoning` say that there was such a part."""

    content: str
    finish_reason: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[ReturnedLogprob, ...] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
    receipt: bytes | None = None
    proofs: tuple[ActivationProof, ...] | None = None
    has_refusal: bool = False
    has_reasoning: bool = False

    def count_tokens(self) -> int | None:
        """Return how many tokens the provider says it generated, None when it says nothing."""
        for column in (self.token_ids, self.logprobs):
            if column is not None:
                return len(column)
        return self.completion_tokens


def parse_answered(document: object, max_tokens: int | None) -> Answered:
    """Read a parsed chat completion (numbers kept); raises InvalidInput with the field's name.

    `max_tokens` is what was asked for; None bounds the answer by the document's own size alone.
    """
    answer = _mapping(document, "response")
    try:
        return _parse_members(answer, max_tokens)
    except InvalidInput as error:
        raise InvalidInput(str(error).removeprefix(f"{error.field}: "), f"response.{error.field}") from None


def _parse_members(answer: dict[str, object], max_tokens: int | None) -> Answered:
    """Read the members; fields are named as they are inside of the response."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise InvalidInput("expected a list with one choice", "choices")
    choice = _mapping(choices[0], "choices[0]")
    message = _mapping(choice.get("message"), "choices[0].message")
    finish_reason = choice.get("finish_reason")
    if not isinstance(finish_reason, str) or not 0 < len(finish_reason) <= 64:
        raise InvalidInput("expected a string", "choices[0].finish_reason")
    logprobs = _parse_logprobs(choice.get("logprobs"), max_tokens)
    token_ids = _parse_token_ids(choice.get("token_ids"), max_tokens)
    prompt_tokens, completion_tokens = _parse_usage(answer.get("usage"))
    return Answered(
        content=_parse_content(message.get("content"), max_tokens),
        finish_reason=finish_reason,
        token_ids=_collect_token_ids(logprobs) if token_ids is None else token_ids,
        logprobs=logprobs,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        model=_parse_model(answer.get("model")),
        receipt=encode_receipt(answer.get("quiver_receipt"), "quiver_receipt"),
        proofs=None if answer.get("quiver_toploc") is None else parse_proofs(answer["quiver_toploc"]),
        has_refusal=bool(message.get("refusal")),
        has_reasoning=any(message.get(name) for name in ("reasoning", "reasoning_content")),
    )


def encode_receipt(value: object, field: str) -> bytes | None:
    """Return the canonical JSON of a receipt, None for none; raises InvalidInput."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    try:
        encoded = canonical.encode(value)
    except InvalidInput as error:
        raise InvalidInput(str(error), field) from None
    if len(encoded) > MAX_RECEIPT_BYTES:
        raise InvalidInput(f"{len(encoded)} bytes are over the limit of {MAX_RECEIPT_BYTES}", field)
    return encoded


def _parse_content(value: object, max_tokens: int | None) -> str:
    field = "choices[0].message.content"
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput("expected a string or null", field)
    size = _count_bytes(value, field)
    if max_tokens is not None and size > 1024 + CONTENT_BYTES_PER_TOKEN * max_tokens:
        raise InvalidInput(f"{size} bytes of text are too many for {max_tokens} tokens", field)
    return value


def _parse_token_ids(value: object, max_tokens: int | None) -> tuple[int, ...] | None:
    field = "choices[0].token_ids"
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidInput("expected a list or null", field)
    _check_count(len(value), max_tokens, field)
    for index, token_id in enumerate(value):
        _check_token_id(token_id, f"{field}[{index}]")
    return tuple(value)


def _collect_token_ids(logprobs: tuple[ReturnedLogprob, ...] | None) -> tuple[int, ...] | None:
    """Return the ids inside log-probabilities when each of them has one."""
    ids = [entry.chosen.token_id for entry in logprobs or ()]
    return tuple(token_id for token_id in ids if token_id is not None) if ids and None not in ids else None


def _parse_logprobs(value: object, max_tokens: int | None) -> tuple[ReturnedLogprob, ...] | None:
    field = "choices[0].logprobs.content"
    if value is None:
        return None
    entries = _mapping(value, "choices[0].logprobs").get("content")
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise InvalidInput("expected a list or null", field)
    _check_count(len(entries), max_tokens, field)
    return tuple(_parse_logprob(entry, f"{field}[{index}]") for index, entry in enumerate(entries))


def _parse_logprob(value: object, field: str) -> ReturnedLogprob:
    entry = _mapping(value, field)
    others = entry.get("top_logprobs")
    # One more than can be asked for: some servers add the chosen token to the most probable ones.
    if others is not None and (not isinstance(others, list) or len(others) > MAX_TOP_LOGPROBS + 1):
        raise InvalidInput(f"expected a list of at most {MAX_TOP_LOGPROBS} tokens", f"{field}.top_logprobs")
    top = [_parse_token(item, f"{field}.top_logprobs[{index}]") for index, item in enumerate(others or [])]
    return ReturnedLogprob(chosen=_parse_token(entry, field), top=tuple(top))


def _parse_token(value: object, field: str) -> ReturnedToken:
    token = _mapping(value, field)
    text, logprob, data, token_id = (token.get(name) for name in ("token", "logprob", "bytes", "id"))
    if not isinstance(text, str) or len(text) > MAX_TOKEN_CHARACTERS:
        raise InvalidInput("expected a short string", f"{field}.token")
    _count_bytes(text, f"{field}.token")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or logprob > 1e-3:
        raise InvalidInput("expected a number of at most 0", f"{field}.logprob")
    return ReturnedToken(
        text=text,
        logprob=min(0.0, float(logprob)),
        data=_parse_bytes(data, f"{field}.bytes"),
        token_id=_find_token_id(token_id, text, f"{field}.id"),
    )


def _find_token_id(value: object, text: str, field: str) -> int | None:
    """Return the id that llama.cpp gives as `id` and vLLM, when asked, as the text "token_id:123"."""
    named = _TOKEN_ID_TEXT.fullmatch(text)
    token_id = int(named.group(1)) if named is not None else value if type(value) is int else None
    if token_id is not None:
        _check_token_id(token_id, field)
    return token_id


def _parse_bytes(value: object, field: str) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_TOKEN_CHARACTERS:
        raise InvalidInput("expected a short list or null", field)
    if any(type(item) is not int or not 0 <= item <= 255 for item in value):
        raise InvalidInput("expected integers from 0 to 255", field)
    return bytes(value)


def _parse_usage(value: object) -> tuple[int | None, int | None]:
    if value is None:
        return None, None
    usage = _mapping(value, "usage")
    counts = []
    for name in ("prompt_tokens", "completion_tokens"):
        count = usage.get(name)
        if count is not None and (type(count) is not int or not 0 <= count <= MAX_USAGE_TOKENS):
            raise InvalidInput(f"expected an integer in 0..{MAX_USAGE_TOKENS}", f"usage.{name}")
        counts.append(count)
    return counts[0], counts[1]


def _parse_model(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_MODEL_CHARACTERS:
        raise InvalidInput(f"expected a string of at most {MAX_MODEL_CHARACTERS} characters", "model")
    _count_bytes(value, "model")
    return value


def _check_count(count: int, max_tokens: int | None, field: str) -> None:
    # One more than asked for: some servers count the end token apart.
    if max_tokens is not None and count > max_tokens + 1:
        raise InvalidInput(f"{count} tokens, {max_tokens} were asked for", field)


def _check_token_id(value: object, field: str) -> None:
    if type(value) is not int or not 0 <= value <= MAX_TOKEN_ID:
        raise InvalidInput(f"expected an integer in 0..{MAX_TOKEN_ID}", field)


def _count_bytes(value: str, field: str) -> int:
    try:
        return len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("lone surrogate in a string", field) from None


def _mapping(value: object, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value
