"""What one row of logits says about the token that was claimed there, in few passes over a row in the CPU cache.

One exponential serves all temperatures of the grid (its powers are their weights), and only tokens near the maximum are
sorted. Rows are written into buffers that are kept.

Source of the quantities: `docs/samplers.md` for the noise; Token-DiFR (arXiv 2511.20621) for the margin.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels import SUMMED_POWERS, add_powers_above, score_grid, view_row
from models.requests import (
    GRID_TEMPERATURES,
    GRID_TOP_PS,
    SAMPLER_GUMBEL,
    SEEDED_SAMPLERS,
    ReferenceRequest,
    TokenStatistics,
)
from models.sampler import NEAR, Winner, compute_gumbel_noise, compute_kept_tokens, find_top, find_winner
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import GRID_POWERS

Row = NDArray[np.float32]

_NEAR = np.float32(-NEAR)
_FLOOR = np.float32(-80.0)
"""Lower logits weigh nothing at any temperature; as denormal numbers they would cost ten times as much."""
_DECIMALS = 6
_PLAIN = GRID_TEMPERATURES.index(1.0)
_TOP_PS = np.array(GRID_TOP_PS)
assert GRID_POWERS == SUMMED_POWERS


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionStatistics:
    """The numbers of one output position; the fields are those of `TokenStatistics`."""

    logprob: float
    raw_logprob: float
    rank: int
    entropy: float
    pit_low: float
    pit_high: float
    grid_logprob: tuple[float, ...]
    margin: float | None
    gap: float | None


def compute_position_statistics(
    logits: Row, token: int, request: ReferenceRequest, position: int
) -> PositionStatistics:
    """Return the statistics of a claimed token under raw float32 logits [vocabulary] at one output position.

    Margin and gap are left to the caller where the sampler's noise is a stream (`has_free_noise`).
    """
    view = _RowView(logits, token)
    filtered = _compute_filtered(view, request)
    margin, gap = _compute_margin(view, logits, request, position, filtered.kept)
    return PositionStatistics(
        logprob=filtered.logprob,
        raw_logprob=view.depth - math.log(view.total),
        rank=view.rank,
        entropy=filtered.entropy,
        pit_low=filtered.pit_low,
        pit_high=filtered.pit_high,
        grid_logprob=view.compute_grid(),
        margin=margin,
        gap=gap,
    )


def join_statistics(rows: list[PositionStatistics], request: ReferenceRequest) -> TokenStatistics:
    """Return the columns of one answer, rounded to 6 decimals so that they travel short.

    A seeded request needs the margin and gap of every row: one that was not computed must not pass for a winner.
    """
    seeded = has_noise(request)
    grid = np.array([row.grid_logprob for row in rows]).round(_DECIMALS)
    return TokenStatistics(
        logprob=tuple(round(row.logprob, _DECIMALS) for row in rows),
        raw_logprob=tuple(round(row.raw_logprob, _DECIMALS) for row in rows),
        rank=tuple(row.rank for row in rows),
        entropy=tuple(round(row.entropy, _DECIMALS) for row in rows),
        pit_low=tuple(round(row.pit_low, _DECIMALS) for row in rows),
        pit_high=tuple(round(row.pit_high, _DECIMALS) for row in rows),
        grid_logprob=tuple(map(tuple, grid.tolist())),
        margin=round_column([row.margin for row in rows]) if seeded else None,
        gap=round_column([row.gap for row in rows]) if seeded else None,
    )


def round_column(values: Sequence[float | None]) -> tuple[float, ...]:
    """Return margins or gaps rounded to 6 decimals; raises RuntimeError when one was not computed."""
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        raise RuntimeError("a seeded position without margin and gap")
    return tuple(round(value, _DECIMALS) for value in known)


class _Buffers(threading.local):
    """Rows that a thread writes into again and again: fresh ones of this size would cost a page fault each."""

    def __init__(self) -> None:
        self._size = -1

    def get(self, size: int) -> "_Buffers":
        if size != self._size:
            self._size = size
            self.shifted, self.scratch = np.empty((2, size), np.float32)
            self.places = np.empty(size, np.int64)
            self.masses = np.empty((len(GRID_POWERS), size + 1))
        return self


_buffers = _Buffers()


class _RowView:
    """A row shifted by its maximum, the sums of its weights over the grid, and the claimed token's place in it.

    `near` are the shifted logits from -10 up, by decreasing value. Where a top-p border lies below them, its token is
    left out of the sum: at most exp(-10 / T) of the largest weight, and the mass there is many times that weight.
    """

    def __init__(self, logits: Row, token: int) -> None:
        if not 0 <= token < len(logits):
            # Compiled loops do not look.
            raise InvalidInput(f"no token of a vocabulary of {len(logits)}", "token")
        buffers = _buffers.get(len(logits))
        self.shifted = buffers.shifted
        self.scratch = buffers.scratch
        """Free memory, until the next row of this thread."""
        self._masses = buffers.masses
        self.token = token
        self.sums = np.empty(len(GRID_TEMPERATURES) + 1)
        self.top = find_top(logits)
        self.rank, self.ties_before, count = view_row(
            logits, self.top, _FLOOR, _NEAR, token, self.shifted, buffers.places, self.sums
        )
        self.depth = float(self.shifted[token])
        self.places = buffers.places[:count]
        """Ids of the tokens in `near`, by increasing id, until the next row of this thread."""
        self.near = np.sort(self.shifted[self.places])[::-1].astype(np.float64)
        self.total, self.weighted = float(self.sums[_PLAIN]), float(self.sums[-1])
        self._far = np.zeros(len(self.sums))
        if self.rank > count:
            add_powers_above(self.shifted, self.depth, self.scratch, self._far)

    def compute_mass_before(self, temperature: float) -> float:
        """Return the sum of exp(shifted / T) over the tokens ordered before the claimed one."""
        if self.rank <= len(self.near):
            above = float(np.exp(self.near[: self.rank] / temperature).sum())
        elif temperature == 1.0:
            above = float(self._far[_PLAIN])
        else:
            larger = self.shifted[self.shifted > self.shifted[self.token]]
            above = float(np.exp(larger / np.float32(temperature)).sum())
        return above + self.ties_before * math.exp(self.depth / temperature)

    def compute_grid(self) -> tuple[float, ...]:
        """Return the log-probabilities of the claimed token at each point of the grid (-inf outside of a top-p set)."""
        scores = np.empty((len(GRID_TEMPERATURES), len(GRID_TOP_PS)))
        near = np.exp(self.near * 0.1)
        score_grid(near, _TOP_PS, self.sums, self._far, self.depth, self.rank, self.ties_before, self._masses, scores)
        return tuple(scores.ravel().tolist())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Filtered:
    """The claimed token under the request's own temperature and filter; `kept` is None when nothing is filtered."""

    logprob: float
    entropy: float
    pit_low: float
    pit_high: float
    kept: NDArray[np.int64] | None


def _compute_filtered(view: _RowView, request: ReferenceRequest) -> _Filtered:
    if request.temperature == 0.0:
        is_winner = view.rank + view.ties_before == 0
        pit_low, logprob = (0.0, 0.0) if is_winner else (1.0, -math.inf)
        return _Filtered(logprob=logprob, entropy=0.0, pit_low=pit_low, pit_high=1.0, kept=None)
    if request.top_p >= 1.0 and request.top_k == 0:
        if request.temperature == 1.0:
            return _compute_shares(view, request, view.total, view.weighted, None)
        scaled = np.multiply(view.shifted, np.float32(1.0 / request.temperature), out=view.scratch)
        return _weigh(view, request, scaled, None)
    kept = compute_kept_tokens(view.shifted, request.temperature, request.top_p, request.top_k)
    shares = _weigh(view, request, view.shifted[kept] * np.float32(1.0 / request.temperature), kept)
    if view.rank + view.ties_before >= len(kept):
        return _Filtered(logprob=-math.inf, entropy=shares.entropy, pit_low=1.0, pit_high=1.0, kept=kept)
    return shares


def _weigh(view: _RowView, request: ReferenceRequest, scaled: Row, kept: NDArray[np.int64] | None) -> _Filtered:
    weights = np.exp(scaled)
    return _compute_shares(view, request, float(weights.sum()), float(np.dot(weights, scaled)), kept)


def _compute_shares(
    view: _RowView, request: ReferenceRequest, total: float, weighted: float, kept: NDArray[np.int64] | None
) -> _Filtered:
    """`total` is the sum of the weights, `weighted` that of weight times scaled logit."""
    own = view.depth / request.temperature
    before = min(view.compute_mass_before(request.temperature) / total, 1.0)
    return _Filtered(
        logprob=own - math.log(total),
        entropy=max(math.log(total) - weighted / total, 0.0),
        pit_low=before,
        pit_high=min(before + math.exp(own) / total, 1.0),
        kept=kept,
    )


def has_noise(request: ReferenceRequest) -> bool:
    """Return whether a request has a winner to compare with: temperature 0, or a seed."""
    return request.temperature == 0.0 or (request.sampler in SEEDED_SAMPLERS and request.seed is not None)


def has_free_noise(request: ReferenceRequest) -> bool:
    """Return whether the noise of any position can be had without that of those before it."""
    return request.temperature == 0.0 or request.sampler == SAMPLER_GUMBEL


def _compute_margin(
    view: _RowView, logits: Row, request: ReferenceRequest, position: int, kept: NDArray[np.int64] | None
) -> tuple[float | None, float | None]:
    """Return how far the claimed token is from winning, and how far the winner is from the runner-up."""
    if not (has_noise(request) and has_free_noise(request)):
        return None, None
    return compute_seeded_margin(logits, view.token, request, position, kept, (view.top, view.places))


def compute_seeded_margin(
    logits: Row,
    token: int,
    request: ReferenceRequest,
    position: int,
    kept: NDArray[Any] | None,
    near: tuple[np.float32, NDArray[np.int64]] | None = None,
) -> tuple[float, float]:
    """Return margin and gap of a claimed token under raw logits; `kept`: the ids that the filter left (None: all).

    `near` is as in `find_winner`, of all tokens.
    """
    if kept is not None:
        allowed = np.full_like(logits, -np.inf)
        allowed[kept] = logits[kept]
        logits, near = allowed, None
    winner = find_winner(logits, request.seed or 0, position, request.temperature, near)
    return winner.best - _compute_score(logits, token, request, position, winner), winner.best - winner.second


def _compute_score(logits: Row, token: int, request: ReferenceRequest, position: int, winner: Winner) -> float:
    if token == winner.token_id:
        return winner.best
    if request.temperature == 0.0:
        return float(logits[token])
    noise = float(compute_gumbel_noise(request.seed or 0, position, [token])[0])
    return float(logits[token]) + request.temperature * noise
