"""The server behind the proxy: one HTTP client with limits, its failures told as 502 and 504 in OpenAI's format."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from validator.provider.api_errors import ApiError
from validator.provider.config import ProxyConfig

# RFC 9110 section 7.6.1, and what the two connections settle for themselves.
_NOT_COPIED = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "host", "content-length", "accept-encoding", "expect",
    }
)  # fmt: skip
CONNECT_TIMEOUT_S = 10.0


class Upstream:
    """Sends requests to the one configured server; use as an async context manager."""

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config
        self._root = config.upstream.rstrip("/").removesuffix("/v1")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Upstream":
        timeout = aiohttp.ClientTimeout(
            total=self._config.upstream_timeout_s,
            connect=CONNECT_TIMEOUT_S,
            sock_read=self._config.chunk_timeout_s,
        )
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=self._config.max_pending),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(self, request: web.Request, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a client's request on, with another body; raises ApiError 502 or 504 also while the answer is read."""
        if self._session is None:
            raise RuntimeError("Upstream is used outside `async with`")
        headers = copy_headers(request.headers.items())
        for name, value in self._config.upstream_headers:
            headers[name] = value
        # Unencoded answers only: the receipt speaks of text that we have to see.
        headers["Accept-Encoding"] = "identity"
        try:
            async with self._session.request(
                request.method, self._build_url(request), headers=headers, data=body or None, allow_redirects=False
            ) as response:
                yield response
        except TimeoutError:
            raise ApiError(504, "the upstream server did not answer in time", code="upstream_timeout") from None
        except aiohttp.ClientConnectorError as error:
            raise ApiError(502, "the upstream server cannot be reached", code="upstream_unreachable") from error
        except aiohttp.ClientError as error:
            text = f"the upstream server broke off: {type(error).__name__}"
            raise ApiError(502, text, code="upstream_failed") from error

    def _build_url(self, request: web.Request) -> URL:
        path = request.rel_url.path  # percent-decoded: the upstream will decode it too
        if not path.startswith("/v1/") or any(part in (".", "..") for part in path.split("/")):
            raise ApiError(404, "only paths below /v1/ are passed on", code="unknown_url")
        return URL(self._root + request.rel_url.raw_path_qs, encoded=True)


def copy_headers(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """Return the headers that travel on, end to end."""
    return CIMultiDict((name, value) for name, value in headers if name.lower() not in _NOT_COPIED)
