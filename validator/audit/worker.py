"""One background thread for all that touches a model, one call at a time; it never keeps the program from ending."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
THREAD_NAME = "audit-worker"


def is_any_busy(patience_s: float = 1.0) -> bool:
    """Say whether a worker of this process is still at work after a moment.

    A thread inside of torch must not meet the end of the interpreter: that aborts the process.
    """
    threads = [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    for thread in threads:
        thread.join(patience_s)
    return any(thread.is_alive() for thread in threads)


class Worker:
    """Runs functions in its thread in the order in which they were asked for."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    async def run(self, function: Callable[[], T]) -> T:
        """Return what a function returns, or raise what it raises; cancelling leaves it to finish unheard."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((function, future))
        return await future

    async def finish(self) -> None:
        """Wait until the thread has nothing to do."""
        await self.run(lambda: None)

    def close(self, last: Callable[[], object] = lambda: None) -> None:
        """Let the thread end after the jobs that it has and a last one, without waiting for it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put((last, future))
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            try:
                result, error = function(), None
            except Exception as problem:  # noqa: BLE001  # raised again where the result is awaited
                result, error = None, problem
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                continue  # The loop has ended: nobody is left to tell, but the last job is still to be done.


def _settle(future: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
