"""One exchange with a provider: the request as sent, the answer as received, and their digests.

Requests are the JSON object that was posted, answers OpenAI's final, unstreamed form (the chunks of a stream joined).
Canonical JSON has no floats, so both have a *document* form without them, which has the same digest and is what
transcripts and dossiers carry. Exactly:

* request document: the request without the transport keys `stream`, `stream_options`, `user` and every `quiver_*` key,
  and with each number field of NUMBER_FIELDS renamed `<name>_ppm` and written as the integer nearest to a million times
  its exact value (ties to even). Any other float is refused. Request digest: keccak256 of its canonical JSON.
* response digest: keccak256 of the canonical JSON of `{model, content, token_ids or null, finish_reason, usage}` where
  usage is `{prompt_tokens, completion_tokens, total_tokens}` and nothing else, all of the first choice.
* token ids digest: keccak256 of the ids as 4 bytes big-endian each; zero when none were returned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.errors import InvalidInput
from scoring.hashing import keccak256
from scoring.records import PPM, ZERO_DIGEST

TRANSPORT_KEYS = frozenset({"stream", "stream_options", "user"})
NUMBER_FIELDS = frozenset(
    {"temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"}
)
_MAX_TOKEN_ID = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The sampling terms of a request; temperature and top_p are 1 when absent, `max_tokens` None when absent."""

    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int | None
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The parts of a response that a receipt speaks about."""

    model: str
    content: str
    token_ids: tuple[int, ...] | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def build_request_document(request: Mapping[str, object]) -> dict[str, Json]:
    """Return the request document; one that is a document already comes back unchanged.

    Raises InvalidInput with the field's name on a number that is not finite or stands beside its own `_ppm` form.
    """
    document: dict[str, object] = {}
    for key, value in request.items():
        if not isinstance(key, str):
            raise InvalidInput("a key is not a string", "request")
        if key in TRANSPORT_KEYS or key.startswith("quiver_"):
            continue
        if key in NUMBER_FIELDS and value is not None:
            if f"{key}_ppm" in request:
                raise InvalidInput(f"stands beside {key}_ppm", key)
            document[f"{key}_ppm"] = compute_ppm(value, key)
        else:
            document[key] = value
    return document  # type: ignore[return-value]  # canonical.encode refuses what is not JSON


def compute_request_digest(request: Mapping[str, object]) -> bytes:
    """Return the 32-byte digest of a request; raises InvalidInput with the field's name on what cannot be digested."""
    return keccak256(canonical.encode(build_request_document(request)))


def build_response_document(response: Mapping[str, object]) -> dict[str, Json]:
    """Return the answer reduced to what a receipt speaks about, in OpenAI's form; raises InvalidInput."""
    answer = parse_answer(response)
    choice: dict[str, Json] = {
        "message": {"content": answer.content},
        "token_ids": None if answer.token_ids is None else list(answer.token_ids),
        "finish_reason": answer.finish_reason,
    }
    return {"model": answer.model, "choices": [choice], "usage": _build_usage(answer)}


def compute_response_digest(
    model: str,
    content: str,
    token_ids: Sequence[int] | None,
    finish_reason: str,
    usage: Mapping[str, object],
) -> bytes:
    """Return the 32-byte digest of an answer; raises InvalidInput."""
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    counted: dict[str, Json] = {name: _count(usage.get(name), f"usage.{name}") for name in counts}
    document: dict[str, Json] = {
        "model": model,
        "content": content,
        "token_ids": None if token_ids is None else list(token_ids),
        "finish_reason": finish_reason,
        "usage": counted,
    }
    return keccak256(canonical.encode(document))


def compute_token_ids_digest(token_ids: Sequence[int] | None) -> bytes:
    """Return the 32-byte digest of token ids, zero for None; raises InvalidInput on an id outside 0..2**32 - 1."""
    if token_ids is None:
        return ZERO_DIGEST
    for index, token_id in enumerate(token_ids):
        if type(token_id) is not int or not 0 <= token_id <= _MAX_TOKEN_ID:
            raise InvalidInput("expected an integer in 0..2**32 - 1", f"token_ids[{index}]")
    return keccak256(b"".join(token_id.to_bytes(4, "big") for token_id in token_ids))


def compute_ppm(value: object, field: str) -> int:
    """Return the integer nearest to a million times a finite number, ties to even; raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput("expected a finite number", field)
    ppm = round(Fraction(value) * PPM)
    if abs(ppm) > MAX_SAFE_INTEGER:
        raise InvalidInput("too large", field)
    return ppm


def parse_sampling(request: Mapping[str, object]) -> Sampling:
    """Read the sampling terms of a request; raises InvalidInput with the field's name."""
    document = build_request_document(request)
    limit_key = "max_tokens" if document.get("max_tokens") is not None else "max_completion_tokens"
    limit, seed = document.get(limit_key), document.get("seed")
    return Sampling(
        temperature_ppm=_ppm_or_one(document, "temperature"),
        top_p_ppm=_ppm_or_one(document, "top_p"),
        max_tokens=None if limit is None else _count(limit, limit_key),
        seed=None if seed is None else _count(seed, "seed"),
    )


def parse_answer(response: Mapping[str, object]) -> Answer:
    """Read the first choice of an unstreamed response; raises InvalidInput with the field's name."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise InvalidInput("expected a list with one choice", "choices")
    message, usage = choices[0].get("message"), response.get("usage")
    if not isinstance(message, dict):
        raise InvalidInput("expected an object", "choices[0].message")
    if not isinstance(usage, dict):
        raise InvalidInput("expected an object", "usage")
    token_ids = choices[0].get("token_ids")
    if token_ids is not None and not isinstance(token_ids, list):
        raise InvalidInput("expected a list or null", "choices[0].token_ids")
    prompt, completion = (_count(usage.get(key), f"usage.{key}") for key in ("prompt_tokens", "completion_tokens"))
    if usage.get("total_tokens") != prompt + completion:
        raise InvalidInput("is not the sum of its parts", "usage.total_tokens")
    return Answer(
        model=_text(response.get("model"), "model"),
        content=_text(message.get("content"), "choices[0].message.content"),
        token_ids=None if token_ids is None else tuple(token_ids),
        finish_reason=_text(choices[0].get("finish_reason"), "choices[0].finish_reason"),
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def compute_answer_digest(answer: Answer) -> bytes:
    """Return the response digest of a parsed answer."""
    usage = _build_usage(answer)
    return compute_response_digest(answer.model, answer.content, answer.token_ids, answer.finish_reason, usage)


def _build_usage(answer: Answer) -> dict[str, Json]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _ppm_or_one(document: Mapping[str, Json], field: str) -> int:
    value = document.get(f"{field}_ppm")
    return PPM if value is None else _count(value, f"{field}_ppm")


def _count(value: object, field: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
        raise InvalidInput("expected an integer in 0..2**53 - 1", field)
    return value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput("expected a string", field)
    return value
