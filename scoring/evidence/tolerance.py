"""Calibration as evidence: how low an honest mean may be, and at what odds.

A bound mu with an error of 1e-7 costs about `22 / n` of the range even where thousands of honest requests gave nothing
at all, and a bet against mu pays `g / mu` at most. But the honest requests say more than one bound: for every m below
it they are evidence against "the honest mean is at least m". A *tolerance* keeps that: steps `(mu, log_e)`, ascending,

    either the honest mean is at most mu[0],
    or it is in (mu[k-1], mu[k]], and the calibration itself is an e-value of at least exp(log_e[k]) against that,
    or it is above the last mu, the bound (which has its own error, delta).

For a bet with the wealth W(mu) of an audit, `min_k W(mu[k]) exp(log_e[k])` is an e-process: let k be the step of the
true mean m <= mu[k]. W(mu[k]) is a supermartingale given the calibration, which is independent of the audit; the
calibration's e-value has a mean of at most 1; their product bounds the minimum. The guarantee is over both draws, those
of the calibration and of the audit: P(false proof) <= alpha + delta, as with a bound alone. (An e-value that was known
before may multiply any later one: Vovk and Wang, "E-values: calibration, combination and applications", Annals of
Statistics 2021.) Steps may depend on the calibration too: its e-value grows with the mean that it is against, so that
of a step is at most that of the true mean.

Evidence against a mean that the honest requests do not contradict is below 1, without end. So a part is not staked,
KEPT_PART + (1 - KEPT_PART) e: an e-value too, and where the calibration says nothing no more than its log is lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs
from scoring.evidence.bounds import STAKES
from scoring.records import PPM

KEPT_PART = 0.6
LOG_STEP = 1.0
"""How far apart the e-values of steps are: what the minimum can lose to the steps between them."""
_POINTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The honest mean may be up to `mu_ppm` here, and then the calibration is `log_e` (natural) against it."""

    mu_ppm: int
    log_e: float


Tolerance = tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What n honest values in [0, 1] gave: mean (rounded up), variance (rounded down) and largest, in ppm."""

    n: int
    mean_ppm: int
    variance_ppm: int
    max_ppm: int


def build_bound(mu_ppm: int) -> Tolerance:
    """Return the tolerance of a bound alone."""
    return (Step(mu_ppm=mu_ppm, log_e=0.0),)


@lru_cache(maxsize=1024)
def build_tolerance(cells: tuple[Moments, ...], floor_ppm: int, bound_ppm: int) -> Tolerance:
    """Return the steps from `floor_ppm`, up to which nothing is held against a mean, to a bound that holds anyway.

    A provider is in one of several cells: what counts is the least of their e-values. Raises InvalidInput without any.
    """
    if not cells:
        raise InvalidInput("needs at least one", "cells")
    if floor_ppm >= bound_ppm:
        return build_bound(floor_ppm)
    steps: list[Step] = []
    log_e = math.log(KEPT_PART)
    for mu_ppm in _spread(floor_ppm, bound_ppm):
        reached = min(_keep_part(compute_calibration_log_e(cell, mu_ppm)) for cell in cells)
        if reached >= log_e + LOG_STEP or mu_ppm == bound_ppm:
            steps.append(Step(mu_ppm=mu_ppm, log_e=log_e))
            log_e = reached
    return tuple(steps)


def _spread(floor_ppm: int, bound_ppm: int) -> list[int]:
    """Return integers from floor to bound: close together at the floor, where a step is a large part of the mean."""
    width = bound_ppm - floor_ppm
    return sorted({floor_ppm + width * place * place // _POINTS**2 for place in range(_POINTS)} | {bound_ppm})


def _keep_part(log_e: float) -> float:
    return add_logs([math.log(KEPT_PART), math.log(1.0 - KEPT_PART) + log_e])


def compute_calibration_log_e(moments: Moments, mu_ppm: int) -> float:
    """Return the log of an e-value of honest values against "their mean is at least mu".

    It is never above the capital of `bounds.compute_upper_bound_ppm`, the average over stakes c of
    `prod (1 + l (mu - g))` with l = c / (1 - mu), of which only the moments are known here: as (log(1 + y) - y) / y^2
    grows with y, `log(1 + y) >= y - a y^2` for y >= -b with a = (-log(1 - b) - b) / b^2 (Fan, Grama and Liu,
    "Exponential inequalities for martingales with applications", 2015, use the same function), and no y is below
    `l (mu - max)`.
    """
    mu = mu_ppm / PPM
    mean, largest = moments.mean_ppm / PPM, moments.max_ppm / PPM
    if mu <= mean or mu >= 1.0:
        return -math.inf
    # The mean of (mu - g)^2, at most: the variance was rounded down to ppm, the mean up.
    square = (moments.variance_ppm + 1) / PPM + (mu - mean + 1 / PPM) ** 2
    logs = []
    for stake in STAKES:
        share = stake / (1.0 - mu)
        loss = share * (largest - mu)
        if loss < 1.0:
            logs.append(moments.n * (share * (mu - mean) - _curve(loss) * share * share * square))
    return add_logs(logs) - math.log(len(STAKES)) if logs else -math.inf


def compute_moments_bound_ppm(moments: Moments, log_one_over_delta: float) -> int:
    """Return an upper bound of the mean (ppm, with probability at least 1 - delta) from the moments of honest values.

    `bounds.compute_upper_bound_ppm` of the values themselves is lower by a few percent at most. Both hold at all times:
    the capital against the true mean is a martingale over the requests, so looking before more are added costs nothing.
    """
    low, high = moments.mean_ppm, PPM  # the capital at `high` reaches 1/delta, or `high` is no bound at all
    while high - low > 1:
        middle = (low + high) // 2
        if compute_calibration_log_e(moments, middle) >= log_one_over_delta:
            high = middle
        else:
            low = middle
    return high


def _curve(loss: float) -> float:
    """Return the least a with log(1 + y) >= y - a y^2 for all y >= -loss; 1/2 where nothing is lost."""
    if loss < 1e-4:
        return 0.5 + max(loss, 0.0)
    return (-math.log1p(-loss) - loss) / (loss * loss)


def join_tolerances(tolerances: Sequence[Tolerance]) -> Tolerance:
    """Return what holds for the largest of several means: the least evidence of all that reach so far."""
    if len(tolerances) == 1:
        return tolerances[0]
    marks = sorted({step.mu_ppm for tolerance in tolerances for step in tolerance})
    steps: list[Step] = []
    for mu_ppm in marks:
        log_e = min(_find_log_e(tolerance, mu_ppm) for tolerance in tolerances)
        if steps and log_e < steps[-1].log_e + LOG_STEP:
            # Wider and no stronger: the evidence of the lower step holds for both.
            log_e = steps.pop().log_e
        steps.append(Step(mu_ppm=mu_ppm, log_e=log_e))
    return tuple(steps)


def _find_log_e(tolerance: Tolerance, mu_ppm: int) -> float:
    return next((step.log_e for step in tolerance if mu_ppm <= step.mu_ppm), math.inf)


def scale_tolerance(tolerance: Tolerance, factor: int) -> Tolerance:
    """Return what holds for a mean that is up to `factor` times as large, and within the same bound."""
    bound_ppm = tolerance[-1].mu_ppm
    return _drop_repeated([Step(mu_ppm=min(step.mu_ppm * factor, bound_ppm), log_e=step.log_e) for step in tolerance])


def raise_tolerance(tolerance: Tolerance, least_ppm: int) -> Tolerance:
    """Return what holds for a mean that is taken as `least_ppm` where it is lower."""
    return _drop_repeated([Step(mu_ppm=max(step.mu_ppm, least_ppm), log_e=step.log_e) for step in tolerance])


def _drop_repeated(steps: Sequence[Step]) -> Tolerance:
    """Return ascending steps without those that have the mean of an earlier one: the least evidence is the first's."""
    return tuple(
        step
        for before, step in zip((None, *steps), steps, strict=False)
        if before is None or step.mu_ppm > before.mu_ppm
    )
