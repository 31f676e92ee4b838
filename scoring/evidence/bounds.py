"""Upper confidence bounds for the mean of a bounded statistic, by betting: what a calibrated mu is made of.

Floats are allowed here: a bound is computed once, rounded up to ppm, and sealed into a plan as an integer.
"""

import math
from collections import Counter
from collections.abc import Iterable

from scoring.errors import InvalidInput
from scoring.records import PPM

STAKES = (1.0, 0.97, 0.9, 0.8, 0.65, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.001)
"""Stakes against the mean, as shares of the largest that cannot go bankrupt. They are close together near 1: one value
of 1 among thousands of small ones bankrupts the whole stake, and the next lower one is what the bound is then made of.
"""


def compute_upper_bound_ppm(values_ppm: Iterable[int], log_one_over_delta: float) -> int:
    """Return an upper bound of the mean, in ppm, that holds with probability at least 1 - delta.

    For independent values in [0, 1] of mean at most m, in any order: capital `K(m)`, the average over stakes c of
    `prod (1 + c (m - g_i) / (1 - m))`, is an e-value against "the mean is at least m", so the set of m with
    `K(m) < 1/delta` covers the mean (Waudby-Smith and Ramdas, JRSS-B 2023, with a fixed mixture of stakes instead of a
    plug-in: it needs no order). Each factor grows with m, so the set is an interval and bisection finds its end.
    With all values at 0 the bound is about `log(1/delta) / n`.
    """
    counts = Counter(values_ppm)
    if not counts or min(counts) < 0 or max(counts) > PPM:
        raise InvalidInput("expected at least one integer from 0 to 1,000,000", "values_ppm")
    if not 0 < log_one_over_delta < math.inf:
        raise InvalidInput("expected a positive number", "log_one_over_delta")
    values = [(value / PPM, count) for value, count in counts.items()]
    low, high = 0, PPM  # the bound is in (low, high]; the capital at m = 1 is infinite unless every value is 1
    while high - low > 1:
        middle = (low + high) // 2
        if _compute_log_capital(values, middle / PPM) >= log_one_over_delta:
            high = middle
        else:
            low = middle
    return high


def _compute_log_capital(values: list[tuple[float, int]], mean: float) -> float:
    logs = [_compute_log_product(values, mean, stake / (1 - mean)) for stake in STAKES]
    largest = max(logs)
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in logs) / len(STAKES))


def _compute_log_product(values: list[tuple[float, int]], mean: float, stake: float) -> float:
    total = 0.0
    for value, count in values:
        factor = 1 + stake * (mean - value)
        if factor <= 1e-300:
            return -math.inf
        total += count * math.log(factor)
    return total
