"""Asks one request as often as it takes, within bounds: waits when told to, tries again what may pass, gives up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from validator.audit.endpoint import Endpoint, Failure
from validator.audit.http_exchange import AskLimits, Reply
from validator.fetch import FailureReason

MAX_TRIES = 4
FIRST_PAUSE_S = 0.5
DEFAULT_WAIT_S = 2.0
NOTED_WAIT_S = 5.0
NOT_IMPLEMENTED = 501
_MAY_PASS = frozenset(
    {FailureReason.CONNECT, FailureReason.DISCONNECTED, FailureReason.OWN_NETWORK, FailureReason.OWN_STALL}
)


class Asker:
    """Asks an endpoint. When it asks us to wait (429, 503 with Retry-After) all requests wait, and `report` hears of
    it; one that asks for more than MAX_WAIT_S is not waited for.
    """

    def __init__(self, endpoint: Endpoint, report: Callable[[str], None] = lambda text: None) -> None:
        self._endpoint = endpoint
        self._report = report
        self._not_before_s = 0.0
        self.waits = 0

    @property
    def wait_left_s(self) -> float:
        """How long all requests still wait, because the endpoint asked for it."""
        return max(0.0, self._not_before_s - asyncio.get_running_loop().time())

    async def ask(self, body: Mapping[str, object], limits: AskLimits) -> Reply | Failure:
        """Return the answer, or the last of at most MAX_TRIES failures. A probe is asked again unchanged."""
        return await self._try(lambda: self._endpoint.ask(body, limits), may_pass)

    async def get(self, path: str) -> Reply | Failure:
        """Return the JSON object at a path in the same way; that nobody is there is told at once."""
        return await self._try(
            lambda: self._endpoint.get(path),
            lambda failure: may_pass(failure) and failure.reason is not FailureReason.CONNECT,
        )

    async def _try(
        self, send: Callable[[], Awaitable[Reply | Failure]], is_worth_it: Callable[[Failure], bool]
    ) -> Reply | Failure:
        pause_s = FIRST_PAUSE_S
        for number in range(1, MAX_TRIES + 1):
            await self._wait()
            found = await send()
            if isinstance(found, Reply) or number == MAX_TRIES or found.is_long_wait or not is_worth_it(found):
                return found
            if found.status == 429 or found.retry_after_s is not None:
                self._hold(DEFAULT_WAIT_S * number if found.retry_after_s is None else found.retry_after_s)
            else:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        raise AssertionError("the loop returns")

    def _hold(self, wait_s: float) -> None:
        self.waits += 1
        # Once for all requests that are told the same.
        if wait_s >= NOTED_WAIT_S and wait_s > 1.1 * self.wait_left_s:
            self._report(f"the endpoint asks to wait {wait_s:,.0f} s")
        self._not_before_s = max(self._not_before_s, asyncio.get_running_loop().time() + wait_s)

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        # Another request may have been told to wait longer meanwhile.
        while loop.time() < self._not_before_s:  # noqa: ASYNC110
            await asyncio.sleep(self._not_before_s - loop.time())


def may_pass(failure: Failure) -> bool:
    """Say whether a failure is worth another try: refused for now, a server's error, a broken connection."""
    status = failure.status or 0
    return failure.reason in _MAY_PASS or status == 429 or (status >= 500 and status != NOT_IMPLEMENTED)
