"""Committee duty: re-run the receipts of a challenge with our own engine, commit to the e-value, reveal it.

The vote is stored before it is committed, so that a restart between commit and reveal loses nothing.
"""

import asyncio
from collections.abc import Callable

import structlog

from challenges.exchange import parse_answer, parse_sampling
from challenges.filing import DossierEntry
from challenges.lifecycle import Phase
from challenges.verdict import Vote
from models.requests import SAMPLER_NONE
from scoring.errors import InvalidInput, OracleError, Unavailable
from scoring.evidence.cases import compute_challenge_e_value
from scoring.evidence.plan import Plan
from validator.ledger_port import JuryCall, LedgerPort
from validator.scorer import ClaimedAnswer, Scorer, Unscored, build_chat_messages
from validator.store import DocumentKind, Store

log = structlog.get_logger()


class Jury:
    """Serves the committees that the ledger calls this seat to. `derive_salt` maps a challenge to 32 secret bytes."""

    def __init__(
        self,
        plan: Plan,
        address: bytes,
        scorer: Scorer,
        ledger: LedgerPort,
        store: Store,
        derive_salt: Callable[[bytes], bytes],
    ) -> None:
        self._plan = plan
        self._address = address
        self._scorer = scorer
        self._ledger = ledger
        self._store = store
        self._derive_salt = derive_salt

    async def serve(self) -> None:
        """Do what is due on every call; what fails is logged and tried again next time."""
        try:
            calls = await self._ledger.list_jury_calls()
        except OracleError as error:
            log.warning("jury_calls_unknown", why=str(error))
            return
        for call in calls:
            try:
                await self._serve_call(call)
            except OracleError as error:
                log.warning("jury_duty_failed", challenge=call.challenge_id.hex(), why=str(error))

    async def _serve_call(self, call: JuryCall) -> None:
        if call.phase is Phase.COMMITTEE and not call.has_committed:
            vote = await self._find_vote(call)
            await self._ledger.commit_vote(vote)
            log.info("vote_committed", challenge=call.challenge_id.hex())
        elif call.phase is Phase.COMMITTED and call.has_committed and not call.has_revealed:
            await self._ledger.reveal_vote(await self._find_vote(call))
            log.info("vote_revealed", challenge=call.challenge_id.hex())

    async def _find_vote(self, call: JuryCall) -> Vote:
        # A second run may differ in the last digit, and only the vote that was committed can be revealed.
        key = call.challenge_id.hex()
        stored = self._store.get_document(DocumentKind.OWN_VOTE, key)
        if stored is not None:
            return Vote.decode(stored)
        vote = await self._judge(call)
        self._store.put_document(DocumentKind.OWN_VOTE, key, 0, vote.encode())
        return vote

    async def _judge(self, call: JuryCall) -> Vote:
        abstention, e_value = self._find_abstention(call), 0
        if not abstention:
            results = await asyncio.gather(*(self._score(entry) for entry in call.dossier.entries))
            scored = [item for item in results if isinstance(item, tuple)]
            unscored = [item.reason for item in results if isinstance(item, Unscored)]
            if any(isinstance(item, Unscored) and not item.is_provider_fault for item in results):
                raise Unavailable("our own engine did not score the receipts")
            # An answer that cannot be scored decides nothing: not for the provider, not against the consumer.
            abstention = f"a receipt cannot be scored: {unscored[0]}" if unscored else ""
            e_value = 0 if unscored else compute_challenge_e_value(self._plan, scored)
        return Vote(
            challenge_id=call.challenge_id,
            validator=self._address,
            e_value=e_value,
            abstention=abstention,
            salt=self._derive_salt(call.challenge_id),
        )

    def _find_abstention(self, call: JuryCall) -> str:
        """Say why this challenge is outside of what the plan is calibrated for, or nothing."""
        if call.offer.offer.manifest_digest != self._plan.manifest_digest:
            return "the offer's model is not in the plan"
        if call.offer.offer.sampler != self._plan.sampler or self._plan.sampler == SAMPLER_NONE:
            return "the offer's sampler is not the plan's"
        for entry in call.dossier.entries:
            try:
                sampling = parse_sampling(entry.request)
            except InvalidInput:
                return "a request is malformed"
            if not self._plan.temperature_min_ppm <= sampling.temperature_ppm <= self._plan.temperature_max_ppm:
                return "a temperature is outside the calibrated envelope"
            if not self._plan.top_p_min_ppm <= sampling.top_p_ppm <= self._plan.top_p_max_ppm:
                return "a top_p is outside the calibrated envelope"
            if sampling.seed is None:
                return "a request has no seed"
        return ""

    async def _score(self, entry: DossierEntry) -> tuple[int, ...] | Unscored:
        sampling, answer = parse_sampling(entry.request), parse_answer(entry.response)
        try:
            messages = build_chat_messages(entry.request.get("messages"))
        except InvalidInput:
            return Unscored(reason="malformed-request", is_provider_fault=True)
        claimed = ClaimedAnswer(
            messages=messages,
            temperature_ppm=sampling.temperature_ppm,
            top_p_ppm=sampling.top_p_ppm,
            max_tokens=self._plan.max_tokens,
            seed=sampling.seed,
            content=answer.content,
            token_ids=answer.token_ids,
            completion_tokens=answer.completion_tokens,
        )
        return await self._scorer.score(claimed)
