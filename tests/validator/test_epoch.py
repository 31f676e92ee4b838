"""The beacon of an epoch: from what was certified two epochs before or earlier, and from nothing later."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.records import ZERO_DIGEST, Checkpoint
from scoring.schedule import compute_beacon, compute_vrf_mix
from validator.epoch import compute_epoch_beacon

NETWORK, SEED = b"\x01" * 32, b"\x0b" * 32


def build_checkpoint(epoch: int, salt: int = 0) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        previous=ZERO_DIGEST,
        time_s=0,
        beacon=ZERO_DIGEST,
        vrf_outputs=(bytes([epoch % 256]) * 32, bytes([128 + salt]) * 32),
        reveals_root=ZERO_DIGEST,
        feed_root=ZERO_DIGEST,
        case_root=ZERO_DIGEST,
        state_digest=ZERO_DIGEST,
        validator_set_digest=ZERO_DIGEST,
        plan_digest=ZERO_DIGEST,
    )


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_first_two_epochs_use_the_seed_of_the_genesis(epoch: int) -> None:
    certified = {number: build_checkpoint(number) for number in range(epoch)}
    assert compute_epoch_beacon(NETWORK, epoch, certified, SEED) == compute_beacon(NETWORK, epoch, SEED)


def test_epoch_two_uses_the_outputs_of_epoch_zero() -> None:
    certified = {0: build_checkpoint(0), 1: build_checkpoint(1)}
    expected = compute_beacon(NETWORK, 2, compute_vrf_mix(certified[0].vrf_outputs))
    assert compute_epoch_beacon(NETWORK, 2, certified, SEED) == expected


@given(epoch=st.integers(2, 60), known=st.sets(st.integers(0, 60)), last=st.integers(1, 100))
def test_whoever_reveals_last_cannot_choose_the_next_beacon(epoch: int, known: set[int], last: int) -> None:
    certified = {number: build_checkpoint(number) for number in known}
    before = compute_epoch_beacon(NETWORK, epoch, certified, SEED)
    later = {number: build_checkpoint(number, last) for number in (epoch - 1, epoch, epoch + 1)}
    assert compute_epoch_beacon(NETWORK, epoch, {**certified, **later}, SEED) == before


@given(epoch=st.integers(2, 60), known=st.sets(st.integers(0, 60), min_size=1))
def test_an_epoch_without_certificate_is_skipped_over(epoch: int, known: set[int]) -> None:
    certified = {number: build_checkpoint(number) for number in known}
    usable = [number for number in known if number <= epoch - 2]
    mix = compute_vrf_mix(certified[max(usable)].vrf_outputs) if usable else SEED
    assert compute_epoch_beacon(NETWORK, epoch, certified, SEED) == compute_beacon(NETWORK, epoch, mix)
