"""Token statistics from what a server tells of a distribution: its twenty likeliest tokens and the claimed one.

The rest of the probability is spread over tokens that are not named, each at most as likely as the last named one.
Where a number needs them it is bounded, always in the provider's favour: what the claim gives a token is never
understated, what another sampling gives it never overstated. So a likelihood ratio is at most the one that all logits
would give, and still an e-value. Of SmolLM2 the bounds lie 0.04 nats a token apart at T = 0.91, and coincide at T = 1.

For a power a = 1/T, a rest of mass r over n tokens of at most f each has a sum of p^a between that of all n alike and
that of r/f tokens with f each: p^a is convex for a > 1 (the second is larger) and concave for a < 1 (the first is).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.claimed_noise import open_claimed_noise
from models.requests import (
    GRID,
    SAMPLER_EXPONENTIAL,
    SAMPLER_GUMBEL,
    ReferenceRequest,
    TokenStatistics,
)
from scoring.errors import InvalidInput

TOP = 20
"""How many likeliest tokens are asked for: what vLLM allows without an option."""
MOST_GAP = 1e6
"""A winner that is alone has no runner-up: no infinite number travels."""
NOISE_OF_SOME = (SAMPLER_GUMBEL, SAMPLER_EXPONENTIAL)
"""Samplers whose winner among some tokens can be had without the others' logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPosition:
    """What a server says of one position: the likeliest tokens in falling order with their log-probabilities (nats,
    temperature 1, no filter), the claimed token's, and its place among them: their number where it is not named."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    claimed: float
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialStatistics(TokenStatistics):
    """Columns with two grids: `grid_logprob` is never above, `grid_claimed_logprob` never below what all logits would
    give. Where a token is not among the likeliest, its PIT interval is the whole rest; margins and gaps are those among
    the named tokens. `mass_before` is at most the probability of the tokens that are likelier than the claimed one,
    without a filter."""

    grid_claimed_logprob: tuple[tuple[float, ...], ...]
    mass_before: tuple[float, ...]


def compute_partial_statistics(
    told: Sequence[ToldPosition], request: ReferenceRequest, vocabulary_size: int
) -> PartialStatistics:
    """Return the columns of a claimed answer; raises InvalidInput unless there is one position for each token."""
    if len(told) != len(request.output_ids):
        raise InvalidInput("one position for each token of the answer", "told")
    views = [_View(item, vocabulary_size) for item in told]
    own = [view.bound(request.temperature, request.top_p, request.top_k) for view in views]
    grid = [[view.bound(*point, 0) for point in GRID] for view in views]
    pits = [_limit_pit(view, request) for view in views]
    seeded = _compute_margins(views, request, vocabulary_size)
    return PartialStatistics(
        logprob=tuple(high for _, high in own),
        raw_logprob=tuple(item.claimed for item in told),
        rank=tuple(item.place for item in told),
        entropy=tuple(view.compute_entropy(request.temperature) for view in views),
        pit_low=tuple(low for low, _ in pits),
        pit_high=tuple(high for _, high in pits),
        grid_logprob=tuple(tuple(low for low, _ in row) for row in grid),
        grid_claimed_logprob=tuple(tuple(high for _, high in row) for row in grid),
        mass_before=tuple(view.bound_mass_before(request.temperature) for view in views),
        margin=None if seeded is None else tuple(margin for margin, _ in seeded),
        gap=None if seeded is None else tuple(gap for _, gap in seeded),
    )


def compute_alternative_logprobs(
    told: Sequence[ToldPosition], request: ReferenceRequest, vocabulary_size: int
) -> tuple[float, ...]:
    """Return log-probabilities of the answer under another prompt's distributions, never above the exact ones."""
    temperature = request.temperature or 1.0
    return tuple(_View(item, vocabulary_size).bound(temperature, request.top_p, request.top_k)[0] for item in told)


class _View:
    """One position: named tokens in falling order, and the rest as (mass, number of tokens, most that one can have)."""

    def __init__(self, told: ToldPosition, vocabulary_size: int) -> None:
        self.told = told
        self.logs: NDArray[np.float64] = np.array(told.logprobs, dtype=np.float64)
        self.is_named = told.place < len(told.logprobs)
        named = float(np.exp(self.logs).sum()) + (0.0 if self.is_named else math.exp(told.claimed))
        self.rest = max(1.0 - named, 0.0)
        self.others = max(vocabulary_size - len(told.logprobs) - (not self.is_named), 0)
        self.most = math.exp(float(self.logs[-1]))

    def sum_rest(self, power: float) -> tuple[float, float]:
        """Return the least and the largest that the unnamed tokens' p^power can sum up to."""
        if self.rest <= 0.0 or self.others == 0:
            return 0.0, 0.0
        alike = self.others * (self.rest / self.others) ** power
        crowded = self.rest * self.most ** (power - 1.0)
        return (alike, crowded) if alike <= crowded else (crowded, alike)

    def bound_sum(self, temperature: float) -> tuple[float, float]:
        """Return bounds of the sum of p^(1/T) over the vocabulary."""
        power = 1.0 / temperature
        named = float(np.exp(power * self.logs).sum())
        named += 0.0 if self.is_named else math.exp(power * self.told.claimed)
        low, high = self.sum_rest(power)
        return named + low, named + high

    def bound_mass_before(self, temperature: float) -> float:
        """Return what the tokens before the claimed one have at least, without a filter."""
        if temperature == 0.0:
            return 0.0 if self.told.claimed >= self.told.logprobs[0] else 1.0
        before = float(np.exp(self.logs[: self.told.place] / temperature).sum())
        return before / self.bound_sum(temperature)[1]

    def count_surely_kept(self, temperature: float, top_p: float, top_k: int) -> int:
        """Return how many named tokens, from the likeliest on, a filter leaves whatever the others have."""
        kept = len(self.logs) if top_k == 0 else min(top_k, len(self.logs))
        if top_p >= 1.0:
            return kept
        sums = np.cumsum(np.exp(self.logs / temperature))
        total = self.bound_sum(temperature)[0] if top_k == 0 else float(sums[kept - 1])
        return min(int(np.searchsorted(sums, top_p * total)) + 1, kept)

    def bound(self, temperature: float, top_p: float, top_k: int) -> tuple[float, float]:
        """Return bounds of the claimed token's log-probability under a sampling (-inf: surely, or perhaps, removed)."""
        if temperature == 0.0:
            value = 0.0 if self.told.claimed >= self.told.logprobs[0] else -math.inf
            return value, value
        power = 1.0 / temperature
        weights = np.exp(power * self.logs)
        own = power * self.told.claimed
        before = float(weights[: self.told.place].sum())
        sums = np.cumsum(weights)
        low, high = self.bound_sum(temperature)
        if top_k > 0:
            if self.told.place >= top_k:
                return -math.inf, -math.inf
            low = float(sums[min(top_k, len(sums)) - 1])
            high = low if top_k <= len(sums) else high
        # Of a token that is not named only the named ones are sure to stand before it.
        is_surely_kept = self.is_named or top_k == 0
        if top_p >= 1.0:
            return own - math.log(high) if is_surely_kept else -math.inf, min(own - math.log(low), 0.0)
        is_surely_in = self.is_named and before < top_p * low
        can_be_in = before < top_p * high
        crossing = int(np.searchsorted(sums, top_p * high))
        most = float(sums[crossing]) if crossing < len(sums) else high
        least = max(top_p * low, math.exp(own))
        return (
            own - math.log(max(most, math.exp(own))) if is_surely_in else -math.inf,
            min(own - math.log(least), 0.0) if can_be_in else -math.inf,
        )

    def compute_entropy(self, temperature: float) -> float:
        """Return the entropy (nats) at a temperature with the rest spread evenly: the claimed token plays no part."""
        power = 1.0 / (temperature or 1.0)
        weights = np.exp(power * self.logs)
        rest = max(1.0 - float(np.exp(self.logs).sum()), 0.0)
        others = self.others + (not self.is_named)
        tail = others * (rest / others) ** power if rest > 0.0 and others else 0.0
        total = float(weights.sum()) + tail
        spread = float((weights * power * self.logs).sum())
        spread += tail * power * math.log(rest / others) if tail > 0.0 else 0.0
        return max(math.log(total) - spread / total, 0.0)


def _limit_pit(view: _View, request: ReferenceRequest) -> tuple[float, float]:
    """Return the PIT interval: exact where temperature 1 and no filter were claimed, else no information."""
    if request.temperature != 1.0 or request.top_p < 1.0 or request.top_k > 0:
        return 0.0, 1.0
    before = min(float(np.exp(view.logs[: view.told.place]).sum()), 1.0)
    return (before, min(before + math.exp(view.told.claimed), 1.0)) if view.is_named else (before, 1.0)


def _compute_margins(
    views: Sequence[_View], request: ReferenceRequest, vocabulary_size: int
) -> list[tuple[float, float]] | None:
    """Return (margin, gap) of each position among the named tokens: a margin is never above the exact one.

    A filter leaves the claimed token where it can, and of the others those that it leaves for sure.
    """
    if request.temperature > 0.0 and request.sampler not in NOISE_OF_SOME:
        return None
    noise = open_claimed_noise(replace(request, top_p=1.0, top_k=0))
    if noise is None:
        return None
    row = np.empty(vocabulary_size, dtype=np.float32)
    found = []
    for position, (view, token) in enumerate(zip(views, request.output_ids, strict=True)):
        told, kept = view.told, len(view.logs)
        is_removed = False
        if request.temperature > 0.0:
            kept = view.count_surely_kept(request.temperature, request.top_p, request.top_k)
            is_removed = view.bound(request.temperature, request.top_p, request.top_k)[1] == -math.inf
        row.fill(-np.inf)
        row[list(told.token_ids[:kept])] = told.logprobs[:kept]
        row[token] = told.claimed
        margin, gap = noise.compute_margin(row, token, position)
        found.append((math.inf if is_removed else round(margin, 6), round(min(gap, MOST_GAP), 6)))
    return found
