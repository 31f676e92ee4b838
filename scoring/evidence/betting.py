"""Betting on a bounded mean in floats: for audits and plots. What is signed is `scoring.evidence.wealth`, in integers.

A bet on a statistic g in [0, 1] multiplies its capital by `1 + lambda (g - mu)`. Condition of everything here:
`E[g | everything before] <= mu` under the null, and lambda in `[0, 1/mu)` is known before g ("predictable"). Then each
factor is an e-value given the past. Stakes are *shares* of 1/mu: a share s multiplies by `1 + s (g/mu - 1)`, and the
smallest factor, which a missing answer bets, is `1 - s`.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2023
(arXiv 2010.09686). Fixed shares are blind to how gross the cheat is, so several are averaged; the adaptive rules learn
the share from the past of the same statistic. The average over rules, shares, statistics and clip scales is the
e-process (`algebra.average_logs`); the best of them in hindsight is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scoring.errors import InvalidInput
from scoring.evidence.algebra import average_logs
from scoring.evidence.wealth import Bet

SHARES = (0.06, 0.2, 0.45, 0.7, 0.92)
"""Fixed stakes as shares of 1/mu: a share s is the best one against a cheat whose g averages about s."""
MAX_SHARE = 0.92
"""Largest stake of an adaptive rule: one answer of g = 0 may not cost more than this share of its capital."""
ONS_STEP = 2 / (2 - math.log(3))
CEILING = 1e40
"""Wealth of a portfolio saturates here, as in integers."""


class Rule(StrEnum):
    """How a bettor chooses its next stake: always the same, from mean and variance so far, or by Newton steps."""

    FIXED = "fixed"
    AGRAPA = "agrapa"
    ONS = "ons"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bettor:
    """One line of bets on statistic number `statistic`: its rule, honest bound mu, next share, and wealth in nats.

    `count`, `total`, `spread` (sum of squared differences from the running mean) and `curvature` are what the adaptive
    rules learn from.
    """

    statistic: int
    mu: float
    rule: Rule
    share: float
    log_wealth: float = 0.0
    count: int = 0
    total: float = 0.0
    spread: float = 0.0
    curvature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.mu < 1.0:
            raise InvalidInput("must be above 0 and below 1", "mu")
        if not 0.0 <= self.share < 1.0:
            raise InvalidInput("must be at least 0 and below 1", "share")


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatPortfolio:
    """The float mirror of `wealth.Portfolio`: the capital of each bet, of one unit in all, after `epochs` epochs."""

    epochs: int
    capitals: tuple[float, ...]

    @property
    def wealth(self) -> float:
        """Return capitals plus the cash `1 / (epochs + 1)`."""
        return math.fsum(self.capitals) + 1 / (self.epochs + 1)


def build_bettors(mus: Sequence[float], shares: Sequence[float] = SHARES) -> tuple[Bettor, ...]:
    """Return every rule on every statistic: the fixed shares, aGRAPA and ONS. `mus` are the honest bounds, in order."""
    fixed = [
        Bettor(statistic=index, mu=mu, rule=Rule.FIXED, share=share) for index, mu in enumerate(mus) for share in shares
    ]
    adaptive = [
        _choose_next(Bettor(statistic=index, mu=mu, rule=rule, share=0.0), None)
        for index, mu in enumerate(mus)
        for rule in (Rule.AGRAPA, Rule.ONS)
    ]
    return (*fixed, *adaptive)


def fold_bettors(bettors: Sequence[Bettor], g: Sequence[float] | None, request_cap: float) -> tuple[Bettor, ...]:
    """Return the bettors after one more request: g by statistic, or None for a request that gave no answer.

    Condition: the one of the module; every drawn request is folded, the missing ones as None (g = 0, the smallest
    factor of each bet), and the cap is fixed in advance. Raises InvalidInput on a g that is absent or outside [0, 1].
    """
    if not 1.0 < request_cap < math.inf:
        raise InvalidInput("expected a number above 1", "request_cap")
    return tuple(_fold(bettor, _find_g(g, bettor.statistic), request_cap) for bettor in bettors)


def compute_log_wealth(bettors: Sequence[Bettor]) -> float:
    """Return the logarithm of the average wealth of all bettors: one e-process, in nats."""
    return average_logs([bettor.log_wealth for bettor in bettors])


def rescale_statistic(g: float, clip: float) -> float:
    """Return `min(g, clip) / clip`: the same statistic at a finer scale, in [0, 1].

    Condition: mu is calibrated at this scale. A confidence bound costs a share of the range, so a fine scale pays less
    for its bound and sees small cheats, and a coarse one ends gross cheats sooner: average bets on several scales.
    """
    if not 0.0 < clip <= 1.0:
        raise InvalidInput("must be above 0 and at most 1", "clip")
    return min(_check_g(g), clip) / clip


def build_float_portfolio(bets: Sequence[Bet]) -> FloatPortfolio:
    """Return the portfolio before its first epoch: everything in cash."""
    return FloatPortfolio(epochs=0, capitals=(0.0,) * len(bets))


def fold_float_epoch(
    portfolio: FloatPortfolio,
    bets: Sequence[Bet],
    requests: Sequence[Sequence[float] | None],
    request_cap: float,
    epoch_cap: float | None,
) -> FloatPortfolio:
    """Return the portfolio after one more epoch of requests (g in [0, 1] by statistic, None when missing).

    The same rule as `wealth.fold_epoch`, whose docstring has the proof, in floats: start mixture, request cap, epoch
    cap by one ceiling on the bets' factors (None: uncapped, the alarm). A test holds both together.
    """
    if len(bets) != len(portfolio.capitals):
        raise InvalidInput(f"{len(portfolio.capitals)} capitals for {len(bets)} bets", "capitals")
    number = portfolio.epochs + 1
    bases = [capital + 1 / (number * (number + 1) * len(bets)) for capital in portfolio.capitals]
    products = [_compute_product(bet, requests, request_cap) for bet in bets]
    limit = CEILING if epoch_cap is None else min(CEILING, epoch_cap * portfolio.wealth)
    ceiling = _compute_ceiling(bases, products, limit - 1 / (number + 1))
    capitals = tuple(base * min(product, ceiling) for base, product in zip(bases, products, strict=True))
    return FloatPortfolio(epochs=number, capitals=capitals)


def _fold(bettor: Bettor, g: float, request_cap: float) -> Bettor:
    factor = min(1 + bettor.share * (g / bettor.mu - 1), request_cap)
    return _choose_next(replace(bettor, log_wealth=bettor.log_wealth + math.log(factor)), g)


def _choose_next(bettor: Bettor, g: float | None) -> Bettor:
    """Return the bettor with the share of the next request; `g` is the answer just bet on, None before the first."""
    if bettor.rule is Rule.AGRAPA:
        return _choose_agrapa(bettor, g)
    if bettor.rule is Rule.ONS and g is not None:
        return _choose_ons(bettor, g)
    return bettor


def _choose_agrapa(bettor: Bettor, g: float | None) -> Bettor:
    """Approximate the share of the greatest growth by mean and variance: `(m - mu) / (v + (m - mu)^2)`.

    With the priors of Waudby-Smith and Ramdas: one answer of mean 1/2 and variance 1/4.
    """
    count, total, spread = bettor.count, bettor.total, bettor.spread
    if g is not None:
        count, total = count + 1, total + g
        spread += (g - (0.5 + total) / (count + 1)) ** 2
    excess = (0.5 + total) / (count + 1) - bettor.mu
    best = bettor.mu * excess / ((0.25 + spread) / (count + 1) + excess**2)
    return replace(bettor, count=count, total=total, spread=spread, share=min(max(best, 0.0), MAX_SHARE))


def _choose_ons(bettor: Bettor, g: float) -> Bettor:
    """Take one online Newton step on the logarithm of the wealth, in units of the share.

    Source of the rule: Cutkosky and Orabona, "Black-box reductions for parameter-free online learning", 2018
    (arXiv 1802.06293), as used by Waudby-Smith and Ramdas. In units of the share g/mu - 1 is up to 1/mu - 1, so that a
    gross cheat moves the stake at once; validity asks nothing of the step.
    """
    surplus = g / bettor.mu - 1
    gradient = surplus / (1 + bettor.share * surplus)
    curvature = bettor.curvature + gradient**2
    share = bettor.share + ONS_STEP * gradient / curvature
    return replace(bettor, count=bettor.count + 1, curvature=curvature, share=min(max(share, 0.0), MAX_SHARE))


def _compute_product(bet: Bet, requests: Sequence[Sequence[float] | None], request_cap: float) -> float:
    product = 1.0
    for g in requests:
        factor = 1 + bet.lambda_ppm / 1e6 * (_find_g(g, bet.statistic) - bet.mu_ppm / 1e6)
        product = min(product * min(factor, request_cap), CEILING)
    return product


def _compute_ceiling(bases: Sequence[float], products: Sequence[float], room: float) -> float:
    remaining, bases_left = room, math.fsum(bases)
    for product, base in sorted(zip(products, bases, strict=True)):
        if bases_left * product > remaining:
            return remaining / bases_left
        remaining -= base * product
        bases_left -= base
    return max(products, default=0.0)


def _find_g(g: Sequence[float] | None, statistic: int) -> float:
    if g is None:
        return 0.0
    if statistic >= len(g):
        raise InvalidInput(f"statistic number {statistic} is not among {len(g)}", "g")
    return _check_g(g[statistic])


def _check_g(g: float) -> float:
    if not 0.0 <= g <= 1.0:
        raise InvalidInput("expected a number from 0 to 1", "g")
    return g
