"""Likelihood ratios of whole answers against named alternatives: the text alone, no cooperation of the provider.

For an alternative k registered before the data, `LR_k = q_k(answer) / p(answer)`, p the claimed weights, sampling
filter and prompt in the verifier's numerics. Were the provider's numerics exactly p, `E[LR_k] <= 1` (below 1 where p
cannot reach what q_k can). Honest numerics differ from p, the mean may slip above 1, and the bet on one request is

    e_k = 1 - h + h (min(LR_k, C) / max(1, U_k)) ** eta,        0 < h <= 1,  0 < eta <= 1.

Condition: `E[min(LR_k, C) | everything before] <= U_k` for every honest cell, with U_k calibrated on honest requests of
the prompts that are drawn. Proof: the quotient has mean at most 1; by Jensen its power eta has mean at most 1 as well;
and `1 - h + h e` is a mixture with cash. Divided by *max(1, U)*: an answer without information has LR = 1 and must not
gain when U < 1. Missing answers bet the smallest factor, `1 - h`; with h = 1 a single one would end the evidence.

Each alternative is a martingale of its own, multiplied over requests; the evidence is their average (the mixture of
*products*: the mixture inside each request is valid too, and slower against every single alternative).

Sources: Wald, "Sequential tests of statistical hypotheses", 1945; Ramdas et al., "Game-theoretic statistics and safe
anytime-valid inference", 2023 (arXiv 2210.01948); Gruenwald, de Heide, Koolen, "Safe testing", 2024 (arXiv 1906.07801).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs, average_logs
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.records import PPM

REQUESTS_PER_CAP = 200
"""Honest requests per unit of the cap C: the bound of U costs about `17 C / n`, so n = 200 C keeps it at 9 %."""
DEFAULT_STAKE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioBet:
    """How to bet on one alternative: cap C and honest bound U as natural logarithms, temper eta, stake h.

    `weight` is the prior share of the alternative in the mixture; weights are divided by their sum.
    """

    alternative: str
    log_cap: float
    log_bound: float
    temper: float = 1.0
    stake: float = DEFAULT_STAKE
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.log_cap < math.inf:
            raise InvalidInput("expected the logarithm of a number above 1", "log_cap")
        if not -math.inf < self.log_bound < math.inf:
            raise InvalidInput("expected a number", "log_bound")
        for field in ("temper", "stake"):
            if not 0.0 < getattr(self, field) <= 1.0:
                raise InvalidInput("must be above 0 and at most 1", field)
        if not 0.0 < self.weight < math.inf:
            raise InvalidInput("must be above 0", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioMartingales:
    """The product of each bet over the requests so far, in nats, and how many requests were missing."""

    bets: tuple[RatioBet, ...]
    log_products: tuple[float, ...]
    requests: int = 0
    missing: int = 0

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the average of the products by the bets' weights: one e-process."""
        return average_logs(self.log_products, [bet.weight for bet in self.bets])


def build_martingales(bets: Sequence[RatioBet]) -> RatioMartingales:
    """Return the martingales before the first request. Raises InvalidInput on no bet.

    The same alternative may come several times, with other caps, tempers or stakes.
    """
    if not bets:
        raise InvalidInput("needs at least one alternative", "bets")
    return RatioMartingales(bets=tuple(bets), log_products=(0.0,) * len(bets))


def compute_log_factor(bet: RatioBet, log_ratio: float | None) -> float:
    """Return the logarithm of `1 - h + h (min(LR, C) / max(1, U)) ** eta`; None is a missing answer: `1 - h`.

    Condition: the one of the module. -inf is an answer that the alternative excludes. Raises InvalidInput on NaN.
    """
    if log_ratio is not None and math.isnan(log_ratio):
        raise InvalidInput("is not a number", "log_ratio")
    log_cash = math.log1p(-bet.stake) if bet.stake < 1.0 else -math.inf
    if log_ratio is None:
        return log_cash
    tempered = bet.temper * (min(log_ratio, bet.log_cap) - max(bet.log_bound, 0.0))
    return add_logs((log_cash, math.log(bet.stake) + tempered))


def fold_request(martingales: RatioMartingales, log_ratios: Mapping[str, float] | None) -> RatioMartingales:
    """Return the martingales after one more request: log LR by alternative, None for a request without an answer.

    Condition: the one of the module, and that every drawn request is folded. An alternative that is absent from the
    mapping bets its smallest factor like a missing answer: leaving one out never gains.
    """
    ratios = {} if log_ratios is None else log_ratios
    factors = [compute_log_factor(bet, ratios.get(bet.alternative)) for bet in martingales.bets]
    return replace(
        martingales,
        log_products=tuple(a + b for a, b in zip(martingales.log_products, factors, strict=True)),
        requests=martingales.requests + 1,
        missing=martingales.missing + (log_ratios is None),
    )


def compute_posterior(martingales: RatioMartingales) -> dict[str, float]:
    """Return the share of each alternative in the mixture's wealth: how the evidence is explained, likeliest first.

    No test: the shares sum to 1 for an honest provider as well. They mean something once the wealth has proven.
    """
    logs: dict[str, list[float]] = {}
    for bet, log_product in zip(martingales.bets, martingales.log_products, strict=True):
        logs.setdefault(bet.alternative, []).append(log_product + math.log(bet.weight))
    sums = {alternative: add_logs(values) for alternative, values in logs.items()}
    log_total = add_logs(list(sums.values()))
    if log_total == -math.inf:
        return dict.fromkeys(sums, 0.0)
    shares = {alternative: math.exp(value - log_total) for alternative, value in sums.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def calibrate_log_bound(log_ratios: Sequence[float], log_cap: float, log_one_over_delta: float) -> float:
    """Return log U: an upper bound of `E[min(LR, C)]` with probability at least 1 - delta, from honest requests.

    Condition: the requests are independent and of the stratum and cell that U is for; U of several is their maximum,
    with delta shared. It bounds `min(LR, C) / C`, rounded up to ppm, by betting (`bounds.compute_upper_bound_ppm`):
    about `mean + C log(1/delta) / n`, so a cap of C asks for `REQUESTS_PER_CAP * C` requests. Raises InvalidInput with
    fewer: the bound would be valid, and no use.
    """
    required = compute_required_requests(log_cap)
    if len(log_ratios) < required:
        raise InvalidInput(f"a cap of {math.exp(log_cap):.4g} needs {required} honest requests", "log_ratios")
    if any(math.isnan(value) for value in log_ratios):
        raise InvalidInput("holds NaN", "log_ratios")
    values_ppm = [min(PPM, math.ceil(math.exp(min(value, log_cap) - log_cap) * PPM)) for value in log_ratios]
    return math.log(compute_upper_bound_ppm(values_ppm, log_one_over_delta) / PPM) + log_cap


def compute_required_requests(log_cap: float) -> int:
    """Return how many honest requests the bound of a capped ratio asks for: 200 per unit of the cap."""
    if not 0.0 < log_cap < 20.0:
        raise InvalidInput("expected the logarithm of a number above 1, below 20", "log_cap")
    return math.ceil(REQUESTS_PER_CAP * math.exp(log_cap))


def compute_wald_requests(log_threshold: float, kl_nats: float, alternatives: int = 1) -> float:
    """Return Wald's expected number of requests to the threshold: `(log(1/alpha) + log K) / KL`.

    Condition: KL is that of the cheat's answers from the claim, in nats *per request*, and the cheat is one of K
    equally weighted alternatives. With K = 1 no test of error alpha and power 1 needs fewer on average (Wald 1945); the
    excess over the threshold at the last request, caps, bounds and stakes come on top.
    """
    if not 0.0 < log_threshold < math.inf:
        raise InvalidInput("expected the logarithm of a number above 1", "log_threshold")
    if not 0.0 < kl_nats < math.inf:
        raise InvalidInput("must be above 0", "kl_nats")
    if alternatives < 1:
        raise InvalidInput("must be at least 1", "alternatives")
    return (log_threshold + math.log(alternatives)) / kl_nats
