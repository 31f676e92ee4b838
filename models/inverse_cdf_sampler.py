"""The sampler `inverse-cdf`: one uniform number for each output position, and the token whose interval it falls into.

Tokens stand in a row by decreasing logit (equal ones by id), each as wide as its probability; the number u comes from
Philox, keyed by the seed, so that any position can be had without the others. `docs/samplers.md` is the specification.

The margin of a claimed token is the smallest disturbance of the logits that explains it: u misses its interval by a
distance in log-odds, which is what a shift of the logits moves an edge by, times T; or the token has changed places
with neighbours of nearly the same logit, which costs the difference of those logits. The cheapest combination counts.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.sampler import check_seed, compute_kept_tokens, philox4x32_10
from scoring.errors import InvalidInput

Row = NDArray[np.float32]
Floats = NDArray[np.float64]

UNIFORM_BITS = 52
DOMAIN = 1
"""The third counter word; gumbel-philox-v1 has 0 there, so the two never share noise."""
_REACHES = (6.0, 12.0, math.inf)
_LEAST_TEMPERATURE = 1e-30


def compute_uniform(seed: int, position: int) -> float:
    """Return u of one output position, an odd multiple of 2**-53 in (0, 1).

    Raises InvalidInput unless 0 <= seed < 2**53 and 0 <= position < 2**32.
    """
    check_seed(seed)
    if not 0 <= position < 2**32:
        raise InvalidInput("must be between 0 and 2**32 - 1", "position")
    counter = (np.uint64(0), np.uint64(position), np.uint64(DOMAIN), np.uint64(0))
    words = philox4x32_10(counter, (np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)))
    count = int(words[0]) << (UNIFORM_BITS - 32) | int(words[1]) >> (64 - UNIFORM_BITS)
    return (count + 0.5) / 2.0**UNIFORM_BITS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """The tokens that may be drawn at one position, by increasing id.

    `weights` are exp((l - max) / T) in float32, all sums float64; `uniform` is u; a token's interval is
    [before, before + weight) / total.
    """

    ids: NDArray[np.int64]
    logits: Row
    weights: Row
    total: float
    temperature: float
    uniform: float

    @classmethod
    def build(cls, logits: Row, uniform: float, temperature: float, top_p: float, top_k: int) -> "Line":
        """Line up the tokens that top-k, then top-p keep (those of gumbel-philox-v1, ties included)."""
        if top_p >= 1.0 and top_k == 0:
            ids = np.arange(len(logits))
        else:
            ids = np.sort(compute_kept_tokens(logits, temperature, top_p, top_k))
            logits = logits[ids]
        with np.errstate(over="ignore"):
            weights = np.exp((logits - logits.max()) / np.float32(max(temperature, _LEAST_TEMPERATURE)))
        return cls(
            ids=ids,
            logits=logits,
            weights=weights,
            total=float(weights.sum(dtype=np.float64)),
            temperature=temperature,
            uniform=uniform,
        )

    def find_winner(self) -> int:
        """Return the place in `ids` of the token that u falls on."""
        wanted = self.uniform * self.total
        top = self.logits.max()
        for reach in _REACHES:
            near = np.flatnonzero(self.logits >= top - np.float32(reach * self.temperature))
            order = near[np.argsort(-self.logits[near], kind="stable")]
            sums = np.cumsum(self.weights[order], dtype=np.float64)
            if sums[-1] > wanted:
                return int(order[np.searchsorted(sums, wanted, side="right")])
        # Two sums of the same weights may differ in their last bit.
        return int(order[-1])

    def compute_margin(self, place: int) -> float:
        """Return the cheapest disturbance (logit units) with which the token at `place` is drawn, 0 when it is."""
        own = self._stand_at(place)
        distance = float(own.compute_misses(self._uniform_logit)[0])
        return float(np.min(self._move(place, own, distance).compute_misses(self._uniform_logit)))

    def compute_gap(self, place: int) -> float:
        """Return the cheapest disturbance with which the winner at `place` is not drawn; inf when it stands alone."""
        own = self._stand_at(place)
        distance = float(own.compute_escapes(self._uniform_logit)[0])
        return float(np.min(self._move(place, own, distance).compute_escapes(self._uniform_logit)))

    @property
    def _uniform_logit(self) -> float:
        return self.temperature * (math.log(self.uniform) - math.log1p(-self.uniform))

    def _stand_at(self, place: int) -> "_Stands":
        is_before = self.logits > self.logits[place]
        is_before[:place] |= self.logits[:place] == self.logits[place]
        before = float(self.weights[is_before].sum(dtype=np.float64))
        # Summed and not subtracted from the total: near the end of the line the difference would be all rounding.
        is_before[place] = True
        after = float(self.weights[~is_before].sum(dtype=np.float64))
        return self._build_stands(place, np.zeros(1), np.array([before]), np.array([after]))

    def _move(self, place: int, own: "_Stands", budget: float) -> "_Stands":
        """Return the stands that the token reaches when it passes neighbours less than `budget` logits away."""
        with np.errstate(invalid="ignore"):
            distances = self.logits - self.logits[place]
        is_above = distances > 0.0
        is_above[:place] |= distances[:place] == 0.0
        is_above[place] = False
        above = np.flatnonzero(is_above & (distances < budget))
        is_above[place] = True
        below = np.flatnonzero(~is_above & (-distances < budget))
        above = above[np.argsort(distances[above], kind="stable")]
        below = below[np.argsort(-distances[below], kind="stable")]
        up = np.cumsum(self.weights[above], dtype=np.float64)
        down = np.cumsum(self.weights[below], dtype=np.float64)
        return self._build_stands(
            place,
            np.concatenate([own.costs, distances[above], -distances[below]]),
            np.concatenate([own.before, own.before - up, own.before + down]),
            np.concatenate([own.after, own.after + up, own.after - down]),
        )

    def _build_stands(self, place: int, costs: Floats, before: Floats, after: Floats) -> "_Stands":
        return _Stands(
            costs=costs,
            before=np.maximum(before, 0.0),
            own=float(self.weights[place]),
            after=np.maximum(after, 0.0),
            temperature=self.temperature,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stands:
    """Where one token may stand in the line: what moving there costs, and the weights before, of and after it."""

    costs: Floats
    before: Floats
    own: float
    after: Floats
    temperature: float

    def compute_misses(self, uniform_logit: float) -> Floats:
        """Return for each stand its cost and how far u lies outside of the token's interval."""
        lower, upper = self._compute_edges()
        misses: Floats = self.costs + np.maximum(np.maximum(lower - uniform_logit, uniform_logit - upper), 0.0)
        return misses

    def compute_escapes(self, uniform_logit: float) -> Floats:
        """Return for each stand its cost and how far u lies inside of the token's interval."""
        lower, upper = self._compute_edges()
        escapes: Floats = self.costs + np.maximum(np.minimum(uniform_logit - lower, upper - uniform_logit), 0.0)
        return escapes

    def _compute_edges(self) -> tuple[Floats, Floats]:
        """Return T times the log-odds of the lower and of the upper edge."""
        with np.errstate(divide="ignore"):
            lower = np.log(self.before) - np.log(self.own + self.after)
            upper = np.log(self.before + self.own) - np.log(self.after)
        return self.temperature * lower, self.temperature * upper
