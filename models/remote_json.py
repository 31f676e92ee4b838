"""JSON that a server wrote: any numbers but NaN and infinities, nothing that nests deeply."""

import json
from typing import NoReturn

from scoring.canonical import verify_depth
from scoring.errors import InvalidInput


def parse_remote_json(data: bytes) -> object:
    """Return the document; raises InvalidInput when the bytes are none."""
    try:
        text = data.decode("utf-8")
        verify_depth(text)
        document: object = json.loads(text, parse_constant=_refuse)
    except (ValueError, InvalidInput):
        raise InvalidInput("is not JSON") from None
    return document


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)
