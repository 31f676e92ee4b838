"""Certified records on the ledger: checkpoints and slashing evidence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from challenges.penalty import WEI_PER_QUIV as QUIV
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import (
    AddStake,
    RegisterValidator,
    StartUnbonding,
    SubmitCheckpoint,
    SubmitEvidence,
    WithdrawUnbonded,
)
from scoring import bls
from scoring.certificate import compute_validator_set_digest
from scoring.eip712 import compute_signing_root
from scoring.errors import VerificationFailed
from scoring.hashing import keccak256
from scoring.records import Certificate


def _refuse(world: Any, cls: type, code: str, **values: Any) -> None:
    before = world.state
    with pytest.raises(TransactionRefused) as refusal:
        world.send("stranger", cls, **values)
    assert refusal.value.code == code and world.state is before


def test_a_certified_checkpoint_moves_the_ledgers_epoch(world: Any) -> None:
    checkpoint = world.checkpoint()
    world.send("stranger", SubmitCheckpoint, checkpoint=checkpoint, certificate=world.certificate(checkpoint))
    assert world.state.epoch == 0
    assert world.state.head_root == compute_signing_root(checkpoint, world.genesis.domain)


def test_an_epoch_without_checkpoint_may_be_skipped(world: Any) -> None:
    world.certify()
    checkpoint = world.checkpoint(epoch=3)
    world.send("stranger", SubmitCheckpoint, checkpoint=checkpoint, certificate=world.certificate(checkpoint))
    assert world.state.epoch == 3
    world.certify()
    assert world.state.epoch == 4


STALE = {
    "the epoch certified last": ({"epoch": 1}, "stale-epoch"),
    "an epoch before": ({"epoch": 0}, "stale-epoch"),
    "another predecessor": ({"previous": bytes(32)}, "wrong-previous"),
    "another time": ({"time_s": 5}, "wrong-time"),
    "another plan": ({"plan_digest": bytes(32)}, "foreign-plan"),
    "another validator set": ({"validator_set_digest": bytes(32)}, "wrong-validator-set"),
    "another beacon": ({"beacon": bytes(32)}, "wrong-beacon"),
    "more outputs than seats": ({"vrf_outputs": (bytes(32),) * 5}, "too-many-outputs"),
}


@pytest.mark.parametrize(("changes", "code"), STALE.values(), ids=STALE.keys())
def test_refuses_a_checkpoint_although_everybody_signed_it(world: Any, changes: dict[str, Any], code: str) -> None:
    world.certify(2)
    checkpoint = world.checkpoint(**changes)
    certificate = world.certificate(checkpoint, seats=(0, 1, 2, 3))
    _refuse(world, SubmitCheckpoint, code, checkpoint=checkpoint, certificate=certificate)


def _sign_as(world: Any, record: Any, seats: tuple[int, ...], key: str = "validator") -> Certificate:
    """Build a certificate without the checks of `build_certificate`."""
    root = compute_signing_root(record, world.genesis.domain)
    signatures = [bls.sign(bls.key_gen(keccak256(b"bls" + f"{key}-{seat}".encode())), root) for seat in seats]
    return Certificate(
        signing_root=root,
        validator_set_digest=compute_validator_set_digest(world.state.validator_set),
        signers=bytes([sum(1 << seat for seat in seats)]),
        signature=bls.aggregate(signatures),
    )


BAD_CERTIFICATES: dict[str, tuple[Callable[[Any, Any], Certificate], str]] = {
    "exactly two thirds": (lambda w, r: _sign_as(w, r, (0, 1)), "two thirds"),
    "keys that are not the seats'": (lambda w, r: _sign_as(w, r, (0, 1, 2), "impostor"), "does not match its signers"),
    "a trailing bit": (lambda w, r: replace(_sign_as(w, r, (0, 1, 2)), signers=b"\x0f"), "bit beyond"),
    "too long a bitfield": (lambda w, r: replace(_sign_as(w, r, (0, 1, 2)), signers=b"\x07\x00"), "bytes where"),
    "of another record": (lambda w, r: _sign_as(w, w.checkpoint(epoch=5), (0, 1, 2)), "another record"),
    "of another set": (
        lambda w, r: replace(_sign_as(w, r, (0, 1, 2)), validator_set_digest=bytes(32)),
        "another validator set",
    ),
    "garbage": (lambda w, r: replace(_sign_as(w, r, (0, 1, 2)), signature=b"\xff" * 96), "does not match"),
}


@pytest.mark.parametrize(("build", "sentence"), BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES.keys())
def test_refuses_a_certificate(
    make_world: Callable[..., Any], build: Callable[[Any, Any], Certificate], sentence: str
) -> None:
    world = make_world(stakes=(1_000 * QUIV,) * 3)
    checkpoint = world.checkpoint()
    with pytest.raises(VerificationFailed, match=sentence):
        world.send("stranger", SubmitCheckpoint, checkpoint=checkpoint, certificate=build(world, checkpoint))
    assert world.state.epoch == -1


def test_evidence_slashes_within_the_tiers_cap_and_burns_all_of_it(world: Any) -> None:
    world.register_provider()
    world.certify(2)
    events = world.slash(slash_bps=1000)
    assert [event.name for event in events] == ["evidence-accepted", "provider-slashed"]
    assert world.provider().stake_wei == 9_500 * QUIV
    assert world.state.burned_wei == 500 * QUIV
    assert [entry.infraction for entry in world.provider().infractions] == ["major"]
    assert not world.provider().is_banned


def test_a_severe_infraction_bans(world: Any) -> None:
    world.register_provider()
    world.certify(2)
    world.slash(slash_bps=2000)
    assert world.provider().is_banned


def test_stake_in_unbonding_is_slashed_too(world: Any) -> None:
    world.register_provider()
    world.certify(2)
    world.send("provider", StartUnbonding, amount_wei=9_800 * QUIV)
    world.slash()
    assert world.provider().stake_wei == 0
    assert world.provider().slashable_wei == 9_500 * QUIV
    assert world.state.burned_wei == 500 * QUIV


def test_an_offence_slashes_once_and_another_case_again(world: Any) -> None:
    world.register_provider()
    world.certify(3)
    world.slash()
    world.certify()
    evidence = world.evidence()
    certificate = world.certificate(evidence)
    _refuse(world, SubmitEvidence, "offence-already-slashed", evidence=evidence, certificate=certificate)
    world.certify()
    world.slash()
    assert [entry.case_index for entry in world.provider().infractions] == [1, 2]


def test_a_minor_infraction_does_not_use_up_a_major_one(world: Any) -> None:
    world.register_provider()
    world.certify(2)
    world.slash(rule="uptime", slash_bps=100)
    world.slash(slash_bps=1000)
    assert [entry.infraction for entry in world.provider().infractions] == ["minor", "major"]


BAD_EVIDENCE: dict[str, tuple[dict[str, Any], str]] = {
    "unknown provider": ({"provider": b"\x01" * 20}, "unknown-provider"),
    "unknown offer": ({"offer_digest": bytes(32)}, "unknown-offer"),
    "another plan": ({"plan_digest": bytes(32)}, "foreign-plan"),
    "an epoch that is not certified": ({"last_epoch": 3}, "unknown-epoch"),
    "another checkpoint": ({"checkpoint": bytes(32)}, "wrong-checkpoint"),
    "another start of the case": ({"first_epoch": 1}, "wrong-case"),
    "case number zero": ({"case_index": 0}, "wrong-case"),
    "another case": ({"case_index": 2, "first_epoch": 4}, "wrong-case"),
    "a lower threshold": ({"threshold": 1}, "wrong-threshold"),
    "a slash outside every class": ({"slash_bps": 5000}, "bad-slash"),
    "a slash of nothing": ({"slash_bps": 0}, "bad-slash"),
}


@pytest.mark.parametrize(("changes", "code"), BAD_EVIDENCE.values(), ids=BAD_EVIDENCE.keys())
def test_refuses_evidence_although_everybody_signed_it(world: Any, changes: dict[str, Any], code: str) -> None:
    world.register_provider()
    world.certify(3)
    evidence = world.evidence(**changes)
    _refuse(world, SubmitEvidence, code, evidence=evidence, certificate=world.certificate(evidence))


def test_refuses_evidence_signed_by_too_few(world: Any) -> None:
    world.register_provider()
    world.certify()
    evidence = world.evidence()
    with pytest.raises(VerificationFailed, match="two thirds"):
        world.send("stranger", SubmitEvidence, evidence=evidence, certificate=_sign_as(world, evidence, (0, 1)))


def test_evidence_is_signed_by_the_set_that_certified_its_last_epoch(world: Any) -> None:
    world.register_provider()
    bls_key = bls.key_gen(keccak256(b"newcomer"))
    seat = {"public_key": bls.sk_to_pk(bls_key), "proof_of_possession": bls.pop_prove(bls_key)}
    world.certify(2)
    evidence, certificate = world.evidence(), world.certificate(world.evidence())
    more = {"transport_key": b"\x77" * 32, "endpoint": "http://127.0.0.1:9", "stake_wei": 50_000 * QUIV}
    world.send("consumer", RegisterValidator, **seat, **more)
    checkpoint = world.checkpoint()
    world.send("stranger", SubmitCheckpoint, checkpoint=checkpoint, certificate=world.certificate(checkpoint))
    assert len(world.state.validator_set.validators) == 5
    world.send("stranger", SubmitEvidence, evidence=evidence, certificate=certificate)
    assert world.state.burned_wei > 0


def test_old_evidence_is_refused_because_the_stake_may_be_gone(world: Any) -> None:
    world.register_provider()
    world.certify()
    evidence, certificate = world.evidence(), world.certificate(world.evidence())
    world.certify(9)
    _refuse(world, SubmitEvidence, "unknown-epoch", evidence=evidence, certificate=certificate)


def test_the_timelock_delays_the_slash_and_holds_the_stake(make_world: Callable[..., Any], world: Any) -> None:
    slow = make_world(parameters=replace(world.genesis.parameters, timelock_epochs=3, unbonding_epochs=7))
    slow.register_provider()
    slow.certify()
    slow.send("provider", StartUnbonding, amount_wei=1)
    slow.certify(3)
    slow.slash()
    slow.certify(2)
    assert slow.state.burned_wei == 0
    with pytest.raises(TransactionRefused) as refusal:
        slow.send("provider", WithdrawUnbonded)
    assert refusal.value.code == "slash-pending"
    slow.send("provider", AddStake, amount_wei=10_000 * QUIV)
    slow.certify()
    assert slow.state.burned_wei == 1_000 * QUIV
    slow.certify()
    slow.send("provider", WithdrawUnbonded)
