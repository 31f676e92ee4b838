"""Answers at temperature 0: other weights against every sampling of the claimed ones, from text alone.

At temperature 0 the claimed weights give one answer, but for near ties that numerics decide; another quantisation takes
another token every dozen. A provider may have ignored the zero, though, or served the least temperature it knows, and
whoever claims weights alone may do so. So an alternative's probability of the answer, at GREEDY_TEMPERATURE, is divided
by the *largest* that the claimed weights give it under any sampling: a ratio that is an e-value against each of them at
once. For the sampling that is next to greedy its honest mean is a matter of numerics, and calibrated.

Of temperatures below the grid only margins are known, and two bounds in the provider's favour: the sum over the
vocabulary is at least the winner's weight, and log p is concave in b = 1/T, so that beyond the grid it stays below the
line through its last two points there. A top-p filter of 0.9 raises a token by log(1/0.9) at most.
"""

import math
from collections.abc import Sequence

from scoring.errors import InvalidInput

GREEDY_TEMPERATURE = 0.03
"""The temperature at which an alternative is held to its own greedy answer: it may be served in other numerics too."""
STEP, LARGEST_POWER = 1.1, 200.0
"""1/T beyond the grid in steps of a tenth, up to T = 0.005, below which no honest numerics decide ties."""
FILTER_GAIN = -math.log(0.9)
LEAST_TOKEN = -12.0
"""No token counts for less in a claim: one wild token is not certainty."""


def compute_log_claim(margins: Sequence[float], grid: Sequence[Sequence[float]], powers: Sequence[float]) -> float:
    """Return the largest log-probability (nats) of an answer under any sampling of the claimed weights, or a bound.

    `margins` [tokens] are logits below the winner; `grid` [tokens, points * filters] follows the grid of temperatures,
    each with all of its filters, the unfiltered one first; `powers` [points] are its 1/T, decreasing. Raises
    InvalidInput when lengths differ.
    """
    if len(margins) != len(grid) or any(len(row) % len(powers) for row in grid):
        raise InvalidInput("one margin and one row of the grid for each token", "tokens")
    if not margins:
        return 0.0
    columns = len(grid[0])
    filters = columns // len(powers)
    inside = max(sum(max(row[place], LEAST_TOKEN) for row in grid) for place in range(columns))
    power, beyond = powers[0], -math.inf
    while power <= LARGEST_POWER:
        total = 0.0
        for margin, row in zip(margins, grid, strict=True):
            slope = (row[0] - row[filters]) / (powers[0] - powers[1])
            bound = min(-power * margin, row[0] + slope * (power - powers[0]))
            total += min(max(bound + FILTER_GAIN, LEAST_TOKEN), 0.0)
        beyond = max(beyond, total)
        power *= STEP
    return min(max(inside, beyond), 0.0)
