"""Probing: send each drawn probe, check the receipt, score the answer.

What goes wrong is an outcome, not an exception. Reasons are fixed words: no bytes of a provider get into a record.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from challenges.probing import DrawnProbe, build_probe_request, verify_probe_answer
from challenges.receipt import Answer, SignedReceipt
from models.requests import ChatMessage
from scoring import canonical
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import ZERO_DIGEST, ProbeOutcome
from validator.fetch import FetchedAnswer, FetchFailure, FetchLimits, ProviderClient
from validator.scorer import ClaimedAnswer, Scorer, Unscored
from validator.transcript import Transcript, build_transcript

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The outcome of one probe, and the transcript when there was a receipted answer."""

    outcome: ProbeOutcome
    transcript: Transcript | None


class Observer:
    """Observes the probes of one epoch after another.

    `similarity_every` n measures similarity on one probe in n; `concurrency` bounds the requests under way at once;
    `phase_s` bounds the whole: what has no outcome by then has none because of us.
    """

    def __init__(
        self,
        client: ProviderClient,
        scorer: Scorer,
        domain: Domain,
        vocabulary_size: int,
        now_s: Callable[[], int],
        similarity_every: int = 4,
        concurrency: int = 32,
        phase_s: float = 90.0,
    ) -> None:
        self._client = client
        self._scorer = scorer
        self._domain = domain
        self._vocabulary_size = vocabulary_size
        self._now_s = now_s
        self._similarity_every = similarity_every
        self._slots = asyncio.Semaphore(concurrency)
        self._phase_s = phase_s

    async def observe(self, epoch: int, drawn: Sequence[DrawnProbe]) -> tuple[Observation, ...]:
        """Return one observation for each probe, in the order given."""
        self._client.forget_before(epoch)
        deadline_s = asyncio.get_running_loop().time() + self._phase_s
        return tuple(await asyncio.gather(*(self._observe_in_time(epoch, probe, deadline_s) for probe in drawn)))

    async def _observe_in_time(self, epoch: int, drawn: DrawnProbe, deadline_s: float) -> Observation:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._observe_one(epoch, drawn)
        except TimeoutError:
            unscored = Unscored(reason="own-deadline", is_provider_fault=False)
            return Observation(outcome=_build_unscored(drawn, unscored, 0, 0), transcript=None)

    async def _observe_one(self, epoch: int, drawn: DrawnProbe) -> Observation:
        await asyncio.sleep(drawn.probe.delay_ms / 1000)
        offer = drawn.offer.offer
        limits = FetchLimits.for_offer(offer, drawn.probe.max_tokens, self._vocabulary_size)
        request = build_probe_request(drawn)
        # In the order of the draw: our own line, and on a devnet our own cores, are not what is measured.
        async with self._slots:
            fetched = await self._client.ask(offer.endpoint, request, limits, provider=offer.provider, epoch=epoch)
        if isinstance(fetched, FetchFailure):
            unscored = Unscored(reason=fetched.reason.value, is_provider_fault=fetched.is_provider_fault)
            return Observation(outcome=_build_unscored(drawn, unscored, 0, fetched.latency_ms), transcript=None)
        return await self._score(drawn, request, fetched)

    async def _score(self, drawn: DrawnProbe, request: dict[str, object], fetched: FetchedAnswer) -> Observation:
        try:
            if fetched.answer.receipt is None:
                raise VerificationFailed("the answer carries no receipt")
            receipt = SignedReceipt.from_json(canonical.decode(fetched.answer.receipt))
            response = fetched.answer.to_response()
            answer = verify_probe_answer(drawn, response, receipt, domain=self._domain, now_s=self._now_s())
            transcript = build_transcript(
                probe_index=drawn.index,
                request=request,
                answer=fetched.answer,
                ttft_ms=fetched.ttft_ms,
                latency_ms=fetched.latency_ms,
            )
        except (InvalidInput, VerificationFailed) as error:
            log.info("receipt_refused", provider=drawn.offer.offer.provider.hex(), why=str(error)[:200])
            unscored = Unscored(reason="bad-receipt", is_provider_fault=True)
            outcome = _build_unscored(drawn, unscored, fetched.ttft_ms, fetched.latency_ms)
            return Observation(outcome=outcome, transcript=None)
        claimed = build_claimed_answer(drawn, answer)
        statistics = await self._scorer.score(claimed)
        if isinstance(statistics, Unscored):
            outcome = _build_unscored(drawn, statistics, fetched.ttft_ms, fetched.latency_ms)
            return Observation(outcome=outcome, transcript=None)
        similarity_ppm = await self._measure_similarity(drawn, claimed)
        outcome = ProbeOutcome(
            provider=drawn.offer.offer.provider,
            offer_digest=drawn.offer.digest,
            index=drawn.index,
            reason="",
            is_provider_fault=False,
            transcript_digest=transcript.digest,
            ttft_ms=fetched.ttft_ms,
            latency_ms=fetched.latency_ms,
            output_tokens=answer.completion_tokens,
            statistics_ppm=statistics,
            has_similarity=similarity_ppm is not None,
            similarity_ppm=similarity_ppm or 0,
        )
        return Observation(outcome=outcome, transcript=transcript)

    async def _measure_similarity(self, drawn: DrawnProbe, claimed: ClaimedAnswer) -> int | None:
        # Chosen by the probe's own seed: neither validator nor provider picks which answers are compared.
        if drawn.probe.sampler_seed % self._similarity_every:
            return None
        return await self._scorer.compute_similarity(claimed)


def build_claimed_answer(drawn: DrawnProbe, answer: Answer) -> ClaimedAnswer:
    """Return the claim that a receipted answer to a probe makes."""
    probe = drawn.probe
    return ClaimedAnswer(
        messages=tuple(ChatMessage(role=item.role, content=item.content) for item in probe.messages),
        temperature_ppm=probe.temperature_ppm,
        top_p_ppm=probe.top_p_ppm,
        max_tokens=probe.max_tokens,
        seed=probe.sampler_seed,
        content=answer.content,
        token_ids=answer.token_ids,
        completion_tokens=answer.completion_tokens,
    )


def _build_unscored(drawn: DrawnProbe, unscored: Unscored, ttft_ms: int, latency_ms: int) -> ProbeOutcome:
    return ProbeOutcome(
        provider=drawn.offer.offer.provider,
        offer_digest=drawn.offer.digest,
        index=drawn.index,
        reason=unscored.reason,
        is_provider_fault=unscored.is_provider_fault,
        transcript_digest=ZERO_DIGEST,
        ttft_ms=ttft_ms,
        latency_ms=latency_ms,
        output_tokens=0,
        statistics_ppm=(),
        has_similarity=False,
        similarity_ppm=0,
    )
