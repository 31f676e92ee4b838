"""A ledger in memory for one seat: it remembers what it was told and is gone when a test says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from challenges.verdict import Vote
from scoring.errors import Unavailable, VerificationFailed
from scoring.records import Certificate, Checkpoint, SlashingEvidence
from validator.ledger_port import JuryCall, LedgerPort, NetworkView


@dataclass
class MemoryLedger:
    """A `LedgerPort`. Evidence is taken once per offence; votes are taken as they come."""

    view: NetworkView = field(default_factory=lambda: NetworkView(offers=(), infractions={}, challenged=frozenset()))
    calls: list[JuryCall] = field(default_factory=list)
    is_gone: bool = False
    checkpoints: list[Checkpoint] = field(default_factory=list)
    evidence: list[tuple[SlashingEvidence, Certificate]] = field(default_factory=list)
    commits: list[Vote] = field(default_factory=list)
    reveals: list[Vote] = field(default_factory=list)
    attempts: int = 0

    async def get_last_epoch(self) -> int:
        self._require_there()
        return self.checkpoints[-1].epoch if self.checkpoints else -1

    async def get_view(self, epoch: int, previous: bytes) -> NetworkView:
        self._require_there()
        return self.view

    async def submit_checkpoint(self, checkpoint: Checkpoint, certificate: Certificate) -> None:
        self._require_there()
        self.checkpoints.append(checkpoint)

    async def submit_evidence(self, evidence: SlashingEvidence, certificate: Certificate) -> None:
        self.attempts += 1
        self._require_there()
        if await self.is_offence_settled(evidence):
            raise VerificationFailed("this offence is slashed already")
        self.evidence.append((evidence, certificate))

    async def is_offence_settled(self, evidence: SlashingEvidence) -> bool:
        self._require_there()
        return any(_name(known) == _name(evidence) for known, _ in self.evidence)

    async def list_jury_calls(self) -> Sequence[JuryCall]:
        self._require_there()
        return self.calls

    async def commit_vote(self, vote: Vote) -> None:
        self._require_there()
        self.commits.append(vote)

    async def reveal_vote(self, vote: Vote) -> None:
        self._require_there()
        self.reveals.append(vote)

    def _require_there(self) -> None:
        if self.is_gone:
            raise Unavailable("the ledger is gone")


def _name(evidence: SlashingEvidence) -> tuple[bytes, str, int]:
    return evidence.offer_digest, evidence.rule, evidence.case_index


_PORT: LedgerPort = MemoryLedger()
