"""The committee of a challenge: drawn by stake, without replacement, by randomness that is fixed after the filing."""

from collections.abc import Collection, Sequence

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest


def compute_committee_seed(network: bytes, challenge_id: bytes, mix: bytes) -> bytes:
    """Return the 32-byte seed of a draw.

    `mix` is the XOR of the VRF outputs in a checkpoint whose reveals came after the filing, so that whoever files
    cannot know it; the challenge's id keeps two draws of one checkpoint apart.
    """
    return tagged_digest("quiver-committee-seed", network, challenge_id, mix)


def draw_committee(
    seed: bytes, candidates: Sequence[tuple[bytes, int]], size: int, excluded: Collection[bytes]
) -> tuple[bytes, ...]:
    """Return up to `size` addresses out of (address, stake in wei) candidates, in the order drawn.

    Each seat goes to a remaining candidate with probability proportional to stake. The draw is a 256-bit integer
    modulo the remaining stake: its bias is below total stake / 2**256. All that are eligible when they are too few.
    """
    if size < 1:
        raise InvalidInput("a committee has at least one seat", "size")
    remaining = [(address, stake) for address, stake in candidates if stake > 0 and address not in excluded]
    if len({address for address, _ in remaining}) != len(remaining):
        raise InvalidInput("a candidate stands twice", "candidates")
    drawn: list[bytes] = []
    while remaining and len(drawn) < size:
        number = int.from_bytes(tagged_digest("quiver-committee", seed, len(drawn).to_bytes(8, "big")), "big")
        drawn.append(remaining.pop(_find(remaining, number % sum(stake for _, stake in remaining)))[0])
    return tuple(drawn)


def _find(candidates: Sequence[tuple[bytes, int]], point: int) -> int:
    for index, (_, stake) in enumerate(candidates):
        if point < stake:
            return index
        point -= stake
    raise ValueError("the point lies beyond the candidates' stake")
