"""Certificates: two thirds in integers, one encoding for one set of signers, nothing forged accepted."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import bls
from scoring.certificate import (
    build_bitfield,
    build_certificate,
    compute_validator_set_digest,
    is_quorum,
    parse_bitfield,
    verify_certificate,
)
from scoring.eip712 import compute_struct_hash
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.records import Certificate, ValidatorEntry, ValidatorSet

ROOT = keccak256(b"a record")
INFINITY = bytes([0xC0]) + bytes(95)


@cache
def secret_key(seat: int) -> bytes:
    return bls.key_gen(b"certificate test signer".rjust(31, b"-") + bytes([seat]))


@cache
def public_key(seat: int) -> bytes:
    return bls.sk_to_pk(secret_key(seat))


@cache
def sign(seat: int, message: bytes = ROOT) -> bytes:
    return bls.sign(secret_key(seat), message)


def build_set(*stakes_wei: int) -> ValidatorSet:
    entries = tuple(
        ValidatorEntry(
            address=bytes([seat + 1]) * 20,
            public_key=public_key(seat),
            transport_key=bytes([seat + 1]) * 32,
            stake_wei=stake_wei,
        )
        for seat, stake_wei in enumerate(stakes_wei)
    )
    return ValidatorSet(network=keccak256(b"network"), validators=entries)


FOUR = build_set(1, 1, 1, 1)
GOOD = build_certificate(ROOT, FOUR, {seat: sign(seat) for seat in (0, 2, 3)})


def test_three_of_four_equal_seats_certify() -> None:
    verify_certificate(GOOD, FOUR, ROOT)
    assert GOOD.signers == bytes([0b1101])
    assert GOOD.validator_set_digest == compute_validator_set_digest(FOUR) == compute_struct_hash(FOUR)


def test_the_certificate_does_not_depend_on_the_order_of_the_signatures() -> None:
    assert build_certificate(ROOT, FOUR, {seat: sign(seat) for seat in (3, 0, 2)}) == GOOD


@pytest.mark.parametrize(
    ("name", "stakes", "seats", "expected"),
    [
        ("exactly two thirds", (1, 1, 1), (0, 1), False),
        ("one wei more than two thirds", (10**24 + 1, 10**24, 10**24), (0, 1), True),
        ("exactly two thirds of a huge stake", (10**30, 10**30, 10**30), (0, 2), False),
        ("one rich seat", (7, 1, 1, 1), (0,), True),
        ("a seat counted twice", (1, 1, 1), (0, 0, 0), False),
        ("nobody", (1, 1, 1), (), False),
        ("everybody without stake", (0, 0), (0, 1), False),
    ],
)
def test_a_quorum_is_more_than_two_thirds(
    name: str, stakes: tuple[int, ...], seats: tuple[int, ...], expected: bool
) -> None:
    assert is_quorum(build_set(*stakes), seats) is expected


FOREIGN = build_set(1, 1, 1, 2)
NINE = build_set(*[1] * 9)
GOOD_NINE = build_certificate(ROOT, NINE, {seat: sign(seat) for seat in range(8)})


@pytest.mark.parametrize(
    ("name", "certificate", "validator_set", "root", "sentence"),
    [
        ("another validator set", GOOD, FOREIGN, ROOT, "another validator set"),
        ("another record", GOOD, FOUR, keccak256(b"another"), "another record"),
        ("a renamed record", replace(GOOD, signing_root=keccak256(b"x")), FOUR, ROOT, "another record"),
        ("an empty bitfield", replace(GOOD, signers=b""), FOUR, ROOT, "has 0 bytes where 4 seats need 1"),
        ("a bitfield with a spare byte", replace(GOOD, signers=b"\x0d\x00"), FOUR, ROOT, "has 2 bytes"),
        ("a bitfield cut short", replace(GOOD_NINE, signers=b"\xff"), NINE, ROOT, "has 1 bytes where 9 seats need 2"),
        ("a trailing bit", replace(GOOD, signers=b"\x1d"), FOUR, ROOT, "beyond seat 3"),
        ("a trailing bit in a full byte", replace(GOOD_NINE, signers=b"\xff\x02"), NINE, ROOT, "beyond seat 8"),
        ("too few signers", replace(GOOD, signers=b"\x05"), FOUR, ROOT, "2 wei of 4"),
        ("one signer claimed too many", replace(GOOD, signers=b"\x0f"), FOUR, ROOT, "forged or damaged"),
        ("a signer swapped", replace(GOOD, signers=b"\x0b"), FOUR, ROOT, "forged or damaged"),
        ("the point at infinity", replace(GOOD, signature=INFINITY), FOUR, ROOT, "infinity"),
        ("zeros", replace(GOOD, signature=bytes(96)), FOUR, ROOT, "forged or damaged"),
        ("one signature for three", replace(GOOD, signature=sign(0)), FOUR, ROOT, "forged or damaged"),
        (
            "signatures of another record",
            replace(GOOD, signature=bls.aggregate([sign(seat, keccak256(b"x")) for seat in (0, 2, 3)])),
            FOUR,
            ROOT,
            "forged or damaged",
        ),
    ],
)
def test_refuses(name: str, certificate: Certificate, validator_set: ValidatorSet, root: bytes, sentence: str) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        verify_certificate(certificate, validator_set, root)


def test_does_not_build_a_certificate_without_a_quorum() -> None:
    with pytest.raises(VerificationFailed, match="not more than two thirds"):
        build_certificate(ROOT, FOUR, {0: sign(0), 1: sign(1)})


@pytest.mark.parametrize(
    ("name", "signatures", "sentence"),
    [
        ("a seat that does not exist", {0: sign(0), 1: sign(1), 4: sign(2)}, "seat 4 of 4"),
        ("a negative seat", {0: sign(0), 1: sign(1), -1: sign(2)}, "seat -1 of 4"),
        ("garbage", {0: sign(0), 1: sign(1), 2: b"\xff" * 96}, "signatures"),
    ],
)
def test_refuses_to_build_from(name: str, signatures: dict[int, bytes], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        build_certificate(ROOT, FOUR, signatures)


@settings(deadline=None)
@given(st.integers(0, 70), st.data())
def test_a_bitfield_is_read_back(seat_count: int, data: st.DataObject) -> None:
    seats = data.draw(st.sets(st.integers(0, seat_count - 1))) if seat_count else set()
    assert parse_bitfield(build_bitfield(seats, seat_count), seat_count) == tuple(sorted(seats))


@settings(deadline=None)
@given(st.binary(max_size=3), st.integers(0, 24))
def test_a_set_of_signers_has_one_encoding(signers: bytes, seat_count: int) -> None:
    try:
        seats = parse_bitfield(signers, seat_count)
    except InvalidInput:
        return
    assert build_bitfield(seats, seat_count) == signers


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10**25), min_size=1, max_size=6).flatmap(
        lambda stakes: st.tuples(st.just(stakes), st.sets(st.integers(0, len(stakes) - 1), min_size=1))
    )
)
def test_builds_exactly_when_there_is_a_quorum(case: tuple[list[int], set[int]]) -> None:
    stakes, seats = case
    validator_set = build_set(*stakes)
    signatures = {seat: sign(seat) for seat in seats}
    if not is_quorum(validator_set, seats):
        with pytest.raises(VerificationFailed):
            build_certificate(ROOT, validator_set, signatures)
        return
    verify_certificate(build_certificate(ROOT, validator_set, signatures), validator_set, ROOT)
