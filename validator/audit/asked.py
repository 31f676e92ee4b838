"""The request of one exchange in OpenAI's form: built for an endpoint, or read from a transcript.

Fields of a wrong type are refused. Parameters that the reference does not repeat (penalties, tools, pictures, several
choices) do not make a request wrong, only unfit to be judged: `unjudged` says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.requests import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS, MAX_TOKENS, ChatMessage, check_sampling
from scoring.errors import InvalidInput

MAX_MESSAGES = 256
MAX_MESSAGE_CHARACTERS = 1 << 20
ROLES: Mapping[str, str] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "grammar": (),
    "json_schema": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "truncate_prompt_tokens": (),
    "reasoning_effort": ("none",),
    "thinking_token_budget": (),
    "mirostat": (0,),
    "xtc_probability": (0,),
    "dry_multiplier": (0,),
}
"""Parameters that change the answer, with the values that do not (null never does). Others are taken to change nothing:
names of users, priorities, whether to stream."""
PLAIN: Mapping[str, int] = {"top_k": -1, "min_p": 0, "repetition_penalty": 1}
"""Filters and penalties outside OpenAI's API that a server may have defaults for, with the values that switch them off.

vLLM takes the defaults of the model's `generation_config.json`, llama.cpp has top-k 40 and min-p 0.05. -1 rather than
0: vLLM's older releases and SGLang refuse a `top_k` of 0.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request. `max_tokens` None when it names no limit; `unjudged` is why it cannot be judged, or empty.

    `plain` are the names of PLAIN that it switches off in so many words.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int | None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    is_streamed: bool = False
    plain: tuple[str, ...] = ()
    unjudged: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the request in OpenAI's form, without a model and without what only the transport needs."""
        document: dict[str, object] = {
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
            "temperature": self.temperature,
            "top_p": self.top_p,
            **{name: PLAIN[name] for name in self.plain},
        }
        optional = {"max_tokens": self.max_tokens, "seed": self.seed, "top_k": self.top_k or None}
        document.update({name: value for name, value in optional.items() if value is not None})
        if self.stop:
            document["stop"] = list(self.stop)
        return document


def parse_asked(document: object) -> Asked:
    """Read a chat completion request; raises InvalidInput with the field's name on a wrong type or range."""
    request = _mapping(document, "request")
    messages, unjudged = _parse_messages(request.get("messages"))
    temperature, top_p = _number(request, "temperature"), _number(request, "top_p")
    top_k, seed = max(0, _integer(request, "top_k", -1) or 0), _integer(request, "seed", None)
    try:
        check_sampling(temperature, top_p, top_k, seed)
    except InvalidInput as error:
        raise InvalidInput(str(error).removeprefix(f"{error.field}: "), f"request.{error.field}") from None
    return Asked(
        messages=messages,
        max_tokens=_parse_max_tokens(request),
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=_parse_stop(request.get("stop")),
        is_streamed=_flag(request, "stream"),
        plain=tuple(name for name, value in PLAIN.items() if request.get(name) == value),
        unjudged=_find_changing(request) or unjudged,
    )


def _find_changing(request: Mapping[str, object]) -> str:
    for name, neutral in NEUTRAL.items():
        value = request.get(name)
        # 0 == False in Python: a flag must not pass for a number or the other way round.
        if value is not None and not any(value == item and _is_flag(value) == _is_flag(item) for item in neutral):
            return f"asked with {name}, which the reference does not repeat"
    return ""


def _parse_messages(value: object) -> tuple[tuple[ChatMessage, ...], str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        raise InvalidInput(f"expected a list of 1 to {MAX_MESSAGES} messages", "request.messages")
    parsed = [_parse_message(item, f"request.messages[{index}]") for index, item in enumerate(value)]
    return tuple(message for message, _ in parsed), next((reason for _, reason in parsed if reason), "")


def _parse_message(value: object, field: str) -> tuple[ChatMessage, str]:
    message = _mapping(value, field)
    role = message.get("role")
    if not isinstance(role, str) or not 0 < len(role) <= 32:
        raise InvalidInput("expected a string of 1 to 32 characters", f"{field}.role")
    content, reason = _parse_content(message.get("content"), f"{field}.content")
    if role not in ROLES:
        reason = f"a message has the role {role!r}"
    if any(message.get(name) not in (None, [], "") for name in ("tool_calls", "function_call", "audio", "name")):
        reason = "a message carries more than text"
    return ChatMessage(role=ROLES.get(role, role), content=content), reason


def _parse_content(value: object, field: str) -> tuple[str, str]:
    """Return the text and why it is not all that was said, or an empty reason."""
    if value is None:
        return "", "a message has no content"
    if isinstance(value, str):
        return _check_text(value, field, MAX_MESSAGE_CHARACTERS), ""
    if not isinstance(value, list):
        raise InvalidInput("expected a string or a list of parts", field)
    texts, reason = [], ""
    for index, item in enumerate(value):
        part = _mapping(item, f"{field}[{index}]")
        if part.get("type") != "text":
            reason = "a message carries more than text"
            continue
        texts.append(_check_text(part.get("text"), f"{field}[{index}].text", MAX_MESSAGE_CHARACTERS))
    return "".join(texts), reason


def _parse_max_tokens(request: Mapping[str, object]) -> int | None:
    limits = [_integer(request, name, None) for name in ("max_tokens", "max_completion_tokens")]
    given = [limit for limit in limits if limit is not None]
    if any(not 1 <= limit <= MAX_TOKENS for limit in given):
        raise InvalidInput(f"must be an integer between 1 and {MAX_TOKENS}", "request.max_tokens")
    return min(given) if given else None


def _parse_stop(value: object) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MAX_STOP_STRINGS:
        raise InvalidInput(f"expected a string or a list of at most {MAX_STOP_STRINGS} strings", "request.stop")
    return tuple(_check_text(text, "request.stop", MAX_STOP_CHARACTERS) for text in texts)


def _check_text(value: object, field: str, max_characters: int) -> str:
    if not isinstance(value, str) or len(value) > max_characters:
        raise InvalidInput(f"expected a string of at most {max_characters} characters", field)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("lone surrogate in a string", field) from None
    return value


def _mapping(value: object, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value


def _number(request: Mapping[str, object], name: str) -> float:
    value = request.get(name)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("expected a number", f"request.{name}")
    return float(value)


def _integer(request: Mapping[str, object], name: str, low: int | None) -> int | None:
    value = request.get(name)
    if value is not None and (type(value) is not int or (low is not None and value < low)):
        raise InvalidInput(f"expected an integer{'' if low is None else f' from {low}'}", f"request.{name}")
    return value


def _flag(request: Mapping[str, object], name: str) -> bool:
    value = request.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput("expected true or false", f"request.{name}")
    return bool(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)
