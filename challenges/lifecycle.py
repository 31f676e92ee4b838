"""The life of a challenge: filed, committee, committed, revealed, resolved. Pure transitions, deadlines in epochs.

* filed: waits for a checkpoint at least `draw_delay_epochs` after the filing; its VRF outputs draw the committee.
* committee: members commit to their votes, until all have or `commit_epochs` have passed.
* committed: members who committed reveal, until all have or `reveal_epochs` have passed.
* revealed: the verdict stands and waits for its payout.
* resolved: paid.

Epochs are those of certified checkpoints, so a ledger that stalls cannot run out anybody's time. Members who stay
silent are left out of the payout and count for neither side.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from challenges.committee import compute_committee_seed, draw_committee
from challenges.payout import ChallengeTerms
from challenges.verdict import Verdict, Vote, compute_verdict
from scoring.errors import InvalidInput, VerificationFailed


class Phase(StrEnum):
    """Where a challenge stands."""

    FILED = "filed"
    COMMITTEE = "committee"
    COMMITTED = "committed"
    REVEALED = "revealed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge with its terms as filed.

    `filed_epoch` is the ledger's last certified epoch at the filing (-1: none yet), `phase_epoch` the one at which the
    present phase began, `cover_wei` what is held of the provider's performance bond.
    """

    challenge_id: bytes
    consumer: bytes
    provider: bytes
    offer_digest: bytes
    dossier_digest: bytes
    window_count: int
    terms: ChallengeTerms
    cover_wei: int
    filed_epoch: int
    phase: Phase = Phase.FILED
    phase_epoch: int = -1
    committee: tuple[bytes, ...] = ()
    commitments: Mapping[bytes, bytes] = field(default_factory=dict)
    votes: Mapping[bytes, Vote] = field(default_factory=dict)
    verdict: Verdict | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not yet paid."""
        return self.phase is not Phase.RESOLVED

    @property
    def voters(self) -> tuple[bytes, ...]:
        """The members who revealed an e-value: those who are paid, in the order drawn."""
        return tuple(m for m in self.committee if m in self.votes and not self.votes[m].abstention)

    @property
    def escrow_wei(self) -> int:
        """What the challenge holds until it is resolved."""
        return self.terms.filing_fee_wei + self.terms.bond_wei + self.cover_wei if self.is_open else 0


def advance(
    challenge: Challenge,
    *,
    epoch: int,
    network: bytes,
    mix: bytes,
    candidates: Sequence[tuple[bytes, int]],
    excluded: Collection[bytes],
    scale: int,
) -> Challenge:
    """Move a challenge on at the checkpoint of `epoch`, whose VRF outputs XOR to `mix`.

    `candidates` are (address, stake) of the set that certified it in registry order, `excluded` the declared interests.
    """
    terms = challenge.terms
    if challenge.phase is Phase.FILED and epoch >= challenge.filed_epoch + terms.draw_delay_epochs:
        seed = compute_committee_seed(network, challenge.challenge_id, mix)
        parties = {challenge.consumer, challenge.provider, *excluded}
        members = draw_committee(seed, candidates, terms.committee_size, parties)
        return _settle(replace(challenge, phase=Phase.COMMITTEE, phase_epoch=epoch, committee=members), epoch, scale)
    if challenge.phase is Phase.COMMITTEE and epoch >= challenge.phase_epoch + terms.commit_epochs:
        return _settle(replace(challenge, phase=Phase.COMMITTED, phase_epoch=epoch), epoch, scale)
    if challenge.phase is Phase.COMMITTED and epoch >= challenge.phase_epoch + terms.reveal_epochs:
        return _decide(challenge, epoch, scale)
    return challenge


def commit_vote(challenge: Challenge, member: bytes, commitment: bytes, *, epoch: int, scale: int) -> Challenge:
    """Record a member's commitment; raises VerificationFailed out of phase, for strangers and for a second one."""
    _require(challenge.phase is Phase.COMMITTEE, f"the challenge is {challenge.phase}: votes are not committed now")
    _require(member in challenge.committee, "the sender has no seat in this challenge's committee")
    _require(member not in challenge.commitments, "the sender has committed a vote already")
    if len(commitment) != 32:
        raise InvalidInput("expected 32 bytes", "commitment")
    commitments = {**challenge.commitments, member: commitment}
    return _settle(replace(challenge, commitments=commitments), epoch, scale)


def reveal_vote(challenge: Challenge, vote: Vote, *, epoch: int, scale: int) -> Challenge:
    """Record a revealed vote; raises VerificationFailed out of phase or when it is not the one committed."""
    _require(challenge.phase is Phase.COMMITTED, f"the challenge is {challenge.phase}: votes are not revealed now")
    _require(vote.challenge_id == challenge.challenge_id, "the vote is about another challenge")
    _require(vote.validator in challenge.commitments, "the sender has committed no vote")
    _require(vote.validator not in challenge.votes, "the sender has revealed a vote already")
    is_same = challenge.commitments[vote.validator] == vote.commitment
    _require(is_same, "the vote is not the one that was committed")
    return _settle(replace(challenge, votes={**challenge.votes, vote.validator: vote}), epoch, scale)


def mark_resolved(challenge: Challenge, epoch: int) -> Challenge:
    """Close a challenge whose verdict has been paid."""
    if challenge.phase is not Phase.REVEALED:
        raise ValueError(f"a challenge that is {challenge.phase} has no verdict to pay")
    return replace(challenge, phase=Phase.RESOLVED, phase_epoch=epoch)


def _settle(challenge: Challenge, epoch: int, scale: int) -> Challenge:
    """Skip the waiting for nobody: all committed, or all who committed revealed."""
    if challenge.phase is Phase.COMMITTEE and len(challenge.commitments) == len(challenge.committee):
        challenge = replace(challenge, phase=Phase.COMMITTED, phase_epoch=epoch)
    if challenge.phase is Phase.COMMITTED and len(challenge.votes) == len(challenge.commitments):
        challenge = _decide(challenge, epoch, scale)
    return challenge


def _decide(challenge: Challenge, epoch: int, scale: int) -> Challenge:
    votes = [challenge.votes.get(member) for member in challenge.committee]
    e_values = [None if vote is None or vote.abstention else vote.e_value for vote in votes]
    verdict = compute_verdict(e_values, window_count=challenge.window_count, scale=scale)
    return replace(challenge, phase=Phase.REVEALED, phase_epoch=epoch, verdict=verdict)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise VerificationFailed(sentence)
