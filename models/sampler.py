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

from models.kernels import collect_from, draw_noise, race, run_philox
from models.requests import MAX_SEED
from scoring.errors import InvalidInput

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]] | np.integer[Any]

NEAR = 10.0
"""Logit units below the largest logit of a row: what lies there is looked at in more than one way."""
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

    def get(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Return memory for the ids of a vocabulary of `size` tokens, and for its blocks of four."""
        if size != self._size:
            self._size = size
            self._memory = np.empty(size, dtype=np.int64), np.empty(-(-size // 4), dtype=np.uint32)
        return self._memory


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
    ids = np.asarray(token_ids, dtype=np.int64)
    noise = np.empty(len(ids))
    draw_noise(ids, seed, position, noise)
    return noise


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


def find_top(logits: NDArray[np.float32]) -> np.float32:
    """Return the largest logit of a row; raises InvalidInput when it is not finite: a broken model scores nothing."""
    top: np.float32 = logits.max()
    if not np.isfinite(top):
        raise InvalidInput("the model gave a row without a finite largest logit", "logits")
    return top


def find_winner(
    logits: NDArray[np.float32],
    seed: int,
    position: int,
    temperature: float,
    near: tuple[np.float32, NDArray[np.int64]] | None = None,
) -> Winner:
    """Return the seeded winner of one row [vocabulary], exactly, looking only at tokens that can win (`race`).

    `near`, from whoever has looked at the row before, is its largest logit with the ids of all tokens at most NEAR
    below it. Raises what `find_top` raises.
    """
    top = find_top(logits) if near is None else near[0]
    if temperature == 0.0:
        best, second = np.sort(np.partition(logits, -2)[-2:])[::-1] if len(logits) > 1 else (logits[0], -np.inf)
        return Winner(token_id=int(logits.argmax()), best=float(best), second=float(second))
    ids, blocks = _scratch.get(len(logits))
    floor = top - np.float32(_FIRST_LOOK * temperature)
    if near is None or _FIRST_LOOK * temperature > NEAR - 1.0:
        first = ids[: collect_from(logits, floor, ids)]
    else:
        first = near[1]
    winner, best, second = race(logits, floor, first, temperature, seed, position, blocks)
    if second == -np.inf:
        # The second best of a row with a clear favourite is found by looking as far below the other tokens' largest.
        rest = max(part.max(initial=np.float32(-np.inf)) for part in (logits[:winner], logits[winner + 1 :]))
        floor = rest - np.float32(_FIRST_LOOK * temperature)
        first = ids[: collect_from(logits, floor, ids)]
        winner, best, second = race(logits, floor, first, temperature, seed, position, blocks)
    return Winner(token_id=winner, best=best, second=second)


def _order_largest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids of the `count` largest logits by decreasing logit, ties by increasing id."""
    size = len(logits)
    if count >= size:
        return np.argsort(-logits, kind="stable")
    border = np.partition(logits, size - count)[size - count]
    ids = np.flatnonzero(logits >= border)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]
