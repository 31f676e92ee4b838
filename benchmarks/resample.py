"""Resampled lives of a provider: how many requests until the evidence of an audit reaches its threshold.

The same arithmetic as `scoring.evidence.audit` (a test holds them together), over a thousand lives at once.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.evidence.audit import Unit, compute_gains
from scoring.evidence.audit_plan import EARLY_PART, START_BLOCK, AuditPlan, Lines

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """When each life reached the threshold (requests; inf: not within the longest), and its largest log wealth."""

    reached: Floats
    largest: Floats

    def get_quantile(self, share: float) -> float:
        """Return the requests that a share of the lives needed at most, inf when fewer got there."""
        return float(np.quantile(self.reached, share, method="higher"))


def compute_gain_table(plan: AuditPlan, units: list[Unit]) -> Floats:
    """Return log factors [units, lines] against the claimed sampling."""
    return np.array([compute_gains(plan, unit) for unit in units], dtype=np.float64)


def follow_lives(plan: AuditPlan, gains: Floats, order: NDArray[np.int64], log_threshold: float) -> Lives:
    """Follow lives [lives, requests] of indices into `gains`, each until its threshold or its end.

    A life's largest wealth is that of its requests until then.
    """
    parts, lines = np.array(plan.log_parts), plan.get_lines()
    early = np.zeros((len(order), len(lines.log_e)))
    late = np.full_like(early, -np.inf)
    reached = np.full(len(order), np.inf)
    largest = np.zeros(len(order))
    alive = np.arange(len(order))
    for step in range(order.shape[1]):
        block, place = divmod(step, START_BLOCK)
        if place == 0 and block > 0:
            late = np.logaddexp(late, -math.log(block * (block + 1)))
        fresh = gains[order[alive, step]]
        early += fresh
        late += fresh
        cash = -math.log((step + 1) // START_BLOCK + 1)
        later = np.logaddexp(_mix(parts, _find_least(lines, late)), cash) + math.log(1 - EARLY_PART)
        wealth = np.logaddexp(_mix(parts, _find_least(lines, early)) + math.log(EARLY_PART), later)
        largest[alive] = np.maximum(largest[alive], wealth)
        ends = wealth >= log_threshold
        if ends.any():
            reached[alive[ends]] = step + 1
            alive, early, late = alive[~ends], early[~ends], late[~ends]
        if not len(alive):
            break
    return Lives(reached=reached, largest=largest)


def _find_least(lines: Lines, values: Floats) -> Floats:
    """Return [lives, bets]: the least of each bet's lines, the calibration's evidence included."""
    whole = values + np.array(lines.log_e)
    least: Floats = np.minimum.reduceat(whole, lines.starts, axis=1)
    return least


def _mix(parts: Floats, values: Floats) -> Floats:
    shifted = values + parts
    top = shifted.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        mixed: Floats = safe + np.log(np.exp(shifted - safe[:, None]).sum(axis=1))
    return mixed
