"""What a validator needs of a ledger, whichever it is: the embedded log or contracts on a chain."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from challenges.filing import Dossier
from challenges.lifecycle import Phase
from challenges.receipt import SignedOffer
from challenges.verdict import Vote
from scoring.records import Certificate, Checkpoint, SlashingEvidence
from scoring.trust import Infraction


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """The facts that an epoch is computed from: those recorded at least two certified epochs before it.

    They are final by then, so every validator sees the same. `infractions` by provider; `challenged` are digests of
    offers with an open challenge.
    """

    offers: tuple[SignedOffer, ...]
    infractions: Mapping[bytes, Collection[Infraction]]
    challenged: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class JuryCall:
    """A challenge whose committee this validator sits on, and what it is asked to do next."""

    challenge_id: bytes
    phase: Phase
    offer: SignedOffer
    dossier: Dossier
    has_committed: bool
    has_revealed: bool


class LedgerPort(Protocol):
    """Every method raises Unavailable when the ledger does not answer, VerificationFailed when it refuses."""

    async def get_last_epoch(self) -> int:
        """Return the last certified epoch that the ledger knows, -1 for none."""
        ...

    async def get_view(self, epoch: int, previous: bytes) -> NetworkView:
        """Return the facts for computing an epoch, as closed by the checkpoint with signing root `previous`."""
        ...

    async def submit_checkpoint(self, checkpoint: Checkpoint, certificate: Certificate) -> None:
        """Record a certified checkpoint; one that is recorded already is no error."""
        ...

    async def submit_evidence(self, evidence: SlashingEvidence, certificate: Certificate) -> None:
        """Hand in certified evidence: it slashes once for each offence."""
        ...

    async def is_offence_settled(self, evidence: SlashingEvidence) -> bool:
        """Tell whether the offence has been slashed (or its slash is waiting for the timelock)."""
        ...

    async def list_jury_calls(self) -> Sequence[JuryCall]:
        """Return the open challenges on whose committee this validator sits."""
        ...

    async def commit_vote(self, vote: Vote) -> None:
        """Commit to a vote by its digest."""
        ...

    async def reveal_vote(self, vote: Vote) -> None:
        """Reveal a committed vote."""
        ...
