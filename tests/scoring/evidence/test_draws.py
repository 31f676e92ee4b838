"""Uniform numbers from a beacon: the same for everybody, different for every place, never 0 or 1."""

import pytest
from Crypto.Hash import keccak

from scoring.errors import InvalidInput
from scoring.evidence.draws import compute_uniform

BEACON = b"\x07" * 32


def test_follows_from_the_beacon_as_documented():
    def prefix(part):
        return len(part).to_bytes(8, "big") + part

    parts = (b"quiver-uniform", b"pit", BEACON, b"nonce", (3).to_bytes(8, "big"))
    digest = keccak.new(digest_bits=256, data=b"".join(prefix(part) for part in parts)).digest()
    assert compute_uniform(BEACON, "pit", b"nonce", 3) == (int.from_bytes(digest[:8], "big") // 4096 + 0.5) / 2**52


def test_every_part_matters():
    places = [(BEACON, "pit", b"a", 0), (b"\x08" * 32, "pit", b"a", 0), (BEACON, "ties", b"a", 0)]
    places += [(BEACON, "pit", b"b", 0), (BEACON, "pit", b"a", 1)]
    assert len({compute_uniform(*place) for place in places}) == 5


def test_is_uniform_and_inside_the_open_interval():
    values = sorted(compute_uniform(BEACON, "pit", b"a", index) for index in range(4000))
    assert values[0] > 0.0 and values[-1] < 1.0
    assert max(abs(value - (rank + 0.5) / 4000) for rank, value in enumerate(values)) < 0.03


@pytest.mark.parametrize(
    ("beacon", "index"),
    [(b"\x07" * 31, 0), (b"", 0), (BEACON, -1), (BEACON, 2**64)],
    ids=["short", "none", "minus one", "too big"],
)
def test_refuses(beacon, index):
    with pytest.raises(InvalidInput):
        compute_uniform(beacon, "pit", b"a", index)
