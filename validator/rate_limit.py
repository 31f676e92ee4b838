"""Token buckets by key: how often somebody may come. Memory is bounded, time is passed in."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MAX_KEYS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`per_s` arrivals a second in the long run, `burst` at once."""

    per_s: float
    burst: int


class RateLimiter:
    """One bucket for each key, all of one rate; the least recently seen key is forgotten beyond 4096.

    `now_s` is a monotonic clock in seconds.
    """

    def __init__(self, rate: Rate, now_s: Callable[[], float]) -> None:
        self._rate = rate
        self._now_s = now_s
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def is_allowed(self, key: Hashable) -> bool:
        """Take one token of the key; False when there is none."""
        now_s = self._now_s()
        tokens, since_s = self._buckets.pop(key, (float(self._rate.burst), now_s))
        tokens = min(float(self._rate.burst), tokens + (now_s - since_s) * self._rate.per_s)
        is_allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if is_allowed else tokens, now_s)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        return is_allowed
