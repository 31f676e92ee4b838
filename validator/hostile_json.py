"""JSON from adversaries: every limit is checked before the parser that it protects, and nothing unusual gets through.

Unlike `scoring.canonical` this takes floating-point numbers, because answers hold log probabilities. Unless the
caller wants their values, each becomes DROPPED_NUMBER, which no field of ours accepts, so a float in the place of an
integer is refused and a float elsewhere costs nothing.
"""

import json
import math
from typing import Final, NoReturn

from scoring.canonical import verify_depth
from scoring.errors import InvalidInput

MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 16


class _DroppedNumber:
    __slots__ = ()

    def __repr__(self) -> str:
        return "DROPPED_NUMBER"


DROPPED_NUMBER: Final = _DroppedNumber()


def parse_hostile_json(data: bytes, max_bytes: int, *, keeps_numbers: bool = False) -> object:
    """Parse JSON bytes into dicts, lists, strings, integers, booleans, None and DROPPED_NUMBER (or floats, if kept).

    Raises InvalidInput on oversize, bad UTF-8, a byte-order mark, nesting over 32, duplicate keys, NaN or Infinity (a
    kept float that overflows included), integers of more than 16 digits, and anything that is not JSON.
    """
    if len(data) > max_bytes:
        raise InvalidInput(f"document of {len(data)} bytes is over the limit of {max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8 at byte {error.start}") from None
    verify_depth(text)
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_float if keeps_numbers else lambda _: DROPPED_NUMBER,
            parse_constant=_refuse_constant,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise InvalidInput(f"not JSON: {error.msg} at character {error.pos}") from None
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidInput("duplicate key in an object")
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is not a number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidInput(f"number {text[:20]}... is too large")
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise InvalidInput(f"integer {text[:20]}... has more than {MAX_INTEGER_DIGITS} digits")
    return int(text)
