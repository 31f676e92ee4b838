"""Similarity is measured against the references' own, in integers."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.similarity import compute_cosine_ppm, compute_similarity_percentile_ppm, compute_similarity_ppm


def unit(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def test_the_cosine_is_the_textbook_one() -> None:
    assert compute_cosine_ppm([1.0, 0.0], unit(60)) == 500_000
    assert compute_cosine_ppm([2.0, 0.0], [-3.0, 0.0]) == -1_000_000


def test_an_answer_among_the_references_scores_full() -> None:
    assert compute_similarity_ppm(unit(10), [unit(0), unit(20), unit(-20), unit(40)]) == 1_000_000


def test_an_answer_far_from_all_references_scores_nothing() -> None:
    assert compute_similarity_ppm(unit(170), [unit(0), unit(20), unit(-20), unit(40)]) == 0


def test_the_same_distance_counts_less_where_the_references_agree() -> None:
    answer = unit(25)
    assert compute_similarity_ppm(answer, [unit(0), unit(30), unit(60)]) > compute_similarity_ppm(
        answer, [unit(0), unit(1), unit(2)]
    )


def test_identical_references_and_answer_tie_and_score_full() -> None:
    assert compute_similarity_ppm(unit(5), [unit(5), unit(5)]) == 1_000_000


def test_a_comparison_is_lost_in_proportion_and_then_in_full() -> None:
    assert compute_similarity_percentile_ppm([1_000_000], [1_000_000]) == 500_000
    assert compute_similarity_percentile_ppm([900_000], [1_000_000]) == 250_000
    assert compute_similarity_percentile_ppm([800_000], [1_000_000]) == 0
    assert compute_similarity_percentile_ppm([800_000], [600_000]) == 1_000_000


def test_an_answer_drawn_like_the_references_is_at_the_middle_on_average() -> None:
    angles = (3, 11, 40, 55)
    shares = []
    for mine in angles:
        references = [unit(angle) for angle in angles if angle != mine]
        to_answer = [compute_cosine_ppm(unit(mine), reference) for reference in references]
        among = [compute_cosine_ppm(left, right) for left, right in combinations(references, 2)]
        shares.append(compute_similarity_percentile_ppm(to_answer, among))
    assert sum(shares) / len(shares) == pytest.approx(500_000, abs=2)


REFUSED = {
    "no reference": lambda: compute_similarity_ppm([1.0], []),
    "one reference": lambda: compute_similarity_ppm([1.0], [[1.0]]),
    "different lengths": lambda: compute_cosine_ppm([1.0], [1.0, 0.0]),
    "empty vectors": lambda: compute_cosine_ppm([], []),
    "zero vector": lambda: compute_cosine_ppm([0.0, 0.0], [1.0, 0.0]),
    "not a number": lambda: compute_cosine_ppm([math.nan, 0.0], [1.0, 0.0]),
    "infinite": lambda: compute_cosine_ppm([math.inf, 0.0], [1.0, 0.0]),
    "overflowing": lambda: compute_cosine_ppm([1e300, 0.0], [1e300, 0.0]),
    "no cosines": lambda: compute_similarity_percentile_ppm([], [1]),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refuses(case) -> None:
    with pytest.raises(InvalidInput):
        case()


ppm = st.integers(-1_000_000, 1_000_000)


@given(st.lists(ppm, min_size=1, max_size=6), st.lists(ppm, min_size=1, max_size=6), st.integers(0, 50_000))
def test_a_closer_answer_never_has_a_lower_percentile(answer, references, step) -> None:
    before = compute_similarity_percentile_ppm(answer, references)
    after = compute_similarity_percentile_ppm([value + step for value in answer], references)
    assert 0 <= before <= after <= 1_000_000


@given(st.lists(ppm, min_size=1, max_size=6), st.lists(ppm, min_size=1, max_size=6))
def test_swapping_the_sides_mirrors_the_percentile(left, right) -> None:
    total = compute_similarity_percentile_ppm(left, right) + compute_similarity_percentile_ppm(right, left)
    assert 999_999 <= total <= 1_000_000
