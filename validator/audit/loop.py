"""The audit's one loop: ask with bounded concurrency, keep every answer, examine in batches, stop as soon as it knows.

Requests are examined in the order of their numbers, whatever order the answers came in: a provider cannot choose by
its delays what is looked at first, and an audit that was interrupted ends where an uninterrupted one would have.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from validator.audit.endpoint import Endpoint, Failure
from validator.audit.journal import Journal
from validator.audit.needles import can_afford, estimate_tokens
from validator.audit.outcomes import Entry
from validator.audit.probe_source import LONGEST_PROMPT_TOKENS
from validator.audit.prober import Prober
from validator.audit.progress import Ended, Progress
from validator.audit.records import Appraisal, Examiner, Missing
from validator.audit.worker import Worker

MIN_BATCH, MAX_BATCH = 8, 16
"""A batch costs the alternatives' weights once, whatever its size: a few answers more are worth a short wait."""
MAX_HOLD_S = 5.0
REPORT_EVERY_S = 1.0
MAX_SILENCE = 10
"""So many requests in a row without any answer end an audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """`concurrency` requests are in flight at most; `budget_tokens` bounds prompts and answers together."""

    concurrency: int = 4
    budget_tokens: int | None = None

    @property
    def ahead(self) -> int:
        """How far asking may run ahead of the evidence: one batch in the examiner, one on its way."""
        return MIN_BATCH + max(MIN_BATCH, self.concurrency)


class AuditLoop:
    """One audit of one endpoint. `report` is called whenever something changed."""

    def __init__(
        self,
        progress: Progress,
        limits: LoopLimits,
        *,
        endpoint: Endpoint,
        prober: Prober,
        examiner: Examiner,
        worker: Worker,
        journal: Journal,
        report: Callable[[Progress], None],
    ) -> None:
        self._progress = progress
        self._limits = limits
        self._endpoint = endpoint
        self._prober = prober
        self._examiner = examiner
        self._worker = worker
        self._journal = journal
        self._report = report
        self._asking: dict[asyncio.Task[Entry | Failure], int] = {}
        self._examining: asyncio.Task[Sequence[Appraisal]] | None = None
        self._silent = 0
        self._ready_since_s: float | None = None

    async def run(self) -> Ended:
        """Run until it is decided or nothing more may be asked; raises Unavailable when the reference fails."""
        start_s = time.monotonic() - self._progress.seconds
        try:
            while (ended := self._find_end()) is None:
                self._start_asking()
                self._start_examining()
                await self._wait()
                self._progress.seconds = time.monotonic() - start_s
                self._progress.doing = self._describe_work()
                self._report(self._progress)
            self._progress.ended = ended
            return ended
        finally:
            self._progress.seconds = time.monotonic() - start_s
            await self._cancel()

    def _find_end(self) -> Ended | None:
        progress = self._progress
        if progress.evidence is not None and progress.evidence.is_settled:
            return Ended.DECIDED
        is_idle = not self._asking and self._examining is None and not progress.take_ready(1)
        return self._find_limit() if is_idle else None

    def _find_limit(self) -> Ended | None:
        """Return the limit that keeps the next request from being asked, None when there is none."""
        if self._progress.told_wait_s is not None:
            return Ended.THROTTLED
        if self._silent >= MAX_SILENCE:
            return Ended.SILENCE
        if self._next_index() >= self._progress.plan.requests:
            return Ended.REQUESTS
        if self._endpoint.is_exhausted:
            return Ended.BYTES
        budget = self._limits.budget_tokens
        if budget is not None and self._progress.spent_tokens + self._reserved_tokens() > budget:
            return Ended.TOKENS
        return None

    def _start_asking(self) -> None:
        last = self._progress.examined + self._limits.ahead
        while len(self._asking) < self._limits.concurrency and self._find_limit() is None and self._next_index() < last:
            index = self._next_index()
            self._asking[asyncio.create_task(self._prober.ask(index))] = index
            self._progress.in_flight = len(self._asking)

    def _start_examining(self) -> None:
        ready = self._progress.take_ready(MAX_BATCH)
        if self._examining is None and ready and self._is_worthwhile(len(ready)):
            self._ready_since_s = None
            outcomes = [entry.outcome for entry in ready]
            self._examining = asyncio.create_task(self._worker.run(lambda: self._examiner.examine(outcomes)))

    def _describe_work(self) -> str:
        if self._prober.is_drawing:
            return "drawing prompts"
        if (wait_s := self._prober.wait_left_s) >= 1.0:
            return f"waiting {wait_s:.0f} s, as the endpoint asks"
        return "" if self._examining is None else "re-running answers"

    def _is_worthwhile(self, count: int) -> bool:
        """Say whether to examine so many answers now, rather than wait for those in flight."""
        now_s = time.monotonic()
        if self._ready_since_s is None:
            self._ready_since_s = now_s
        return count >= MIN_BATCH or not self._asking or now_s - self._ready_since_s > MAX_HOLD_S

    async def _wait(self) -> None:
        waiting: set[asyncio.Task[Entry | Failure] | asyncio.Task[Sequence[Appraisal]]] = {*self._asking}
        if self._examining is not None:
            waiting.add(self._examining)
        await asyncio.wait(waiting, timeout=REPORT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._asking if task.done()]:
            del self._asking[task]
            self._keep(task.result())
        self._progress.in_flight = len(self._asking)
        if self._examining is not None and self._examining.done():
            appraisals, self._examining = self._examining.result(), None
            for appraisal in appraisals:
                self._progress.fold(appraisal)

    def _keep(self, entry: Entry | Failure) -> None:
        """Put an answer on the disk, then count it. What we are told to ask later is asked when the audit goes on."""
        if isinstance(entry, Failure):
            self._progress.told_wait_s = entry.retry_after_s
            return
        self._journal.append_entry(entry, self._prober.served_model)
        self._progress.add(entry)
        self._silent = self._silent + 1 if isinstance(entry.outcome, Missing) else 0
        self._progress.received_bytes = self._endpoint.received_bytes

    def _next_index(self) -> int:
        taken = {*self._progress.entries, *self._asking.values()}
        index = self._progress.examined
        while index in taken:
            index += 1
        return index

    def _reserved_tokens(self) -> int:
        """Return what the requests in flight and one more may cost."""
        plan = self._progress.plan
        usual = self._progress.longest_request_tokens or LONGEST_PROMPT_TOKENS + plan.max_tokens
        waiting = (*self._asking.values(), self._next_index())
        if not can_afford(self._limits.budget_tokens):
            return len(waiting) * usual
        return sum(max(estimate_tokens(plan, index) or 0, usual) for index in waiting)

    async def _cancel(self) -> None:
        tasks = [*self._asking, *([] if self._examining is None else [self._examining])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._asking.clear()
        self._progress.in_flight = 0
