"""A token bucket for each remote address: what a client may ask for before it is told to wait."""

from collections import OrderedDict
from dataclasses import dataclass

MAX_TRACKED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Requests per second in the long run, and how many may come at once."""

    per_s: float
    burst: int


class RateLimiter:
    """Counts requests by key; the least recently seen key is forgotten when there are too many. Reads no clock."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now_s: float) -> bool:
        """Take one request from a key's bucket; False when it is empty."""
        tokens, seen_s = self._buckets.pop(key, (float(self._rate.burst), now_s))
        tokens = min(float(self._rate.burst), tokens + max(0.0, now_s - seen_s) * self._rate.per_s)
        is_allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if is_allowed else tokens, now_s)
        if len(self._buckets) > MAX_TRACKED:
            self._buckets.popitem(last=False)
        return is_allowed
