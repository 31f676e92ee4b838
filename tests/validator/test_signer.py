"""The signer: every signature passes the guard, and none is for another seat."""

from dataclasses import replace
from pathlib import Path

import pytest

from scoring import bls, ecdsa
from scoring.eip712 import Domain, Record, compute_signing_root
from scoring.errors import InvalidInput, RefusedToSign, Unavailable
from scoring.records import Checkpoint, Commit, Reveal, SlashingEvidence
from scoring.vrf import verify_vrf
from validator.keys import ValidatorKeys, is_transport_signed
from validator.sign_guard import SignGuard
from validator.signer import Signer, compute_evidence_slot_number

KEYS = ValidatorKeys.from_seed(b"the seat of a signer")
NETWORK = b"n" * 32
DOMAIN = Domain(chain_id=1, verifying_contract=NETWORK[-20:])
DIGEST = b"\x05" * 32
COMMIT = Commit(validator=KEYS.address, epoch=3, reveal_digest=DIGEST)
REVEAL = Reveal(validator=KEYS.address, epoch=3, salt=DIGEST, vrf_proof=b"v" * 96, outcomes=())
CHECKPOINT = Checkpoint(
    epoch=3,
    previous=DIGEST,
    time_s=1,
    beacon=DIGEST,
    vrf_outputs=(),
    reveals_root=DIGEST,
    feed_root=DIGEST,
    case_root=DIGEST,
    state_digest=DIGEST,
    validator_set_digest=DIGEST,
    plan_digest=DIGEST,
)
EVIDENCE = SlashingEvidence(
    provider=b"p" * 20,
    offer_digest=DIGEST,
    rule="false-capability",
    case_index=1,
    first_epoch=1,
    last_epoch=4,
    checkpoint=DIGEST,
    plan_digest=DIGEST,
    bundle_digest=DIGEST,
    threshold=100,
    slash_bps=1000,
)
SIGNED: list[tuple[str, Record, dict[str, object]]] = [
    ("commit", COMMIT, {"reveal_digest": b"\x06" * 32}),
    ("reveal", REVEAL, {"salt": b"\x06" * 32}),
    ("checkpoint", CHECKPOINT, {"feed_root": b"\x06" * 32}),
    ("evidence", EVIDENCE, {"bundle_digest": b"\x06" * 32}),
]


@pytest.fixture
def guard(tmp_path: Path) -> SignGuard:
    return SignGuard.open(tmp_path / "guard.sqlite", tmp_path)


@pytest.fixture
def signer(guard: SignGuard) -> Signer:
    return Signer(KEYS, guard, DOMAIN, NETWORK)


@pytest.mark.parametrize(("kind", "record", "change"), SIGNED, ids=[row[0] for row in SIGNED])
def test_signs_one_record_for_its_slot_and_refuses_another(
    signer: Signer, kind: str, record: Record, change: dict[str, object]
) -> None:
    sign = getattr(signer, f"sign_{kind}")
    signature = sign(record)
    assert bls.verify(KEYS.public_key, compute_signing_root(record, DOMAIN), signature)
    assert sign(record) == signature
    with pytest.raises(RefusedToSign, match=kind):
        sign(replace(record, **change))


@pytest.mark.parametrize(("kind", "record", "change"), SIGNED, ids=[row[0] for row in SIGNED])
def test_signs_nothing_when_the_guard_is_gone(
    signer: Signer, guard: SignGuard, kind: str, record: Record, change: dict[str, object]
) -> None:
    guard.close()
    with pytest.raises(Unavailable):
        getattr(signer, f"sign_{kind}")(record)


def test_refuses_to_sign_for_another_seat(signer: Signer) -> None:
    with pytest.raises(InvalidInput, match="validator"):
        signer.sign_commit(replace(COMMIT, validator=b"o" * 20))
    with pytest.raises(InvalidInput, match="validator"):
        signer.sign_reveal(replace(REVEAL, validator=b"o" * 20))


def test_refuses_the_same_record_on_another_network_only_by_its_domain(signer: Signer, guard: SignGuard) -> None:
    other = Signer(KEYS, guard, Domain(chain_id=2, verifying_contract=b"m" * 20), b"m" * 32)
    assert signer.sign_commit(COMMIT) != other.sign_commit(COMMIT)


def test_proves_one_input_for_each_epoch(signer: Signer) -> None:
    proof = signer.prove_vrf(3, b"alpha")
    verify_vrf(KEYS.public_key, b"alpha", proof)
    assert signer.prove_vrf(3, b"alpha") == proof
    with pytest.raises(RefusedToSign, match="vrf 3"):
        signer.prove_vrf(3, b"another beacon")
    signer.prove_vrf(4, b"another beacon")


def test_gives_an_offence_a_new_slot_with_each_last_epoch() -> None:
    numbers = {
        compute_evidence_slot_number(EVIDENCE),
        compute_evidence_slot_number(replace(EVIDENCE, last_epoch=5)),
        compute_evidence_slot_number(replace(EVIDENCE, case_index=2)),
        compute_evidence_slot_number(replace(EVIDENCE, rule="other")),
        compute_evidence_slot_number(replace(EVIDENCE, offer_digest=b"\x06" * 32)),
    }
    assert len(numbers) == 5 and all(0 <= number < 2**53 for number in numbers)
    assert compute_evidence_slot_number(replace(EVIDENCE, slash_bps=1)) in numbers


def test_signs_possession_transactions_and_envelopes_with_their_own_keys(signer: Signer) -> None:
    assert bls.pop_verify(KEYS.public_key, signer.prove_possession())
    assert ecdsa.recover_address(DIGEST, signer.sign_transaction(DIGEST)) == KEYS.address
    assert is_transport_signed(KEYS.transport_key, DIGEST, signer.sign_envelope(DIGEST))
