"""The sampler `vllm-exponential`: probabilities divided by exponential noise of a generator that a request owns.

What vLLM's V1 sampler does for a request with a seed (`random_sample` in vllm/v1/sample/ops/topk_topp_sampler.py): one
`torch.Generator` for each request, one vocabulary of float32 noise E for each output token, `argmax(p / E)`. The noise
here is that of the CPU generator, made without torch: MT19937 from the low 32 bits of the seed, 53 bits a value.
With G = -log E the score is `l + T G` in logit units, as for gumbel-philox-v1. Specified in `docs/samplers.md`.
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sampler import Winner, check_seed

Row = NDArray[np.float32]

MIN_TEMPERATURE = 0.01
"""vLLM raises a temperature between 0 and this one to it (`_MAX_TEMP` in vllm/sampling_params.py)."""
_UNIFORM_BITS = 53
_HIGH_MASK = np.uint64((1 << (_UNIFORM_BITS - 32)) - 1)
_HALF = np.uint64(32)
_SMALLEST = np.float32(2.0**-_UNIFORM_BITS)
_FIRST_LOOK = 4.0
_REACHES = (6.0, 12.0, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseRow:
    """The noise of one output position: two 32-bit generator words (held as uint64) for each token."""

    words: NDArray[np.uint64]

    def compute_gumbel(self, token_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return G = -log E of some tokens, with E rounded to float32 as torch stores it."""
        high, low = self.words[2 * token_ids] & _HIGH_MASK, self.words[2 * token_ids + 1]
        uniform = (high << _HALF | low).astype(np.float64) * 2.0**-_UNIFORM_BITS
        exponential = np.maximum((-np.log1p(-uniform)).astype(np.float32), _SMALLEST)
        noise: NDArray[np.float64] = -np.log(exponential.astype(np.float64))
        return noise

    def compute_largest(self) -> float:
        """Return an upper bound of all G of the row, hardly above the largest."""
        least = int((self.words[0::2] & _HIGH_MASK).min())
        return float(-np.log(max(least * 2.0 ** (32 - _UNIFORM_BITS), float(_SMALLEST)))) + 1e-6


class ExponentialNoise:
    """The noise of one request. The generator cannot jump, so where it stood at each position is kept (2.5 kB each).

    Several threads may read one noise.
    """

    def __init__(self, seed: int) -> None:
        check_seed(seed)
        # RandomState seeds as Matsumoto and Nishimura do (and torch after them); MT19937(seed) alone does not.
        seeded: Any = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)
        self._generator = np.random.MT19937()
        self._lock = threading.Lock()
        self._states: list[Any] = [seeded]
        self._last: tuple[int, NoiseRow] | None = None

    def read(self, position: int, size: int) -> NoiseRow:
        """Return the noise of an output position (0 is the first) for a vocabulary of `size` tokens.

        The size is that of the model's logits, the same in every call. The last row is kept: reading it again is free.
        """
        with self._lock:
            if self._last is None or self._last[0] != position:
                self._last = (position, self._make_row(position, size))
            return self._last[1]

    def _make_row(self, position: int, size: int) -> NoiseRow:
        start = min(position, len(self._states) - 1)
        self._generator.state = self._states[start]
        for _ in range(start, position):
            self._generator.random_raw(2 * size, output=False)
            self._states.append(self._generator.state)
        words = np.asarray(self._generator.random_raw(2 * size), dtype=np.uint64)
        if position == len(self._states) - 1:
            self._states.append(self._generator.state)
        return NoiseRow(words=words)


def find_exponential_winner(logits: Row, noise: NoiseRow, temperature: float, top_p: float, top_k: int) -> Winner:
    """Return the winner of one row of logits [vocabulary], its score and the second best; temperature above 0.

    Scores are float64. vLLM compares float32 quotients: the two agree unless two scores are within about 1e-6.
    """
    temperature = raise_temperature(temperature)
    kept = keep_tokens(logits, temperature, top_p, top_k)
    if kept is None:
        kept = np.flatnonzero(logits >= logits.max() - np.float32(_FIRST_LOOK * temperature))
        if len(kept) > 1:
            scores = _score(logits, kept, noise, temperature)
            second = float(np.partition(scores, -2)[-2])
            # One float32 step of slack: a candidate too many is harmless, a missing one is not.
            least = np.nextafter(np.float32(second - temperature * noise.compute_largest()), np.float32(-np.inf))
            kept = np.flatnonzero(logits >= least)
        else:
            kept = np.flatnonzero(logits > -np.inf)
    scores = _score(logits, kept, noise, temperature)
    best = float(scores.max())
    place = int(np.argmax(scores))
    rest = np.delete(scores, place)
    return Winner(token_id=int(kept[place]), best=best, second=float(rest.max(initial=-np.inf)))


def compute_exponential_score(logits: Row, token: int, noise: NoiseRow, temperature: float) -> float:
    """Return the score of one token, whether or not a filter keeps it."""
    return float(_score(logits, np.array([token]), noise, raise_temperature(temperature))[0])


def raise_temperature(temperature: float) -> float:
    """Return the temperature that vLLM samples with when asked for one above 0."""
    return max(temperature, MIN_TEMPERATURE)


def keep_tokens(logits: Row, temperature: float, top_p: float, top_k: int) -> NDArray[np.int64] | None:
    """Return the ids that top-k, then top-p at the temperature keep, by increasing id; None when nothing is filtered.

    vLLM's order and ties: every logit equal to the k-th largest stays; top-p counts up from the smallest probability
    (ties by id) and removes tokens while the sum is at most 1 - p, so that of equal ones the smaller ids go first.
    """
    size = len(logits)
    is_cut = 0 < top_k < size
    if not is_cut and top_p >= 1.0:
        return None
    border = np.partition(logits, size - top_k)[size - top_k] if is_cut else np.float32(-np.inf)
    ids = np.flatnonzero(logits >= border)
    return np.sort(ids[_find_top_p(logits[ids], temperature, top_p)]) if top_p < 1.0 else ids


def _find_top_p(logits: Row, temperature: float, top_p: float) -> NDArray[np.int64]:
    """Return the places of the shortest prefix, by decreasing logit and decreasing id, that reaches `top_p`."""
    top = float(logits.max())
    weights = np.exp((logits.astype(np.float64) - top) / temperature)
    wanted = top_p * float(weights.sum())
    for reach in _REACHES:
        near = np.flatnonzero(logits >= np.float32(top - reach * temperature))
        order = near[np.argsort(logits[near], kind="stable")[::-1]]
        sums = np.cumsum(weights[order])
        if sums[-1] >= wanted:
            break
    return order[: min(int(np.searchsorted(sums, wanted)) + 1, len(order))]


def _score(logits: Row, ids: NDArray[np.int64], noise: NoiseRow, temperature: float) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = logits[ids].astype(np.float64) + temperature * noise.compute_gumbel(ids)
    return scores
