"""How long an endpoint asks us to wait, within bounds, and how failures that may pass are tried again."""

import time
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 60.0


def parse_retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After header (a number or a date), 0 to 60; None when it says nothing."""
    text = text.strip()[:64]
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    # A NaN fails both comparisons and is no answer.
    return min(max(seconds, 0.0), MAX_WAIT_S) if seconds == seconds else None
