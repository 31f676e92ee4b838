"""The other seeded samplers: the page's vectors, vLLM's steps in plain torch, and chance."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.exponential_sampler import ExponentialNoise, keep_tokens
from models.inverse_cdf_sampler import Line, compute_uniform
from models.requests import (
    SAMPLER_EXPONENTIAL,
    SAMPLER_GUMBEL,
    SAMPLER_INVERSE_CDF,
    GenerationRequest,
    ReferenceRequest,
)
from models.samplers_seeded import compute_seeded_margin, open_noise
from scoring.errors import InvalidInput

PAGE = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text()
LOGITS = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -8.0], dtype=np.float32)
BOTH = (SAMPLER_EXPONENTIAL, SAMPLER_INVERSE_CDF)
SAMPLINGS = [
    {},
    {"temperature": 0.6},
    {"top_p": 0.8},
    {"top_k": 7},
    {"temperature": 1.4, "top_p": 0.95, "top_k": 20},
    {"temperature": 0.0},
    {"temperature": 1e-300},
]


def read_table(first_heading: str) -> list[list[str]]:
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])
    return rows


def build_request(sampler: str, **changes) -> ReferenceRequest:
    values = {"prompt_ids": (1,), "output_ids": (1,), "seed": 9, "sampler": sampler, **changes}
    return ReferenceRequest(**values)


def draw_rows(size: int, count: int, spread: float = 4.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, size)) * spread).astype(np.float32)


def sample_as_vllm(logits: np.ndarray, request: ReferenceRequest, generator) -> int:
    """The steps of the specification, each as torch does it on a whole row."""
    import torch

    values = torch.tensor(logits) / max(request.temperature, 0.01)
    ordered, places = values.sort(stable=True)
    if 0 < request.top_k < len(logits):
        ordered[ordered < ordered[-request.top_k]] = -math.inf
    if request.top_p < 1.0:
        is_cut = ordered.softmax(0).cumsum(0) <= 1.0 - request.top_p
        is_cut[-1] = False
        ordered[is_cut] = -math.inf
    shares = torch.empty_like(values).scatter(0, places, ordered).softmax(0)
    return int((shares / torch.empty_like(shares).exponential_(generator=generator)).argmax())


@pytest.mark.parametrize("row", read_table("request seed"), ids=lambda row: " ".join(row[:3]))
def test_exponential_noise_gives_the_vectors_of_the_page(row):
    noise = ExponentialNoise(int(row[0])).read(int(row[1]), 8)
    token = int(row[2])
    assert [f"{int(word):08x}" for word in noise.words[2 * token : 2 * token + 2]] == row[3].split()
    gumbel = noise.compute_gumbel(np.array([token]))[0]
    assert math.exp(-gumbel) == pytest.approx(float(row[4]), rel=1e-6)
    assert gumbel == pytest.approx(float(row[5]), abs=1e-6)


@pytest.mark.parametrize("row", read_table("u: seed"), ids=lambda row: " ".join(row[:2]))
def test_uniform_numbers_give_the_vectors_of_the_page(row):
    uniform = compute_uniform(int(row[0]), int(row[1]))
    assert uniform == (int(row[2], 16) + 0.5) / 2**52
    assert uniform == pytest.approx(float(row[3]), abs=1e-12)


@pytest.mark.parametrize("row", read_table("sampler id"), ids=lambda row: " ".join(row[:4]))
def test_draws_give_the_vectors_of_the_page(row):
    request = build_request(row[0], temperature=float(row[1]), top_p=float(row[2]), top_k=int(row[3]), seed=42)
    noise = open_noise(request)
    assert [noise.draw(LOGITS, position) for position in range(12)] == [int(cell) for cell in row[4].split()]


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 12345678901234, 2**53 - 1])
def test_exponential_noise_has_the_bits_of_a_torch_generator(seed):
    import torch

    generator, noise = torch.Generator().manual_seed(seed), ExponentialNoise(seed)
    for position in range(3):
        expected = torch.empty(4099).exponential_(generator=generator).double().numpy()
        found = noise.read(position, 4099)
        assert found.compute_gumbel(np.arange(4099)).tolist() == (-np.log(expected)).tolist()
        assert 0.0 <= found.compute_largest() + math.log(expected.min()) < 0.2


def test_exponential_noise_may_be_read_in_any_order():
    noise, again = ExponentialNoise(3), ExponentialNoise(3)
    rows = [noise.read(position, 50).words.tolist() for position in range(4)]
    assert [again.read(position, 50).words.tolist() for position in (2, 2, 0, 3, 1)] == [
        rows[place] for place in (2, 2, 0, 3, 1)
    ]


def test_several_threads_may_read_one_noise():
    expected = ExponentialNoise(3)
    rows = [expected.read(position, 2000).words.sum() for position in range(48)]
    noise = ExponentialNoise(3)
    order = [position for start in range(4) for position in range(start * 12, start * 12 + 12)]
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(order, pool.map(lambda position: noise.read(position, 2000).words.sum(), order), strict=True))
    assert [found[position] for position in range(48)] == rows


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS[:-1], ids=str)
@pytest.mark.parametrize("sampler", BOTH)
def test_a_generated_answer_is_what_its_seed_draws_in_fp32(tiny, sampler, sampling):
    import torch

    from models.forward import compute_hidden, project_logits
    from models.generate import generate

    prompts = [tuple(b"x"), tuple(b"a longer prompt"), tuple(range(50, 100))]
    requests = [
        GenerationRequest(prompt_ids=prompt, max_tokens=30, seed=100 + number, sampler=sampler, **sampling)
        for number, prompt in enumerate(prompts)
    ]
    # A row of our default sampler among them, and more requests than rows.
    mixed = [requests[0], GenerationRequest(prompt_ids=(1, 2), max_tokens=9, seed=1), *requests[1:]]
    answers = generate(tiny, mixed, max_rows=3)
    for request, answer in zip(requests, [answers[0], *answers[2:]], strict=True):
        claim = build_request(sampler, seed=request.seed, **sampling)
        with torch.inference_mode():
            hidden = compute_hidden(tiny, torch.tensor([request.prompt_ids + answer.token_ids]))
            logits = project_logits(tiny, hidden[0, len(request.prompt_ids) - 1 : -1]).numpy()
        noise = open_noise(claim)
        margins = [
            noise.compute_margin(row, token, place)[0]
            for place, (row, token) in enumerate(zip(logits, answer.token_ids, strict=True))
        ]
        assert max(margins) < 1e-4


def test_seeds_alike_in_their_low_32_bits_are_one_seed_of_the_cpu_generator():
    assert ExponentialNoise(5).read(0, 9).words.tolist() == ExponentialNoise(5 + 2**40).read(0, 9).words.tolist()


@pytest.mark.parametrize("sampling", [{**row} for row in SAMPLINGS if row.get("temperature") != 0.0], ids=str)
@pytest.mark.parametrize("size", [8, 5000])
def test_exponential_draws_are_those_of_the_same_steps_in_torch(sampling, size):
    import torch

    request = build_request(SAMPLER_EXPONENTIAL, **sampling)
    generator, noise = torch.Generator().manual_seed(request.seed), open_noise(request)
    for position, logits in enumerate(draw_rows(size, 40)):
        assert noise.draw(logits, position) == sample_as_vllm(logits, request, generator), position


def test_vllm_keeps_all_of_a_tie_at_top_k_and_the_larger_ids_at_top_p():
    logits = np.array([1.0, 2.0, 2.0, 2.0, 0.0], dtype=np.float32)
    assert keep_tokens(logits, 1.0, 1.0, 2).tolist() == [1, 2, 3]
    assert keep_tokens(logits, 1.0, 0.5, 0).tolist() == [2, 3]
    assert keep_tokens(logits, 1.0, 1.0, 5) is None


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 3}], ids=str)
@pytest.mark.parametrize("sampler", BOTH)
def test_draws_follow_the_filtered_softmax(sampler, sampling):
    """Chi-square of 4,000 positions of one seed: at most 24.3, which chance exceeds once in 1,000 (7 degrees)."""
    logits = np.array([1.0, 0.0, -1.0, 0.5, 0.2, -0.3, 1.2, -2.0], dtype=np.float32)
    request = build_request(sampler, **sampling)
    noise = open_noise(request)
    found = np.bincount([noise.draw(logits, position) for position in range(4000)], minlength=8)
    shares = np.exp(logits.astype(float) / request.temperature)
    order = np.argsort(-shares)
    kept = order[: request.top_k] if request.top_k else order
    crossing = int((np.cumsum(shares[kept]) < request.top_p * shares[kept].sum()).sum()) + 1
    expected = np.zeros(8)
    expected[kept[:crossing]] = shares[kept[:crossing]] / shares[kept[:crossing]].sum() * 4000
    assert found[expected == 0].sum() == 0
    assert ((found - expected) ** 2)[expected > 0] @ (1 / expected[expected > 0]) < 24.3


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("sampler", BOTH)
def test_a_drawn_token_has_margin_zero_and_no_other_has(sampler, sampling):
    request = build_request(sampler, **sampling)
    drawing, checking = open_noise(request), open_noise(request)
    for position, logits in enumerate(draw_rows(60, 12, spread=3.0)):
        winner = drawing.draw(logits, position)
        margin, gap = compute_seeded_margin(logits, winner, request, position, checking)
        assert margin == 0.0 < gap
        others = [checking.compute_margin(logits, token, position) for token in range(60) if token != winner]
        assert min(found[0] for found in others) > 0.0
        assert {found[1] for found in others} == {gap}


@pytest.mark.parametrize("sampler", BOTH)
def test_a_filtered_token_has_an_infinite_margin(sampler):
    noise = open_noise(build_request(sampler, top_k=3))
    margins = [noise.compute_margin(LOGITS, token, 0)[0] for token in range(8)]
    assert [math.isinf(margin) for margin in margins] == [False] * 3 + [True] * 5


@pytest.mark.parametrize("sampler", BOTH)
def test_a_token_that_stands_alone_has_an_infinite_gap(sampler):
    assert open_noise(build_request(sampler, top_k=1)).compute_margin(LOGITS, 0, 0) == (0.0, math.inf)


@pytest.mark.parametrize("sampler", BOTH)
def test_a_little_numerical_noise_costs_little_margin(sampler):
    request, source = build_request(sampler), np.random.default_rng(5)
    drawing, checking = open_noise(request), open_noise(request)
    margins = []
    for position, logits in enumerate(draw_rows(2000, 300, spread=2.5)):
        wobble = (source.normal(size=2000) * 0.02).astype(np.float32)
        margins.append(checking.compute_margin(logits + wobble, drawing.draw(logits, position), position)[0])
    assert max(margins) < 0.2
    assert np.mean(margins) < 0.01


@pytest.mark.parametrize("sampler", BOTH)
def test_another_seed_costs_a_large_margin(sampler):
    drawing, checking = open_noise(build_request(sampler, seed=1)), open_noise(build_request(sampler, seed=2))
    margins = [
        checking.compute_margin(logits, drawing.draw(logits, position), position)[0]
        for position, logits in enumerate(draw_rows(2000, 100, spread=1.5))
    ]
    assert np.minimum(margins, 0.5).mean() > 0.3


def test_exponential_margins_are_differences_of_scores():
    request = build_request(SAMPLER_EXPONENTIAL, temperature=0.8)
    noise = ExponentialNoise(request.seed).read(0, 8)
    scores = LOGITS.astype(float) + 0.8 * noise.compute_gumbel(np.arange(8))
    best, second = np.sort(scores)[::-1][:2]
    for token in range(8):
        margin, gap = compute_seeded_margin(LOGITS, token, request, 0)
        assert (margin, gap) == (pytest.approx(best - scores[token]), pytest.approx(best - second))


def compute_costs_in_turn(logits: np.ndarray, uniform: float, temperature: float, token: int) -> tuple[float, float]:
    """Margin and gap by their definition: the token at every place of the line, one after the other."""
    values = logits.astype(np.float64)
    weights = np.exp((values - values.max()) / temperature)
    order = np.argsort(-values, kind="stable").tolist()
    others = [other for other in order if other != token]
    aim = temperature * (math.log(uniform) - math.log1p(-uniform))
    inside, outside = [], []
    for place in range(len(order)):
        before = weights[others[:place]].sum()
        after = weights[others[place:]].sum()
        lower = temperature * math.log(before / (after + weights[token])) if before else -math.inf
        upper = temperature * math.log((before + weights[token]) / after) if after else math.inf
        own = order.index(token)
        passed = token if place == own else others[place if place < own else place - 1]
        cost = abs(values[token] - values[passed])
        inside.append(cost + max(lower - aim, aim - upper, 0.0))
        outside.append(cost + max(min(aim - lower, upper - aim), 0.0))
    return min(inside), min(outside)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_inverse_cdf_margins_are_the_cheapest_disturbance(temperature):
    source = np.random.default_rng(4)
    for _ in range(150):
        logits = (source.normal(size=source.integers(1, 12)) * source.choice([0.2, 2.0])).astype(np.float32)
        uniform = (int(source.integers(2**52)) + 0.5) / 2**52
        line = Line.build(logits, uniform, temperature, 1.0, 0)
        for token in range(len(logits)):
            margin, gap = compute_costs_in_turn(logits, uniform, temperature, token)
            assert line.compute_margin(token) == pytest.approx(margin, abs=1e-5)
            if token == line.find_winner():
                assert line.compute_gap(token) == pytest.approx(gap, abs=1e-5)


def test_neighbours_that_change_places_cost_their_difference_and_no_more():
    request = build_request(SAMPLER_INVERSE_CDF, seed=42)
    assert compute_uniform(42, 0) < 0.02
    drawn_from = np.array([1.0, 1.001, -5.0], dtype=np.float32)
    checked_in = np.array([1.001, 1.0, -5.0], dtype=np.float32)
    token = open_noise(request).draw(drawn_from, 0)
    margin, _ = compute_seeded_margin(checked_in, token, request, 0)
    assert margin == pytest.approx(0.001, abs=1e-5)


def test_uniform_numbers_are_apart_from_the_noise_of_gumbel():
    from models.sampler import philox4x32_10

    words = philox4x32_10(tuple(np.uint64(word) for word in (0, 3, 0, 0)), (np.uint64(8), np.uint64(0)))
    assert int(compute_uniform(8, 3) * 2**24) != int(words[0]) >> 8


REFUSED = [
    ("no seed", {"seed": None, "sampler": "none"}, "seed"),
    ("our default sampler, which needs no state", {"sampler": SAMPLER_GUMBEL}, "sampler"),
    ("no sampler", {"sampler": "none"}, "sampler"),
]


@pytest.mark.parametrize(("name", "changes", "field"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_opening_noise_refuses(name, changes, field):
    with pytest.raises(InvalidInput) as refusal:
        open_noise(build_request(**{"sampler": SAMPLER_INVERSE_CDF, **changes}))
    assert refusal.value.field == field


@pytest.mark.parametrize("position", [-1, 2**32])
def test_uniform_numbers_refuse_positions_out_of_range(position):
    with pytest.raises(InvalidInput):
        compute_uniform(1, position)
