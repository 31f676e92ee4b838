"""The sampler against its specification: the page's vectors, a second implementation in plain integers, and chance."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import NOISE_MAX
from models.sampler import (
    NEAR,
    compute_gumbel_noise,
    compute_kept_tokens,
    filter_logits,
    find_winner,
    philox4x32_10,
    sample_tokens,
)
from scoring.errors import InvalidInput

PAGE = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text()
LOGITS = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -8.0], dtype=np.float32)


def read_table(first_heading: str) -> list[list[str]]:
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def compute_philox_in_integers(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        high, low = divmod(0xD2511F53 * c[0], 2**32)
        high2, low2 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high2 ^ c[1] ^ k[0], low2, high ^ c[3] ^ k[1], low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def compute_gumbel(counts: np.ndarray) -> np.ndarray:
    uniform = (counts.astype(np.float64) + 0.5) / 2**24
    return np.floor(-np.log(-np.log(uniform)) * 2**18 + 0.5) / 2**18


def compute_full_scores(logits: np.ndarray, seed: int, position: int, temperature: float) -> np.ndarray:
    noise = compute_gumbel_noise(seed, position, np.arange(len(logits)))
    return logits.astype(np.float64) + temperature * noise


@pytest.mark.parametrize(("counter", "key", "output"), read_table("counter"))
def test_philox_gives_the_known_answers(counter, key, output):
    words = philox4x32_10(
        tuple(np.uint64(int(word, 16)) for word in counter.split()),
        tuple(np.uint64(int(word, 16)) for word in key.split()),
    )
    assert [f"{int(word):08x}" for word in words] == output.split()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_philox_agrees_with_plain_integers(words):
    found = philox4x32_10(tuple(np.uint64(word) for word in words[:4]), tuple(np.uint64(word) for word in words[4:]))
    assert [int(word) for word in found] == compute_philox_in_integers(words[:4], words[4:])


@pytest.mark.parametrize("row", read_table("seed"), ids=lambda row: " ".join(row[:3]))
def test_noise_gives_the_vectors_of_the_page(row):
    seed, position, token, count, steps = (int(cell) for cell in row)
    words = compute_philox_in_integers([token // 4, position, 0, 0], [seed % 2**32, seed // 2**32])
    assert words[token % 4] >> 8 == count
    assert compute_gumbel_noise(seed, position, [token])[0] * 2**18 == steps


@pytest.mark.parametrize("row", read_table("T"), ids=lambda row: " ".join(row[:3]))
def test_draws_give_the_vectors_of_the_page(row):
    temperature, top_p, top_k = float(row[0]), float(row[1]), int(row[2])
    kept = compute_kept_tokens(LOGITS, temperature or 1.0, top_p, top_k)
    assert kept.tolist() == [int(cell) for cell in row[3].split()]
    drawn = sample_tokens(
        np.tile(LOGITS, (12, 1)), [42] * 12, range(12), [temperature] * 12, [top_p] * 12, [top_k] * 12
    )
    assert drawn.tolist() == [int(cell) for cell in row[4].split()]


def test_no_noise_value_is_near_a_rounding_border():
    nearest = 1.0
    for start in range(0, 2**24, 2**21):
        uniform = (np.arange(start, start + 2**21, dtype=np.float64) + 0.5) / 2**24
        steps = -np.log(-np.log(uniform)) * 2**18
        nearest = min(nearest, float(np.abs(steps - np.floor(steps) - 0.5).min()) / 2**18)
    assert nearest > 5e-13


def test_noise_stays_within_its_bounds():
    lowest, highest = compute_gumbel(np.array([0, 2**24 - 1]))
    assert (lowest * 2**18, highest * 2**18) == (-747730, 4542609)
    assert highest == NOISE_MAX


def test_noise_has_the_moments_of_a_gumbel_variable():
    noise = compute_gumbel_noise(5, 0, np.arange(200_000))
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.01)


def test_draws_follow_the_softmax():
    logits = np.array([1.0, 0.0, -1.0, 0.5], dtype=np.float32)
    drawn = sample_tokens(np.tile(logits, (8_000, 1)), range(8_000), [3] * 8_000, [0.7] * 8_000, [1.0] * 8_000)
    expected = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    found = np.bincount(drawn, minlength=4) / 8_000
    assert np.abs(found - expected).max() < 0.02


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**53 - 1),
    position=st.integers(0, 4096),
    temperature=st.sampled_from([0.05, 0.3, 1.0, 2.0]),
    spread=st.sampled_from([0.0, 0.5, 4.0, 30.0]),
    size=st.sampled_from([1, 2, 3, 5, 1001, 4096]),
    removed=st.sampled_from([0.0, 0.5, 0.999]),
)
def test_pruned_search_finds_what_all_the_noise_gives(seed, position, temperature, spread, size, removed):
    source = np.random.default_rng(seed)
    logits = (source.normal(size=size) * spread).astype(np.float32)
    logits[source.random(size) < removed] = -np.inf
    logits[source.integers(size)] = 1.0
    scores = compute_full_scores(logits, seed, position, temperature)
    winner = find_winner(logits, seed, position, temperature)
    assert winner.token_id == scores.argmax()
    assert winner.best == scores.max()
    assert winner.second == (np.sort(scores)[-2] if size > 1 else -np.inf)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**53 - 1), position=st.integers(0, 2**32 - 1), count=st.sampled_from([1, 2, 128, 129, 400]))
def test_noise_is_the_same_however_many_tokens_are_asked_for(seed, position, count):
    ids = np.random.default_rng(seed).integers(0, 2**20, size=count)
    (k0, k1), zero = divmod(seed, 2**32)[::-1], np.uint64(0)
    counter = ((ids >> 2).astype(np.uint64), np.uint64(position), zero, zero)
    words = philox4x32_10(counter, (np.uint64(k0), np.uint64(k1)))
    counts = np.array([words[token % 4][place] >> np.uint64(8) for place, token in enumerate(ids)])
    assert compute_gumbel_noise(seed, position, ids).tolist() == compute_gumbel(counts).tolist()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**53 - 1),
    temperature=st.sampled_from([0.02, 0.7, 1.0, 2.0]),
    lead=st.sampled_from([0.0, 3.0, 12.0, 40.0]),
    size=st.sampled_from([49_152, 70_001]),
)
def test_pruned_search_of_a_whole_vocabulary_finds_what_all_the_noise_gives(seed, temperature, lead, size):
    source = np.random.default_rng(seed)
    logits = (source.normal(size=size) * 3.5).astype(np.float32)
    logits[source.integers(size)] += np.float32(lead)
    scores = compute_full_scores(logits, seed, 7, temperature)
    winner = find_winner(logits, seed, 7, temperature)
    assert (winner.token_id, winner.best) == (scores.argmax(), scores.max())
    assert winner.second == np.sort(scores)[-2]
    near = logits.max(), np.flatnonzero(logits >= logits.max() - np.float32(NEAR))
    assert find_winner(logits, seed, 7, temperature, near) == winner


def test_pruned_search_finds_a_winner_that_only_a_very_rare_noise_lifts():
    size, position = 2**20, 0
    seed = max(range(12), key=lambda number: compute_gumbel_noise(number, position, np.arange(size)).max())
    noise = compute_gumbel_noise(seed, position, np.arange(size))
    lucky = int(noise.argmax())
    assert noise[lucky] > 15.0
    logits = np.full(size, -60.0, dtype=np.float32)
    rivals = [token for token in (0, 1, 2) if token != lucky][:2]
    logits[rivals] = 0.0
    logits[lucky] = max(noise[rivals]) - noise[lucky] + 0.01
    winner = find_winner(logits, seed, position, 1.0)
    assert (winner.token_id, winner.second) == (lucky, max(noise[rivals]))


def test_tied_logits_at_temperature_zero_give_the_smallest_id():
    logits = np.array([[0.0, 3.0, 3.0, 1.0]], dtype=np.float32)
    assert sample_tokens(logits, [1], [0], [0.0], [1.0]).tolist() == [1]
    assert find_winner(logits[0], 0, 0, 0.0).second == 3.0


def test_top_p_agrees_with_a_plain_sort():
    source = np.random.default_rng(3)
    for spread in (0.1, 1.0, 5.0):
        logits = (source.normal(size=3000) * spread).astype(np.float32)
        for temperature in (0.3, 1.0, 1.7):
            shares = np.exp(logits.astype(np.float64) / temperature)
            order = np.argsort(-logits, kind="stable")
            reached = np.cumsum(shares[order]) / shares.sum()
            expected = order[: int((reached < 0.9).sum()) + 1]
            assert compute_kept_tokens(logits, temperature, 0.9, 0).tolist() == expected.tolist()


def test_top_k_keeps_the_smaller_ids_of_a_tie():
    logits = np.array([1.0, 2.0, 2.0, 2.0, 0.0], dtype=np.float32)
    assert compute_kept_tokens(logits, 1.0, 1.0, 2).tolist() == [1, 2]


def test_a_filter_that_removes_nothing_copies_nothing():
    assert filter_logits(LOGITS, 1.0, 1.0, 0) is LOGITS
    assert filter_logits(LOGITS, 0.0, 0.5, 1) is LOGITS


@pytest.mark.parametrize(
    ("name", "seed", "position"),
    [
        ("negative seed", -1, 0),
        ("seed of 2**53", 2**53, 0),
        ("boolean seed", True, 0),
        ("float seed", 1.0, 0),
        ("negative position", 1, -1),
        ("position of 2**32", 1, 2**32),
    ],
)
def test_refuses_seeds_and_positions_out_of_range(name, seed, position):
    with pytest.raises(InvalidInput):
        compute_gumbel_noise(seed, position, [0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logit", [math.nan, math.inf])
def test_a_row_that_a_broken_model_gave_has_no_winner(logit, temperature):
    row = np.zeros(12, dtype=np.float32)
    row[7] = logit
    for broken in (row, np.full(12, -np.inf, dtype=np.float32)):
        with pytest.raises(InvalidInput, match="finite"):
            find_winner(broken, 1, 0, temperature)
