"""Beacons, random functions, leaders and the calendar: derived from what is certified, chosen by nobody."""

from collections import Counter
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.records import ValidatorEntry, ValidatorSet
from scoring.schedule import (
    BEACON_LAG_EPOCHS,
    compute_beacon,
    compute_epoch_start_s,
    compute_leader_order,
    compute_vrf_alpha,
    compute_vrf_mix,
    encode_epoch,
)

NETWORK, OTHER_NETWORK = b"\x01" * 32, b"\x02" * 32
BYTES32 = st.binary(min_size=32, max_size=32)
EPOCHS = st.integers(0, 2**53 - 1)


def build_set(seats: int) -> ValidatorSet:
    entries = tuple(
        ValidatorEntry(
            address=tagged_digest("quiver-test", b"address", bytes([seat]))[-20:],
            public_key=bytes([seat]) * 48,
            transport_key=bytes([seat]) * 32,
            stake_wei=1 + seat,
        )
        for seat in range(seats)
    )
    return ValidatorSet(network=NETWORK, validators=entries)


@given(outputs=st.lists(BYTES32, max_size=8), data=st.data())
def test_the_mix_is_the_xor_of_the_outputs_in_any_order(outputs: list[bytes], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(outputs))
    expected = reduce(lambda left, right: bytes(a ^ b for a, b in zip(left, right, strict=True)), outputs, bytes(32))
    assert compute_vrf_mix(shuffled) == compute_vrf_mix(outputs) == expected


@given(outputs=st.lists(BYTES32, min_size=1, max_size=6), last=BYTES32)
def test_one_output_that_nobody_knows_makes_the_mix_unknown(outputs: list[bytes], last: bytes) -> None:
    known = compute_vrf_mix(outputs)
    assert compute_vrf_mix([compute_vrf_mix([*outputs, last]), known]) == last


def test_no_outputs_mix_to_zero() -> None:
    assert compute_vrf_mix([]) == bytes(32)


@pytest.mark.parametrize("output", [b"", b"\x01" * 31, b"\x01" * 33])
def test_an_output_of_another_length_is_refused(output: bytes) -> None:
    with pytest.raises(InvalidInput, match="vrf_outputs: expected 32 bytes"):
        compute_vrf_mix([b"\x01" * 32, output])


def test_a_beacon_is_used_two_epochs_after_its_outputs_are_certified() -> None:
    # The last to reveal in e - 1 sees everything of e - 1: with a lag of one it would choose its assignment of e.
    assert BEACON_LAG_EPOCHS == 2


@settings(max_examples=50)
@given(epoch=EPOCHS, other=EPOCHS, mix=BYTES32, other_mix=BYTES32)
def test_every_network_epoch_and_mix_has_a_beacon_of_its_own(
    epoch: int, other: int, mix: bytes, other_mix: bytes
) -> None:
    beacon = compute_beacon(NETWORK, epoch, mix)
    assert len(beacon) == 32
    assert compute_beacon(OTHER_NETWORK, epoch, mix) != beacon
    assert (compute_beacon(NETWORK, other, mix) == beacon) == (other == epoch)
    assert (compute_beacon(NETWORK, epoch, other_mix) == beacon) == (other_mix == mix)


def test_the_beacon_is_the_digest_that_the_design_writes_down() -> None:
    mix = b"\x07" * 32
    expected = tagged_digest("quiver-beacon", NETWORK, (300).to_bytes(8, "big"), mix)
    assert compute_beacon(NETWORK, 300, mix) == expected
    assert expected.hex() == "ad4610c4d2a2915e65adc4243281dc932cd8463a44fdeb8e809bf2f5ae884f34"


def test_the_random_function_is_asked_something_else_than_the_beacon() -> None:
    beacon = compute_beacon(NETWORK, 5, bytes(32))
    alpha = compute_vrf_alpha(NETWORK, 5, beacon)
    assert alpha == tagged_digest("quiver-probe-vrf", NETWORK, encode_epoch(5), beacon)
    questions = {
        alpha,
        compute_vrf_alpha(NETWORK, 6, beacon),
        compute_vrf_alpha(OTHER_NETWORK, 5, beacon),
        compute_vrf_alpha(NETWORK, 5, b"\x01" * 32),
        compute_beacon(NETWORK, 5, beacon),
    }
    assert len(questions) == 5


@settings(max_examples=50)
@given(beacon=BYTES32, seats=st.integers(0, 20))
def test_the_leader_order_is_a_permutation_of_the_seats(beacon: bytes, seats: int) -> None:
    order = compute_leader_order(beacon, build_set(seats))
    assert sorted(order) == list(range(seats))
    assert order == compute_leader_order(beacon, build_set(seats))


def test_each_seat_leads_about_as_often_as_any_other() -> None:
    first = Counter(compute_leader_order(encode_epoch(number).rjust(32), build_set(4))[0] for number in range(400))
    assert set(first) == {0, 1, 2, 3}
    assert all(70 < count < 130 for count in first.values())


def test_the_order_follows_the_account_and_not_the_seat_number() -> None:
    seats = build_set(5)
    turned = ValidatorSet(network=NETWORK, validators=tuple(reversed(seats.validators)))
    beacon = b"\x05" * 32
    by_address = [seats.validators[seat].address for seat in compute_leader_order(beacon, seats)]
    assert [turned.validators[seat].address for seat in compute_leader_order(beacon, turned)] == by_address


@given(start_s=st.integers(0, 2**40), epoch_s=st.integers(1, 86_400), epoch=st.integers(0, 2**20))
def test_epochs_follow_each_other_without_gaps(start_s: int, epoch_s: int, epoch: int) -> None:
    start = compute_epoch_start_s(start_s, epoch_s, epoch)
    assert compute_epoch_start_s(start_s, epoch_s, 0) == start_s
    assert compute_epoch_start_s(start_s, epoch_s, epoch + 1) - start == epoch_s


def test_epochs_are_written_in_eight_bytes_big_endian() -> None:
    assert encode_epoch(258) == bytes([0, 0, 0, 0, 0, 0, 1, 2])
    with pytest.raises(OverflowError):
        encode_epoch(-1)
