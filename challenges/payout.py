"""What a challenge costs and what its end pays. Pure, in wei, and every wei is accounted for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from challenges.verdict import Verdict
from scoring.eip712 import Record, Uint64, Wei
from scoring.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeTerms(Record):
    """The governed parameters of challenges, kept with each challenge as they were when it was filed.

    Times are epochs of certified checkpoints: the committee is drawn with the first checkpoint at least
    `draw_delay_epochs` after the filing, then votes are committed within `commit_epochs` and revealed within
    `reveal_epochs`. The fee pays the re-runs and is never returned.
    """

    filing_fee_wei: Wei
    bond_wei: Wei
    reward_wei: Wei
    member_fee_wei: Wei
    committee_size: Uint64
    draw_delay_epochs: Uint64
    commit_epochs: Uint64
    reveal_epochs: Uint64

    def __post_init__(self) -> None:
        super(ChallengeTerms, self).__post_init__()
        for field in ("committee_size", "draw_delay_epochs", "commit_epochs", "reveal_epochs"):
            if getattr(self, field) < 1:
                raise InvalidInput("expected at least 1", field)

    @property
    def cover_wei(self) -> int:
        """What the provider's performance bond is asked to cover: the reward and the members' fees."""
        return self.reward_wei + self.member_fee_wei * self.committee_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """Who gets what of a challenge's escrow, in wei; `members` by address. The parts sum to the whole escrow."""

    consumer_wei: int
    provider_wei: int
    provider_bond_wei: int
    burned_wei: int
    members: Mapping[bytes, int]

    @property
    def total_wei(self) -> int:
        """The sum of all parts."""
        paid = self.consumer_wei + self.provider_wei + self.provider_bond_wei + self.burned_wei
        return paid + sum(self.members.values())


def compute_payout(verdict: Verdict, terms: ChallengeTerms, cover_wei: int, members: Sequence[bytes]) -> Payout:
    """Divide the escrow: filing fee, bond, and `cover_wei` held from the provider's performance bond.

    `members` are the seats that revealed an e-value: abstaining is free of work and earns nothing. They share the
    filing fee in equal parts; what does not divide is burned, all of it when nobody voted. Upheld: bond and reward to
    the consumer, member fees from the cover (reward first when it is short), the rest of the cover back to the
    performance bond. Rejected: half of the bond burned, half to the provider. Inconclusive: bond back.
    """
    share = terms.filing_fee_wei // len(members) if members else 0
    burned, consumer, provider, fee, spent = terms.filing_fee_wei - share * len(members), 0, 0, 0, 0
    if verdict is Verdict.UPHELD:
        reward = min(terms.reward_wei, cover_wei)
        fee = min(terms.member_fee_wei, (cover_wei - reward) // len(members)) if members else 0
        consumer, spent = terms.bond_wei + reward, reward + fee * len(members)
    elif verdict is Verdict.REJECTED:
        provider = terms.bond_wei // 2
        burned += terms.bond_wei - provider
    else:
        consumer = terms.bond_wei
    return Payout(
        consumer_wei=consumer,
        provider_wei=provider,
        provider_bond_wei=cover_wei - spent,
        burned_wei=burned,
        members=dict.fromkeys(members, share + fee),
    )
