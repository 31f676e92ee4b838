"""The view: what validators compute an epoch from, and when a fact enters it."""

from typing import Any

import pytest

from challenges.penalty import WEI_PER_QUIV as QUIV
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import AddStake, RegisterProvider, StartUnbonding
from ledger.state.view import (
    AccountView,
    ChallengeView,
    LedgerView,
    build_account_view,
    build_challenge_view,
    compute_providers_now,
    compute_view,
)
from scoring.evidence.wealth import ONE
from scoring.trust import Infraction


def test_a_fact_enters_the_view_two_epochs_after_the_epoch_that_was_certified_last(world: Any) -> None:
    world.certify()
    world.register_provider()
    assert compute_view(world.state, 1).providers == ()
    world.certify()
    assert len(compute_view(world.state, 2).providers) == 1


def test_the_view_of_an_epoch_does_not_move_while_facts_keep_coming(world: Any) -> None:
    world.certify(2)
    before = compute_view(world.state, 2)
    world.register_provider(bond_wei=5)
    world.send("provider", AddStake, amount_wei=5)
    assert compute_view(world.state, 2) == before


def test_the_view_shows_offers_tier_infractions_and_challenges(world: Any) -> None:
    offer = world.register_provider(bond_wei=20 * QUIV)
    world.certify(2)
    world.slash(slash_bps=2000)
    challenge_id = world.open_challenge()
    world.certify()
    provider = compute_view(world.state, 3).find_provider(world.address("provider"))
    assert provider is not None
    assert provider.signed_offers == (offer,)
    assert (provider.tier, provider.slash_cap_bps) == ("", 500)
    assert provider.infraction_classes == {Infraction.SEVERE, Infraction.BANNED}
    assert provider.challenged_offers == (offer.digest,)
    assert [item.challenge_id for item in compute_view(world.state, 3).challenges] == [challenge_id]


def test_expired_offers_leave_the_view(world: Any) -> None:
    signed = world.offer(expires_s=1_800_000_015)
    values = {"stake_wei": 10_000 * QUIV, "offer": signed.offer, "offer_signature": signed.signature}
    world.send("provider", RegisterProvider, **values)
    world.certify(2)
    assert len(compute_view(world.state, 2).providers[0].offers) == 1
    world.certify()
    assert compute_view(world.state, 3).providers[0].offers == ()
    assert len(compute_providers_now(world.state)[0].offers) == 1


def test_a_validator_below_the_minimum_stake_loses_its_seat_two_epochs_later(world: Any) -> None:
    world.certify()
    world.send("validator-1", StartUnbonding, amount_wei=1)
    assert len(compute_view(world.state, 1).validator_set.validators) == 4
    checkpoint = world.checkpoint()
    assert checkpoint.epoch == 1
    world.certify()
    view = compute_view(world.state, 2)
    assert [world.name_of(seat.address) for seat in view.validator_set.validators] == [
        "validator-0",
        "validator-2",
        "validator-3",
    ]
    assert len(view.endpoints) == 3


def test_the_view_names_the_checkpoint_that_closed_it(world: Any) -> None:
    first = compute_view(world.state, 0)
    assert (first.since_epoch, first.basis_epoch, first.previous) == (0, -1, world.genesis.network)
    world.certify(3)
    view = compute_view(world.state, 7)
    assert (view.since_epoch, view.basis_epoch, view.previous) == (3, 2, world.state.head_root)


def test_refuses_the_view_of_an_epoch_that_is_certified(world: Any) -> None:
    world.certify(2)
    with pytest.raises(TransactionRefused, match="certified already"):
        compute_view(world.state, 1)


def test_views_survive_their_wire_form(world: Any) -> None:
    world.register_provider(bond_wei=20 * QUIV)
    world.certify(2)
    challenge_id = world.open_challenge()
    world.certify(2)
    world.vote(challenge_id, [5 * ONE, ONE, None])
    challenge = build_challenge_view(world.state.registry.challenges[challenge_id])
    view, account = compute_view(world.state, 99), build_account_view(world.state, world.address("provider"))
    assert LedgerView.decode(view.encode()) == view
    assert ChallengeView.decode(challenge.encode()) == challenge
    assert AccountView.decode(account.encode()) == account
    assert (challenge.verdict, challenge.deadline_epoch, challenge.is_open) == ("inconclusive", 0, False)
    assert sorted(challenge.e_values) == [ONE, 5 * ONE] and len(challenge.committee) == 3


def test_providers_as_they_are_now_run_ahead_of_the_view(world: Any) -> None:
    world.register_provider()
    assert len(compute_providers_now(world.state)) == 1 and compute_view(world.state, 0).providers == ()


def test_an_account_says_what_it_holds_and_is(world: Any) -> None:
    world.register_provider(bond_wei=3)
    world.send("provider", StartUnbonding, amount_wei=4)
    view = build_account_view(world.state, world.address("provider"))
    assert (view.role, view.stake_wei, view.unbonding_wei, view.bond_wei) == ("provider", 10_000 * QUIV - 4, 4, 3)
    assert build_account_view(world.state, world.address("validator-0")).role == "validator"
    assert build_account_view(world.state, b"\x63" * 20) == AccountView(
        address=b"\x63" * 20,
        balance_wei=0,
        claimable_wei=0,
        nonce=0,
        role="",
        stake_wei=0,
        unbonding_wei=0,
        bond_wei=0,
    )
