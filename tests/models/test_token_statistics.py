"""Statistics of one position against the definitions, written out with full sorts and all the noise."""

import itertools
import math

import numpy as np
import pytest

from models.requests import GRID, ReferenceRequest
from models.sampler import compute_gumbel_noise, sample_tokens
from models.token_statistics import compute_position_statistics, join_statistics
from scoring.errors import InvalidInput

SIZE = 900


def build_logits(seed, spread=3.0, step=0.0):
    logits = (np.random.default_rng(seed).normal(size=SIZE) * spread).astype(np.float32)
    # bf16 gives coarse logits: ties are common and must be ordered by id.
    return logits if step == 0.0 else (np.round(logits / step) * step).astype(np.float32)


def build_request(**changes):
    values = {"prompt_ids": (1,), "output_ids": (1,), "seed": 9, "sampler": "gumbel-philox-v1", **changes}
    return ReferenceRequest(**values)


def compute_plainly(logits, token, temperature, top_p, top_k):
    """Return log-probability, entropy, F(y-) and F(y) by sorting everything in float64."""
    order = np.argsort(-logits, kind="stable")
    if top_k:
        order = order[:top_k]
    weights = np.exp((logits[order].astype(np.float64) - float(logits.max())) / temperature)
    sums = np.cumsum(weights)
    size = len(order) if top_p >= 1.0 else int(np.searchsorted(sums, top_p * sums[-1])) + 1
    shares = weights[:size] / weights[:size].sum()
    entropy = -float((shares * np.log(np.maximum(shares, 1e-300))).sum())
    place = np.flatnonzero(order[:size] == token)
    if not len(place):
        return -math.inf, entropy, 1.0, 1.0
    before = float(shares[: place[0]].sum())
    return math.log(shares[place[0]]), entropy, before, before + float(shares[place[0]])


SAMPLINGS = [(1.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.9, 0), (0.8, 0.95, 0), (1.0, 1.0, 40), (1.3, 0.9, 40)]


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), SAMPLINGS)
@pytest.mark.parametrize("step", [0.0, 0.25])
def test_statistics_follow_their_definitions(temperature, top_p, top_k, step):
    for seed in range(6):
        logits = build_logits(seed, step=step)
        request = build_request(temperature=temperature, top_p=top_p, top_k=top_k)
        for token in (*np.argsort(-logits, kind="stable")[[0, 1, 5, 30, 60, 200, 899]], 17):
            found = compute_position_statistics(logits, int(token), request, 4)
            expected = compute_plainly(logits, token, temperature, top_p, top_k)
            assert found.logprob == pytest.approx(expected[0], abs=1e-4)
            assert found.entropy == pytest.approx(expected[1], abs=1e-4)
            assert (found.pit_low, found.pit_high) == pytest.approx(expected[2:], abs=1e-5)
            assert found.rank == int((logits > logits[token]).sum())
            assert found.raw_logprob == pytest.approx(compute_plainly(logits, token, 1.0, 1.0, 0)[0], abs=1e-4)


@pytest.mark.parametrize("spread", [0.3, 3.0, 8.0])
def test_the_grid_follows_its_definition(spread):
    for seed in range(4):
        logits = build_logits(seed, spread)
        for token in np.argsort(-logits)[[0, 3, 40, 300]]:
            found = compute_position_statistics(logits, int(token), build_request(), 0).grid_logprob
            for value, (temperature, top_p) in zip(found, GRID, strict=True):
                expected = compute_plainly(logits, token, temperature, top_p, 0)[0]
                assert value == pytest.approx(expected, abs=3e-4), (temperature, top_p)


def test_rows_of_several_sizes_and_depths_do_not_leave_traces_in_each_other():
    def compute(logits):
        return compute_position_statistics(logits, 3, build_request(temperature=0.7), 0)

    rows = [
        (np.random.default_rng(size).normal(size=size) * spread).astype(np.float32)
        for size, spread in ((7, 1.0), (900, 60.0), (901, 0.1), (20_000, 0.5), (900, 3.0))
    ]
    alone = [compute(row) for row in rows]
    assert [compute(row) for row in reversed(rows)] == alone[::-1]


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [*SAMPLINGS, (0.0, 1.0, 0)])
def test_margin_and_gap_follow_their_definitions(temperature, top_p, top_k):
    for seed in range(8):
        logits = build_logits(seed, spread=1.5)
        request = build_request(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
        kept = np.argsort(-logits, kind="stable")[:top_k] if top_k else np.arange(SIZE)
        scores = np.full(SIZE, -np.inf)
        scores[kept] = logits[kept] + temperature * compute_gumbel_noise(seed, 3, kept)
        for token in range(SIZE):
            if compute_plainly(logits, token, temperature or 1.0, 1.0 if temperature == 0 else top_p, top_k)[2:] == (
                1.0,
                1.0,
            ):
                scores[token] = -np.inf
        best, second = np.sort(scores)[::-1][:2]
        for token in (int(scores.argmax()), 0, 5):
            found = compute_position_statistics(logits, token, request, 3)
            assert found.margin == pytest.approx(best - scores[token], abs=1e-9)
            assert found.gap == pytest.approx(best - second, abs=1e-9)


def test_the_seeded_winner_has_margin_zero():
    logits = build_logits(1)
    for position in range(50):
        token = int(sample_tokens(logits[None], [9], [position], [0.8], [0.95])[0])
        request = build_request(temperature=0.8, top_p=0.95)
        assert compute_position_statistics(logits, token, request, position).margin == 0.0


def test_without_seed_there_is_no_margin():
    request = build_request(seed=None, sampler="none")
    found = compute_position_statistics(build_logits(1), 3, request, 0)
    assert (found.margin, found.gap) == (None, None)
    assert join_statistics([found], request).margin is None


def test_temperature_zero_has_margins_without_seed():
    logits = build_logits(2)
    request = build_request(seed=None, sampler="none", temperature=0.0)
    best, second = np.sort(logits)[::-1][:2]
    winner = compute_position_statistics(logits, int(logits.argmax()), request, 0)
    loser = compute_position_statistics(logits, 0, request, 0)
    assert (winner.margin, winner.logprob, winner.pit_low, winner.pit_high) == (0.0, 0.0, 0.0, 1.0)
    assert winner.gap == pytest.approx(float(best - second))
    assert loser.margin == pytest.approx(float(best - logits[0]))
    assert loser.logprob == -math.inf


def test_what_the_filter_removed_has_an_infinite_margin():
    logits = build_logits(3)
    found = compute_position_statistics(logits, int(logits.argmin()), build_request(top_p=0.9), 0)
    assert (found.margin, found.logprob, found.pit_low, found.pit_high) == (math.inf, -math.inf, 1.0, 1.0)


def test_pit_intervals_of_all_tokens_fill_the_unit_interval():
    logits = build_logits(4, step=0.5)
    found = [compute_position_statistics(logits, token, build_request(top_p=0.95), 0) for token in range(SIZE)]
    intervals = sorted((row.pit_low, row.pit_high) for row in found if row.logprob > -math.inf)
    assert intervals[0][0] == 0.0
    assert intervals[-1][1] == pytest.approx(1.0)
    for (_, high), (low, _) in itertools.pairwise(intervals):
        assert low == pytest.approx(high, abs=1e-5)


def test_an_answer_of_no_tokens_has_empty_columns():
    statistics = join_statistics([], build_request(output_ids=()))
    assert (statistics.logprob, statistics.margin) == ((), ())


def test_a_seeded_request_without_seed_cannot_be_built():
    with pytest.raises(InvalidInput):
        build_request(seed=None)


@pytest.mark.parametrize("token", [-1, SIZE])
def test_a_token_outside_of_the_vocabulary_is_refused(token):
    with pytest.raises(InvalidInput, match="vocabulary"):
        compute_position_statistics(build_logits(1), token, build_request(), 0)


def test_a_row_that_a_broken_model_gave_has_no_statistics():
    logits = build_logits(1)
    logits[5] = math.nan
    with pytest.raises(InvalidInput, match="finite"):
        compute_position_statistics(logits, 3, build_request(seed=None, sampler="none"), 0)
