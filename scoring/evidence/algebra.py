"""The algebra of e-processes, on natural logarithms of wealth in floats: for audits, alarms and plots, never signed.

An *e-value* is a non-negative number of expectation at most 1 under the null. An *e-process* is a sequence that stays
below some test martingale started at 1, so that its value at every stopping time is an e-value, and an honest provider
*ever* reaches x with probability at most 1/x (J. Ville, "Etude critique de la notion de collectif", 1939). Every
function here keeps that under the condition in its docstring, and says where the rule comes from. The maximum of
e-processes and the product of e-values of the same data are missing on purpose: neither is an e-process.

Everything is a logarithm in nats: 0.0 is the wealth at the start, -inf is bankruptcy. NaN and +inf are refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scoring.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class StartMixture:
    """One e-process restarted at every step, mixed: the part that is running, in nats, and the steps so far."""

    steps: int = 0
    log_running: float = -math.inf

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the running part plus the cash `1 / (steps + 1)` that has not been staked."""
        return add_logs((self.log_running, -math.log(self.steps + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CusumDetector:
    """The CUSUM e-detector of one stream: its statistic in nats, -inf before the first step and after a reset."""

    log_statistic: float = -math.inf


def multiply_logs(log_factors: Sequence[float]) -> float:
    """Return the logarithm of the product of successive e-values in one filtration.

    Condition: each factor has expectation at most 1 *given everything before it*, the earlier factors included. Several
    statistics of one request are not successive: average them (`average_logs`).
    Source: Ramdas, Gruenwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023
    (arXiv 2210.01948).
    """
    return math.fsum(_check_log(value, "log_factors") for value in log_factors)


def average_logs(log_wealths: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the logarithm of the weighted average of e-values or of e-processes; equal weights when None.

    Condition: the weights are fixed before the data (they are divided by their sum); e-processes are of one filtration
    and read at the same step. Any dependence between the members is allowed.
    Source: Vovk and Wang, "E-values: calibration, combination and applications", 2021 (arXiv 1912.06116).
    """
    if not log_wealths:
        raise InvalidInput("nothing to average", "log_wealths")
    shares = [1.0] * len(log_wealths) if weights is None else list(weights)
    if len(shares) != len(log_wealths) or not all(0 <= share < math.inf for share in shares) or not sum(shares) > 0:
        raise InvalidInput("expected one weight per member, none negative, not all zero", "weights")
    parts = [
        _check_log(value, "log_wealths") + math.log(share)
        for value, share in zip(log_wealths, shares, strict=True)
        if share > 0
    ]
    return add_logs(parts) - math.log(math.fsum(shares))


def minimise_logs(log_wealths: Sequence[float]) -> float:
    """Return the logarithm of the e-value of a composite null: the minimum over its members.

    Condition: there is one entry for every member of the null (or for members that cover it), each an e-process under
    its own member. Whichever member is true, the minimum lies below an e-process of it. Take the minimum of products
    over requests: the product of minima is valid as well, and smaller. The minimum comes last: its growth in one step
    is no e-value given the past, so caps and start mixtures belong inside it, on each member.
    Source: Wasserman, Ramdas, Balakrishnan, "Universal inference", 2020 (arXiv 1912.11436); Ramdas et al. 2023 as
    above.
    """
    if not log_wealths:
        raise InvalidInput("a null without members", "log_wealths")
    return min(_check_log(value, "log_wealths") for value in log_wealths)


def cap_log_factor(log_factor: float, log_cap: float) -> float:
    """Return the factor of one request, at most the cap.

    Condition: the cap is fixed before the request. A smaller e-value is an e-value.
    """
    return min(_check_log(log_factor, "log_factor"), _check_cap(log_cap))


def cap_log_epoch(log_before: float, log_after: float, log_cap: float) -> float:
    """Return the wealth at the end of an epoch, at most the cap times the wealth at its start.

    Condition: the next epoch multiplies what this returns, not the uncapped wealth, and nobody reads the wealth inside
    the epoch. Then each epoch is one e-value, replaced by a smaller one.
    """
    return min(_check_log(log_after, "log_after"), _check_log(log_before, "log_before") + _check_cap(log_cap))


def fold_start(mixture: StartMixture, log_factor: float) -> StartMixture:
    """Return the mixture after one more step: start s has weight `w_s = 1/(s(s+1))` and multiplies from step s on.

    Condition: each factor is an e-value given everything before. The weights sum to 1; what has not started is cash, a
    bet with factor 1, so the sum is an average of e-processes. A sleeper that wakes before step s costs `log(s(s+1))`.
    Source: the recursion of `scoring.evidence.wealth`; weights as in Shin, Ramdas, Rinaldo 2024 (see `fold_cusum`),
    who mix starts as well.
    """
    number = mixture.steps + 1
    log_staked = add_logs((mixture.log_running, -math.log(number * (number + 1))))
    return StartMixture(steps=number, log_running=log_staked + _check_log(log_factor, "log_factor"))


def fold_cusum(detector: CusumDetector, log_factor: float) -> CusumDetector:
    """Return the detector after one more step: `M_t = e_t max(M_{t-1}, 1)`.

    Condition: each factor is an e-value given everything before. Then `E[M_tau] <= E[tau]` for every stopping time tau
    (M_t is at most the sum over starts of their products), so an alarm at threshold c has an average run length of at
    least c steps (`compute_average_run_length`). That is a rate of false alarms over time, not an error probability:
    an endless stream of honest answers raises an alarm sooner or later. It schedules audits and never slashes.
    Source: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2024
    (arXiv 2203.03532).
    """
    return CusumDetector(log_statistic=max(detector.log_statistic, 0.0) + _check_log(log_factor, "log_factor"))


def compute_average_run_length(log_threshold: float) -> float:
    """Return the least expected number of honest steps before a CUSUM e-detector reaches the threshold: `c` itself.

    Condition: the one of `fold_cusum`. With N the first step at c or above, `c <= E[M_N] <= E[N]`. It holds anew after
    every reset.
    """
    return math.exp(_check_cap(log_threshold))


def calibrate_p_value(p: float) -> float:
    """Return the logarithm of the e-value `(1 - p + p ln p) / (p ln(p)^2)`, the average over k of `k p^(k-1)`.

    Condition: p is a valid p-value (P(p <= a) <= a under the null); in a product each must be valid given everything
    before. The inverse 1/p is *not* an e-value: its expectation is infinite. A p-value of 0 claims certainty and is
    refused, as is what permutation tests print when no permutation was as extreme.
    Source: Vovk and Wang 2021 (arXiv 1912.06116).
    """
    if not 0.0 < p <= 1.0:
        raise InvalidInput("expected a number above 0 and at most 1", "p")
    x = -math.log(p)
    if x < 1e-4:
        return math.log(0.5 + x / 6)  # the quotient cancels here: e = 1/2 + x/6 + O(x^2)
    if x < 1.0:
        return math.log((math.expm1(x) - x) / x**2)
    return x + math.log1p(-(1 + x) * math.exp(-x)) - 2 * math.log(x)


def compute_p_value(log_e: float) -> float:
    """Return `min(1, 1/e)`: a p-value, by Markov's inequality; of the largest wealth so far, by Ville's.

    Source: Vovk and Wang 2021 (arXiv 1912.06116).
    """
    return math.exp(-max(_check_log(log_e, "log_e"), 0.0))


def add_logs(values: Sequence[float]) -> float:
    """Return the logarithm of the sum of exponentials; -inf for nothing or for bankruptcies alone."""
    largest = max(values, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def _check_log(value: float, field: str) -> float:
    if math.isnan(value) or value == math.inf:
        raise InvalidInput("expected a number or -inf", field)
    return value


def _check_cap(log_cap: float) -> float:
    if not 0.0 < log_cap < math.inf:
        raise InvalidInput("expected the logarithm of a number above 1", "log_cap")
    return log_cap
