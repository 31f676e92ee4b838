"""Canonical JSON: one byte string for one value, and nothing else accepted.

Keys sorted by code point, no white space, no floats, integers within +-(2**53 - 1), strings in shortest JSON form and
valid Unicode. The subset of RFC 8785 without numbers beyond integers.
"""

import json
import re
from typing import NoReturn

from scoring.errors import InvalidInput

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 32
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

# Whole strings, so that brackets inside them do not count. Possessive and with an optional end: linear on any input.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[\[{\]}]', re.DOTALL)

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]


def encode(value: Json) -> bytes:
    """Return the canonical bytes of a JSON value.

    Raises InvalidInput on floats, unsafe integers, lone surrogates, keys that are not strings, or nesting over 32.
    """
    _check(value, "", 0)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(data: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> Json:
    """Parse canonical bytes; refuse anything that `encode` would not have written.

    Raises InvalidInput on oversize, bad UTF-8, bad JSON, duplicate keys, floats, deep nesting or non-canonical form.
    """
    value = decode_lenient(data, max_bytes)
    if encode(value) != data:
        raise InvalidInput("not canonical JSON (keys sorted, no white space, shortest strings)")
    return value


def decode_lenient(data: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> Json:
    """Parse JSON that need not be canonical, with every other limit of `decode` (for files that people edit)."""
    if len(data) > max_bytes:
        raise InvalidInput(f"document of {len(data)} bytes is over the limit of {max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8 at byte {error.start}") from None
    verify_depth(text)
    try:
        value: Json = json.loads(
            text, object_pairs_hook=_object, parse_float=_refuse_float, parse_constant=_refuse_float, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error.msg} at character {error.pos}") from None
    _check(value, "", 0)
    return value


def verify_depth(text: str) -> None:
    """Raise InvalidInput when JSON text nests deeper than 32; for every text that a stranger wrote, before parsing it.

    The C parser recurses, and its own limit is the interpreter's, which libraries raise until the stack runs out.
    """
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidInput(f"nested deeper than {MAX_DEPTH}")
        elif first in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for key, value in pairs:
        if key in result:
            raise InvalidInput("duplicate key", key)
        result[key] = value
    return result


def _refuse_float(text: str) -> NoReturn:
    raise InvalidInput(f"number {text[:40]} is not an integer")


def _integer(text: str) -> int:
    if len(text) > 17:
        raise InvalidInput(f"integer {text[:20]}... is beyond 2**53 - 1; send it as a decimal string")
    return int(text)


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH}", path)
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidInput("integer beyond 2**53 - 1; send it as a decimal string", path)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("lone surrogate in a string", path) from None
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"key {key!r} is not a string", path)
            _check(key, path, depth + 1)
            _check(item, f"{path}.{key}" if path else key, depth + 1)
    else:
        raise InvalidInput(f"{type(value).__name__} cannot be written as JSON here", path)
