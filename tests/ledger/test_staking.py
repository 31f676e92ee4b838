"""Accounts, stakes, offers and seats: what works and every refusal by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from challenges.penalty import WEI_PER_QUIV as QUIV
from challenges.signed import sign_offer
from ledger.state.errors import TransactionRefused
from ledger.state.machine import apply
from ledger.state.transactions import (
    AddStake,
    DeclareInterest,
    PostOffer,
    PostPerformanceBond,
    RegisterProvider,
    RegisterValidator,
    StartUnbonding,
    Transfer,
    UnbondPerformanceBond,
    Withdraw,
    WithdrawUnbonded,
    sign_transaction,
)
from scoring import bls
from scoring.eip712 import Domain
from scoring.errors import VerificationFailed
from scoring.hashing import keccak256

BLS_KEY = bls.key_gen(keccak256(b"newcomer"))
SEAT: dict[str, Any] = {
    "public_key": bls.sk_to_pk(BLS_KEY),
    "proof_of_possession": bls.pop_prove(BLS_KEY),
    "transport_key": b"\x77" * 32,
    "endpoint": "http://127.0.0.1:9",
    "stake_wei": 1_000 * QUIV,
}


def test_a_transfer_moves_balance_and_counts(world: Any) -> None:
    world.send("stranger", Transfer, recipient=world.address("consumer"), amount_wei=5)
    assert world.balance_wei("consumer") == 100_000 * QUIV + 5
    assert world.balance_wei("stranger") == 100_000 * QUIV - 5
    assert world.state.accounts[world.address("stranger")].nonce == 1


def test_a_provider_registers_adds_stake_and_posts_another_offer(world: Any) -> None:
    world.register_provider(bond_wei=3)
    world.send("provider", AddStake, amount_wei=7)
    second = world.offer(model="another")
    world.send("provider", PostOffer, offer=second.offer, offer_signature=second.signature)
    provider = world.provider()
    assert (provider.stake_wei, provider.bond_wei, len(provider.offers)) == (10_000 * QUIV + 7, 3, 2)


def test_unbonding_stake_waits_its_epochs_and_then_returns(world: Any) -> None:
    world.register_provider()
    world.certify()
    world.send("provider", StartUnbonding, amount_wei=100)
    world.certify(7)
    with pytest.raises(TransactionRefused, match="finished unbonding"):
        world.send("provider", WithdrawUnbonded)
    world.certify()
    before = world.balance_wei("provider")
    world.send("provider", WithdrawUnbonded)
    assert world.balance_wei("provider") == before + 100 and world.provider().unbondings == ()


def test_a_performance_bond_leaves_only_through_unbonding(world: Any) -> None:
    world.register_provider(bond_wei=50)
    world.send("provider", UnbondPerformanceBond, amount_wei=20)
    assert world.provider().bond_wei == 30
    assert world.provider().slashable_wei == 10_000 * QUIV + 20


def test_a_new_validator_gets_its_seat_two_checkpoints_later_and_at_the_end(world: Any) -> None:
    world.send("stranger", RegisterValidator, **SEAT)
    assert len(world.state.validator_set.validators) == 4
    world.certify()
    assert world.state.validator_set.validators[4].address == world.address("stranger")


def _offer_of_another_network(world: Any) -> dict[str, Any]:
    foreign = Domain(chain_id=5, verifying_contract=bytes(20))
    signed = sign_offer(world.offer().offer, foreign, world.key("provider"))
    return {"stake_wei": 10_000 * QUIV, "offer": signed.offer, "offer_signature": signed.signature}


def _registration(world: Any, stake_wei: int = 10_000 * QUIV, **changes: Any) -> dict[str, Any]:
    signed = world.offer(**changes)
    return {"stake_wei": stake_wei, "offer": signed.offer, "offer_signature": signed.signature}


def _post(world: Any) -> dict[str, Any]:
    signed = world.offer()
    return {"offer": signed.offer, "offer_signature": signed.signature}


Case = tuple[str, type, Callable[[Any], dict[str, Any]], str]
UNREGISTERED: dict[str, Case] = {
    "transfer of nothing": ("stranger", Transfer, lambda w: {"recipient": bytes(20), "amount_wei": 0}, "zero-amount"),
    "transfer of too much": (
        "stranger",
        Transfer,
        lambda w: {"recipient": bytes(20), "amount_wei": 10**30},
        "insufficient-balance",
    ),
    "withdrawal of nothing": ("stranger", Withdraw, lambda w: {}, "nothing-to-withdraw"),
    "provider with too little stake": (
        "provider",
        RegisterProvider,
        lambda w: _registration(w, stake_wei=10_000 * QUIV - 1),
        "stake-too-small",
    ),
    "provider that cannot pay its stake": (
        "provider",
        RegisterProvider,
        lambda w: _registration(w, stake_wei=10**30),
        "insufficient-balance",
    ),
    "somebody else's offer": ("stranger", RegisterProvider, _registration, "foreign-offer"),
    "expired offer": ("provider", RegisterProvider, lambda w: _registration(w, expires_s=1), "expired-offer"),
    "stake without registration": ("stranger", AddStake, lambda w: {"amount_wei": 1}, "not-registered"),
    "unbonding without registration": ("stranger", StartUnbonding, lambda w: {"amount_wei": 1}, "not-registered"),
    "offer without registration": ("provider", PostOffer, _post, "unknown-provider"),
    "bond without registration": ("stranger", PostPerformanceBond, lambda w: {"amount_wei": 1}, "unknown-provider"),
    "interest of no validator": ("stranger", DeclareInterest, lambda w: {"party": bytes(20)}, "not-a-validator"),
    "validator with too little stake": (
        "stranger",
        RegisterValidator,
        lambda w: SEAT | {"stake_wei": 1},
        "stake-too-small",
    ),
    "validator without proof of possession": (
        "stranger",
        RegisterValidator,
        lambda w: SEAT | {"proof_of_possession": bytes(96)},
        "bad-proof-of-possession",
    ),
    "validator with another's key": (
        "stranger",
        RegisterValidator,
        lambda w: SEAT | {"public_key": w.genesis.validators[0].entry.public_key},
        "duplicate-key",
    ),
    "validator with a zero transport key": (
        "stranger",
        RegisterValidator,
        lambda w: SEAT | {"transport_key": bytes(32)},
        "bad-transport-key",
    ),
    "validator without URL": ("stranger", RegisterValidator, lambda w: SEAT | {"endpoint": "x"}, "bad-endpoint"),
    "validator registered twice": ("validator-0", RegisterValidator, lambda w: SEAT, "already-registered"),
    "validator unbonding more than it has": (
        "validator-0",
        StartUnbonding,
        lambda w: {"amount_wei": 10**30},
        "insufficient-stake",
    ),
}
REGISTERED: dict[str, Case] = {
    "provider registered twice": ("provider", RegisterProvider, _registration, "already-registered"),
    "offer posted twice": ("provider", PostOffer, _post, "duplicate-offer"),
    "stake of nothing": ("provider", AddStake, lambda w: {"amount_wei": 0}, "zero-amount"),
    "unbonding more than the stake": (
        "provider",
        StartUnbonding,
        lambda w: {"amount_wei": 10**30},
        "insufficient-stake",
    ),
    "unbonding more than the bond": (
        "provider",
        UnbondPerformanceBond,
        lambda w: {"amount_wei": 1},
        "insufficient-bond",
    ),
    "withdrawing what does not unbond": ("provider", WithdrawUnbonded, lambda w: {}, "nothing-to-withdraw"),
}


def _refuse(world: Any, case: Case) -> None:
    name, cls, build, code = case
    before = world.state
    with pytest.raises(TransactionRefused) as refusal:
        world.send(name, cls, **build(world))
    assert refusal.value.code == code
    assert world.state is before


@pytest.mark.parametrize("case", UNREGISTERED.values(), ids=UNREGISTERED.keys())
def test_refuses_by_name(world: Any, case: Case) -> None:
    _refuse(world, case)


@pytest.mark.parametrize("case", REGISTERED.values(), ids=REGISTERED.keys())
def test_refuses_a_registered_provider_by_name(world: Any, case: Case) -> None:
    world.register_provider()
    _refuse(world, case)


def test_the_last_validator_cannot_leave(make_world: Callable[..., Any]) -> None:
    world = make_world(stakes=(1_000 * QUIV, 1_000 * QUIV))
    world.send("validator-0", StartUnbonding, amount_wei=1)
    _refuse(world, ("validator-1", StartUnbonding, lambda w: {"amount_wei": 1}, "last-validator"))


def test_a_provider_posts_no_more_offers_than_the_limit(make_world: Callable[..., Any], world: Any) -> None:
    small = make_world(parameters=replace(world.genesis.parameters, maximum_offers=1))
    small.register_provider()
    _refuse(small, ("provider", PostOffer, lambda w: _registration_offer(w, "second"), "too-many-offers"))


def _registration_offer(world: Any, model: str) -> dict[str, Any]:
    signed = world.offer(model=model)
    return {"offer": signed.offer, "offer_signature": signed.signature}


def test_refuses_an_offer_signed_for_another_network(world: Any) -> None:
    with pytest.raises(VerificationFailed, match="the offer is not signed"):
        world.send("provider", RegisterProvider, **_offer_of_another_network(world))


def test_refuses_a_signature_of_somebody_else_or_for_another_network(world: Any) -> None:
    transfer = Transfer(sender=world.address("stranger"), nonce=0, recipient=bytes(20), amount_wei=1)
    foreign = Domain(chain_id=78, verifying_contract=world.genesis.domain.verifying_contract)
    for key, domain in ((world.key("consumer"), world.genesis.domain), (world.key("stranger"), foreign)):
        with pytest.raises(VerificationFailed, match="the transaction is not signed"):
            apply(world.state, sign_transaction(transfer, domain, key))


@pytest.mark.parametrize("nonce", [1, 2, 10**9])
def test_refuses_a_nonce_that_is_not_the_next(world: Any, nonce: int) -> None:
    _refuse(
        world,
        ("stranger", Transfer, lambda w: {"recipient": bytes(20), "amount_wei": 1, "nonce": nonce}, "wrong-nonce"),
    )


def test_refuses_the_same_transaction_twice(world: Any) -> None:
    signed = world.sign("stranger", Transfer, recipient=bytes(20), amount_wei=1)
    world.apply(signed)
    with pytest.raises(TransactionRefused, match="nonce"):
        world.apply(signed)
