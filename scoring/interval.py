"""Bounds and medians in integers: the same bytes for every validator, on every machine.

Shares are parts per million (ppm), counts are millionths of a sample (micro), z is in thousandths (milli).
"""

from collections.abc import Sequence

PPM = 1_000_000


def compute_wilson_low_ppm(mean_ppm: int, samples_micro: int, z_milli: int) -> int:
    """Return the lower Wilson bound of a mean of values in [0, 1], rounded down; 0 without samples.

    It is the smallest root l of n (p - l)^2 = z^2 l (1 - l) (E. B. Wilson 1927), found by bisection on that equation
    in integers: exact, and therefore monotone in the mean and in the number of samples without any rounding noise.
    """
    low, high = 0, mean_ppm
    while low < high:
        middle = (low + high + 1) // 2
        if samples_micro * (mean_ppm - middle) ** 2 >= z_milli**2 * middle * (PPM - middle):
            low = middle
        else:
            high = middle - 1
    return low


def compute_wilson_high_ppm(mean_ppm: int, samples_micro: int, z_milli: int) -> int:
    """Return the upper Wilson bound, rounded up; 1,000,000 without samples."""
    return PPM - compute_wilson_low_ppm(PPM - mean_ppm, samples_micro, z_milli)


def compute_lower_median(weighted: Sequence[tuple[int, int]]) -> int | None:
    """Return the lower weighted median of (value, weight) pairs: the least value at which half the weight is reached.

    Whoever holds less than half of the weight cannot push it out of the range of the others' values. None when no
    weight is positive.
    """
    total = sum(weight for _, weight in weighted)
    reached = 0
    for value, weight in sorted(weighted):
        reached += weight
        if weight > 0 and 2 * reached >= total:
            return value
    return None


def compute_decay(epochs: int, half_life_epochs: int, fraction_bits: int = 32) -> int:
    """Return floor(2^bits x 2^(-epochs / half-life)): the weight of something that many epochs old.

    The largest integer d with d^h <= 2^(bits h - epochs), by bisection: an exact root without floats.
    """
    exponent = fraction_bits * half_life_epochs - epochs
    if exponent < 0:
        return 0
    target = 1 << exponent
    low, high = 1, 1 << fraction_bits
    while low < high:
        middle = (low + high + 1) // 2
        if middle**half_life_epochs <= target:
            low = middle
        else:
            high = middle - 1
    return low
