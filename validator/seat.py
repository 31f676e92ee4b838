"""One seat of the network: the parts that an epoch needs, and what the seat remembers between epochs."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from scoring import canonical
from scoring.eip712 import Domain, compute_signing_root
from scoring.errors import OracleError, VerificationFailed
from scoring.evidence.plan import Plan
from scoring.outcome import EMPTY_STATE, AggregationState, EpochInputs
from scoring.parameters import TrustParameters
from scoring.records import Checkpoint, Reveal, ValidatorSet
from scoring.schedule import compute_epoch_start_s
from validator.agreement import Agreement
from validator.board import Board
from validator.casework import Casework, ClosedEpoch, find_open_case_epochs
from validator.epoch import CertifiedOutcome, EpochContext, compute_epoch_beacon
from validator.jury import Jury
from validator.ledger_port import LedgerPort, NetworkView
from validator.messages import Certified, RevealMessage
from validator.observer import Observation, Observer
from validator.prosecution import Prosecution
from validator.publishing import (
    load_certified,
    load_checkpoints,
    load_messages,
    load_reveals,
    load_state,
    publish_epoch,
)
from validator.signer import Signer
from validator.store import DocumentKind, Store

log = structlog.get_logger()

KEPT_CHECKPOINTS = 8
"""How many certified checkpoints stay in memory: beacons look back two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What the genesis fixes: network id, domain, seats, plan, parameters, calendar, the seed of the first beacons."""

    network: bytes
    domain: Domain
    validator_set: ValidatorSet
    plan: Plan
    trust_parameters: TrustParameters
    start_s: int
    epoch_s: int
    beacon_seed: bytes


@dataclass(slots=True, kw_only=True)
class Seat:
    """The working parts of one validator.

    `state` is the aggregation state after the last certified epoch, `checkpoints` the last few certified ones.
    """

    facts: NetworkFacts
    signer: Signer
    store: Store
    board: Board
    ledger: LedgerPort
    observer: Observer
    agreement: Agreement
    casework: Casework
    prosecution: Prosecution
    jury: Jury
    state: AggregationState = EMPTY_STATE
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        """Return the network's signing domain."""
        return self.facts.domain

    async def open_epoch(self, epoch: int) -> EpochContext:
        """Fix the shared facts of an epoch; raises Unavailable when the ledger does not answer or stands elsewhere."""
        board = self.board.open(epoch, asyncio.get_running_loop().time())
        load_messages(self.store, board, self._addresses)
        await self._hand_over()
        return self.build_context(epoch, await self.ledger.get_view(epoch, self.previous))

    def load_own_reveal(self, epoch: int) -> RevealMessage | None:
        """Return the reveal that we have made for an epoch before a restart, signed, or None."""
        body = self.store.get_document(DocumentKind.OWN_REVEAL, str(epoch))
        return None if body is None else self._sign(RevealMessage.from_json(canonical.decode(body)))

    def keep_own_reveal(self, reveal: Reveal, observations: Sequence[Observation]) -> RevealMessage:
        """Store our reveal, salt and transcripts, and only then sign it: a crash in between loses nothing."""
        transcripts = tuple(item.transcript for item in observations if item.transcript is not None)
        message = RevealMessage(reveal=reveal, signature=b"", transcripts=transcripts)
        body = canonical.encode(message.to_json())
        self.store.put_document(DocumentKind.OWN_REVEAL, str(reveal.epoch), reveal.epoch, body)
        return self._sign(message)

    def _sign(self, message: RevealMessage) -> RevealMessage:
        return replace(message, signature=self.signer.sign_reveal(message.reveal))

    def draw_salt(self) -> bytes:
        """Return 32 fresh secret bytes: the outcomes alone could be guessed from the commit."""
        return secrets.token_bytes(32)

    async def hand_over(self) -> None:
        """Bring the ledger the certified checkpoints that it lacks; if it is gone, the next epoch tries again."""
        try:
            await self._hand_over()
        except OracleError as error:
            log.warning("checkpoint_not_handed_over", epoch=self.last_epoch, why=str(error))

    async def _hand_over(self) -> None:
        # All that it lacks, in order: whoever certified them may be gone, and the next can only follow the last.
        for epoch in range(await self.ledger.get_last_epoch() + 1, self.last_epoch + 1):
            certified = load_certified(self.store, epoch)
            if certified is not None:
                await self.ledger.submit_checkpoint(certified.proposal.checkpoint, certified.certificate)

    def adopt(self, certified: CertifiedOutcome) -> None:
        """Store and publish a certified epoch and build on it from now on."""
        publish_epoch(self.store, certified, self.domain)
        self.board.move_to(certified.checkpoint.epoch + 1)
        self.state = certified.outcome.state
        self.checkpoints[certified.checkpoint.epoch] = certified.checkpoint
        for epoch in sorted(self.checkpoints)[:-KEPT_CHECKPOINTS]:
            del self.checkpoints[epoch]

    @property
    def _addresses(self) -> list[bytes]:
        return [entry.address for entry in self.facts.validator_set.validators]

    @property
    def last_epoch(self) -> int:
        """The last certified epoch that we know, -1 for none."""
        return max(self.checkpoints, default=-1)

    @property
    def previous(self) -> bytes:
        """The signing root of the last certified checkpoint, the network's id before the first."""
        if not self.checkpoints:
            return self.facts.network
        return compute_signing_root(self.checkpoints[self.last_epoch], self.domain)

    async def recover(self) -> None:
        """Load what was certified before a restart and replay the open case."""
        self.state = load_state(self.store) or EMPTY_STATE
        self.checkpoints = load_checkpoints(self.store, KEPT_CHECKPOINTS)
        if not self.checkpoints:
            return
        self.board.move_to(self.last_epoch + 1)
        for epoch in find_open_case_epochs(self.facts.plan, self.last_epoch):
            certified = load_certified(self.store, epoch)
            if certified is not None:
                await self._replay(certified)
        self.prosecution.resume(max(0, self.last_epoch - self.facts.plan.case_length_epochs), self.last_epoch)

    def build_context(self, epoch: int, view: NetworkView) -> EpochContext:
        """Return the shared facts of the epoch after the last certified one that we know."""
        facts = self.facts
        if epoch <= self.last_epoch:
            raise VerificationFailed(f"epoch {self.last_epoch} is certified already")
        inputs = EpochInputs(
            epoch=epoch,
            previous=self.previous,
            time_s=compute_epoch_start_s(facts.start_s, facts.epoch_s, epoch),
            beacon=compute_epoch_beacon(facts.network, epoch, self.checkpoints, facts.beacon_seed),
            validator_set=facts.validator_set,
            plan=facts.plan,
            trust_parameters=facts.trust_parameters,
            offers=tuple(signed.offer for signed in view.offers),
            infractions=view.infractions,
            challenged=view.challenged,
        )
        return EpochContext(inputs=inputs, offers=view.offers, network=facts.network)

    async def _replay(self, certified: Certified) -> None:
        checkpoint = certified.proposal.checkpoint
        reveals = load_reveals(self.store, certified)
        view = await self.ledger.get_view(checkpoint.epoch, checkpoint.previous)
        await self.casework.process_epoch(ClosedEpoch(checkpoint=checkpoint, offers=view.offers, reveals=reveals))
