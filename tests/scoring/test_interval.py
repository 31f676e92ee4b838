"""Wilson bounds, medians and decay are exact, monotone integers."""

from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.interval import (
    PPM,
    compute_decay,
    compute_lower_median,
    compute_wilson_high_ppm,
    compute_wilson_low_ppm,
)

shares = st.integers(0, PPM)
samples = st.integers(0, 10**12)
zs = st.integers(0, 5_000)


@settings(deadline=None)
@given(shares, st.integers(1, 10**12), zs)
def test_the_bounds_are_those_of_the_closed_formula(mean_ppm: int, samples_micro: int, z_milli: int) -> None:
    p, n, z = mean_ppm / PPM, samples_micro / PPM, z_milli / 1000
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    assert compute_wilson_low_ppm(mean_ppm, samples_micro, z_milli) == pytest.approx(low * PPM, abs=1.5)
    assert compute_wilson_high_ppm(mean_ppm, samples_micro, z_milli) == pytest.approx(high * PPM, abs=1.5)


@settings(deadline=None)
@given(shares, shares, samples, samples, zs, zs)
def test_more_of_anything_good_never_lowers_the_bound(p: int, q: int, n: int, m: int, z: int, y: int) -> None:
    better = compute_wilson_low_ppm(max(p, q), max(n, m), min(z, y))
    assert compute_wilson_low_ppm(min(p, q), min(n, m), max(z, y)) <= better <= max(p, q)


@settings(deadline=None)
@given(shares, samples, zs)
def test_the_bounds_hold_the_mean_between_them(p: int, n: int, z: int) -> None:
    assert 0 <= compute_wilson_low_ppm(p, n, z) <= p <= compute_wilson_high_ppm(p, n, z) <= PPM


@pytest.mark.parametrize(
    ("name", "mean_ppm", "samples_micro", "expected"),
    [
        ("no sample", PPM, 0, 0),
        ("one success", PPM, PPM, 269_830),
        ("ten of ten", PPM, 10 * PPM, 787_028),
        ("a thousand of a thousand", PPM, 1000 * PPM, 997_301),
        ("nothing good", 0, 1000 * PPM, 0),
    ],
)
def test_few_samples_mean_a_low_bound(name: str, mean_ppm: int, samples_micro: int, expected: int) -> None:
    assert compute_wilson_low_ppm(mean_ppm, samples_micro, 1_645) == expected


@pytest.mark.parametrize(
    ("name", "weighted", "expected"),
    [
        ("nothing", [], None),
        ("no weight", [(5, 0), (6, 0)], None),
        ("one", [(5, 1)], 5),
        ("two equal: the lower", [(9, 1), (5, 1)], 5),
        ("three equal: the middle", [(9, 1), (5, 1), (7, 1)], 7),
        ("weight beats number", [(1, 1), (2, 1), (9, 3)], 9),
        ("exactly half is enough", [(1, 2), (2, 1), (9, 1)], 1),
        ("a weightless extreme is not heard", [(0, 0), (5, 1)], 5),
        ("stakes beyond 2**64", [(1, 10**30), (2, 10**30 + 1)], 2),
    ],
)
def test_lower_median(name: str, weighted: list[tuple[int, int]], expected: int | None) -> None:
    assert compute_lower_median(weighted) == expected


weighted_values = st.tuples(st.integers(0, PPM), st.integers(1, 10**24))


@settings(deadline=None)
@given(st.lists(weighted_values, min_size=1, max_size=9), st.lists(weighted_values, max_size=9))
def test_a_minority_cannot_leave_the_honest_range(honest: list[tuple[int, int]], liars: list[tuple[int, int]]) -> None:
    if 2 * sum(weight for _, weight in liars) >= sum(weight for _, weight in honest + liars):
        return
    median = compute_lower_median(honest + liars)
    assert median is not None
    assert min(honest)[0] <= median <= max(honest)[0]


@settings(deadline=None)
@given(st.integers(0, 5_000), st.integers(1, 300))
def test_decay_is_the_exact_root_rounded_down(epochs: int, half_life: int) -> None:
    weight = compute_decay(epochs, half_life)
    target = Fraction(2) ** (32 * half_life - epochs)
    assert weight**half_life <= target < (weight + 1) ** half_life


def test_decay_halves_at_the_half_life() -> None:
    assert [compute_decay(epochs, 720) for epochs in (0, 720, 1440, 720 * 32, 10**9)] == [2**32, 2**31, 2**30, 1, 0]
