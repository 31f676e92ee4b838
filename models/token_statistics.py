"""What one row of logits says about the token that was claimed there: numpy on a row that fits in the CPU cache.

A vocabulary of 49,152 is read some twenty times for each position, so every pass is one that runs from the cache into a
buffer that is kept: one exponential serves all temperatures of the grid (its powers are their weights), sums are dot
products, and only tokens near the maximum are sorted.

Source of the quantities: `docs/samplers.md` for the noise; Token-DiFR (arXiv 2511.20621) for the margin.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.requests import (
    GRID_TEMPERATURES,
    GRID_TOP_PS,
    SAMPLER_GUMBEL,
    SEEDED_SAMPLERS,
    ReferenceRequest,
    TokenStatistics,
)
from models.sampler import Winner, compute_gumbel_noise, compute_kept_tokens, find_winner
from scoring.evidence.channel_ids import GRID_POWERS

Row = NDArray[np.float32]

_NEAR = np.float32(-10.0)
_FLOOR = np.float32(-80.0)
"""Lower logits weigh nothing at any temperature; as denormal numbers they would cost ten times as much."""
_DECIMALS = 6
_INVERSE_TEMPERATURES = 1.0 / np.array(GRID_TEMPERATURES)


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
    margin, gap = _compute_margin(logits, token, request, position, filtered.kept)
    return PositionStatistics(
        logprob=filtered.logprob,
        raw_logprob=view.depth - math.log(view.sums[1.0]),
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
    return TokenStatistics(
        logprob=tuple(round(row.logprob, _DECIMALS) for row in rows),
        raw_logprob=tuple(round(row.raw_logprob, _DECIMALS) for row in rows),
        rank=tuple(row.rank for row in rows),
        entropy=tuple(round(row.entropy, _DECIMALS) for row in rows),
        pit_low=tuple(round(row.pit_low, _DECIMALS) for row in rows),
        pit_high=tuple(round(row.pit_high, _DECIMALS) for row in rows),
        grid_logprob=tuple(tuple(round(value, _DECIMALS) for value in row.grid_logprob) for row in rows),
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
            rows = np.empty((7, size), np.float32)
            self.shifted, self.first, self.second, *self.powers = rows
            self.doubles = rows[3:].reshape(-1)[: 4 * size & ~1].view(np.float64)
            """The memory of `powers`, as float64."""
            self.mask = np.empty(size, np.bool_)
        return self


_buffers = _Buffers()


class _RowView:
    """A row shifted by its maximum, the sums of its weights over the grid, and the claimed token's place in it.

    `near` are the shifted logits from -10 up, by decreasing value. Where a top-p border lies below them, its token is
    left out of the sum: at most exp(-10 / T) of the largest weight, and the mass there is many times that weight.
    """

    def __init__(self, logits: Row, token: int) -> None:
        buffers = _buffers.get(len(logits))
        self.shifted = np.subtract(logits, logits.max(), out=buffers.shifted)
        # Looking is several times faster than writing, and hardly any row has logits that low.
        if self.shifted.min() < _FLOOR:
            np.maximum(self.shifted, _FLOOR, out=self.shifted)
        self.token = token
        self.depth = float(self.shifted[token])
        self.rank = int(np.count_nonzero(np.greater(self.shifted, self.shifted[token], out=buffers.mask)))
        self.ties_before = int(np.count_nonzero(self.shifted[:token] == self.shifted[token]))
        near = self.shifted[np.flatnonzero(np.greater_equal(self.shifted, _NEAR, out=buffers.mask))]
        self.near = np.sort(near)[::-1].astype(np.float64)
        self.sums = _compute_sums(self.shifted, buffers)
        self.unit = buffers.second
        """exp(shifted): valid until the next row of this thread."""
        self.scratch, self.doubles = buffers.first, buffers.doubles
        """Free memory of the same term."""

    def compute_mass_before(self, temperature: float) -> float:
        """Return the sum of exp(shifted / T) over the tokens ordered before the claimed one."""
        if self.rank <= len(self.near):
            above = float(np.exp(self.near[: self.rank] / temperature).sum())
        else:
            depth = self.shifted[self.token]
            above = float(np.exp(self.shifted[self.shifted > depth] / np.float32(temperature)).sum())
        return above + self.ties_before * math.exp(self.depth / temperature)

    def compute_grid(self) -> tuple[float, ...]:
        """Return the log-probabilities of the claimed token at each point of the grid (-inf outside of a top-p set)."""
        shape = (len(GRID_TEMPERATURES), len(self.near))
        size = math.prod(shape)
        weights = self.doubles[:size].reshape(shape) if size <= len(self.doubles) else np.empty(shape)
        np.multiply.outer(_INVERSE_TEMPERATURES, self.near, out=weights)
        sums = np.cumsum(np.exp(weights, out=weights), axis=1, out=weights)
        return tuple(
            value
            for row, temperature in zip(sums, GRID_TEMPERATURES, strict=True)
            for value in self._compute_top_ps(row, temperature)
        )

    def _compute_top_ps(self, sums: NDArray[np.float64], temperature: float) -> list[float]:
        """Return the same for each of GRID_TOP_PS at one temperature; `sums` are those of the near tokens' weights."""
        own, total = self.depth / temperature, self.sums[temperature]
        if self.rank <= len(sums):
            above = float(sums[self.rank - 1]) if self.rank else 0.0
            before = above + self.ties_before * math.exp(own)
        else:
            before = self.compute_mass_before(temperature)
        values = []
        for top_p in GRID_TOP_PS:
            kept, inside = total, True
            if top_p < 1.0:
                inside = before < top_p * total
                crossing = int(sums.searchsorted(top_p * total)) if inside else len(sums)
                kept = float(sums[crossing]) if crossing < len(sums) else top_p * total
            values.append(own - math.log(max(kept, math.exp(own))) if inside else -math.inf)
        return values


def _compute_sums(shifted: Row, buffers: _Buffers) -> dict[float, float]:
    """Return the sum of exp(shifted / T) for each temperature of the grid, and leave exp(shifted) in `second`."""
    two = np.multiply(shifted, np.float32(0.1), out=buffers.first)
    np.exp(two, out=two)
    four, eight, ten, twelve = buffers.powers
    twenty = buffers.second
    np.multiply(two, two, out=four)
    np.multiply(four, four, out=eight)
    np.multiply(eight, two, out=ten)
    np.multiply(eight, four, out=twelve)
    np.multiply(ten, ten, out=twenty)
    pairs = {
        14: (twelve, two), 16: (eight, eight), 18: (ten, eight), 20: (ten, ten),
        22: (twelve, ten), 24: (twelve, twelve), 28: (twenty, eight),
    }  # fmt: skip
    return {20 / power: float(np.dot(*pairs[power])) for power in GRID_POWERS}


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
            total = view.sums[1.0]
            return _compute_shares(view, request, total, float(np.dot(view.unit, view.shifted)), None)
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
    logits: Row, token: int, request: ReferenceRequest, position: int, kept: NDArray[np.int64] | None
) -> tuple[float | None, float | None]:
    """Return how far the claimed token is from winning, and how far the winner is from the runner-up."""
    if not (has_noise(request) and has_free_noise(request)):
        return None, None
    return compute_seeded_margin(logits, token, request, position, kept)


def compute_seeded_margin(
    logits: Row, token: int, request: ReferenceRequest, position: int, kept: NDArray[Any] | None
) -> tuple[float, float]:
    """Return margin and gap of a claimed token under raw logits; `kept`: the ids that the filter left (None: all)."""
    if kept is not None:
        allowed = np.full_like(logits, -np.inf)
        allowed[kept] = logits[kept]
        logits = allowed
    winner = find_winner(logits, request.seed or 0, position, request.temperature)
    return winner.best - _compute_score(logits, token, request, position, winner), winner.best - winner.second


def _compute_score(logits: Row, token: int, request: ReferenceRequest, position: int, winner: Winner) -> float:
    if token == winner.token_id:
        return winner.best
    if request.temperature == 0.0:
        return float(logits[token])
    noise = float(compute_gumbel_noise(request.seed or 0, position, [token])[0])
    return float(logits[token]) + request.temperature * noise
