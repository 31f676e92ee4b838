"""The sampler `gumbel-philox-v1`: Gumbel-max sampling with counter-based noise, the same bits on every machine.

For output position j and token v: `s_v = l_v + T * G(seed, j, v)`, and the token with the largest s is drawn (the
smallest id on a tie), which samples softmax(l / T). The noise comes from Philox4x32-10 (Salmon, Moraes, Dror, Shaw:
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), so any single value can be had without the others, and the
maximum is found without a full vocabulary of noise. `docs/samplers.md` is the specification; this module is numpy only.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.requests import MAX_SEED
from scoring.errors import InvalidInput

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]] | np.integer[Any]

ROUNDS = 10
UNIFORM_BITS = 24
NOISE_STEPS = float(2**18)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_FIRST_LOOK = 5.0
_REACHES = (6.0, 12.0, math.inf)
_BLOCKS_AT_ONCE = 1 << 14
_FEW_BLOCKS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The seeded winner of one row of logits, its score, and the second best score (-inf when it is alone)."""

    token_id: int
    best: float
    second: float


class _Scratch(threading.local):
    """Memory that a thread writes into again and again: a fresh array costs a page fault for every 4 kB."""

    def __init__(self) -> None:
        self._words = np.empty(6 * _BLOCKS_AT_ONCE, dtype=np.uint64)
        self._hits = np.empty(4 * _BLOCKS_AT_ONCE, dtype=np.bool_)
        self._mask = np.empty(0, dtype=np.bool_)

    def get_words(self, size: int) -> NDArray[np.uint64]:
        """Return [6, size]; fresh memory when it is more than a search takes at once."""
        words = self._words[: 6 * size] if size <= _BLOCKS_AT_ONCE else np.empty(6 * size, dtype=np.uint64)
        return words.reshape(6, size)

    def get_hits(self, size: int) -> NDArray[np.bool_]:
        """Return [4, size] for up to _BLOCKS_AT_ONCE."""
        return self._hits[: 4 * size].reshape(4, size)

    def get_mask(self, size: int) -> NDArray[np.bool_]:
        """Return a mask of at least `size`, filled up with False to whole blocks."""
        if not size <= len(self._mask) < size + 4:
            self._mask = np.empty(size + -size % 4, dtype=np.bool_)
        self._mask[size:] = False
        return self._mask


_scratch = _Scratch()


def philox4x32_10(
    counter: tuple[Integers, Integers, Integers, Integers], key: tuple[Integers, Integers]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Return four arrays of 32-bit words (held as uint64) for arrays of counter and key words, broadcast together."""
    words = np.stack(np.broadcast_arrays(*counter, *key)).astype(np.uint64)
    k0, k1 = words[4:].copy()
    _run_rounds(words, k0, k1, ROUNDS)
    return words[0], words[1], words[2], words[3]


def _run_rounds(words: NDArray[np.uint64], k0: Integers, k1: Integers, rounds: int) -> None:
    """Run rounds of Philox in place on words [6, ...]: the four counter words, and room for two products."""
    # Views with their axes kept: an element of a one-dimensional array could not be written to.
    c0, c1, c2, c3, p0, p1 = (words[number, ...] for number in range(6))
    for _ in range(rounds):
        np.multiply(c0, _MULTIPLIERS[0], out=p0)
        np.multiply(c2, _MULTIPLIERS[1], out=p1)
        for product, low, key, high in ((p1, c1, k0, c0), (p0, c3, k1, c2)):
            np.right_shift(product, _HALF, out=high)
            np.bitwise_xor(high, low, out=high)
            np.bitwise_xor(high, key, out=high)
            np.bitwise_and(product, _LOW, out=low)
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW


def compute_gumbel_noise(
    seed: int, position: int, token_ids: Sequence[int] | NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the Gumbel noise of some tokens at one output position (0 is the first generated token).

    Values are multiples of 2**-18 between -2.8524 and NOISE_MAX. Raises InvalidInput unless 0 <= seed < 2**53 and
    0 <= position < 2**32.
    """
    check_seed(seed)
    if not 0 <= position < 2**32:
        raise InvalidInput("must be between 0 and 2**32 - 1", "position")
    ids = np.asarray(token_ids, dtype=np.int64)
    words = _draw_words(ids >> 2, seed, position)
    return compute_gumbel(words[ids & 3, np.arange(len(ids))] >> np.uint64(32 - UNIFORM_BITS))


def check_seed(seed: int) -> None:
    """Raise InvalidInput unless `seed` is an integer in [0, 2**53)."""
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise InvalidInput("must be an integer between 0 and 2**53 - 1", "seed")


def sample_tokens(
    logits: Floats,
    seeds: Sequence[int],
    positions: Sequence[int],
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    top_ks: Sequence[int] | None = None,
) -> NDArray[np.int64]:
    """Draw one token for each row of `logits` [rows, vocabulary]; temperature 0 takes the largest logit."""
    logits = np.asarray(logits, dtype=np.float32)
    result = np.empty(len(logits), dtype=np.int64)
    for row, values in enumerate(logits):
        top_k = top_ks[row] if top_ks is not None else 0
        kept = filter_logits(values, temperatures[row], top_ps[row], top_k)
        result[row] = find_winner(kept, seeds[row], positions[row], temperatures[row]).token_id
    return result


def filter_logits(logits: NDArray[np.float32], temperature: float, top_p: float, top_k: int) -> NDArray[np.float32]:
    """Return a row of logits with -inf where top-k, then top-p (at the temperature) remove a token.

    The row itself is returned when nothing is filtered: top_p 1 and top_k 0, or temperature 0.
    """
    if temperature == 0.0 or (top_p >= 1.0 and top_k == 0):
        return logits
    kept = compute_kept_tokens(logits, temperature, top_p, top_k)
    result = np.full_like(logits, -np.inf)
    result[kept] = logits[kept]
    return result


def compute_kept_tokens(logits: NDArray[np.float32], temperature: float, top_p: float, top_k: int) -> NDArray[np.int64]:
    """Return the ids that top-k and then top-p keep, by decreasing logit and then by increasing id.

    Top-p keeps the shortest prefix whose probability (renormalised after top-k) reaches `top_p`.
    """
    if top_k > 0:
        order = _order_largest(logits, top_k)
        sums = _sum_weights(logits, order, temperature)
        return order if top_p >= 1.0 else order[: _find_crossing(sums, top_p * float(sums[-1]))]
    top = np.float32(logits.max())
    wanted = top_p * float(np.exp((logits - top) * np.float32(1.0 / temperature)).sum(dtype=np.float64))
    for reach in _REACHES:
        near = np.flatnonzero(logits >= top - np.float32(reach * temperature))
        order = near[np.argsort(-logits[near], kind="stable")]
        sums = _sum_weights(logits, order, temperature)
        if sums[-1] >= wanted:
            break
    return order[: _find_crossing(sums, wanted)]


def _sum_weights(logits: NDArray[np.float32], order: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    values = logits[order].astype(np.float64)
    sums: NDArray[np.float64] = np.cumsum(np.exp((values - values[0]) / temperature))
    return sums


def _find_crossing(sums: NDArray[np.float64], wanted: float) -> int:
    return min(int(np.searchsorted(sums, wanted)) + 1, len(sums))


def find_winner(logits: NDArray[np.float32], seed: int, position: int, temperature: float) -> Winner:
    """Return the seeded winner of one row [vocabulary], exactly, looking only at tokens that can win.

    First the largest logits are scored. A token below them with logit l then needs a noise of at least
    `(second best - l) / T`: beyond NOISE_MAX it cannot have it, and otherwise its Philox word says so without a
    logarithm. Scores are float64: the float32 logit plus the product of T and the noise, each operation rounded once.
    """
    floor, ids = _take_first_look(logits, temperature)
    scores = logits[ids].astype(np.float64)
    if temperature > 0.0:
        scores += temperature * compute_gumbel_noise(seed, position, ids)
        second = float(np.partition(scores, len(scores) - 2)[-2]) if len(scores) > 1 else -np.inf
        if second > -np.inf:
            late = _find_late_candidates(logits, ids, second, temperature)
            late_ids, counts = _search_blocks(late, seed, position, (second - float(floor)) / temperature)
            late_scores = logits[late_ids].astype(np.float64) + temperature * compute_gumbel(counts)
            ids, scores = np.concatenate([ids, late_ids]), np.concatenate([scores, late_scores])
    return _pick_two_best(ids, scores)


def _take_first_look(logits: NDArray[np.float32], temperature: float) -> tuple[np.float32, NDArray[np.int64]]:
    """Return a logit and the ids of all tokens from it up: two tokens at least, where there are two."""
    largest = int(logits.argmax())
    floor = np.float32(logits[largest] - np.float32(_FIRST_LOOK * temperature))
    mask = _scratch.get_mask(len(logits))[: len(logits)]
    ids = np.flatnonzero(np.greater_equal(logits, floor, out=mask))
    if len(ids) < 2 <= len(logits):
        # The second best of a row with a clear favourite is found by looking as far below the other tokens' largest.
        rest = max(part.max(initial=np.float32(-np.inf)) for part in (logits[:largest], logits[largest + 1 :]))
        floor = np.float32(rest - np.float32(_FIRST_LOOK * temperature))
        ids = np.flatnonzero((logits >= floor) & (logits > -np.inf))
    return floor, ids


def _find_late_candidates(
    logits: NDArray[np.float32], seen: NDArray[np.int64], second: float, temperature: float
) -> NDArray[np.bool_]:
    """Return which logits beside those `seen` the largest noise lifts to `second` or above, in whole blocks of four.

    The mask is this thread's until its next search.
    """
    # One float32 step of slack: a candidate too many is harmless, a missing one is not.
    lowest = np.nextafter(np.float32(second - temperature * NOISE_MAX), np.float32(-np.inf))
    mask = _scratch.get_mask(len(logits))
    np.greater_equal(logits, lowest, out=mask[: len(logits)])
    mask[seen] = False
    return mask


def _search_blocks(
    wanted: NDArray[np.bool_], seed: int, position: int, need: float
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return ids and 24-bit counts of the wanted tokens whose noise is at least `need` (or just below)."""
    least = max(math.floor(2**UNIFORM_BITS * math.exp(-math.exp(-need))) - 2, 0)
    bound = np.uint64(least << (32 - UNIFORM_BITS))
    # Four neighbouring booleans are one 32-bit word that is not zero: a Philox block with a candidate.
    blocks = np.flatnonzero(wanted.view(np.uint32) != 0)
    ids = [np.empty(0, dtype=np.int64)]
    counts = [np.empty(0, dtype=np.uint64)]
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        part = blocks[start : start + _BLOCKS_AT_ONCE]
        words = _draw_words(part, seed, position)
        hits = np.flatnonzero(np.greater_equal(words, bound, out=_scratch.get_hits(len(part))))
        lanes, places = np.divmod(hits, len(part))
        found = part[places] * 4 + lanes
        kept = wanted[found]
        ids.append(found[kept])
        counts.append(words.reshape(-1)[hits[kept]] >> np.uint64(32 - UNIFORM_BITS))
    return np.concatenate(ids), np.concatenate(counts)


def _draw_words(blocks: NDArray[np.int64], seed: int, position: int) -> NDArray[np.uint64]:
    """Return the words [4, blocks] of some Philox blocks: this thread's until its next call."""
    if len(blocks) <= _FEW_BLOCKS:
        return _draw_few_words(blocks, seed, position)
    words = _scratch.get_words(len(blocks))
    k0, k1 = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    # The first round by hand: counter words 2 and 3 are 0, so that half of it is the same for all blocks.
    np.multiply(blocks.view(np.uint64), _MULTIPLIERS[0], out=words[4])
    words[0], words[1] = np.uint64(position) ^ k0, 0
    np.right_shift(words[4], _HALF, out=words[2])
    np.bitwise_xor(words[2], k1, out=words[2])
    np.bitwise_and(words[4], _LOW, out=words[3])
    _run_rounds(words, (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW, ROUNDS - 1)
    return words[:4]


def _draw_few_words(blocks: NDArray[np.int64], seed: int, position: int) -> NDArray[np.uint64]:
    """Return the same, faster: each counter word of all blocks is one whole number with a 32-bit word every 64 bits.

    A product of a word and a multiplier fits into 64 bits, so that none reaches its neighbour.
    """
    size = 8 * len(blocks)
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * len(blocks), "little")
    low, m0, m1 = ones * 0xFFFFFFFF, int(_MULTIPLIERS[0]), int(_MULTIPLIERS[1])
    c0, c1, c2, c3 = int.from_bytes(blocks.astype("<u8").tobytes(), "little"), ones * position, 0, 0
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(ROUNDS):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1 = (p1 >> 32 & low) ^ c1 ^ ones * k0, p1 & low
        c2, c3 = (p0 >> 32 & low) ^ c3 ^ ones * k1, p0 & low
        k0, k1 = (k0 + int(_WEYL[0])) & 0xFFFFFFFF, (k1 + int(_WEYL[1])) & 0xFFFFFFFF
    data = b"".join(word.to_bytes(size, "little") for word in (c0, c1, c2, c3))
    return np.frombuffer(data, dtype="<u8").reshape(4, len(blocks))


def _pick_two_best(ids: NDArray[np.int64], scores: NDArray[np.float64]) -> Winner:
    best = scores.max()
    ties = ids[scores == best]
    rest = scores[scores < best]
    second = float(best) if len(ties) > 1 else float(rest.max(initial=-np.inf))
    return Winner(token_id=int(ties.min()), best=float(best), second=second)


def compute_gumbel(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return -log(-log((k + 1/2) / 2**24)) rounded half up to a multiple of 2**-18, for 24-bit integers k.

    No value lies within 5e-13 of a rounding border, far more than the error of any logarithm: hence equal bits.
    """
    uniform = (counts.astype(np.float64) + 0.5) / float(2**UNIFORM_BITS)
    return np.floor(-np.log(-np.log(uniform)) * NOISE_STEPS + 0.5) / NOISE_STEPS


def _order_largest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids of the `count` largest logits by decreasing logit, ties by increasing id."""
    size = len(logits)
    if count >= size:
        return np.argsort(-logits, kind="stable")
    border = np.partition(logits, size - count)[size - count]
    ids = np.flatnonzero(logits >= border)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


NOISE_MAX = float(compute_gumbel(np.array([2**UNIFORM_BITS - 1]))[0])
"""The largest noise there is, 17.328678..., which bounds what a token of small logit can still reach."""
assert math.isclose(NOISE_MAX, 25 * math.log(2), abs_tol=1e-5)
