"""Downloading for the command line: bounded in bytes and time, no redirects, errors mapped once."""

import httpx

from scoring.errors import InvalidInput, Unavailable

TIMEOUT_S = 20.0


def download(url: str, max_bytes: int) -> bytes:
    """Return the body of a GET; raises Unavailable or InvalidInput."""
    try:
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client, client.stream("GET", url) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise InvalidInput(f"{url} sent more than {max_bytes} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url}: {type(error).__name__}: {str(error)[:200]}") from error
    if response.status_code != httpx.codes.OK:
        raise Unavailable(f"{url}: answered with status {response.status_code}: {bytes(body[:200])!r}")
    return bytes(body)
