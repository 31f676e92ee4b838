"""Loops over one row of a vocabulary, compiled by numba when they are first called.

Numpy would read the row twenty times for what is one pass here. The seeded draws stay exact: these loops compare logits
and multiply integers, and leave every float operation that decides a winner to numpy. Compiled code is kept beside this
file, or in the user's cache where that cannot be written; it holds the values of the globals that it saw, so that none
may come from another file.
"""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

TILE = 256
"""Philox blocks that are drawn at a time: their words stay in the nearest cache."""
GROUP = 64
"""Values that are looked at together before any of them is looked at alone."""
UNIFORM_SHIFT = 8
"""A 32-bit word gives its upper 24 bits."""
SUMMED_POWERS = (28, 24, 22, 20, 18, 16, 14)
_TERMS = 1024
"""Terms that are added in float32 before their sum is added in float64."""

_uint32, _uint64, _float32 = np.uint32, np.uint64, np.float32
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF, _NONE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)
_SHIFT = np.uint32(UNIFORM_SHIFT)

_compile: Any = numba.njit(cache=True, nogil=True)
_compile_inline: Any = numba.njit(nogil=True, inline="always")
_compile_sums: Any = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_compile_inline
def _run_philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@_compile
def run_philox(inputs: NDArray[np.uint64], words: NDArray[np.uint64]) -> None:
    """Write the words [4, n] of Philox4x32-10 for counter and key words [6, n], all below 2**32."""
    for place in range(inputs.shape[1]):
        w0, w1, w2, w3 = _run_philox(
            inputs[0, place], inputs[1, place], inputs[2, place], inputs[3, place], inputs[4, place], inputs[5, place]
        )
        words[0, place], words[1, place], words[2, place], words[3, place] = w0, w1, w2, w3


@_compile
def draw_counts(ids: NDArray[np.int64], seed: int, position: int, counts: NDArray[np.uint32]) -> None:
    """Write the 24-bit integers that the noise of some tokens is made of (`docs/samplers.md`)."""
    k0, k1, c1 = _uint64(seed) & _LOW, _uint64(seed) >> _HALF, _uint64(position)
    for place in range(len(ids)):
        words = _run_philox(_uint64(ids[place] >> 2), c1, _NONE, _NONE, k0, k1)
        counts[place] = _uint32(words[ids[place] & 3]) >> _SHIFT


@_compile
def _draw_tile(blocks: Any, c1: Any, k0: Any, k1: Any, words: Any, largest: Any) -> None:
    # A function of its own, or the compiler no longer draws eight blocks at once.
    for place in range(len(blocks)):
        w0, w1, w2, w3 = _run_philox(_uint64(blocks[place]), c1, _NONE, _NONE, k0, k1)
        words[0, place], words[1, place] = _uint32(w0), _uint32(w1)
        words[2, place], words[3, place] = _uint32(w2), _uint32(w3)
    for place in range(len(blocks)):
        largest[place] = max(max(words[0, place], words[1, place]), max(words[2, place], words[3, place]))


@_compile
def search_counts(
    logits: Logits,
    lowest: np.float32,
    floor: np.float32,
    bound: np.uint32,
    seed: int,
    position: int,
    blocks: NDArray[np.uint32],
    ids: NDArray[np.int64],
    counts: NDArray[np.uint32],
) -> int:
    """Find the tokens with `lowest` <= logit < `floor` whose Philox word is at least `bound`.

    Writes their ids, in no order, and their 24-bit integers; returns how many. `blocks` is scratch for a quarter of
    the vocabulary (rounded up), `ids` and `counts` must have room for all of it.
    """
    size = len(logits)
    wanted = 0
    for block in range(size // 4):
        start = 4 * block
        best = max(max(logits[start], logits[start + 1]), max(logits[start + 2], logits[start + 3]))
        blocks[wanted] = block
        wanted += best >= lowest
    if size % 4:
        blocks[wanted] = size // 4
        wanted += 1
    k0, k1, c1 = _uint64(seed) & _LOW, _uint64(seed) >> _HALF, _uint64(position)
    words = np.empty((4, TILE), dtype=_uint32)
    largest = np.empty(TILE, dtype=_uint32)
    found = 0
    for start in range(0, wanted, TILE):
        length = min(TILE, wanted - start)
        tile = blocks[start : start + length]
        _draw_tile(tile, c1, k0, k1, words, largest)
        for place in range(length):
            if largest[place] >= bound:
                for lane in range(4):
                    token = 4 * np.int64(tile[place]) + lane
                    if words[lane, place] >= bound and token < size and lowest <= logits[token] < floor:
                        ids[found] = token
                        counts[found] = words[lane, place] >> _SHIFT
                        found += 1
    return found


@_compile
def collect_from(values: Logits, lowest: np.float32, ids: NDArray[np.int64]) -> int:
    """Write the places of the values that are at least `lowest`, in order; return how many. `ids` has room for all."""
    found = 0
    whole = len(values) // GROUP * GROUP
    for start in range(0, whole, GROUP):
        group = values[start : start + GROUP]
        hits = 0
        for place in range(GROUP):
            hits += group[place] >= lowest
        if hits:
            for place in range(GROUP):
                if group[place] >= lowest:
                    ids[found] = start + place
                    found += 1
    for place in range(whole, len(values)):
        if values[place] >= lowest:
            ids[found] = place
            found += 1
    return found


@_compile
def shift_row(logits: Logits, top: np.float32, lowest: np.float32, token: int, shifted: Logits) -> tuple[int, int]:
    """Write the logits minus `top`, at least `lowest`, to `shifted`.

    Returns how many are larger than the token's, and how many of smaller id are equal to it.
    """
    own = max(logits[token] - top, lowest)
    above = 0
    for place in range(len(logits)):
        value = max(logits[place] - top, lowest)
        shifted[place] = value
        above += value > own
    ties = 0
    for place in range(token):
        ties += shifted[place] == own
    return above, ties


@_compile_sums
def sum_powers(tenths: Logits, shifted: Logits, sums: NDArray[np.float64]) -> None:
    """Write the sums of exp(shifted * n / 20) for n in SUMMED_POWERS, and last that of exp(shifted) * shifted.

    `tenths` are exp(shifted / 10): all others are its powers.
    """
    sums[:] = 0.0
    for start in range(0, len(tenths), _TERMS):
        part, depth = tenths[start : start + _TERMS], shifted[start : start + _TERMS]
        s14 = s16 = s18 = s20 = s22 = s24 = s28 = product = _float32(0.0)
        for place in range(len(part)):
            two = part[place]
            four = two * two
            eight = four * four
            ten, twelve = eight * two, eight * four
            twenty = ten * ten
            s14 += twelve * two
            s16 += eight * eight
            s18 += ten * eight
            s20 += twenty
            s22 += twelve * ten
            s24 += twelve * twelve
            s28 += twenty * eight
            product += twenty * depth[place]
        sums[0] += s28
        sums[1] += s24
        sums[2] += s22
        sums[3] += s20
        sums[4] += s18
        sums[5] += s16
        sums[6] += s14
        sums[7] += product


@_compile
def score_grid(
    near: NDArray[np.float64],
    powers: NDArray[np.int64],
    top_ps: NDArray[np.float64],
    totals: NDArray[np.float64],
    far: NDArray[np.float64],
    depth: float,
    rank: int,
    ties: int,
    scores: NDArray[np.float64],
) -> None:
    """Write the claimed token's log-probability [powers, top_ps] at temperatures 20 / power, -inf where it is cut.

    `near` are exp(shifted / 10) of the tokens near the maximum, by decreasing value: a border below them is put at the
    wanted mass itself. `totals` are the sums over all tokens. Before the claimed token, at `depth`, stand `rank` larger
    ones, of the mass `far` where these are not all near, and `ties` of its own size.
    """
    cuts = 0
    for top_p in top_ps:
        cuts += top_p < 1.0
    for row in range(len(powers)):
        own = depth * powers[row] / 20
        weight = math.exp(own)
        before = far[row] if rank > len(near) else 0.0
        kept = scores[row]
        kept[:] = 0.0
        mass, crossed = 0.0, 0
        for place in range(len(near)):
            mass += near[place] ** (powers[row] // 2)
            if place == rank - 1:
                before = mass
            for column in range(len(top_ps)):
                if top_ps[column] < 1.0 and kept[column] == 0.0 and mass >= top_ps[column] * totals[row]:
                    kept[column] = mass
                    crossed += 1
            if crossed == cuts and place >= rank:
                break
        for column in range(len(top_ps)):
            wanted = top_ps[column] * totals[row]
            is_cut = top_ps[column] < 1.0 and before + ties * weight >= wanted
            mass = kept[column] if kept[column] > 0.0 else wanted
            kept[column] = -math.inf if is_cut else own - math.log(max(mass, weight))
