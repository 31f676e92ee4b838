"""Asks the audit's numbered requests: which probe, streamed or whole, and what its answer becomes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scoring.errors import InvalidInput
from validator.audit.answered import parse_answered
from validator.audit.asked import Asked
from validator.audit.asker import Asker
from validator.audit.discovery import WANTED_LOGPROBS, build_body
from validator.audit.endpoint import Failure
from validator.audit.facts import EndpointFacts
from validator.audit.http_exchange import AskLimits
from validator.audit.needles import build_needle, compute_needle_seed, find_depth
from validator.audit.outcomes import Entry, Origin, build_outcome
from validator.audit.plan import REPEAT_EVERY, ProbingPlan
from validator.audit.probe_source import DrawnProbe, ProbeSource
from validator.audit.records import Missing, Outcome
from validator.audit.worker import Worker

STREAMED_OF_FOUR, RARELY_STREAMED_OF_EIGHT = 3, 1
DRAW_AHEAD = 16


class Prober:
    """Turns the numbers of requests into entries. Prompts are drawn ahead in the worker, because a model may write
    them (`drawn` are there already); whether a request is streamed follows from its seed and what the endpoint offers.
    """

    def __init__(
        self,
        plan: ProbingPlan,
        facts: EndpointFacts,
        source: ProbeSource,
        worker: Worker,
        asker: Asker,
        *,
        drawn: Mapping[int, DrawnProbe],
        asks_greedy: bool = False,
        asks_needles: bool = False,
    ) -> None:
        self._plan = plan
        self._facts = facts
        self._source = source
        self._worker = worker
        self._asker = asker
        self._asks_greedy = asks_greedy
        self._asks_needles = asks_needles
        self._probes = dict(drawn)
        self._leaves_out = dict(facts.refused)
        self._drawing = asyncio.Lock()

    @property
    def served_model(self) -> str:
        """What the endpoint calls the model."""
        return self._facts.served_model

    @property
    def is_drawing(self) -> bool:
        """Whether requests wait for their prompts."""
        return self._drawing.locked()

    @property
    def wait_left_s(self) -> float:
        """How long requests still wait, because the endpoint asked for it."""
        return self._asker.wait_left_s

    async def draw(self, indices: Sequence[int]) -> None:
        """Draw the probes of these requests, and some that follow, unless they are there."""
        async with self._drawing:
            await self._draw(indices)

    async def ask(self, index: int) -> Entry | Failure:
        """Ask request `index` and return what became of it; the failure when the endpoint asks for too long a wait."""
        await self.draw([index])
        origin, asked = self.build(index)
        streaming = {"stream_options": {"include_usage": True}} if self._facts.has_stream_usage else {}
        found = await self._asker.ask(
            build_body(
                asked,
                self._facts.served_model,
                leaves_out=self._leaves_out,
                more=streaming if asked.is_streamed else None,
            ),
            AskLimits(
                max_tokens=asked.max_tokens or 1,
                logprobs=0 if "logprobs" in self._leaves_out else 1 + WANTED_LOGPROBS,
                is_streamed=asked.is_streamed,
            ),
        )
        if isinstance(found, Failure) and found.is_long_wait:
            return found
        if isinstance(found, Failure):
            outcome: Outcome = _build_missing(index, found)
        else:
            # How it came, not how it was asked for: some servers ignore `stream`.
            asked = replace(asked, is_streamed=found.is_streamed)
            try:
                outcome = build_outcome(origin, asked, parse_answered(found.document, asked.max_tokens), found.timing)
            except InvalidInput as error:
                outcome = Missing(index=index, reason="malformed", detail=str(error)[:300], timing=found.timing)
        return Entry(origin=origin, asked=asked, outcome=outcome)

    def build(self, index: int) -> tuple[Origin, Asked]:
        """Return where request `index` comes from and what it asks; its probe has been drawn."""
        if (depth := self._find_depth(index)) is not None:
            return self._build_needle(index, depth)
        first = self._find_original(index)
        probe, seed = self._probes[first], self._plan.compute_probe_seed(first)
        is_repeat = first != index
        origin = Origin(
            index=index,
            sampler=self._facts.sampler,
            is_drawn=True,
            stratum=probe.stratum,
            probe_seed=seed,
            repeat_of=first if is_repeat else None,
        )
        is_streamed = self._is_streamed(seed) != is_repeat
        asked = probe.build_asked(
            leaves_out=self._leaves_out,
            is_streamed=is_streamed,
            is_greedy=self._asks_greedy and self._plan.is_greedy(first),
        )
        return origin, asked

    def _build_needle(self, index: int, depth_percent: int) -> tuple[Origin, Asked]:
        seed = compute_needle_seed(self._plan, index)
        probe = build_needle(seed, depth_percent)
        origin = Origin(index=index, is_drawn=True, stratum=probe.stratum, probe_seed=seed)
        return origin, probe.build_asked(leaves_out=self._leaves_out, is_streamed=self._is_streamed(seed))

    async def _draw(self, indices: Sequence[int]) -> None:
        wanted = {self._find_original(index) for index in indices if self._find_depth(index) is None}
        missing = sorted(wanted - self._probes.keys())
        if not missing:
            return
        ahead = range(missing[-1] + 1, min(missing[-1] + DRAW_AHEAD, self._plan.requests))
        first = [index for index in ahead if not self._is_repeat(index) and self._find_depth(index) is None]
        batch = [*missing, *(index for index in first if index not in self._probes)]
        seeds = [self._plan.compute_probe_seed(index) for index in batch]
        probes = await self._worker.run(lambda: self._source.draw(seeds))
        self._probes.update(zip(batch, probes, strict=True))

    def _find_depth(self, index: int) -> int | None:
        return find_depth(index) if self._asks_needles else None

    def _is_repeat(self, index: int) -> bool:
        if not self._facts.streams:
            return False
        if self._facts.repeats_seed or self._plan.temperature_max_ppm == 0:
            return index % REPEAT_EVERY == REPEAT_EVERY - 1
        # Without a seed only a request at temperature 0 can be asked again.
        return self._asks_greedy and index % REPEAT_EVERY == 0 and index > 0 and self._plan.is_greedy(index - 1)

    def _find_original(self, index: int) -> int:
        return index - 1 if self._is_repeat(index) else index

    def _is_streamed(self, seed: bytes) -> bool:
        """Say whether a request is streamed: mostly, unless a stream tells less than a whole answer."""
        if not self._facts.streams:
            return False
        if self._facts.has_stream_token_ids >= self._facts.has_token_ids:
            return seed[-1] % 4 < STREAMED_OF_FOUR
        return seed[-1] % 8 < RARELY_STREAMED_OF_EIGHT


def _build_missing(index: int, failure: Failure) -> Missing:
    reason = failure.reason.value if failure.status is None else f"http-{failure.status}"
    return Missing(
        index=index,
        reason=reason,
        detail=failure.detail,
        is_provider_fault=failure.is_provider_fault,
        timing=failure.timing,
    )
