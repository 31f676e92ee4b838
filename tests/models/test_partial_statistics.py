"""Twenty named tokens against all logits: bounds that hold, always in the provider's favour."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.partial_statistics import (
    TOP,
    PartialStatistics,
    ToldPosition,
    compute_alternative_logprobs,
    compute_partial_statistics,
)
from models.requests import SAMPLER_EXPONENTIAL, SAMPLER_GUMBEL, SAMPLER_INVERSE_CDF, SAMPLER_NONE, ReferenceRequest
from models.sampler import compute_kept_tokens
from models.samplers_seeded import open_noise
from models.token_statistics import PositionStatistics, compute_position_statistics
from scoring.errors import InvalidInput

SIZE = 400
SLACK = 2e-3
"""Exact columns drop the far tail of a top-p set (`models.token_statistics`) and are rounded."""


def draw_row(seed: int, spread: float) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SIZE) * spread).astype(np.float32)


def tell(row: np.ndarray, token: int) -> ToldPosition:
    """What a server would say of a row of logits."""
    logprobs = row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))
    order = sorted(range(len(row)), key=lambda one: (-logprobs[one], one))[:TOP]
    return ToldPosition(
        token_ids=tuple(order),
        logprobs=tuple(float(logprobs[one]) for one in order),
        claimed=float(logprobs[token]),
        place=order.index(token) if token in order else TOP,
    )


def build_request(token: int, **changes: object) -> ReferenceRequest:
    return ReferenceRequest(prompt_ids=(1,), output_ids=(token,), **changes)  # type: ignore[arg-type]


rows = st.builds(draw_row, st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 3.0, 8.0]))
places = st.integers(0, SIZE - 1)


def pick(row: np.ndarray, place: int) -> int:
    """A token by its place from the top: half of the tests look at named ones."""
    return int(np.argsort(-row, kind="stable")[place if place >= SIZE // 2 else place % TOP])


def score_both(row: np.ndarray, token: int, **changes: object) -> tuple[PositionStatistics, PartialStatistics]:
    """Return what all logits say of a token, and what the named ones do."""
    request = build_request(token, **changes)
    exact = compute_position_statistics(row, token, request, 0)
    return exact, compute_partial_statistics([tell(row, token)], request, SIZE)


@settings(max_examples=150)
@given(rows, places)
def test_the_exact_grid_lies_between_the_bounds(row, place) -> None:
    exact, found = score_both(row, pick(row, place))
    for low, value, high in zip(found.grid_logprob[0], exact.grid_logprob, found.grid_claimed_logprob[0], strict=True):
        assert low <= value + SLACK
        assert value <= high + SLACK


@settings(max_examples=100)
@given(rows, places, st.sampled_from([0.6, 0.9, 1.0, 1.3]), st.sampled_from([0.8, 1.0]), st.sampled_from([0, 5, 50]))
def test_a_claim_is_never_understated_nor_an_alternative_overstated(row, place, temperature, top_p, top_k) -> None:
    token = pick(row, place)
    request = build_request(token, temperature=temperature, top_p=top_p, top_k=top_k)
    exact = compute_position_statistics(row, token, request, 0).logprob
    told = [tell(row, token)]
    assert compute_partial_statistics(told, request, SIZE).logprob[0] >= exact - SLACK
    assert compute_alternative_logprobs(told, request, SIZE)[0] <= exact + SLACK


@settings(max_examples=4)
@given(rows)
def test_probabilities_of_an_alternative_sum_to_one_at_most(row) -> None:
    for temperature, top_p in ((0.8, 1.0), (1.25, 1.0), (1.0, 0.9)):
        request = build_request(0, temperature=temperature, top_p=top_p)
        each = [compute_alternative_logprobs([tell(row, token)], request, SIZE)[0] for token in range(SIZE)]
        assert sum(math.exp(value) for value in each) <= 1.0 + 1e-6


@pytest.mark.parametrize("sampler", [SAMPLER_GUMBEL, SAMPLER_EXPONENTIAL])
def test_margins_are_never_above_the_exact_ones_and_mostly_equal(sampler) -> None:
    pairs = []
    for seed in range(60):
        row = draw_row(seed, 3.0)
        token = pick(row, seed * 6)
        request = build_request(token, seed=seed, sampler=sampler)
        exact, _ = (
            open_noise(request).compute_margin(row, token, 0)
            if sampler == SAMPLER_EXPONENTIAL
            else (compute_position_statistics(row, token, request, 0).margin, 0.0)
        )
        (margin,) = compute_partial_statistics([tell(row, token)], request, SIZE).margin or (math.nan,)
        pairs.append((margin, exact))
    assert all(margin <= exact + 1e-4 for margin, exact in pairs)
    assert sum(abs(margin - exact) < 1e-3 for margin, exact in pairs) > 40


@settings(max_examples=150)
@given(rows, places, st.sampled_from([0.8, 1.0, 1.4]), st.sampled_from([0.5, 0.9, 0.95]), st.sampled_from([0, 5, 50]))
def test_a_filter_that_needs_the_other_tokens_never_makes_a_margin_larger(
    row, place, temperature, top_p, top_k
) -> None:
    token = pick(row, place)
    request = build_request(
        token, seed=place, sampler=SAMPLER_GUMBEL, temperature=temperature, top_p=top_p, top_k=top_k
    )
    exact = compute_position_statistics(row, token, request, 0).margin
    (margin,) = compute_partial_statistics([tell(row, token)], request, SIZE).margin or (math.nan,)
    # At the border of a set the exact rows drop the far tail: either may hold one token more there.
    assert margin <= (exact or 0.0) + 1e-4 or is_at_the_border(row, token, request)


def is_at_the_border(row: np.ndarray, token: int, request: ReferenceRequest) -> bool:
    kept = [
        len(compute_kept_tokens(row, request.temperature, min(request.top_p + change, 1.0), request.top_k))
        for change in (-1e-3, 1e-3)
    ]
    return kept[0] != kept[1]


@settings(max_examples=60)
@given(rows, places, st.sampled_from([0.8, 1.0, 1.4]))
def test_the_mass_before_a_token_is_never_overstated(row, place, temperature) -> None:
    token = pick(row, place)
    request = build_request(token, temperature=temperature)
    exact = compute_position_statistics(row, token, request, 0).pit_low
    assert compute_partial_statistics([tell(row, token)], request, SIZE).mass_before[0] <= exact + 1e-4


@pytest.mark.parametrize("changes", [{"sampler": SAMPLER_NONE}, {"sampler": SAMPLER_INVERSE_CDF, "seed": 4}])
def test_without_noise_that_some_tokens_show_there_are_no_margins(changes) -> None:
    row = draw_row(1, 3.0)
    found = compute_partial_statistics([tell(row, 7)], build_request(7, **changes), SIZE)
    assert found.margin is None
    assert found.gap is None


@given(rows, places)
def test_the_pit_interval_holds_the_exact_one(row, place) -> None:
    exact, found = score_both(row, pick(row, place))
    assert found.pit_low[0] <= exact.pit_low + 1e-4
    assert exact.pit_high <= found.pit_high[0] + 1e-4


@given(rows)
def test_the_entropy_is_known_before_the_token_is(row) -> None:
    named, other = pick(row, 3), pick(row, SIZE - 5)
    values = {
        compute_partial_statistics([tell(row, token)], build_request(token), SIZE).entropy[0]
        for token in (named, other)
    }
    assert max(values) - min(values) < 1e-9


def test_temperature_0_has_the_margin_of_all_logits() -> None:
    row = draw_row(5, 3.0)
    exact, found = score_both(row, pick(row, 2), temperature=0.0)
    assert found.margin == pytest.approx((exact.margin,), abs=1e-4)
    assert found.logprob == (-math.inf,)


def test_an_answer_needs_a_position_for_each_token() -> None:
    with pytest.raises(InvalidInput, match="one position for each token"):
        compute_partial_statistics([], build_request(3), SIZE)
