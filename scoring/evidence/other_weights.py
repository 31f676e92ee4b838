"""Text alternatives for weights that nobody named: hotter than the claim, most of all where the claim is sure.

Whoever serves another model, leaves a layer out or reads another prompt is rarely sure where the claimed weights are:
under them such text looks as if its temperature rose when their entropy falls. No single temperature explains it, and
quantised variants of the weights explain some of it: they are other weights too, wrong in similar places. So does the
claimed model without one of its layers: a weaker model of the same kind knows what a weaker model would say. A token's
probability is a mixture of these, with shares that follow from the entropy of the claimed sampling there: that is known
before the token is, so the product over an answer is a probability again and its ratio to the claim an e-value. The
shares were fitted, coarsely, on a dropped layer, another model and another template.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import takewhile

OTHER_WEIGHTS_POWERS = (22, 20, 18, 16, 14)
"""1/T in twentieths: T = 0.91 to 1.43."""
OTHER_WEIGHTS_VARIANTS = ("int6", "int5", "int4")
SKIPPED_LAYER = "skipped-layer"
"""The pass of the claimed weights without a layer: a part of the mixtures, and no alternative of its own."""
ENTROPY_EDGES = (0.5, 2.5, 4.5)
"""Nats that part the classes of positions."""
LEAST = -1_000.0
"""Log-probability (nats) from which the temperatures are taken for a scale, so that no weight overflows."""
WEAKER = "other-weights-weaker"
"""The mixture with SKIPPED_LAYER in it."""
_SHARES: Mapping[str, Sequence[Sequence[float]]] = {
    "other-weights-near": (
        (0.05, 0.15, 0.40, 0.40, 0.00),
        (0.00, 0.20, 0.70, 0.10, 0.00),
        (0.05, 0.45, 0.50, 0.00, 0.00),
        (0.15, 0.50, 0.30, 0.05, 0.00),
    ),
    "other-weights-far": (
        (0.00, 0.05, 0.15, 0.50, 0.30),
        (0.00, 0.05, 0.45, 0.50, 0.00),
        (0.00, 0.20, 0.60, 0.20, 0.00),
        (0.05, 0.35, 0.45, 0.15, 0.00),
    ),
    "other-weights-varied": (
        (0.02, 0.05, 0.13, 0.15, 0.00, 0.37, 0.25, 0.03),
        (0.00, 0.05, 0.40, 0.15, 0.00, 0.23, 0.13, 0.04),
        (0.00, 0.20, 0.34, 0.03, 0.00, 0.30, 0.08, 0.05),
        (0.10, 0.30, 0.15, 0.05, 0.00, 0.25, 0.08, 0.07),
    ),
    WEAKER: (
        (0.06, 0.06, 0.08, 0.10, 0.09, 0.13, 0.36, 0.11, 0.01),
        (0.07, 0.13, 0.23, 0.20, 0.02, 0.10, 0.07, 0.00, 0.18),
        (0.05, 0.16, 0.25, 0.06, 0.00, 0.15, 0.09, 0.02, 0.22),
        (0.28, 0.23, 0.13, 0.05, 0.01, 0.05, 0.07, 0.03, 0.15),
    ),
}
"""By alternative, for each class: the share of each temperature, then of each variant, then of the skipped layer."""
_COMPONENTS = (*OTHER_WEIGHTS_VARIANTS, SKIPPED_LAYER)
OTHER_WEIGHTS_PASSES = {
    name: _COMPONENTS[: len(shares[0]) - len(OTHER_WEIGHTS_POWERS)] for name, shares in _SHARES.items()
}
"""The passes that each mixture is made from, beside the reference's own."""
OTHER_WEIGHTS_IDS = tuple(_SHARES)


def compute_other_logprobs(
    rows: Sequence[Sequence[float]], entropy: Sequence[float], variants: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Return the log-probability (nats) of each token by alternative, without those whose variants were not run.

    `rows` [tokens, powers] are log-probabilities at OTHER_WEIGHTS_POWERS without a filter; `entropy`
    [tokens] is in nats, of the claimed sampling; `variants` has log-probabilities [tokens] at least, of
    OTHER_WEIGHTS_VARIANTS and SKIPPED_LAYER where they were run.
    """
    count = len(entropy)
    known = list(takewhile(variants.__contains__, _COMPONENTS))
    columns = list(zip(*(variants[name][:count] for name in known), strict=True)) or [()] * count
    width = len(OTHER_WEIGHTS_POWERS) + len(known)
    usable = {name: shares for name, shares in _SHARES.items() if len(shares[0]) <= width}
    found: dict[str, list[float]] = {name: [] for name in usable}
    for place, (row, value) in enumerate(zip(rows, entropy, strict=True)):
        kind = sum(value >= edge for edge in ENTROPY_EDGES)
        top = max(*row, LEAST)
        # A variant counts for no more than e^30 times the temperatures: less than a probability is still valid.
        told = (*row, *columns[place])
        weights = [math.exp(min(logprob - top, 30.0)) for logprob in told]
        for name, shares in usable.items():
            # Shares of what an alternative does not mix are not there: the shorter of both ends the sum.
            total = sum(map(operator.mul, shares[kind], weights))
            found[name].append(top + math.log(total) if total > 0.0 else -math.inf)
    return found
