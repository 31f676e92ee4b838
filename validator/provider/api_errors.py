"""Errors in OpenAI's format, so that every client library shows them as it shows OpenAI's own.

{"error": {"message": "...", "type": "invalid_request_error", "param": "n", "code": "unsupported_value"}}
"""

import json
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from scoring.errors import InvalidInput, OracleError, Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TYPE_BY_STATUS = {429: "rate_limit_error", 500: "server_error", 502: "server_error", 503: "server_error"}
_MAX_MESSAGE_CHARACTERS = 1000

log = structlog.get_logger(__name__)


class ApiError(OracleError):
    """A refusal on its way to the client: an HTTP status and the members of OpenAI's error object."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int = 0
    ) -> None:
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        super().__init__(message)

    def to_json(self) -> dict[str, object]:
        """Return the error document."""
        message = str(self).encode("utf-8", errors="replace").decode()[:_MAX_MESSAGE_CHARACTERS]
        kind = _TYPE_BY_STATUS.get(self.status, "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def to_response(self) -> web.Response:
        """Return the HTTP response; a client that may try again is told when."""
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        return web.json_response(self.to_json(), status=self.status, headers=headers)


def build_stream_error(error: ApiError) -> bytes:
    """Return the event that ends a stream whose answer failed half-way."""
    return b"data: " + json.dumps(error.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def map_to_api_error(error: Exception) -> ApiError:
    """Return what the client is told about an error; what is unexpected stays in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InvalidInput):
        return ApiError(400, str(error), param=error.field or None, code="invalid_value")
    if isinstance(error, Unavailable):
        return ApiError(503, str(error), code="unavailable", retry_after_s=1)
    log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    return ApiError(500, "the server failed to answer this request", code="internal_error")


@web.middleware
async def map_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into OpenAI's format."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        if refusal.status < 400:
            raise
        code = {404: "unknown_url", 405: "method_not_allowed", 413: "body_too_large"}.get(refusal.status)
        return ApiError(refusal.status, f"{request.method} {request.path}: {refusal.reason}", code=code).to_response()
    except ConnectionError:
        # The client hung up; aiohttp notices when it tries to send this.
        log.info("client_gone", path=request.path)
        return web.Response(status=499)
    except Exception as error:  # noqa: BLE001  # the outermost boundary: logged with its trace, told as a 500
        return map_to_api_error(error).to_response()
