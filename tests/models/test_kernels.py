"""Each compiled loop against the same in plain numpy, at sizes that fill no block and with values that are equal."""

import math

import numpy as np
import pytest

from models.kernels import SUMMED_POWERS, add_powers, add_powers_above, collect_from, race, score_grid, view_row
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
@pytest.mark.parametrize("temperature", [0.05, 1.0, 2.0])
def test_a_race_has_the_same_end_from_whatever_logit_it_starts(size, temperature):
    row, seed = build_row(size), 2**40 + 77
    blocks = np.empty(-(-size // 4), np.uint32)
    floors = {np.sort(row)[max(min(place, size - 2), 0)] for place in (0, size // 3, size // 2, size)}
    for position in range(12):
        scores = row.astype(np.float64) + temperature * compute_gumbel_noise(seed, position, np.arange(size))
        expected = (int(scores.argmax()), float(scores.max()), float(np.sort(scores)[-2]) if size > 1 else -math.inf)
        for floor in floors:
            first = np.flatnonzero(row >= floor)
            assert race(row, floor, first, temperature, seed, position, blocks) == expected


@pytest.mark.parametrize("lead", [0.0, 0.5, -0.5])
def test_of_equal_scores_the_smallest_id_wins_wherever_it_is_found(lead):
    # Noise is a multiple of 2**-18, so that some two tokens differ by exactly what their logits differ by.
    noise = compute_gumbel_noise(5, 0, np.arange(4000))
    lowest, place_of = np.argsort(noise)[:2], {value: token for token, value in enumerate(noise.tolist())}
    pairs = [(token, place_of[value - lead]) for token, value in enumerate(noise.tolist()) if value - lead in place_of]
    pairs = [pair for pair in pairs if pair[0] < pair[1] and noise[list(pair)].min() > 0.0]
    assert pairs
    blocks = np.empty(1000, np.uint32)
    for first, other in pairs:
        row = np.full(4000, -60.0, np.float32)
        row[lowest], row[first], row[other] = 8.9, 8.0, 8.0 + lead
        for floor in (7.0, 8.25, 8.75):
            near = np.flatnonzero(row >= np.float32(floor))
            winner, best, second = race(row, np.float32(floor), near, 1.0, 5, 0, blocks)
            assert (winner, best, second) == (first, 8.0 + noise[first], best)


def test_the_noise_of_a_token_is_that_of_its_block_and_lane():
    words = draw_words(123, 4, 403)
    uniform = ((words >> np.uint64(8)).astype(np.float64) + 0.5) / 2**24
    assert compute_gumbel_noise(123, 4, np.arange(403)) == pytest.approx(-np.log(-np.log(uniform)), abs=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_collecting_gives_the_places_in_order(size):
    row, ids = build_row(size), np.empty(size, np.int64)
    for lowest in (row.max(), np.float32(0.5), row.min(), np.float32(99.0)):
        assert ids[: collect_from(row, lowest, ids)].tolist() == np.flatnonzero(row >= lowest).tolist()


def view(row, token=0, lowest=-80.0, near=-2.0):
    """Return what `view_row` does and what it has written."""
    shifted, places, sums = (
        np.empty(len(row), np.float32),
        np.empty(len(row), np.int64),
        np.empty(len(SUMMED_POWERS) + 1),
    )
    told = view_row(row, row.max(), np.float32(lowest), np.float32(near), token, shifted, places, sums)
    return told, shifted, places[: told[2]], sums


@pytest.mark.parametrize("size", SIZES)
def test_a_shifted_row_knows_the_place_of_its_token(size):
    row = build_row(size)
    expected = np.maximum(row - row.max(), np.float32(-4.0))
    for token in {0, size // 2, size - 1}:
        (above, ties, _), shifted, _, _ = view(row, token, lowest=-4.0)
        assert shifted.tolist() == expected.tolist()
        assert above == (expected > expected[token]).sum()
        assert ties == (expected[:token] == expected[token]).sum()


@pytest.mark.parametrize("size", SIZES)
def test_a_row_knows_the_places_near_its_maximum(size):
    row = build_row(size)
    for near in (0.0, -2.0, -99.0):
        assert view(row, near=near)[2].tolist() == np.flatnonzero(row - row.max() >= near).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_those_of_each_power(size):
    row = build_row(size)
    *_, sums = view(row)
    exact = (row - row.max()).astype(np.float64)
    assert sums[:-1] == pytest.approx([np.exp(exact * power / 20).sum() for power in SUMMED_POWERS], rel=1e-5)
    assert sums[-1] == pytest.approx((np.exp(exact) * exact).sum(), rel=1e-5, abs=1e-6)


def test_one_weight_is_that_of_its_logit_at_every_depth():
    for depth in np.linspace(-60.0, 0.0, 2001).astype(np.float32):
        sums = np.zeros(len(SUMMED_POWERS) + 1)
        add_powers(np.array([depth]), sums)
        assert sums[:-1] == pytest.approx([math.exp(depth * power / 20) for power in SUMMED_POWERS], rel=1.5e-5)


@pytest.mark.parametrize("size", SIZES)
def test_sums_above_a_value_leave_out_what_is_not_larger(size):
    shifted = build_row(size) - np.float32(20.0)
    for own in (-99.0, float(np.median(shifted)), float(shifted.max())):
        sums, larger = np.zeros(len(SUMMED_POWERS) + 1), shifted[shifted > own].astype(np.float64)
        add_powers_above(shifted, own, np.empty_like(shifted), sums)
        assert sums[:-1] == pytest.approx([np.exp(larger * power / 20).sum() for power in SUMMED_POWERS], rel=1e-5)


def score(near, top_ps, total, far=0.0, depth=0.0, rank=0, ties=0):
    """Return what `score_grid` writes, with the same total and far mass for each power."""
    scores = np.empty((len(SUMMED_POWERS), len(top_ps)))
    totals, fars = np.full((2, len(SUMMED_POWERS) + 1), [[total], [far]])
    masses = np.empty((len(SUMMED_POWERS), len(near) + 1))
    score_grid(near, np.array(top_ps), totals, fars, depth, rank, ties, masses, scores)
    return scores


@pytest.mark.parametrize("ties", [0, 1, 3])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_token_is_cut_when_what_stands_before_it_reaches_the_wanted_mass(rank, ties):
    # Eight equal tokens: `rank` and `ties` of them stand before the claimed one, so that 1/8 of the mass is a step.
    for steps in range(1, 9):
        scores = score(np.ones(8), [steps / 8], 8.0, rank=rank, ties=ties)
        is_kept = rank + ties < steps or steps == 8
        assert scores[:, 0] == pytest.approx(-math.log(steps) if is_kept else -math.inf)


def test_a_set_is_cut_at_the_token_whose_mass_at_that_power_reaches_what_is_wanted():
    near = np.exp(np.array([0.0, -0.1, -0.3, -0.3, -0.9]))
    for row, power in enumerate(SUMMED_POWERS):
        masses = np.cumsum(near ** (power / 2))
        for top_p in (0.3, 0.6, 0.9):
            crossing = masses[np.searchsorted(masses, top_p * masses[-1])]
            scores = score(near, [top_p], masses[-1], depth=0.0)
            assert scores[row, 0] == pytest.approx(-math.log(crossing))


def test_a_token_far_from_the_maximum_stands_behind_the_mass_that_is_given():
    for far, cut in ((6.0, [False, False, True]), (9.5, [False, True, True])):
        scores = score(np.ones(2), [1.0, 0.9, 0.5], 10.0, far=far, depth=-12.0, rank=5)
        for power, row in zip(SUMMED_POWERS, scores, strict=True):
            assert np.isneginf(row).tolist() == cut
            assert row[0] == pytest.approx(-12.0 * power / 20 - math.log(10.0))
            assert cut[1] or row[1] == pytest.approx(-12.0 * power / 20 - math.log(9.0))
