"""Each compiled loop against the same in plain numpy, at sizes that fill no block and with values that are equal."""

import math

import numpy as np
import pytest

from models.kernels import SUMMED_POWERS, collect_from, score_grid, search_counts, shift_row, sum_powers
from models.sampler import compute_gumbel_noise, philox4x32_10

SIZES = [1, 2, 3, 4, 5, 63, 64, 65, 127, 1023, 1030, 4099]


def build_row(size, step=0.5):
    """Return logits with many ties."""
    row = np.random.default_rng(size).normal(size=size) * 3
    return (np.round(row / step) * step).astype(np.float32)


def draw_words(seed, position, size):
    blocks, zero = np.arange(-(-size // 4), dtype=np.uint64), np.uint64(0)
    words = philox4x32_10((blocks, np.uint64(position), zero, zero), (np.uint64(seed % 2**32), np.uint64(seed >> 32)))
    return np.stack(words, axis=1).reshape(-1)[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_the_search_finds_each_wanted_token_once(size, share):
    row, seed = build_row(size), 2**40 + 77
    lowest, floor = row.dtype.type(np.median(row)), row.max()
    bound = np.uint32(share * 2**32)
    memory = np.empty(-(-size // 4), np.uint32), np.empty(size, np.int64), np.empty(size, np.uint32)
    found = search_counts(row, lowest, floor, bound, seed, 9, *memory)
    words = draw_words(seed, 9, size)
    wanted = np.flatnonzero((row >= lowest) & (row < floor) & (words >= bound))
    order = np.argsort(memory[1][:found])
    assert memory[1][:found][order].tolist() == wanted.tolist()
    assert memory[2][:found][order].tolist() == (words[wanted] >> np.uint64(8)).tolist()


def test_the_noise_of_a_token_is_that_of_its_block_and_lane():
    words = draw_words(123, 4, 403)
    uniform = ((words >> np.uint64(8)).astype(np.float64) + 0.5) / 2**24
    assert compute_gumbel_noise(123, 4, np.arange(403)) == pytest.approx(-np.log(-np.log(uniform)), abs=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_collecting_gives_the_places_in_order(size):
    row, ids = build_row(size), np.empty(size, np.int64)
    for lowest in (row.max(), np.float32(0.5), row.min(), np.float32(99.0)):
        assert ids[: collect_from(row, lowest, ids)].tolist() == np.flatnonzero(row >= lowest).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_a_shifted_row_knows_the_place_of_its_token(size):
    row, shifted = build_row(size), np.empty(size, np.float32)
    expected = np.maximum(row - row.max(), np.float32(-4.0))
    for token in {0, size // 2, size - 1}:
        above, ties = shift_row(row, row.max(), np.float32(-4.0), token, shifted)
        assert shifted.tolist() == expected.tolist()
        assert above == (expected > expected[token]).sum()
        assert ties == (expected[:token] == expected[token]).sum()


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_those_of_each_power(size):
    row = build_row(size)
    shifted, sums = row - row.max(), np.empty(len(SUMMED_POWERS) + 1)
    sum_powers(np.exp(shifted * np.float32(0.1)), shifted, sums)
    exact = shifted.astype(np.float64)
    assert sums[:-1] == pytest.approx([np.exp(exact * power / 20).sum() for power in SUMMED_POWERS], rel=1e-5)
    assert sums[-1] == pytest.approx((np.exp(exact) * exact).sum(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("ties", [0, 1, 3])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_token_is_cut_when_what_stands_before_it_reaches_the_wanted_mass(rank, ties):
    # Eight equal tokens: `rank` and `ties` of them stand before the claimed one, so that 1/8 of the mass is a step.
    near, powers = np.ones(8), np.array([20])
    for steps in range(1, 9):
        top_ps, scores = np.array([steps / 8]), np.empty((1, 1))
        score_grid(near, powers, top_ps, np.array([8.0]), np.zeros(1), 0.0, rank, ties, scores)
        is_kept = rank + ties < steps or steps == 8
        assert scores[0, 0] == pytest.approx(-math.log(steps) if is_kept else -math.inf)


def test_a_token_far_from_the_maximum_stands_behind_the_mass_that_is_given():
    near, powers, top_ps = np.ones(2), np.array([20]), np.array([1.0, 0.9, 0.5])
    for far, cut in ((6.0, [False, False, True]), (9.5, [False, True, True])):
        scores = np.empty((1, 3))
        score_grid(near, powers, top_ps, np.array([10.0]), np.array([far]), -12.0, 5, 0, scores)
        assert np.isneginf(scores[0]).tolist() == cut
        assert scores[0, 0] == pytest.approx(-12.0 - math.log(10.0))
        assert cut[1] or scores[0, 1] == pytest.approx(-12.0 - math.log(9.0))
