"""A clock for an event loop that stands still while its threads wait for a processor.

All seats of a simulation share one loop and one process. When other work holds the processors, real time goes on while
no seat can do anything, and phases end that nobody had the chance to take part in: a failure of the machine and not of
the protocol. Linux counts for each thread how long it was ready to run and did not (/proc/.../schedstat, in
nanoseconds); that much is taken off.
"""

import asyncio
import time
from pathlib import Path

TASKS = Path("/proc/self/task")
READ_EVERY_S = 0.005


class FairClock:
    """Seconds like `time.monotonic`, less what the threads of this process were kept waiting; never goes back."""

    def __init__(self) -> None:
        self._now_s = self._real_s = time.monotonic()
        self._waited_s = _read_waited_s()

    def now(self) -> float:
        """Return the time of this clock."""
        real_s = time.monotonic()
        if real_s - self._real_s < READ_EVERY_S:
            return self._now_s
        waited_s = _read_waited_s()
        self._now_s += max(real_s - self._real_s - max(waited_s - self._waited_s, 0.0), 0.0)
        self._real_s, self._waited_s = real_s, waited_s
        return self._now_s


def install_fair_clock(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop count its timers by a fair clock, once; without schedstat it keeps its own."""
    if TASKS.is_dir() and not isinstance(getattr(loop.time, "__self__", None), FairClock):
        loop.time = FairClock().now  # type: ignore[method-assign]


def _read_waited_s() -> float:
    total = 0
    for task in TASKS.iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread has just ended, or this kernel does not count
    return total / 1e9
