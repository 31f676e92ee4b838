"""Downloading for the command line: bounded in bytes and time, no redirects, errors mapped once."""

import time

import httpx

from scoring.errors import InvalidInput, Unavailable

TIMEOUT_S = 20.0


def download(url: str, max_bytes: int) -> bytes:
    """Return the body of a GET; raises Unavailable or InvalidInput. `TIMEOUT_S` bounds the whole download."""
    if not url.startswith(("https://", "http://")):
        raise InvalidInput("expected a URL with http:// or https://", "url")
    deadline_s = time.monotonic() + TIMEOUT_S
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client, client.stream("GET", url) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise InvalidInput(f"{url} sent more than {max_bytes} bytes")
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"{url}: the answer took longer than {TIMEOUT_S} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url}: {type(error).__name__}: {str(error)[:200]}") from error
    if response.status_code != httpx.codes.OK:
        raise Unavailable(f"{url}: answered with status {response.status_code}: {bytes(body[:200])!r}")
    return bytes(body)
