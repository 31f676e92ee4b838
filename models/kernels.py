"""Loops over one row of a vocabulary, compiled by numba when they are first called.

Numpy would read the row twenty times for what is one pass here. What decides a seeded winner is the same bits on every
machine: no operation of it may be contracted or put in another order (no `fastmath`). Compiled code is kept beside this
file, or in the user's cache where that cannot be written; it holds the values of the globals that it saw, so that none
may come from another file.
"""

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Logits = NDArray[np.float32]

TILE = 256
"""Philox blocks that are drawn at a time: their words stay in the nearest cache."""
GROUP = 64
"""Values that are looked at together before any of them is looked at alone."""
SUMMED_POWERS = (28, 24, 22, 20, 18, 16, 14)
_TERMS = 1024
"""Terms that are added in float32 before their sum is added in float64."""

_uint32, _uint64, _float32 = np.uint32, np.uint64, np.float32
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF, _NONE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)
_SHIFT = np.uint32(8)
_COUNTS, _NOISE_STEPS = 2.0**24, 2.0**18
NOISE_MAX = 4542609 / _NOISE_STEPS
"""The largest noise there is, 17.328678..., which bounds what a token of small logit can still reach."""
_LOG2_E_TENTH = np.float32(0.1 / math.log(2.0))
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = (np.float32(math.log(2.0) ** n / math.factorial(n)) for n in range(7))
_HALF_UNIT = np.float32(0.5)

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
def _compute_gumbel(count: int) -> float:
    """Return -log(-log((k + 1/2) / 2**24)) rounded half up to a multiple of 2**-18, for a 24-bit integer k.

    No value lies within 5e-13 of a rounding border, far more than the error of any logarithm: hence equal bits.
    """
    return math.floor(-math.log(-math.log((count + 0.5) / _COUNTS)) * _NOISE_STEPS + 0.5) / _NOISE_STEPS


@_compile
def draw_noise(ids: NDArray[np.int64], seed: int, position: int, noise: NDArray[np.float64]) -> None:
    """Write the noise of some tokens at one position (`docs/samplers.md`)."""
    k0, k1, c1 = _uint64(seed) & _LOW, _uint64(seed) >> _HALF, _uint64(position)
    for place in range(len(ids)):
        words = _run_philox(_uint64(ids[place] >> 2), c1, _NONE, _NONE, k0, k1)
        noise[place] = _compute_gumbel(words[ids[place] & 3] >> _SHIFT)


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
def _collect_blocks(logits: Logits, lowest: np.float32, blocks: NDArray[np.uint32]) -> int:
    """Write the blocks of four tokens with a logit of at least `lowest` (and an unfinished last one); say how many."""
    size, wanted = len(logits), 0
    for block in range(size // 4):
        start = 4 * block
        largest = max(max(logits[start], logits[start + 1]), max(logits[start + 2], logits[start + 3]))
        blocks[wanted] = block
        wanted += largest >= lowest
    if size % 4:
        blocks[wanted] = size // 4
        wanted += 1
    return wanted


@_compile
def _rank_score(score: float, token: int, winner: int, best: float, second: float) -> Any:
    """Return the winner, its score and the second best with one more score; of equal ones the smallest id wins."""
    if score > best or (score == best and token < winner):
        return token, score, best
    return winner, best, max(second, score)


@_compile
def race(
    logits: Logits,
    floor: np.float32,
    first: NDArray[np.int64],
    temperature: float,
    seed: int,
    position: int,
    blocks: NDArray[np.uint32],
) -> tuple[int, float, float]:
    """Return the winner of a row at a temperature above 0, its score and the second best: -inf if one starts alone.

    Scores are float64: the logit plus the product of the temperature and the noise, each operation rounded once. Tokens
    from `floor` up, whose ids are among `first`, are scored first. One below, of logit l, needs a noise of at least
    `(second best - l) / T`: beyond the largest it cannot have it, and otherwise its Philox word says so without a
    logarithm. `blocks` is scratch for a quarter of the vocabulary (rounded up).
    """
    size = len(logits)
    k0, k1, c1 = _uint64(seed) & _LOW, _uint64(seed) >> _HALF, _uint64(position)
    winner, best, second = size, -math.inf, -math.inf
    for token in first:
        if logits[token] >= floor and logits[token] > -math.inf:
            words = _run_philox(_uint64(token >> 2), c1, _NONE, _NONE, k0, k1)
            score = np.float64(logits[token]) + temperature * _compute_gumbel(words[token & 3] >> _SHIFT)
            winner, best, second = _rank_score(score, token, winner, best, second)
    if second == -math.inf:
        return winner, best, second
    # A step of slack on either side: a candidate too many is harmless, a missing one is not.
    reach = temperature * NOISE_MAX
    lowest = _float32(second - reach - 1e-6 * (1.0 + abs(second) + reach))
    need = (second - np.float64(floor)) / temperature
    bound = _uint32(max(math.floor(_COUNTS * math.exp(-math.exp(-need))) - 2, 0)) << _SHIFT
    wanted = _collect_blocks(logits, lowest, blocks)
    words = np.empty((4, TILE), dtype=_uint32)
    peaks = np.empty(TILE, dtype=_uint32)
    for start in range(0, wanted, TILE):
        tile = blocks[start : min(start + TILE, wanted)]
        _draw_tile(tile, c1, k0, k1, words, peaks)
        for place in range(len(tile)):
            if peaks[place] < bound:
                continue
            for lane in range(4):
                token = 4 * np.int64(tile[place]) + lane
                if words[lane, place] >= bound and token < size and lowest <= logits[token] < floor:
                    score = np.float64(logits[token]) + temperature * _compute_gumbel(words[lane, place] >> _SHIFT)
                    winner, best, second = _rank_score(score, token, winner, best, second)
    return winner, best, second


@_compile
def _collect(values: Logits, lowest: np.float32, start: int, ids: NDArray[np.int64], found: int) -> int:
    """Write to `ids`, from `found` on, `start` and the place of each value that is at least `lowest`."""
    whole = len(values) // GROUP * GROUP
    for begin in range(0, whole, GROUP):
        group = values[begin : begin + GROUP]
        hits = 0
        for place in range(GROUP):
            hits += group[place] >= lowest
        if hits:
            # Without a branch: every place is written, and the wanted ones are not written over.
            for place in range(GROUP):
                ids[found] = start + begin + place
                found += group[place] >= lowest
    for place in range(whole, len(values)):
        if values[place] >= lowest:
            ids[found] = start + place
            found += 1
    return found


@_compile
def collect_from(values: Logits, lowest: np.float32, ids: NDArray[np.int64]) -> int:
    """Write the places of the values that are at least `lowest`, in order; return how many. `ids` has room for all."""
    return _collect(values, lowest, 0, ids, 0)


@_compile
def _shift(logits: Logits, top: np.float32, lowest: np.float32, own: np.float32, shifted: Logits) -> int:
    """Write the logits minus `top`, at least `lowest`, and return how many are larger than `own`."""
    above = 0
    for place in range(len(logits)):
        value = max(logits[place] - top, lowest)
        shifted[place] = value
        above += value > own
    return above


@intrinsic
def _truncate(context: Any, value: Any) -> Any:
    """Numba's own conversion takes the way over 64 bits, which no vector unit has."""
    return types.int32(types.float32), lambda _, builder, __, args: builder.fptosi(args[0], ir.IntType(32))


@intrinsic
def _read_as_float32(context: Any, value: Any) -> Any:
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


@_compile
def _raise_two(power: Any) -> Any:
    return _read_as_float32(np.int32((power + 127) << 23))


@_compile_sums
def add_powers(part: Logits, sums: NDArray[np.float64]) -> None:
    """Add the sums of exp(part * n / 20) for n in SUMMED_POWERS, and last that of exp(part) * part.

    exp(part / 10) is 2**(n + r), n whole and |r| <= 1/2, with 2**r by its series to r**6 (1.2e-7 at most left out);
    all others are its powers. At most _TERMS values, between -80 and 0.
    """
    s14 = s16 = s18 = s20 = s22 = s24 = s28 = product = _float32(0.0)
    for place in range(len(part)):
        exponent = part[place] * _LOG2_E_TENTH
        nearest = _truncate(exponent - _HALF_UNIT)
        r = exponent - _float32(nearest)
        series = _L0 + r * (_L1 + r * (_L2 + r * (_L3 + r * (_L4 + r * (_L5 + r * _L6)))))
        two = series * _raise_two(nearest)
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
        product += twenty * part[place]
    sums[0] += s28
    sums[1] += s24
    sums[2] += s22
    sums[3] += s20
    sums[4] += s18
    sums[5] += s16
    sums[6] += s14
    sums[7] += product


@_compile
def view_row(
    logits: Logits,
    top: np.float32,
    lowest: np.float32,
    near: np.float32,
    token: int,
    shifted: Logits,
    places: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> tuple[int, int, int]:
    """Write the logits minus `top` (at least `lowest`), the places of those from `near` up, and `add_powers`' sums.

    Returns how many are larger than the token's, how many of smaller id are equal to it, and how many are near. A part
    of the row is done with while it is in the nearest cache.
    """
    own = max(logits[token] - top, lowest)
    above = found = 0
    sums[:] = 0.0
    for start in range(0, len(logits), _TERMS):
        part = shifted[start : start + _TERMS]
        above += _shift(logits[start : start + _TERMS], top, lowest, own, part)
        add_powers(part, sums)
        found = _collect(part, near, start, places, found)
    ties = 0
    for place in range(token):
        ties += shifted[place] == own
    return above, ties, found


@_compile
def add_powers_above(shifted: Logits, own: float, scratch: Logits, sums: NDArray[np.float64]) -> None:
    """Add `add_powers`' sums of the values that are larger than `own`. `scratch` has room for all of them."""
    found = 0
    for place in range(len(shifted)):
        scratch[found] = shifted[place]
        found += shifted[place] > own
    for start in range(0, found, _TERMS):
        add_powers(scratch[start : min(start + _TERMS, found)], sums)


@_compile
def _sum_masses(near: NDArray[np.float64], masses: NDArray[np.float64]) -> None:
    """Write the sums of the first 0, 1, ... weights for each of SUMMED_POWERS, of `near` as in `score_grid`."""
    masses[:, 0] = 0.0
    s14 = s16 = s18 = s20 = s22 = s24 = s28 = 0.0
    for place in range(len(near)):
        two = near[place]
        four = two * two
        eight = four * four
        ten, twelve = eight * two, eight * four
        s14 += twelve * two
        s16 += eight * eight
        s18 += ten * eight
        s20 += ten * ten
        s22 += twelve * ten
        s24 += twelve * twelve
        s28 += twelve * eight * eight
        masses[0, place + 1], masses[1, place + 1], masses[2, place + 1] = s28, s24, s22
        masses[3, place + 1], masses[4, place + 1], masses[5, place + 1] = s20, s18, s16
        masses[6, place + 1] = s14


@_compile
def score_grid(
    near: NDArray[np.float64],
    top_ps: NDArray[np.float64],
    totals: NDArray[np.float64],
    far: NDArray[np.float64],
    depth: float,
    rank: int,
    ties: int,
    masses: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Write the claimed token's log-probability [powers, top_ps] at temperatures 20 / power, -inf where it is cut.

    The powers are SUMMED_POWERS. `near` are exp(shifted / 10) of the tokens near the maximum, by decreasing value: a
    border below them is put at the wanted mass itself. `totals` are the sums over all tokens. Before the claimed token,
    at `depth`, stand `rank` larger ones, of the mass `far` where these are not all near, and `ties` of its own size.
    `masses` is scratch, for each power at least one more than the tokens in `near`.
    """
    count = len(near)
    _sum_masses(near, masses)
    for row in range(len(SUMMED_POWERS)):
        own = depth * SUMMED_POWERS[row] / 20
        weight = math.exp(own)
        before = far[row] if rank > count else masses[row, rank]
        for column in range(len(top_ps)):
            wanted, is_cut = top_ps[column] * totals[row], False
            mass = wanted
            if top_ps[column] < 1.0:
                is_cut = before + ties * weight >= wanted
                crossing = np.searchsorted(masses[row, : count + 1], wanted)
                if crossing <= count:
                    mass = masses[row, crossing]
            scores[row, column] = -math.inf if is_cut else own - math.log(max(mass, weight))
