"""Server-sent events, as far as OpenAI's streams use them: one `data:` line and an empty line for each event."""

import json
from collections.abc import Iterator

from scoring.errors import InvalidInput

DONE = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 4 * 1024 * 1024


def encode_event(document: object) -> bytes:
    """Return the bytes of one event."""
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventSplitter:
    """Cuts a byte stream into events, each with its terminating empty line, whatever the chunks were."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._held = bytearray()
        self._seen = 0

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that are complete now; raises InvalidInput when one grows over the limit."""
        self._held += chunk
        while (end := self._find_end()) >= 0:
            event = bytes(self._held[:end])
            del self._held[:end]
            self._seen = 0
            yield event
        if len(self._held) > self._max_event_bytes:
            raise InvalidInput(f"an event of the stream is over {self._max_event_bytes} bytes", "stream")

    @property
    def rest(self) -> bytes:
        """What came after the last complete event."""
        return bytes(self._held)

    def _find_end(self) -> int:
        # Looks only at what is new (and three bytes before): a slow trickle must not cost quadratic time.
        start = max(0, self._seen - 3)
        self._seen = len(self._held)
        ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := self._held.find(mark, start)) >= 0]
        return min(ends, default=-1)


def read_data(event: bytes) -> bytes | None:
    """Return the joined data lines of an event, None when it has none (a comment, a name)."""
    lines = [line[5:].removeprefix(b" ") for line in event.replace(b"\r\n", b"\n").split(b"\n") if line[:5] == b"data:"]
    return b"\n".join(lines) if lines else None
