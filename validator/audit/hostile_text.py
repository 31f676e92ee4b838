"""Text from strangers on its way to a screen or a log: one line, printable, short."""

from scoring.errors import InvalidInput
from validator.hostile_json import parse_hostile_json

MAX_ERROR_BYTES = 16 * 1024


def read_error_message(body: bytes) -> str:
    """Return what the body of an error response says, in OpenAI's format or any other."""
    try:
        found = parse_hostile_json(body, MAX_ERROR_BYTES)
    except InvalidInput:
        return make_printable(body.decode("utf-8", errors="replace"))
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message") if isinstance(error, dict) else error
    return make_printable(message if isinstance(message, str) else body.decode("utf-8", errors="replace"))


def make_printable(text: str, limit: int = 300) -> str:
    """Return text as one line without control characters or lone surrogates, of at most `limit` characters."""
    line = " ".join(text[: 4 * limit].split())
    kept = "".join(character if character.isprintable() else "?" for character in line)
    return kept if len(kept) <= limit else kept[: limit - 3] + "..."
