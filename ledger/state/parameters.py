"""The governed parameters of a network: one record, in the genesis, the same for everybody."""

from dataclasses import dataclass, field

from challenges.payout import ChallengeTerms
from challenges.penalty import BPS, TIERS, WEI_PER_QUIV, Tier, verify_tiers
from scoring.eip712 import Record, Uint64, Wei
from scoring.errors import InvalidInput
from scoring.parameters import TrustParameters

CHALLENGE_TERMS = ChallengeTerms(
    filing_fee_wei=3 * WEI_PER_QUIV,
    bond_wei=10 * WEI_PER_QUIV,
    reward_wei=10 * WEI_PER_QUIV,
    member_fee_wei=1 * WEI_PER_QUIV,
    committee_size=3,
    draw_delay_epochs=2,
    commit_epochs=2,
    reveal_epochs=2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentShares(Record):
    """How an inference payment is divided, in bps of the whole. `docs/economics.md` says which reading this is.

    `network_fee_bps` and `validator_fee_bps` are parts of the operations share, `network_fee_burn_bps` is the part of
    the network fee that is burned.
    """

    provider_bps: Uint64 = 8000
    operations_bps: Uint64 = 1500
    treasury_bps: Uint64 = 500
    network_fee_bps: Uint64 = 200
    network_fee_burn_bps: Uint64 = 5000
    validator_fee_bps: Uint64 = 50

    def __post_init__(self) -> None:
        super(PaymentShares, self).__post_init__()
        if self.provider_bps + self.operations_bps + self.treasury_bps != BPS:
            raise InvalidInput("the three shares must sum to 10,000 bps", "provider_bps")
        if self.network_fee_bps + self.validator_fee_bps > self.operations_bps:
            raise InvalidInput("network and validator fee are parts of the operations share", "operations_bps")
        if self.network_fee_burn_bps > BPS:
            raise InvalidInput("beyond 10,000 bps", "network_fee_burn_bps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters(Record):
    """What governance may change. Periods are epochs of certified checkpoints.

    `timelock_epochs` lies between accepted evidence and its slash (0: at once); `unbonding_epochs` outlasts it and a
    case; evidence about a checkpoint more than `unbonding_epochs` old is refused, since the stake may be gone.
    """

    minimum_provider_stake_wei: Wei = TIERS[0].minimum_stake_wei
    minimum_validator_stake_wei: Wei = 1_000 * WEI_PER_QUIV
    maximum_offers: Uint64 = 16
    unbonding_epochs: Uint64 = 21 * 24
    timelock_epochs: Uint64 = 48
    tiers: tuple[Tier, ...] = TIERS
    challenge: ChallengeTerms = field(default_factory=lambda: CHALLENGE_TERMS)
    shares: PaymentShares = field(default_factory=PaymentShares)
    trust: TrustParameters = field(default_factory=TrustParameters)

    def __post_init__(self) -> None:
        super(Parameters, self).__post_init__()
        verify_tiers(self.tiers)
        if self.unbonding_epochs <= self.timelock_epochs:
            raise InvalidInput("must be longer than the timelock: stake may not leave first", "unbonding_epochs")
        if self.maximum_offers < 1:
            raise InvalidInput("expected at least 1", "maximum_offers")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSplit:
    """One payment divided, in wei. The parts sum to the payment."""

    provider_wei: int
    validators_wei: int
    operations_wei: int
    treasury_wei: int
    burned_wei: int


def compute_payment_split(amount_wei: int, shares: PaymentShares) -> PaymentSplit:
    """Divide an inference payment; every part rounds down and the remainder stays with the provider."""
    if amount_wei < 0:
        raise InvalidInput("expected at least 0", "amount_wei")
    network_fee = amount_wei * shares.network_fee_bps // BPS
    burned = network_fee * shares.network_fee_burn_bps // BPS
    validators = amount_wei * shares.validator_fee_bps // BPS
    operations = amount_wei * shares.operations_bps // BPS - burned - validators
    treasury = amount_wei * shares.treasury_bps // BPS
    return PaymentSplit(
        provider_wei=amount_wei - burned - validators - operations - treasury,
        validators_wei=validators,
        operations_wei=operations,
        treasury_wei=treasury,
        burned_wei=burned,
    )
