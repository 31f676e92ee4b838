"""Certificates: more than two thirds of stake on one signing root, as one signature and a bitfield of seats.

Seats are numbered in registry order. Bit i of the bitfield (least significant bit of the first byte first) is seat i;
it has exactly ceil(n / 8) bytes and no bit beyond the last seat, so that one set of signers has one encoding.
"""

from collections.abc import Collection, Mapping

from scoring import bls
from scoring.eip712 import compute_struct_hash
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import Certificate, ValidatorSet

_INFINITY_SIGNATURE = bytes([0xC0]) + bytes(bls.SIGNATURE_BYTES - 1)


def build_certificate(
    record_signing_root: bytes, validator_set: ValidatorSet, signatures: Mapping[int, bytes]
) -> Certificate:
    """Return the certificate made of the signatures, by seat number.

    The caller has checked each signature: one bad one spoils the aggregate. Raises InvalidInput on a seat that does
    not exist or bytes that are no signature, VerificationFailed when the seats hold too little stake.
    """
    signers = build_bitfield(signatures, len(validator_set.validators))
    _verify_quorum(validator_set, signatures)
    return Certificate(
        signing_root=record_signing_root,
        validator_set_digest=compute_validator_set_digest(validator_set),
        signers=signers,
        signature=bls.aggregate([signatures[seat] for seat in sorted(signatures)]),
    )


def verify_certificate(certificate: Certificate, validator_set: ValidatorSet, expected_signing_root: bytes) -> None:
    """Check that more than 2/3 of this set's stake signed `expected_signing_root`; raises VerificationFailed."""
    if certificate.validator_set_digest != compute_validator_set_digest(validator_set):
        raise VerificationFailed("the certificate names another validator set than the one it is checked against")
    if certificate.signing_root != expected_signing_root:
        raise VerificationFailed("the certificate signs another record than the one it came with")
    try:
        seats = parse_bitfield(certificate.signers, len(validator_set.validators))
    except InvalidInput as error:
        raise VerificationFailed(f"the certificate's {error}") from None
    _verify_quorum(validator_set, seats)
    if certificate.signature == _INFINITY_SIGNATURE:
        raise VerificationFailed("the certificate's signature is the point at infinity, which signs nothing")
    public_keys = [validator_set.validators[seat].public_key for seat in seats]
    if not bls.fast_aggregate_verify(public_keys, expected_signing_root, certificate.signature):
        raise VerificationFailed("the certificate's aggregate signature does not match its signers: forged or damaged")


def is_quorum(validator_set: ValidatorSet, seats: Collection[int]) -> bool:
    """Say whether the seats, each counted once, hold more than 2/3 of the stake (in integers)."""
    return 3 * compute_stake_wei(validator_set, seats) > 2 * validator_set.total_stake_wei


def compute_stake_wei(validator_set: ValidatorSet, seats: Collection[int]) -> int:
    """Return the stake of the seats, each counted once."""
    return sum(validator_set.validators[seat].stake_wei for seat in set(seats))


def compute_validator_set_digest(validator_set: ValidatorSet) -> bytes:
    """Return the struct hash of the set: what certificates and checkpoints call its digest."""
    return compute_struct_hash(validator_set)


def build_bitfield(seats: Collection[int], seat_count: int) -> bytes:
    """Return the bitfield of the seats; raises InvalidInput on a seat that does not exist."""
    bits = 0
    for seat in seats:
        if not 0 <= seat < seat_count:
            raise InvalidInput(f"seat {seat} of {seat_count}", "signers")
        bits |= 1 << seat
    return bits.to_bytes((seat_count + 7) // 8, "little")


def parse_bitfield(signers: bytes, seat_count: int) -> tuple[int, ...]:
    """Return the seats in ascending order; raises InvalidInput on a wrong length or a bit beyond the last seat."""
    expected = (seat_count + 7) // 8
    if len(signers) != expected:
        raise InvalidInput(f"bitfield has {len(signers)} bytes where {seat_count} seats need {expected}", "signers")
    bits = int.from_bytes(signers, "little")
    if bits >> seat_count:
        raise InvalidInput(f"bitfield has a bit beyond seat {seat_count - 1}", "signers")
    return tuple(seat for seat in range(seat_count) if bits >> seat & 1)


def _verify_quorum(validator_set: ValidatorSet, seats: Collection[int]) -> None:
    if not is_quorum(validator_set, seats):
        signed, total = compute_stake_wei(validator_set, seats), validator_set.total_stake_wei
        raise VerificationFailed(f"signed by {signed} wei of {total}, which is not more than two thirds of the stake")
