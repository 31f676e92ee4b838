"""What one row of logits says about the token that was claimed there: numpy on a row that fits in the CPU cache.

Source of the quantities: `docs/samplers.md` for the noise; Token-DiFR (arXiv 2511.20621) for the margin.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.requests import GRID_TEMPERATURES, GRID_TOP_PS, SAMPLER_GUMBEL, ReferenceRequest, TokenStatistics
from models.sampler import Winner, compute_gumbel_noise, compute_kept_tokens, find_winner

Row = NDArray[np.float32]

_NEAR = np.float32(12.0)
_DECIMALS = 6


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
    """Return the statistics of a claimed token under raw float32 logits [vocabulary] at one output position."""
    view = _RowView.build(logits, token)
    sums = {temperature: view.compute_sum(temperature) for temperature in GRID_TEMPERATURES}
    filtered = _compute_filtered(view, request)
    margin, gap = _compute_margin(logits, token, request, position, filtered.kept)
    return PositionStatistics(
        logprob=filtered.logprob,
        raw_logprob=view.depth - math.log(sums[1.0]),
        rank=view.rank,
        entropy=filtered.entropy,
        pit_low=filtered.pit_low,
        pit_high=filtered.pit_high,
        grid_logprob=tuple(
            value for temperature, total in sums.items() for value in view.compute_grid_logprobs(temperature, total)
        ),
        margin=margin,
        gap=gap,
    )


def join_statistics(rows: list[PositionStatistics], request: ReferenceRequest) -> TokenStatistics:
    """Return the columns of one answer, rounded to 6 decimals so that they travel short."""
    seeded = _has_margin(request)
    return TokenStatistics(
        logprob=tuple(round(row.logprob, _DECIMALS) for row in rows),
        raw_logprob=tuple(round(row.raw_logprob, _DECIMALS) for row in rows),
        rank=tuple(row.rank for row in rows),
        entropy=tuple(round(row.entropy, _DECIMALS) for row in rows),
        pit_low=tuple(round(row.pit_low, _DECIMALS) for row in rows),
        pit_high=tuple(round(row.pit_high, _DECIMALS) for row in rows),
        grid_logprob=tuple(tuple(round(value, _DECIMALS) for value in row.grid_logprob) for row in rows),
        margin=tuple(round(row.margin or 0.0, _DECIMALS) for row in rows) if seeded else None,
        gap=tuple(round(row.gap or 0.0, _DECIMALS) for row in rows) if seeded else None,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _RowView:
    """A row shifted by its maximum, with the claimed token's place in it and the near tokens sorted.

    `near` are the shifted logits from -12 up, by decreasing value. What the top-p grid still needs below them is
    at most exp(-12 / T) of the mass for a token, so that approximation there costs under 2e-4 nats.
    """

    shifted: Row
    near: NDArray[np.float64]
    depth: float
    rank: int
    ties_before: int

    @classmethod
    def build(cls, logits: Row, token: int) -> "_RowView":
        shifted = logits - logits.max()
        depth = shifted[token]
        near = np.sort(shifted[shifted >= -_NEAR])[::-1].astype(np.float64)
        return cls(
            shifted=shifted,
            near=near,
            depth=float(depth),
            rank=int(np.count_nonzero(shifted > depth)),
            ties_before=int(np.count_nonzero(shifted[:token] == depth)),
        )

    def compute_sum(self, temperature: float) -> float:
        """Return the sum of exp(shifted / T) over the vocabulary."""
        return float(np.exp(self.shifted * np.float32(1.0 / temperature)).sum())

    def compute_mass_before(self, temperature: float) -> float:
        """Return the sum of exp(shifted / T) over the tokens ordered before the claimed one."""
        if self.rank <= len(self.near):
            above = float(np.exp(self.near[: self.rank] / temperature).sum())
        else:
            above = float(np.exp(self.shifted[self.shifted > np.float32(self.depth)] / np.float32(temperature)).sum())
        return above + self.ties_before * math.exp(self.depth / temperature)

    def compute_grid_logprobs(self, temperature: float, total: float) -> list[float]:
        """Return the log-probabilities of the claimed token for each of GRID_TOP_PS (-inf outside of a top-p set)."""
        own = self.depth / temperature
        before = self.compute_mass_before(temperature)
        sums = np.cumsum(np.exp(self.near / temperature))
        values = []
        for top_p in GRID_TOP_PS:
            kept = total
            if top_p < 1.0:
                crossing = int(np.searchsorted(sums, top_p * total))
                kept = float(sums[crossing]) if crossing < len(sums) else top_p * total
            inside = top_p >= 1.0 or before < top_p * total
            values.append(own - math.log(max(kept, math.exp(own))) if inside else -math.inf)
        return values


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
        scaled = view.shifted * np.float32(1.0 / request.temperature)
        return _compute_shares(view, request, scaled, None)
    kept = compute_kept_tokens(view.shifted, request.temperature, request.top_p, request.top_k)
    if view.rank + view.ties_before >= len(kept):
        shares = _compute_shares(view, request, view.shifted[kept] * np.float32(1.0 / request.temperature), kept)
        return _Filtered(logprob=-math.inf, entropy=shares.entropy, pit_low=1.0, pit_high=1.0, kept=kept)
    return _compute_shares(view, request, view.shifted[kept] * np.float32(1.0 / request.temperature), kept)


def _compute_shares(
    view: _RowView, request: ReferenceRequest, scaled: Row, kept: NDArray[np.int64] | None
) -> _Filtered:
    weights = np.exp(scaled)
    total = float(weights.sum())
    own = view.depth / request.temperature
    before = min(view.compute_mass_before(request.temperature) / total, 1.0)
    return _Filtered(
        logprob=own - math.log(total),
        entropy=max(math.log(total) - float(np.dot(weights, scaled)) / total, 0.0),
        pit_low=before,
        pit_high=min(before + math.exp(own) / total, 1.0),
        kept=kept,
    )


def _has_margin(request: ReferenceRequest) -> bool:
    return request.temperature == 0.0 or (request.sampler == SAMPLER_GUMBEL and request.seed is not None)


def _compute_margin(
    logits: Row, token: int, request: ReferenceRequest, position: int, kept: NDArray[np.int64] | None
) -> tuple[float | None, float | None]:
    """Return how far the claimed token is from winning, and how far the winner is from the runner-up."""
    if not _has_margin(request):
        return None, None
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
