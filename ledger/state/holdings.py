"""The state of the ledger: who holds what, who is registered, what is certified. Immutable; changed by copying.

Maps are read-only views; `with_item` copies one map and leaves the rest shared. Epoch -1 means: nothing certified yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from challenges.lifecycle import Challenge
from challenges.signed import SignedOffer
from ledger.state.errors import require
from ledger.state.parameters import Parameters
from scoring.canonical import Json
from scoring.eip712 import Bytes32, Domain, Record, Text, Uint64, Wei
from scoring.evidence.plan import Plan
from scoring.records import SlashingEvidence, ValidatorEntry, ValidatorSet
from scoring.trust import Infraction

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, for people and audits: a name and JSON fields (wei as decimal strings)."""

    name: str
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Free balance, payouts not yet withdrawn, and how many transactions were accepted."""

    balance_wei: int = 0
    claimable_wei: int = 0
    nonce: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbonding:
    """Stake on its way out: withdrawable once the ledger's epoch reaches `release_epoch`, slashable until then."""

    amount_wei: int
    release_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InfractionEntry(Record):
    """A certified infraction as executed. `epoch` is the ledger's epoch at the execution."""

    infraction: Text
    rule: Text
    offer_digest: Bytes32
    case_index: Uint64
    evidence_digest: Bytes32
    epoch: Uint64
    slashed_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A registered provider."""

    address: bytes
    stake_wei: int
    offers: tuple[SignedOffer, ...]
    unbondings: tuple[Unbonding, ...] = ()
    bond_wei: int = 0
    infractions: tuple[InfractionEntry, ...] = ()
    upheld_challenges: int = 0
    rejected_challenges: int = 0

    @property
    def slashable_wei(self) -> int:
        """Stake, the part in unbonding included."""
        return self.stake_wei + sum(item.amount_wei for item in self.unbondings)

    @property
    def held_wei(self) -> int:
        """Everything that the ledger holds for this provider outside its account."""
        return self.slashable_wei + self.bond_wei

    @property
    def is_banned(self) -> bool:
        """Whether a severe infraction was certified."""
        return any(item.infraction == Infraction.SEVERE for item in self.infractions)

    def find_offer(self, digest: bytes) -> SignedOffer | None:
        """Return the offer of that digest, or None."""
        return next((offer for offer in self.offers if offer.digest == digest), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """A registered validator. Its seat number is its place among those with enough stake."""

    address: bytes
    public_key: bytes
    transport_key: bytes
    endpoint: str
    stake_wei: int
    unbondings: tuple[Unbonding, ...] = ()
    interests: tuple[bytes, ...] = ()

    @property
    def held_wei(self) -> int:
        """Everything that the ledger holds for this validator outside its account."""
        return self.stake_wei + sum(item.amount_wei for item in self.unbondings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The facts that validators act on. A whole registry is kept when a checkpoint closes it: see `LedgerState`."""

    providers: Mapping[bytes, Provider]
    validators: Mapping[bytes, Validator]
    challenges: Mapping[bytes, Challenge]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedEpoch:
    """What is remembered of an accepted checkpoint: signing root, validator set, XOR of the VRF outputs."""

    root: bytes
    validator_set_digest: bytes
    mix: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSlash:
    """Accepted evidence within its timelock."""

    evidence: SlashingEvidence
    execute_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """Everything. `settled` is the registry as the last certified checkpoint found it, before its own effects.

    Facts accepted while the last certified epoch is e - 2 are closed when e - 1 is certified, and hold from epoch e on:
    so `settled` and `validator_set` are those of every epoch after `epoch`, until the next checkpoint comes.
    """

    network: bytes
    domain: Domain
    start_s: int
    epoch_s: int
    genesis_beacon: bytes
    plan: Plan
    parameters: Parameters
    issued_wei: int
    burned_wei: int
    epoch: int
    head_root: bytes
    time_s: int
    accounts: Mapping[bytes, Account]
    registry: Registry
    settled: Registry
    validator_set: ValidatorSet
    certified: Mapping[int, CertifiedEpoch]
    validator_sets: Mapping[bytes, ValidatorSet]
    offences: Mapping[tuple[bytes, str, int], bytes]
    pending_slashes: tuple[PendingSlash, ...]
    used_receipts: Mapping[bytes, bytes]


def with_item(items: Mapping[Key, Value], key: Key, value: Value) -> Mapping[Key, Value]:
    """Return a copy of a map with one item set; the order of older keys stays."""
    return MappingProxyType({**items, key: value})


def get_account(state: LedgerState, address: bytes) -> Account:
    """Return an account, empty when it was never used."""
    return state.accounts.get(address, Account())


def credit(state: LedgerState, address: bytes, amount_wei: int) -> LedgerState:
    """Add to a free balance."""
    account = get_account(state, address)
    return _with_account(state, address, replace(account, balance_wei=account.balance_wei + amount_wei))


def credit_claimable(state: LedgerState, address: bytes, amount_wei: int) -> LedgerState:
    """Add to what an account can withdraw: payouts are pulled, never pushed."""
    account = get_account(state, address)
    return _with_account(state, address, replace(account, claimable_wei=account.claimable_wei + amount_wei))


def debit(state: LedgerState, address: bytes, amount_wei: int, field: str) -> LedgerState:
    """Take from a free balance; raises TransactionRefused when it does not suffice."""
    account = get_account(state, address)
    short = f"0x{address.hex()} holds {account.balance_wei} wei, {amount_wei} are needed"
    require(account.balance_wei >= amount_wei, "insufficient-balance", short, field)
    return _with_account(state, address, replace(account, balance_wei=account.balance_wei - amount_wei))


def take_claimable(state: LedgerState, address: bytes) -> tuple[LedgerState, int]:
    """Move all that is claimable to the free balance; returns the amount too."""
    account = get_account(state, address)
    moved = replace(account, balance_wei=account.balance_wei + account.claimable_wei, claimable_wei=0)
    return _with_account(state, address, moved), account.claimable_wei


def count_transaction(state: LedgerState, address: bytes) -> LedgerState:
    """Raise an account's nonce by one."""
    account = get_account(state, address)
    return _with_account(state, address, replace(account, nonce=account.nonce + 1))


def with_provider(state: LedgerState, provider: Provider) -> LedgerState:
    """Return the state with one provider set."""
    providers = with_item(state.registry.providers, provider.address, provider)
    return replace(state, registry=replace(state.registry, providers=providers))


def with_validator(state: LedgerState, validator: Validator) -> LedgerState:
    """Return the state with one validator set."""
    validators = with_item(state.registry.validators, validator.address, validator)
    return replace(state, registry=replace(state.registry, validators=validators))


def with_challenge(state: LedgerState, challenge: Challenge) -> LedgerState:
    """Return the state with one challenge set."""
    challenges = with_item(state.registry.challenges, challenge.challenge_id, challenge)
    return replace(state, registry=replace(state.registry, challenges=challenges))


def compute_validator_set(network: bytes, registry: Registry, minimum_stake_wei: int) -> ValidatorSet:
    """Return the seats of a registry: validators with enough stake, in the order in which they registered."""
    return ValidatorSet(
        network=network,
        validators=tuple(
            ValidatorEntry(
                address=validator.address,
                public_key=validator.public_key,
                transport_key=validator.transport_key,
                stake_wei=validator.stake_wei,
            )
            for validator in registry.validators.values()
            if validator.stake_wei >= minimum_stake_wei
        ),
    )


def compute_total_wei(state: LedgerState) -> int:
    """Return the sum of all accounts, stakes, bonds and escrows, without what is burned."""
    registry = state.registry
    return (
        sum(account.balance_wei + account.claimable_wei for account in state.accounts.values())
        + sum(provider.held_wei for provider in registry.providers.values())
        + sum(validator.held_wei for validator in registry.validators.values())
        + sum(challenge.escrow_wei for challenge in registry.challenges.values())
    )


def check_conservation(state: LedgerState) -> None:
    """Raise RuntimeError when a wei was made or lost: a fault of this program, never of a transaction."""
    total_wei = compute_total_wei(state)
    if total_wei + state.burned_wei != state.issued_wei:
        raise RuntimeError(f"{total_wei} wei held and {state.burned_wei} burned are not the {state.issued_wei} issued")


def _with_account(state: LedgerState, address: bytes, account: Account) -> LedgerState:
    return replace(state, accounts=with_item(state.accounts, address, account))
