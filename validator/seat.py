"""One seat of the network: the parts that an epoch needs, and what the seat remembers between epochs."""

import secrets
from dataclasses import dataclass

from scoring import canonical
from scoring.eip712 import Domain
from scoring.errors import Unavailable, VerificationFailed
from scoring.evidence.plan import Plan
from scoring.outcome import EMPTY_STATE, AggregationState, EpochInputs
from scoring.parameters import TrustParameters
from scoring.records import ValidatorSet
from scoring.schedule import compute_epoch_start_s
from validator.agreement import Agreement
from validator.board import Board
from validator.casework import Casework, CertifiedEpoch, find_open_case_epochs
from validator.epoch import EpochContext, compute_epoch_beacon
from validator.jury import Jury
from validator.ledger_port import LedgerPort, NetworkView
from validator.messages import RevealMessage
from validator.observer import Observer
from validator.prosecution import Prosecution
from validator.publishing import load_certified, load_checkpoints, load_reveals, load_state
from validator.signer import Signer
from validator.store import DocumentKind, Store


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
    """The working parts of one validator. `state` is the aggregation state after the last certified epoch."""

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

    @property
    def domain(self) -> Domain:
        """Return the network's signing domain."""
        return self.facts.domain

    async def open_epoch(self, epoch: int) -> EpochContext:
        """Fix the shared facts of an epoch; raises Unavailable when the ledger does not answer."""
        self.board.move_to(epoch)
        view = await self.ledger.get_view(epoch)
        return self._build_context(epoch, view)

    def load_own_reveal(self, epoch: int) -> RevealMessage | None:
        """Return the reveal that we have made for an epoch before a restart, or None."""
        body = self.store.get_document(DocumentKind.OWN_REVEAL, str(epoch))
        return None if body is None else RevealMessage.from_json(canonical.decode(body))

    def keep_own_reveal(self, message: RevealMessage) -> RevealMessage:
        """Store our reveal before its commit is signed or anything is sent."""
        epoch = message.reveal.epoch
        body = canonical.encode(message.to_json())
        self.store.put_document(DocumentKind.OWN_REVEAL, str(epoch), epoch, body)
        return message

    def draw_salt(self) -> bytes:
        """Return 32 fresh secret bytes: the outcomes alone could be guessed from the commit."""
        return secrets.token_bytes(32)

    async def recover(self) -> int:
        """Load what was certified before a restart, replay the open case, and return the next epoch to run."""
        self.state = load_state(self.store) or EMPTY_STATE
        checkpoints = load_checkpoints(self.store)
        if not checkpoints:
            return 0
        last = max(checkpoints)
        addresses = [entry.address for entry in self.facts.validator_set.validators]
        for epoch in find_open_case_epochs(self.facts.plan, last):
            certified = load_certified(self.store, epoch)
            if certified is None:
                continue
            reveals = load_reveals(self.store, certified, addresses)
            view = await self.ledger.get_view(epoch)
            checkpoint = certified.proposal.checkpoint
            await self.casework.process_epoch(
                CertifiedEpoch(checkpoint=checkpoint, offers=view.offers, reveals=reveals)
            )
        return last + 1

    def _build_context(self, epoch: int, view: NetworkView) -> EpochContext:
        facts = self.facts
        checkpoints = load_checkpoints(self.store)
        if any(number >= epoch for number in checkpoints):
            raise VerificationFailed(f"epoch {epoch} or a later one is certified already")
        certified = load_certified(self.store, max(checkpoints)) if checkpoints else None
        previous = facts.network if certified is None else certified.certificate.signing_root
        if checkpoints and self.state.epoch != max(checkpoints):
            raise Unavailable("the aggregation state is behind the last checkpoint")
        inputs = EpochInputs(
            epoch=epoch,
            previous=previous,
            time_s=compute_epoch_start_s(facts.start_s, facts.epoch_s, epoch),
            beacon=compute_epoch_beacon(facts.network, epoch, checkpoints, facts.beacon_seed),
            validator_set=facts.validator_set,
            plan=facts.plan,
            trust_parameters=facts.trust_parameters,
            offers=tuple(signed.offer for signed in view.offers),
            infractions=view.infractions,
            challenged=view.challenged,
        )
        return EpochContext(inputs=inputs, offers=view.offers, network=facts.network)
