"""The sampler `gumbel-philox-v1`: Gumbel-max sampling with counter-based noise, the same bits on every machine.

For output position j and token v: `s_v = l_v + T * G(seed, j, v)`, and the token with the largest s is drawn (the
smallest id on a tie), which samples softmax(l / T). The noise comes from Philox4x32-10 (Salmon, Moraes, Dror, Shaw:
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), so any single value can be had without the others, and the
maximum is found without a full vocabulary of noise. `docs/samplers.md` is the specification.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import collect_from, draw_counts, run_philox, search_counts
from models.requests import MAX_SEED
from scoring.errors import InvalidInput

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]] | np.integer[Any]

UNIFORM_BITS = 24
NOISE_STEPS = float(2**18)
_FIRST_LOOK = 5.0
_REACHES = (6.0, 12.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The seeded winner of one row of logits, its score, and the second best score (-inf when it is alone)."""

    token_id: int
    best: float
    second: float


class _Scratch(threading.local):
    """Memory that a thread writes into again and again: a fresh array costs a page fault for every 4 kB."""

    def __init__(self) -> None:
        self._size = -1

    def get(self, size: int) -> "_Scratch":
        """Return the memory for a vocabulary of `size` tokens."""
        if size != self._size:
            self._size = size
            self.blocks = np.empty(-(-size // 4), dtype=np.uint32)
            self.ids, self.late_ids = np.empty((2, size), dtype=np.int64)
            self.counts = np.empty(size, dtype=np.uint32)
        return self


_scratch = _Scratch()


def philox4x32_10(
    counter: tuple[Integers, Integers, Integers, Integers], key: tuple[Integers, Integers]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Return four arrays of 32-bit words (held as uint64) for arrays of counter and key words, broadcast together."""
    inputs = np.stack(np.broadcast_arrays(*counter, *key)).astype(np.uint64)
    words = np.empty_like(inputs[:4])
    run_philox(inputs.reshape(6, -1), words.reshape(4, -1))
    return words[0], words[1], words[2], words[3]


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
    return _compute_noise(np.asarray(token_ids, dtype=np.int64), seed, position)


def _compute_noise(ids: NDArray[np.int64], seed: int, position: int) -> NDArray[np.float64]:
    counts = np.empty(len(ids), dtype=np.uint32)
    draw_counts(ids, seed, position, counts)
    return compute_gumbel(counts)


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
    scratch = _scratch.get(len(logits))
    floor, ids = _take_first_look(logits, temperature, scratch)
    scores = logits[ids].astype(np.float64)
    if temperature > 0.0:
        scores += temperature * _compute_noise(ids, seed, position)
        second = float(np.partition(scores, len(scores) - 2)[-2]) if len(scores) > 1 else -np.inf
        if second > -np.inf:
            late, noise = _search(logits, floor, second, temperature, seed, position, scratch)
            late_scores = logits[late].astype(np.float64) + temperature * noise
            ids, scores = np.concatenate([ids, late]), np.concatenate([scores, late_scores])
    return _pick_two_best(ids, scores)


def _take_first_look(
    logits: NDArray[np.float32], temperature: float, scratch: _Scratch
) -> tuple[np.float32, NDArray[np.int64]]:
    """Return a logit and the ids of all tokens from it up: two tokens at least, where there are two."""
    top = logits.max()
    floor = np.float32(top - np.float32(_FIRST_LOOK * temperature))
    ids = scratch.ids[: collect_from(logits, floor, scratch.ids)]
    if len(ids) < 2 <= len(logits):
        # The second best of a row with a clear favourite is found by looking as far below the other tokens' largest.
        largest = int(logits.argmax())
        rest = max(part.max(initial=np.float32(-np.inf)) for part in (logits[:largest], logits[largest + 1 :]))
        floor = np.float32(rest - np.float32(_FIRST_LOOK * temperature))
        ids = np.flatnonzero((logits >= floor) & (logits > -np.inf))
    return floor, ids


def _search(
    logits: NDArray[np.float32],
    floor: np.float32,
    second: float,
    temperature: float,
    seed: int,
    position: int,
    scratch: _Scratch,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ids and noise of the tokens below `floor` that may reach the second best score: all that do, and some."""
    # One float32 step of slack: a candidate too many is harmless, a missing one is not.
    lowest = np.nextafter(np.float32(second - temperature * NOISE_MAX), np.float32(-np.inf))
    need = (second - float(floor)) / temperature
    least = max(math.floor(2**UNIFORM_BITS * math.exp(-math.exp(-need))) - 2, 0)
    bound = np.uint32(least << (32 - UNIFORM_BITS))
    memory = (scratch.blocks, scratch.late_ids, scratch.counts)
    found = search_counts(logits, lowest, floor, bound, seed, position, *memory)
    return scratch.late_ids[:found], compute_gumbel(scratch.counts[:found])


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
