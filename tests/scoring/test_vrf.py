"""The VRF: one output for a key and input, provable, and unlike anything else that the key signs."""

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import bls
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.vrf import compute_vrf_output, compute_vrf_proof, verify_vrf

SK, OTHER_SK = bls.key_gen(b"\x01" * 32), bls.key_gen(b"\x02" * 32)
PK, OTHER_PK = bls.sk_to_pk(SK), bls.sk_to_pk(OTHER_SK)
ALPHA = b"beacon of epoch 7"
PROOF = compute_vrf_proof(SK, ALPHA)


@settings(max_examples=40, deadline=None)
@given(alpha=st.binary(max_size=100))
def test_a_proof_verifies_and_fixes_the_output(alpha: bytes) -> None:
    proof = compute_vrf_proof(SK, alpha)
    verify_vrf(PK, alpha, proof)
    assert compute_vrf_proof(SK, alpha) == proof
    assert len(compute_vrf_output(proof)) == 32


def test_keys_and_inputs_have_outputs_of_their_own() -> None:
    outputs = {
        compute_vrf_output(compute_vrf_proof(sk, alpha)) for sk in (SK, OTHER_SK) for alpha in (b"", b"\x00", ALPHA)
    }
    assert len(outputs) == 6


REFUSED: dict[str, tuple[Any, Any, Any]] = {
    "another key": (OTHER_PK, ALPHA, PROOF),
    "another input": (PK, ALPHA + b"!", PROOF),
    "another key's proof": (PK, ALPHA, compute_vrf_proof(OTHER_SK, ALPHA)),
    "a plain signature of the input": (PK, ALPHA, bls.sign(SK, ALPHA)),
    "a signature of its hash": (PK, ALPHA, bls.sign(SK, keccak256(ALPHA))),
    "a proof of possession": (PK, PK, bls.pop_prove(SK)),
    "the negated proof": (PK, ALPHA, bytes([PROOF[0] ^ 0x20]) + PROOF[1:]),
    "infinity": (PK, ALPHA, b"\xc0" + bytes(95)),
    "infinity by infinity": (b"\xc0" + bytes(47), ALPHA, b"\xc0" + bytes(95)),
    "a proof cut short": (PK, ALPHA, PROOF[:-1]),
    "no proof": (PK, ALPHA, None),
    "no key": (None, ALPHA, PROOF),
    "no input": (PK, None, PROOF),
    "a string as the input": (PK, "beacon of epoch 7", PROOF),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_as_a_proof(name: str) -> None:
    with pytest.raises(VerificationFailed, match="VRF"):
        verify_vrf(*REFUSED[name])


def test_a_proof_is_no_signature_of_the_input_itself() -> None:
    assert not bls.verify(PK, ALPHA, PROOF)


def test_the_output_is_a_digest_and_not_a_part_of_the_proof() -> None:
    output = compute_vrf_output(PROOF)
    assert output not in PROOF
    assert output not in (hashlib.sha256(PROOF).digest(), keccak256(PROOF))


@pytest.mark.parametrize("proof", [None, b"", PROOF[:-1], PROOF + b"\x00", PROOF.hex(), bytearray(PROOF)], ids=repr)
def test_refuses_an_output_of_anything_but_ninety_six_bytes(proof: Any) -> None:
    with pytest.raises(InvalidInput, match="proof"):
        compute_vrf_output(proof)


@pytest.mark.parametrize("alpha", [None, 7, "text", bytearray(ALPHA)], ids=repr)
def test_refuses_to_prove_what_is_not_bytes(alpha: Any) -> None:
    with pytest.raises(InvalidInput, match="alpha"):
        compute_vrf_proof(SK, alpha)


def test_refuses_to_prove_with_a_bad_key() -> None:
    with pytest.raises(InvalidInput, match="sk"):
        compute_vrf_proof(bytes(32), ALPHA)
