"""The samplers that a seed repeats, beside gumbel-philox-v1: one place to draw from them and to measure claims.

`vllm-exponential` keeps a generator for each request, `inverse-cdf` keeps nothing; both are opened once for a request
by `open_noise` and then read by output position, in any order and by several threads (ascending is fastest).
Temperature 0 is the same for all: the largest logit, of equal ones the smallest id.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.exponential_sampler import ExponentialNoise, compute_exponential_score, find_exponential_winner, keep_tokens
from models.inverse_cdf_sampler import Line, compute_uniform
from models.requests import SAMPLER_EXPONENTIAL, SAMPLER_INVERSE_CDF
from models.sampler import Winner, check_seed
from scoring.errors import InvalidInput

Row = NDArray[np.float32]


class Sampling(Protocol):
    """What a request says about sampling; `GenerationRequest` and `ReferenceRequest` both say it."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def sampler(self) -> str: ...


class Noise(Protocol):
    """The noise of one request under one sampler."""

    def draw(self, logits: Row, position: int) -> int:
        """Return the token drawn from raw float32 logits [vocabulary] at an output position."""

    def compute_margin(self, logits: Row, token: int, position: int) -> tuple[float, float]:
        """Return (margin, gap) of a claimed token in logit units; the margin is inf when the filter removes it."""


def open_noise(request: Sampling) -> Noise:
    """Return the noise of a request, to be kept for all its positions.

    Raises InvalidInput without a seed, or for a sampler that is not one of this module.
    """
    check_seed(request.seed)  # type: ignore[arg-type]  # None is refused there
    if request.sampler not in _KINDS:
        raise InvalidInput(f"must be one of {', '.join(_KINDS)}", "sampler")
    return _GreedyNoise() if request.temperature == 0.0 else _KINDS[request.sampler](request)


def compute_seeded_margin(
    logits_row: Row, token: int, request: Sampling, position: int, state: Noise | None = None
) -> tuple[float, float]:
    """Return (margin, gap) of a claimed token under raw float32 logits [vocabulary].

    `state` is what `open_noise(request)` returned, one for each request; without it every call seeds a generator anew.
    """
    return (state or open_noise(request)).compute_margin(logits_row, token, position)


class _GreedyNoise:
    """Temperature 0: no noise."""

    def draw(self, logits: Row, position: int) -> int:
        return int(logits.argmax())

    def compute_margin(self, logits: Row, token: int, position: int) -> tuple[float, float]:
        winner = int(logits.argmax())
        best = float(logits[winner])
        rest = np.delete(logits, winner)
        return best - float(logits[token]), best - float(rest.max(initial=-np.inf))


class _ExponentialNoise:
    def __init__(self, request: Sampling) -> None:
        self._request = request
        self._noise = ExponentialNoise(request.seed or 0)

    def draw(self, logits: Row, position: int) -> int:
        return self._find_winner(logits, position).token_id

    def compute_margin(self, logits: Row, token: int, position: int) -> tuple[float, float]:
        winner = self._find_winner(logits, position)
        gap = winner.best - winner.second
        if token == winner.token_id:
            return 0.0, gap
        request = self._request
        kept = keep_tokens(logits, request.temperature, request.top_p, request.top_k)
        if kept is not None and token not in kept:
            return float("inf"), gap
        row = self._noise.read(position, len(logits))
        return winner.best - compute_exponential_score(logits, token, row, request.temperature), gap

    def _find_winner(self, logits: Row, position: int) -> Winner:
        request = self._request
        row = self._noise.read(position, len(logits))
        return find_exponential_winner(logits, row, request.temperature, request.top_p, request.top_k)


class _UniformNoise:
    def __init__(self, request: Sampling) -> None:
        self._request = request

    def draw(self, logits: Row, position: int) -> int:
        line = self._build_line(logits, position)
        return int(line.ids[line.find_winner()])

    def compute_margin(self, logits: Row, token: int, position: int) -> tuple[float, float]:
        line = self._build_line(logits, position)
        winner = line.find_winner()
        gap = line.compute_gap(winner)
        place = int(np.searchsorted(line.ids, token))
        if place == winner and line.ids[place] == token:
            return 0.0, gap
        is_kept = place < len(line.ids) and line.ids[place] == token
        return (line.compute_margin(place) if is_kept else float("inf")), gap

    def _build_line(self, logits: Row, position: int) -> Line:
        request = self._request
        uniform = compute_uniform(request.seed or 0, position)
        return Line.build(logits, uniform, request.temperature, request.top_p, request.top_k)


_KINDS: dict[str, type[_ExponentialNoise] | type[_UniformNoise]] = {
    SAMPLER_EXPONENTIAL: _ExponentialNoise,
    SAMPLER_INVERSE_CDF: _UniformNoise,
}
