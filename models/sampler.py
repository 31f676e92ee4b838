"""The sampler `gumbel-philox-v1`: Gumbel-max sampling with counter-based noise, the same bits on every machine.

For output position j and token v: `s_v = l_v + T * G(seed, j, v)`, and the token with the largest s is drawn (the
smallest id on a tie), which samples softmax(l / T). The noise comes from Philox4x32-10 (Salmon, Moraes, Dror, Shaw:
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), so any single value can be had without the others, and the
maximum is found without a full vocabulary of noise. `docs/samplers.md` is the specification; this module is numpy only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.requests import MAX_SEED
from scoring.errors import InvalidInput

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

ROUNDS = 10
UNIFORM_BITS = 24
NOISE_STEPS = float(2**18)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_FIRST_LOOK = 4.0
_CANDIDATES_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Winners:
    """The two best scores of each row: `token_ids` of the best, `best` and `second` scores (-inf when alone)."""

    token_ids: NDArray[np.int64]
    best: NDArray[np.float64]
    second: NDArray[np.float64]


def philox4x32_10(
    counter: tuple[Integers, Integers, Integers, Integers], key: tuple[Integers, Integers]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Return four arrays of 32-bit words (held as uint64) for arrays of counter and key words, broadcast together."""
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + np.uint64(_WEYL[0])) & _LOW, (k1 + np.uint64(_WEYL[1])) & _LOW
    return c0, c1, c2, c3


def compute_gumbel_noise(seed: int, position: int, token_ids: Sequence[int] | Integers) -> NDArray[np.float64]:
    """Return the Gumbel noise of some tokens at one output position (0 is the first generated token).

    Values are multiples of 2**-18 between -2.8524 and NOISE_MAX. Raises InvalidInput unless 0 <= seed < 2**53 and
    0 <= position < 2**32.
    """
    check_seed(seed)
    if not 0 <= position < 2**32:
        raise InvalidInput("must be between 0 and 2**32 - 1", "position")
    ids = np.asarray(token_ids, dtype=np.int64)
    return _compute_noise(np.uint64(seed), np.uint64(position), ids)


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
    filtered = filter_logits(logits, temperatures, top_ps, top_ks or [0] * len(seeds))
    return find_winners(filtered, seeds, positions, temperatures).token_ids


def filter_logits(
    logits: NDArray[np.float32], temperatures: Sequence[float], top_ps: Sequence[float], top_ks: Sequence[int]
) -> NDArray[np.float32]:
    """Return the logits with -inf where top-k, then top-p (of the softmax at the row's temperature) remove a token.

    Ties are kept by smaller id. Rows without a filter (top_p 1, top_k 0, or temperature 0) are not copied twice.
    """
    result = logits
    for row, (temperature, top_p, top_k) in enumerate(zip(temperatures, top_ps, top_ks, strict=True)):
        if temperature == 0.0 or (top_p >= 1.0 and top_k == 0):
            continue
        if result is logits:
            result = logits.copy()
        kept = compute_kept_tokens(logits[row], temperature, top_p, top_k)
        values = logits[row][kept]
        result[row] = -np.inf
        result[row][kept] = values
    return result


def compute_kept_tokens(logits: NDArray[np.float32], temperature: float, top_p: float, top_k: int) -> NDArray[np.int64]:
    """Return the ids that top-k and then top-p keep, by decreasing logit and then by increasing id.

    Top-p keeps the shortest prefix whose probability (renormalised after top-k) reaches `top_p`: float64 sums.
    """
    size = len(logits)
    wanted = top_k if 0 < top_k < size else size
    look = min(wanted, 1024)
    total = None if wanted < size else _compute_mass(logits, float(logits.max()), temperature)
    while True:
        order = _order_largest(logits, look)
        if top_p >= 1.0:
            return order
        weights = np.exp((logits[order].astype(np.float64) - float(logits[order[0]])) / temperature)
        sums = np.cumsum(weights)
        if look == wanted and total is None:
            total = float(sums[-1])
        if total is not None and (sums[-1] >= top_p * total or look == wanted):
            return order[: int(np.searchsorted(sums, top_p * total)) + 1]
        look = wanted


def find_winners(
    logits: NDArray[np.float32], seeds: Sequence[int], positions: Sequence[int], temperatures: Sequence[float]
) -> Winners:
    """Return the seeded winner of each row and the two best scores, exactly, looking only at tokens that can win.

    A token whose logit is below `second best so far - T * NOISE_MAX` cannot reach the two best whatever its noise.
    Scores are float64: the float32 logit plus the product of T and the noise, each operation rounded once.
    """
    size = logits.shape[1]
    scale = np.asarray(temperatures, dtype=np.float64)
    keys = np.asarray(seeds, dtype=np.uint64)
    places = np.asarray(positions, dtype=np.uint64)
    second_logit = np.partition(logits, size - 2, axis=1)[:, size - 2] if size > 1 else logits[:, 0]
    floor = np.minimum(logits.max(axis=1) - _FIRST_LOOK * scale, second_logit)
    first = _score_above(logits, floor, scale, keys, places)
    floor = np.minimum(floor, first.second - scale * NOISE_MAX)
    return _score_above(logits, floor, scale, keys, places)


def _score_above(
    logits: NDArray[np.float32],
    floor: NDArray[np.float64],
    scale: NDArray[np.float64],
    keys: NDArray[np.uint64],
    places: NDArray[np.uint64],
) -> Winners:
    # float32 floors are rounded down, so that a token exactly on the bound is still looked at.
    bounds = np.nextafter(floor.astype(np.float32), np.float32(-np.inf))
    row_of, ids = np.nonzero((logits >= bounds[:, None]) & (logits > -np.inf))
    scores = np.empty(len(ids), dtype=np.float64)
    for start in range(0, len(ids), _CANDIDATES_AT_ONCE):
        part = slice(start, start + _CANDIDATES_AT_ONCE)
        owner = row_of[part]
        noise = _compute_noise(keys[owner], places[owner], ids[part])
        scores[part] = logits[owner, ids[part]].astype(np.float64) + scale[owner] * noise
    return _pick_two_best(scores, row_of, ids, len(logits))


def _pick_two_best(scores: NDArray[np.float64], row_of: Integers, ids: Integers, rows: int) -> Winners:
    best, second = np.full(rows, -np.inf), np.full(rows, -np.inf)
    winners = np.zeros(rows, dtype=np.int64)
    edges = np.searchsorted(row_of, np.arange(rows + 1))
    for row in range(rows):
        part = scores[edges[row] : edges[row + 1]]
        if not len(part):
            continue
        top = int(part.argmax())
        winners[row], best[row] = ids[edges[row] + top], part[top]
        if len(part) > 1:
            second[row] = max(part[:top].max(initial=-np.inf), part[top + 1 :].max(initial=-np.inf))
    return Winners(token_ids=winners, best=best, second=second)


def _compute_noise(seeds: Integers | np.uint64, positions: Integers | np.uint64, ids: Integers) -> NDArray[np.float64]:
    """Return noise for parallel arrays; neighbours that share a Philox block share its computation."""
    lanes = ids & 3
    blocks = (ids >> 2).astype(np.uint64)
    seeds, positions = np.broadcast_to(seeds, ids.shape), np.broadcast_to(positions, ids.shape)
    fresh = np.ones(len(ids), dtype=bool)
    if len(ids) > 1:
        same = (blocks[1:] == blocks[:-1]) & (seeds[1:] == seeds[:-1]) & (positions[1:] == positions[:-1])
        fresh[1:] = ~same
    zero = np.uint64(0)
    words = philox4x32_10((blocks[fresh], positions[fresh], zero, zero), (seeds[fresh] & _LOW, seeds[fresh] >> _HALF))
    index = np.cumsum(fresh) - 1
    return compute_gumbel(np.stack(words)[lanes, index] >> np.uint64(32 - UNIFORM_BITS))


def compute_gumbel(counts: Integers) -> NDArray[np.float64]:
    """Return -log(-log((k + 1/2) / 2**24)) rounded half up to a multiple of 2**-18, for 24-bit integers k.

    No value lies within 5e-13 of a rounding border, far more than the error of any logarithm: hence equal bits.
    """
    uniform = (counts.astype(np.float64) + 0.5) / float(2**UNIFORM_BITS)
    return np.floor(-np.log(-np.log(uniform)) * NOISE_STEPS + 0.5) / NOISE_STEPS


def _compute_mass(logits: NDArray[np.float32], top: float, temperature: float) -> float:
    return float(np.exp((logits - np.float32(top)) * np.float32(1.0 / temperature)).sum(dtype=np.float64))


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
