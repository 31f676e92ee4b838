"""The URL of an endpoint as people write it."""

from urllib.parse import urlsplit

from scoring.errors import InvalidInput


def parse_base_url(endpoint: str) -> str:
    """Return the base of an endpoint's URL, without a trailing `/v1` or route; raises InvalidInput."""
    url = endpoint.strip().rstrip("/")
    for suffix in ("/chat/completions", "/v1"):
        url = url.removesuffix(suffix)
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or 0 < parts.port < 65536
    except ValueError as error:
        raise InvalidInput(f"not a URL: {error}", "--endpoint") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise InvalidInput("expected a URL such as https://api.example.com or http://127.0.0.1:8000/v1", "--endpoint")
    if parts.username or parts.password:
        raise InvalidInput("no user or password in the URL: name a variable with --api-key-env", "--endpoint")
    if parts.query or parts.fragment:
        raise InvalidInput("no query or fragment in the URL", "--endpoint")
    return url
