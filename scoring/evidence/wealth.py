"""Fixed-point wealth of bets on bounded means: what is signed, so integers only and every division rounds down.

A *bet* on a statistic g in [0, 1] with honest mean at most mu multiplies its capital by `e = 1 + lambda (g - mu)`.
While `0 <= lambda < 1/mu` and `E[g | past] <= mu`, e is not negative and `E[e | past] <= 1` (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", JRSS-B 2023). A `Portfolio` spreads one unit of wealth over
bets and start epochs. Its wealth V is a non-negative supermartingale that starts at 1, so by Ville's inequality an
honest provider's wealth *ever* reaches x with probability at most 1/x, whatever the stopping rule. Each step keeps it:

* *start mixture*: in its t-th epoch a portfolio moves `1/(t(t+1))` of the initial unit from cash into the bets, in
  equal parts, and keeps `1/(t+1)` in cash. The amounts are fixed in advance and cash is a bet with factor 1. The
  recursion `A_t = (A_{t-1} + stake_t) F_t` holds all starts s <= t of a bet at once: A_t is the sum over s of
  `w_s / bets * F_s ... F_t`, with w_s = 1/(s(s+1)).
* *request cap*: a factor is replaced by a smaller one; `E[min(e, c) | past] <= 1`.
* *epoch cap*: `E[V_t raw | past] <= V_{t-1}`; lowering capitals until `V_t <= cap V_{t-1}` only makes V_t smaller. It
  is done by one ceiling on the bets' epoch factors (the largest under which the sum fits), not by scaling the total
  alone: capital then means what was really earned, so the boldest bets do not crowd out the others on gains that were
  never paid, and a provider that cheats on alternate days is still bet against by the cautious ones.
* *rounding down* makes V smaller.

Starts are mixed over epochs, not requests: an epoch is what is drawn, revealed and capped together, and the product
over one epoch depends on the order of its probes in the last digits alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scoring.eip712 import Record, Uint64, Wei
from scoring.errors import InvalidInput
from scoring.records import PPM

ONE = 10**18
"""Fixed-point unit of wealth."""
CEILING = 10**40 * ONE
"""Wealth saturates here, far above every threshold: signed numbers stay below 2**256."""
FACTOR_ONE = PPM * PPM
"""Unit of a single bet's factor: lambda (ppm) times g - mu (ppm) is exact in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bet:
    """One bet: which statistic (its place in the plan), its honest bound mu and the stake lambda, both in ppm."""

    statistic: int
    mu_ppm: int
    lambda_ppm: int

    def __post_init__(self) -> None:
        if not 0 < self.mu_ppm < PPM:
            raise InvalidInput("must be above 0 and below 1,000,000", "mu_ppm")
        if not 0 < self.lambda_ppm * self.mu_ppm < FACTOR_ONE:
            raise InvalidInput("lambda must be above 0 and below 1/mu", "lambda_ppm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio(Record):
    """The wealth of one e-process after `epochs` epochs: fixed-point capital of each bet, and cash.

    Cash is implied: `ONE // (epochs + 1)`.
    """

    epochs: Uint64
    capitals: tuple[Wei, ...]

    def __post_init__(self) -> None:
        super(Portfolio, self).__post_init__()
        if self.wealth > CEILING:
            raise InvalidInput("beyond the ceiling of wealth", "capitals")

    @property
    def cash(self) -> int:
        """Return what has not been staked yet, fixed point."""
        return ONE // (self.epochs + 1)

    @property
    def wealth(self) -> int:
        """Return capitals plus cash, fixed point; 1.0 is `ONE`."""
        return sum(self.capitals) + self.cash


def build_portfolio(bets: Sequence[Bet]) -> Portfolio:
    """Return the portfolio before its first epoch: everything in cash."""
    return Portfolio(epochs=0, capitals=(0,) * len(bets))


def compute_factor(bet: Bet, statistics_ppm: Sequence[int] | None, request_cap: int) -> int:
    """Return `min(1 + lambda (g - mu), request_cap)` in units of 1e-12, exactly.

    None is a probe that was not asked, answered or scored: it bets the smallest factor, that of g = 0.
    """
    g_ppm = 0 if statistics_ppm is None else statistics_ppm[bet.statistic]
    return min(FACTOR_ONE + bet.lambda_ppm * (g_ppm - bet.mu_ppm), request_cap * FACTOR_ONE)


def compute_product(bet: Bet, requests: Sequence[Sequence[int] | None], request_cap: int) -> int:
    """Return the fixed-point product of a bet's factors over requests, rounded down at each step."""
    product = ONE
    for statistics_ppm in requests:
        product = min(product * compute_factor(bet, statistics_ppm, request_cap) // FACTOR_ONE, CEILING)
    return product


def fold_epoch(
    portfolio: Portfolio,
    bets: Sequence[Bet],
    requests: Sequence[Sequence[int] | None],
    request_cap: int,
    epoch_cap: int | None,
) -> Portfolio:
    """Return the portfolio after one more epoch of requests (g in ppm by statistic, None when missing).

    `epoch_cap` bounds the growth of the whole portfolio in the epoch; None leaves it uncapped (the alarm).
    """
    if len(bets) != len(portfolio.capitals):
        raise InvalidInput(f"{len(portfolio.capitals)} capitals for {len(bets)} bets", "capitals")
    number = portfolio.epochs + 1
    stake = ONE // (number * (number + 1)) // len(bets)
    bases = [capital + stake for capital in portfolio.capitals]
    products = [compute_product(bet, requests, request_cap) for bet in bets]
    limit = CEILING if epoch_cap is None else min(CEILING, epoch_cap * portfolio.wealth)
    ceiling = _compute_product_ceiling(bases, products, limit - ONE // (number + 1))
    capitals = tuple(base * min(product, ceiling) // ONE for base, product in zip(bases, products, strict=True))
    return Portfolio(epochs=number, capitals=capitals)


def compute_mixture(bets: Sequence[Bet], requests: Sequence[Sequence[int] | None], request_cap: int) -> int:
    """Return the fixed-point mean over bets of their products, without start mixture or epoch cap."""
    return min(sum(compute_product(bet, requests, request_cap) for bet in bets) // len(bets), CEILING)


def compute_log10_milli(wealth: int) -> int:
    """Return 1000 log10 of a fixed-point wealth for display, rounded down; zero wealth gives that of 1e-18."""
    return math.floor(1000 * (math.log10(max(wealth, 1)) - 18))


def _compute_product_ceiling(bases: Sequence[int], products: Sequence[int], room: int) -> int:
    """Return the largest K (fixed point) with sum of `base * min(product, K) // ONE` at most `room`.

    Walks the products upwards: each that fits below an equal share of what is left keeps its whole gain.
    """
    remaining = room * ONE
    bases_left = sum(bases)
    for product, base in sorted(zip(products, bases, strict=True)):
        if bases_left * product > remaining:
            return remaining // bases_left
        remaining -= base * product
        bases_left -= base
    return max(products, default=0)
