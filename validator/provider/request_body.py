"""Reading a JSON request body from a stranger: bounded in bytes, time and depth before anything looks at it."""

import asyncio
import json
from typing import Any, NoReturn

from aiohttp import web

from scoring.canonical import verify_depth
from scoring.errors import InvalidInput
from validator.provider.api_errors import ApiError

BODY_TIMEOUT_S = 20.0


async def read_body(request: web.Request, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Return the body; raises ApiError 413 when it is larger, 408 when slower, 400 when it breaks off."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {timeout_s:g} s", code="body_timeout") from None
    except (OSError, web.PayloadAccessError) as error:
        raise ApiError(400, f"the body broke off: {type(error).__name__}", code="body_incomplete") from None
    return b"".join(chunks)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises ApiError 400 on anything else, duplicate keys and NaN included."""
    try:
        text = body.decode("utf-8")
        verify_depth(text)
        document = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _not_json(f"not UTF-8 at byte {error.start}") from None
    except InvalidInput:
        raise _not_json("nested too deeply") from None
    except ValueError as error:
        raise _not_json(str(error)) from None
    if not isinstance(document, dict):
        raise _not_json("expected an object")
    return document


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the body is over the limit of {max_bytes} bytes", code="body_too_large")


def _not_json(reason: str) -> ApiError:
    return ApiError(400, f"the body is not a JSON object: {reason}", code="invalid_json")
