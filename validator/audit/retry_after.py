"""How long an endpoint asks us to wait."""

import time
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 60.0
"""An audit waits so long at most: who asks for more is told to people instead."""
MAX_TOLD_S = 366 * 86_400.0


def parse_retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After header (a number or a date), 0 to a year; None when it says nothing."""
    text = text.strip()[:64]
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    # A NaN fails both comparisons and is no answer.
    return min(max(seconds, 0.0), MAX_TOLD_S) if seconds == seconds else None
