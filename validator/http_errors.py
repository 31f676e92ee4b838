"""How errors leave the node over HTTP: one middleware, one JSON form, sizes bounded before anything is parsed.

{"error": {"type": "InvalidInput", "message": "...", "field": "..."}} with 400 for what was sent wrong, 403 for what
does not verify, 409 for a refusal to sign, 429 for too many requests, 503 for what is not available now.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput, MissingExtra, OracleError, RefusedToSign, Unavailable, VerificationFailed

MAX_REQUEST_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
JSON_CONTENT_TYPE = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RateLimited(OracleError):
    """The sender asks too much at once; it may try again later."""


class NotFound(OracleError):
    """There is nothing under this name."""


_STATUS_BY_ERROR: tuple[tuple[type[OracleError], int], ...] = (
    (InvalidInput, 400),
    (VerificationFailed, 403),
    (NotFound, 404),
    (RefusedToSign, 409),
    (RateLimited, 429),
    (MissingExtra, 501),
    (Unavailable, 503),
    (OracleError, 500),
)


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn OracleError and aiohttp's own refusals into the JSON form; what is unexpected stays a 500 in the log."""
    try:
        return await handler(request)
    except OracleError as error:
        status = next(status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind))
        return build_error_response(status, type(error).__name__, str(error), getattr(error, "field", ""))
    except web.HTTPException as refusal:
        if refusal.status < 400:
            raise
        return build_error_response(refusal.status, "Http", refusal.reason or "", "", dict(refusal.headers))


def build_error_response(
    status: int, kind: str, message: str, field: str = "", headers: dict[str, str] | None = None
) -> web.Response:
    """Return the JSON form of an error."""
    kept = {name: value for name, value in (headers or {}).items() if name == "Allow"}
    document: dict[str, Json] = {"error": {"type": kind, "message": _printable(message), "field": _printable(field)}}
    return web.Response(status=status, body=canonical.encode(document), content_type=JSON_CONTENT_TYPE, headers=kept)


def build_json_response(document: Json, headers: dict[str, str] | None = None) -> web.Response:
    """Return a document as canonical JSON."""
    return web.Response(body=canonical.encode(document), content_type=JSON_CONTENT_TYPE, headers=headers)


def build_app(max_request_bytes: int = MAX_REQUEST_BYTES) -> web.Application:
    """Return an application with the error middleware and a bound on bodies; routes are added by their owners."""
    return web.Application(middlewares=[map_errors], client_max_size=max_request_bytes)


async def read_body(request: web.Request, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Read a request body of at most `max_bytes` within a time; raises InvalidInput on more, slower or broken off."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise InvalidInput(f"body of {request.content_length} bytes is over the limit of {max_bytes}", "body")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidInput("compressed bodies are refused", "body")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > max_bytes:
                    raise InvalidInput(f"body is over the limit of {max_bytes} bytes", "body")
                chunks.append(chunk)
    except TimeoutError:
        raise InvalidInput(f"body did not arrive within {timeout_s} s", "body") from None
    except (OSError, HttpProcessingError, web.RequestPayloadError, web.PayloadAccessError) as error:
        raise InvalidInput(f"body broke off: {type(error).__name__}", "body") from None
    return b"".join(chunks)


def _printable(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode()[:1000]
