"""Who does what when: beacons, the validators' random functions, leaders, the calendar. All derived, nothing chosen.

The beacon of epoch e is used from the outputs certified at e - 2, so that the last to reveal in e - 1 cannot have
chosen its own assignment of e. Never the hash of an aggregate signature: whoever picks the signers could grind it.
"""

from collections.abc import Iterable

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.records import ValidatorSet

BEACON_LAG_EPOCHS = 2


def encode_epoch(epoch: int) -> bytes:
    """Return the epoch as 8 bytes big-endian."""
    return epoch.to_bytes(8, "big")


def compute_vrf_mix(vrf_outputs: Iterable[bytes]) -> bytes:
    """Return the XOR of the 32-byte outputs; zero for none."""
    mix = 0
    for output in vrf_outputs:
        if len(output) != 32:
            raise InvalidInput(f"expected 32 bytes, got {len(output)}", "vrf_outputs")
        mix ^= int.from_bytes(output, "big")
    return mix.to_bytes(32, "big")


def compute_beacon(network: bytes, epoch: int, mix: bytes) -> bytes:
    """Return the 32-byte beacon of an epoch from the mix certified at least two epochs before (genesis: its seed)."""
    return tagged_digest("quiver-beacon", network, encode_epoch(epoch), mix)


def compute_vrf_alpha(network: bytes, epoch: int, beacon: bytes) -> bytes:
    """Return what each validator's VRF is evaluated on in an epoch."""
    return tagged_digest("quiver-probe-vrf", network, encode_epoch(epoch), beacon)


def compute_leader_order(beacon: bytes, validator_set: ValidatorSet) -> tuple[int, ...]:
    """Return the seats in the order in which they may propose the checkpoint."""

    def rank(seat: int) -> bytes:
        return tagged_digest("quiver-leader", beacon, validator_set.validators[seat].address)

    return tuple(sorted(range(len(validator_set.validators)), key=rank))


def compute_epoch_start_s(start_s: int, epoch_s: int, epoch: int) -> int:
    """Return the calendar start of an epoch in unix seconds."""
    return start_s + epoch * epoch_s
