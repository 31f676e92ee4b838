"""How a plan treats honest answers that no choice was made on: the largest wealth they ever reach.

The hold-out report is what a reader checks a calibration by: bounds that are too small show here before they cost an
honest provider anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scoring.evidence.cases import MAX_CHALLENGE_RECEIPTS
from scoring.evidence.plan import Plan
from scoring.evidence.profile import NO_HOLD_OUT, HoldOut
from scoring.evidence.wealth import (
    CEILING,
    FACTOR_ONE,
    ONE,
    build_portfolio,
    compute_factor,
    compute_log10_milli,
    compute_mixture,
    fold_epoch,
)
from scoring.records import PPM

REQUESTS_PER_EPOCH = 8


def compute_hold_out(plan: Plan, requests: Sequence[Sequence[int]]) -> HoldOut:
    """Return the largest wealth over time of three readings of the requests (g in ppm, plan order), see `HoldOut`."""
    return replace(
        NO_HOLD_OUT,
        n=len(requests),
        max_product_milli_log10=_compute_peak(_follow_product(plan, requests)),
        max_case_milli_log10=_compute_peak(_follow_case(plan, requests)),
        max_challenge_milli_log10=_compute_peak(_follow_challenges(plan, requests)),
        max_mean_over_mu_ppm=max(
            sum(request[index] for request in requests) * PPM // (len(requests) * statistic.mu_ppm)
            for index, statistic in enumerate(plan.statistics)
        ),
    )


def _compute_peak(wealth: Iterator[int]) -> int:
    return compute_log10_milli(max(wealth, default=ONE))


def _follow_product(plan: Plan, requests: Sequence[Sequence[int]]) -> Iterator[int]:
    capitals = [ONE] * len(plan.bets)
    yield ONE
    for request in requests:
        factors = [compute_factor(bet, request, plan.request_cap) for bet in plan.bets]
        capitals = [min(value * factor // FACTOR_ONE, CEILING) for value, factor in zip(capitals, factors, strict=True)]
        yield sum(capitals) // len(capitals)


def _follow_case(plan: Plan, requests: Sequence[Sequence[int]]) -> Iterator[int]:
    portfolio = build_portfolio(plan.bets)
    yield portfolio.wealth
    for start in range(0, len(requests), REQUESTS_PER_EPOCH):
        epoch = requests[start : start + REQUESTS_PER_EPOCH]
        portfolio = fold_epoch(portfolio, plan.bets, epoch, plan.request_cap, plan.epoch_cap)
        yield portfolio.wealth


def _follow_challenges(plan: Plan, requests: Sequence[Sequence[int]]) -> Iterator[int]:
    yield ONE
    for start in range(len(requests) - MAX_CHALLENGE_RECEIPTS + 1):
        yield compute_mixture(plan.bets, requests[start : start + MAX_CHALLENGE_RECEIPTS], plan.request_cap)
