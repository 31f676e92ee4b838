"""A chat completion request as a record: strict about every parameter, because a parameter that is silently ignored
is a different answer from the one that was paid for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from challenges.receipt import compute_request_digest
from models.requests import MAX_SEED, MAX_TEMPERATURE, MAX_TOP_LOGPROBS, ChatMessage
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput
from scoring.records import ZERO_ADDRESS
from validator.provider.api_errors import ApiError

MAX_MESSAGES = 256
MAX_STOP_STRINGS = 4
MAX_STOP_CHARACTERS = 256
MAX_MODEL_CHARACTERS = 256
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

KNOWN = frozenset(
    {
        "model", "messages", "seed", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "n",
        "logprobs", "top_logprobs", "return_token_ids", "stream", "stream_options", "quiver_nonce", "quiver_consumer",
    }
)  # fmt: skip
IGNORED = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
"""What says nothing about the answer."""
ONLY_VALUES: Mapping[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "top_k": (-1, 0),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Parameters of OpenAI's, or in wide use, that this server takes only with a value that changes nothing (or null)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One request. `max_tokens` is None when absent; `logprobs` None for none, else how many beside the chosen one.

    `consumer` is zero and `nonce` None when the client sent none.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    temperature: float
    top_p: float
    max_tokens: int | None
    seed: int | None
    stop: tuple[str, ...]
    logprobs: int | None
    returns_token_ids: bool
    is_streamed: bool
    includes_usage: bool
    nonce: bytes | None
    consumer: bytes
    digest: bytes


def parse_chat_request(document: dict[str, Any]) -> ChatRequest:
    """Read a request; raises ApiError 400 that names the parameter."""
    _refuse_unsupported(document)
    is_streamed = _flag(document, "stream")
    return ChatRequest(
        model=_text(document, "model", MAX_MODEL_CHARACTERS),
        messages=_parse_messages(document.get("messages")),
        temperature=_number(document, "temperature", 0.0, MAX_TEMPERATURE),
        top_p=_number(document, "top_p", 0.0, 1.0, is_low_open=True),
        max_tokens=_parse_max_tokens(document),
        seed=_integer(document, "seed", 0, MAX_SEED),
        stop=_parse_stop(document.get("stop")),
        logprobs=_parse_logprobs(document),
        returns_token_ids=_flag(document, "return_token_ids"),
        is_streamed=is_streamed,
        includes_usage=_parse_stream_options(document.get("stream_options"), is_streamed),
        nonce=parse_nonce(document),
        consumer=parse_consumer(document),
        digest=compute_digest(document),
    )


def compute_digest(document: Mapping[str, Any]) -> bytes:
    """Return the request digest that the receipt names; raises ApiError 400 on what has none (floats elsewhere)."""
    try:
        return compute_request_digest(document)
    except InvalidInput as error:
        raise refuse(error.field or None, str(error)) from None


def parse_nonce(document: Mapping[str, Any]) -> bytes | None:
    """Return the consumer's nonce, None when absent; raises ApiError."""
    return _hex(document, "quiver_nonce", 32)


def parse_consumer(document: Mapping[str, Any]) -> bytes:
    """Return the consumer's address, zero when absent; raises ApiError."""
    return _hex(document, "quiver_consumer", 20) or ZERO_ADDRESS


def refuse(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """Return the error for a bad parameter."""
    return ApiError(400, message, param=param, code=code)


def _refuse_unsupported(document: dict[str, Any]) -> None:
    for name, value in document.items():
        if name in KNOWN or name in IGNORED or value is None:
            continue
        if name not in ONLY_VALUES:
            raise refuse(name, f"unrecognized parameter: {name[:80]}", "unknown_parameter")
        if value not in ONLY_VALUES[name]:
            raise refuse(name, f"{name} is not supported by this server", "unsupported_parameter")
    if document.get("n") is not None and (document["n"] != 1 or type(document["n"]) is not int):
        raise refuse("n", "n must be 1: this server gives one choice", "unsupported_value")


def _parse_messages(value: object) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        raise refuse("messages", f"messages must be a list of 1 to {MAX_MESSAGES} messages")
    return tuple(_parse_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _parse_message(value: object, param: str) -> ChatMessage:
    if not isinstance(value, dict):
        raise refuse(param, f"{param} must be an object")
    for name in value:
        if name not in ("role", "content", "name", "refusal", "annotations", "audio", "tool_calls"):
            raise refuse(param, f"{param} has the unknown member {str(name)[:80]}", "unknown_parameter")
    if any(value.get(name) not in (None, []) for name in ("name", "audio", "tool_calls")):
        raise refuse(param, f"{param}: names, audio and tool calls are not supported", "unsupported_value")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise refuse(f"{param}.role", f"role must be one of {', '.join(_ROLES)}")
    return ChatMessage(role=_ROLES[role], content=_parse_content(value.get("content"), f"{param}.content"))


def _parse_content(value: object, param: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise refuse(param, "content must be a string or a list of text parts")
    texts = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise refuse(param, "only parts of type text are supported", "unsupported_value")
        texts.append(part["text"])
    return "".join(texts)


def _parse_max_tokens(document: dict[str, Any]) -> int | None:
    old, new = (_integer(document, name, 1, 2**31 - 1) for name in ("max_tokens", "max_completion_tokens"))
    if old is not None and new is not None:
        raise refuse("max_tokens", "max_tokens and max_completion_tokens are two names of one limit: give one")
    return new if old is None else old


def _parse_stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MAX_STOP_STRINGS:
        raise refuse("stop", f"stop must be a string or a list of at most {MAX_STOP_STRINGS} strings")
    if not all(isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS for text in texts):
        raise refuse("stop", f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters")
    return tuple(texts)


def _parse_logprobs(document: dict[str, Any]) -> int | None:
    is_wanted, count = _flag(document, "logprobs"), _integer(document, "top_logprobs", 0, MAX_TOP_LOGPROBS)
    if count is not None and not is_wanted:
        raise refuse("top_logprobs", "top_logprobs needs logprobs: true")
    return (count or 0) if is_wanted else None


def _parse_stream_options(value: object, is_streamed: bool) -> bool:
    if value is None:
        return False
    if not is_streamed:
        raise refuse("stream_options", "stream_options needs stream: true")
    known = {"include_usage", "include_obfuscation"}
    if not isinstance(value, dict) or not set(value) <= known:
        raise refuse("stream_options", "the known member of stream_options is include_usage")
    return _flag(value, "include_usage", "stream_options.include_usage")


def _flag(document: Mapping[str, Any], name: str, param: str = "") -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise refuse(param or name, f"{param or name} must be true or false")
    return bool(value)


def _text(document: Mapping[str, Any], name: str, max_characters: int) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= max_characters:
        raise refuse(name, f"{name} must be a string of 1 to {max_characters} characters")
    return value


def _number(document: Mapping[str, Any], name: str, low: float, high: float, *, is_low_open: bool = False) -> float:
    value = document.get(name)
    if value is None:
        return 1.0
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (is_low_open and value == low):
        raise refuse(name, f"{name} must be a number {'above' if is_low_open else 'from'} {low:g} to {high:g}")
    return float(value)


def _integer(document: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = document.get(name)
    if value is not None and (type(value) is not int or not low <= value <= high):
        raise refuse(name, f"{name} must be an integer from {low} to {high}")
    return value


def _hex(document: Mapping[str, Any], name: str, length: int) -> bytes | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        parsed = parse_hex(value, name)
    except InvalidInput as error:
        raise refuse(name, str(error)) from None
    if len(parsed) != length:
        raise refuse(name, f"{name} must be {length} bytes of hex with 0x")
    return parsed
