"""The thread of the models: one job at a time, errors where they are awaited, no process that ends in its middle."""

import asyncio
import time

import pytest

from scoring.errors import Unavailable
from validator.audit.worker import Worker, is_any_busy


async def test_runs_one_job_after_the_other() -> None:
    worker, order = Worker(), []

    def job(number: int) -> int:
        time.sleep(0.02 * (3 - number))
        order.append(number)
        return number

    assert await asyncio.gather(*(worker.run(lambda n=n: job(n)) for n in range(3))) == [0, 1, 2]
    assert order == [0, 1, 2]
    worker.close()


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    worker = Worker()

    def fail() -> None:
        raise Unavailable("out of memory")

    with pytest.raises(Unavailable, match="out of memory"):
        await worker.run(fail)
    assert await worker.run(lambda: 5) == 5
    worker.close()


async def test_a_cancelled_job_is_finished_unheard() -> None:
    worker, done = Worker(), []
    task = asyncio.create_task(worker.run(lambda: (time.sleep(0.1), done.append(1))))
    await asyncio.sleep(0.02)
    task.cancel()
    await worker.finish()
    assert done == [1] and task.cancelled()
    worker.close()


def test_the_last_job_is_done_although_the_loop_has_ended() -> None:
    done = []

    async def leave() -> None:
        worker = Worker()
        job = asyncio.create_task(worker.run(lambda: time.sleep(0.2)))
        await asyncio.sleep(0.05)
        job.cancel()
        worker.close(lambda: done.append("closed"))

    asyncio.run(leave())
    assert is_any_busy(0.0)
    assert not is_any_busy(5.0)
    assert done == ["closed"]
