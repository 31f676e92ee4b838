"""Transcripts: one JSON object a line, `{request, response, sampler?, receipt?, timing?}` in OpenAI's format.

Read strictly: every bad line is named with its number and reason, and none is skipped in silence. `error` stands in the
place of an answer that did not come; `audit` keeps what the audit knew of a request (docs/audit.md has the schema).
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from models.requests import SAMPLER_NONE, SAMPLERS
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput, Unavailable
from validator.audit.answered import Answered, encode_receipt, parse_answered
from validator.audit.asked import Asked, parse_asked
from validator.audit.outcomes import Entry, Origin, build_outcome
from validator.audit.records import NO_TIMING, Exchange, Missing, ReturnedToken, Timing
from validator.hostile_json import parse_hostile_json

MAX_LINE_BYTES = 24 * 1024 * 1024
"""Twice the longest answer that an audit takes: one that is long within its limits must not end it at the journal."""
MAX_LINES = 100_000
MAX_FILE_BYTES = 1024 * 1024 * 1024
MAX_NAMED_LINES = 20
MAX_REASON_CHARACTERS = 64
MAX_DETAIL_CHARACTERS = 500
MEMBERS = frozenset({"request", "response", "error", "sampler", "receipt", "timing", "audit"})
ORIGIN_MEMBERS = frozenset({"stratum", "probe_seed", "repeat_of"})


def load_transcript(path: Path) -> list[Entry]:
    """Read a transcript. No request counts as drawn: `validator.audit.drawn` finds those of a plan.

    Raises InvalidInput that names every bad line (the first 20), Unavailable when the file cannot be read.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            for number, line in _read_lines(file):
                try:
                    entries.append(parse_entry(parse_document(line), entries))
                except InvalidInput as error:
                    problems.append(f"line {number}: {error}")
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if problems:
        rest = len(problems) - MAX_NAMED_LINES
        more = f"\n... and {rest} more line{'' if rest == 1 else 's'}" if rest > 0 else ""
        listed = "\n".join(problems[:MAX_NAMED_LINES])
        lines = f"{len(problems)} bad line{'' if len(problems) == 1 else 's'}"
        raise InvalidInput(f"{lines} in {path}:\n{listed}{more}")
    if not entries:
        raise InvalidInput(f"{path} has no lines", "transcript")
    return entries


def parse_document(line: bytes) -> dict[str, object]:
    """Read the JSON object of a line; raises InvalidInput."""
    return _mapping(parse_hostile_json(line, MAX_LINE_BYTES, keeps_numbers=True), "line")


def parse_entry(document: Mapping[str, object], earlier: list[Entry]) -> Entry:
    """Read the document of a line that follows the `earlier` ones; raises InvalidInput with the field's name."""
    asked = parse_asked(document.get("request"))
    origin = parse_origin(document, len(earlier))
    if origin.repeat_of is not None:
        if origin.repeat_of >= len(earlier):
            raise InvalidInput("names no earlier request", "audit.repeat_of")
        if earlier[origin.repeat_of].asked.to_json() != asked.to_json():
            raise InvalidInput(f"request {origin.repeat_of} is not the same", "audit.repeat_of")
    return build_entry(document, asked, origin)


def build_entry(document: Mapping[str, object], asked: Asked, origin: Origin) -> Entry:
    """Return the entry of a document whose request and origin were read; raises InvalidInput with the field's name."""
    unknown = sorted(set(document) - MEMBERS)
    if unknown:
        raise InvalidInput(f"unknown member {unknown[0][:80]!r}; there are {', '.join(sorted(MEMBERS))}", "line")
    timing = _parse_timing(document.get("timing"))
    if document.get("response") is None:
        missing = _parse_missing(document.get("error"), origin.index, timing)
        return Entry(origin=origin, asked=asked, outcome=missing)
    if document.get("error") is not None:
        raise InvalidInput("a line has a response or an error, not both", "error")
    answered = parse_answered(document["response"], asked.max_tokens)
    answered = _with_receipt(answered, encode_receipt(document.get("receipt"), "receipt"))
    return Entry(origin=origin, asked=asked, outcome=build_outcome(origin, asked, answered, timing))


def build_document(entry: Entry, model: str) -> dict[str, object]:
    """Return the document of an entry; `model` is what the request named."""
    request = {"model": model, **entry.asked.to_json(), **({"stream": True} if entry.asked.is_streamed else {})}
    return {"request": request, **_build_answer(entry.outcome), **_build_origin(entry.origin)}


def encode_document(document: Mapping[str, object]) -> bytes:
    """Return a document as one line, with the newline."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank with their numbers, from 1."""
    total = 0
    for number in range(1, MAX_LINES + 2):
        line = file.readline(MAX_LINE_BYTES + 2)
        if not line:
            return
        total += len(line)
        if number > MAX_LINES or total > MAX_FILE_BYTES:
            raise InvalidInput(f"more than {MAX_LINES} lines or {MAX_FILE_BYTES} bytes", f"line {number}")
        if len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            raise InvalidInput(f"longer than {MAX_LINE_BYTES} bytes", f"line {number}")
        if line.strip():
            yield number, line


def parse_origin(document: Mapping[str, object], index: int) -> Origin:
    """Read `sampler` and `audit` of a line's document, its request not counted as drawn; raises InvalidInput."""
    known = _mapping(document.get("audit") or {}, "audit")
    unknown = sorted(set(known) - ORIGIN_MEMBERS)
    if unknown:
        raise InvalidInput(f"unknown member {unknown[0][:80]!r}", "audit")
    stratum, repeat_of = known.get("stratum"), known.get("repeat_of")
    if stratum is not None and (not isinstance(stratum, str) or not 0 < len(stratum) <= 64):
        raise InvalidInput("expected a string of 1 to 64 characters", "audit.stratum")
    if repeat_of is not None and (type(repeat_of) is not int or repeat_of < 0):
        raise InvalidInput("expected the number of an earlier request, from 0", "audit.repeat_of")
    return Origin(
        index=index,
        sampler=_parse_sampler(document.get("sampler")),
        stratum=stratum,
        probe_seed=None if known.get("probe_seed") is None else _parse_seed(known["probe_seed"]),
        repeat_of=repeat_of if isinstance(repeat_of, int) else None,
    )


def _parse_seed(value: object) -> bytes:
    seed = parse_hex(value, "audit.probe_seed")
    if len(seed) != 32:
        raise InvalidInput("expected 0x and 64 hex digits", "audit.probe_seed")
    return seed


def _parse_sampler(value: object) -> str:
    if value is None:
        return SAMPLER_NONE
    if not isinstance(value, str) or value not in SAMPLERS:
        raise InvalidInput(f"there are {', '.join(SAMPLERS)}", "sampler")
    return value


def _parse_timing(value: object) -> Timing:
    if value is None:
        return NO_TIMING
    timing = _mapping(value, "timing")
    if not set(timing) <= {"first_token_ms", "total_ms"}:
        raise InvalidInput("has first_token_ms and total_ms, nothing else", "timing")
    return Timing(
        first_token_ms=_parse_ms(timing.get("first_token_ms"), "timing.first_token_ms"),
        total_ms=_parse_ms(timing.get("total_ms"), "timing.total_ms"),
    )


def _parse_ms(value: object, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise InvalidInput("expected milliseconds", field)
    return float(value)


def _parse_missing(value: object, index: int, timing: Timing) -> Missing:
    if value is None:
        raise InvalidInput("a line without response says in `error` why there is none", "response")
    error = _mapping(value, "error")
    reason, detail, is_fault = error.get("reason"), error.get("detail", ""), error.get("is_provider_fault", True)
    if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON_CHARACTERS:
        raise InvalidInput(f"expected a string of 1 to {MAX_REASON_CHARACTERS} characters", "error.reason")
    if not isinstance(detail, str) or len(detail) > MAX_DETAIL_CHARACTERS:
        raise InvalidInput(f"expected a string of at most {MAX_DETAIL_CHARACTERS} characters", "error.detail")
    if not isinstance(is_fault, bool):
        raise InvalidInput("expected true or false", "error.is_provider_fault")
    return Missing(index=index, reason=reason, detail=detail, is_provider_fault=is_fault, timing=timing)


def _with_receipt(answered: Answered, receipt: bytes | None) -> Answered:
    if receipt is None or receipt == answered.receipt:
        return answered
    if answered.receipt is not None:
        raise InvalidInput("differs from the response's own quiver_receipt", "receipt")
    return Answered(**{**{name: getattr(answered, name) for name in answered.__slots__}, "receipt": receipt})


def _build_answer(outcome: Exchange | Missing) -> dict[str, object]:
    timing = {
        name: value
        for name in ("first_token_ms", "total_ms")
        if (value := getattr(outcome.timing, name)) is not None and math.isfinite(value)
    }
    more: dict[str, object] = {"timing": timing} if timing else {}
    if isinstance(outcome, Missing):
        fault = outcome.is_provider_fault
        detail = outcome.detail[:MAX_DETAIL_CHARACTERS]
        return {
            "response": None,
            "error": {"reason": outcome.reason, "detail": detail, "is_provider_fault": fault},
            **more,
        }
    if outcome.sampler != SAMPLER_NONE:
        more["sampler"] = outcome.sampler
    if outcome.receipt is not None:
        more["receipt"] = json.loads(outcome.receipt)
    return {"response": _build_response(outcome), **more}


def _build_response(exchange: Exchange) -> dict[str, object]:
    choice: dict[str, object] = {
        "index": 0,
        "message": {"role": "assistant", "content": exchange.content},
        "finish_reason": exchange.finish_reason,
    }
    if exchange.token_ids is not None:
        choice["token_ids"] = list(exchange.token_ids)
    if exchange.logprobs is not None:
        entries = [
            {**_build_token(entry.chosen), "top_logprobs": [_build_token(token) for token in entry.top]}
            for entry in exchange.logprobs
        ]
        choice["logprobs"] = {"content": entries}
    usage = {"prompt_tokens": exchange.prompt_tokens, "completion_tokens": exchange.completion_tokens}
    told = {name: value for name, value in usage.items() if value is not None}
    response: dict[str, object] = {"object": "chat.completion", "choices": [choice]}
    if exchange.answered_model is not None:
        response["model"] = exchange.answered_model
    if exchange.proofs is not None:
        response["quiver_toploc"] = [proof.encode() for proof in exchange.proofs]
    return {**response, "usage": {**told, **({"total_tokens": sum(told.values())} if len(told) == 2 else {})}}


def _build_token(token: ReturnedToken) -> dict[str, object]:
    document: dict[str, object] = {"token": token.text, "logprob": token.logprob}
    document["bytes"] = None if token.data is None else list(token.data)
    return document if token.token_id is None else {**document, "id": token.token_id}


def _build_origin(origin: Origin) -> dict[str, object]:
    seed = None if origin.probe_seed is None else "0x" + origin.probe_seed.hex()
    known = {"stratum": origin.stratum, "probe_seed": seed, "repeat_of": origin.repeat_of}
    told = {name: value for name, value in known.items() if value is not None}
    return {"audit": told} if told else {}


def _mapping(value: object, field: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value
