"""The URL of an endpoint as people write it."""

from urllib.parse import urlsplit

from scoring.errors import InvalidInput


def parse_base_url(endpoint: str, option: str = "--endpoint") -> str:
    """Return the base of a URL, without a trailing `/v1` or route; raises InvalidInput with the option's name."""
    url = endpoint.strip().rstrip("/")
    for suffix in ("/chat/completions", "/v1"):
        url = url.removesuffix(suffix)
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or 0 < parts.port < 65536
    except ValueError as error:
        raise InvalidInput(f"not a URL: {error}", option) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise InvalidInput("expected a URL such as https://api.example.com or http://127.0.0.1:8000/v1", option)
    if parts.username or parts.password:
        raise InvalidInput("no user or password in the URL: name a variable that holds the key", option)
    if parts.query or parts.fragment:
        raise InvalidInput("no query or fragment in the URL", option)
    return url
