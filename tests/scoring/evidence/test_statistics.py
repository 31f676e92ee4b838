"""Request statistics: bounded, monotone, silent on answers without information, strict on nonsense."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.statistics import STATISTIC_IDS, STATISTICS, compute_statistics, find_statistic

INF = math.inf
TEXT = ("text-grid-ratio-v2",)
MARGINS = ("seeded-margin-fine-v1", "seeded-margin-coarse-v1", "seeded-excess-v1")


@dataclass(frozen=True)
class Tokens:
    logprob: tuple[float, ...] = ()
    grid_logprob: tuple[tuple[float, ...], ...] = ()
    margin: tuple[float, ...] | None = ()
    gap: tuple[float, ...] | None = ()


def build_tokens(margins, gap=1.0, logprob=-1.0, grid=(-1.1, -0.95)):
    n = len(margins)
    return Tokens(logprob=(logprob,) * n, grid_logprob=(grid,) * n, margin=tuple(margins), gap=(gap,) * n)


finite = st.floats(-30, 0)
rows = st.tuples(
    st.one_of(finite, st.just(-INF)),
    st.lists(st.one_of(finite, st.just(-INF)), min_size=3, max_size=3),
    st.one_of(st.just(0.0), st.floats(0, 50), st.just(INF)),
    st.one_of(st.floats(0, 50), st.just(INF)),
)


@given(st.lists(rows, max_size=20), st.integers(1, 20))
def test_every_statistic_is_an_integer_from_zero_to_one_million(answer, max_tokens):
    tokens = Tokens(*(tuple(column) for column in zip(*answer, strict=True))) if answer else Tokens()
    values = compute_statistics(tokens, max_tokens)
    assert len(values) == len(STATISTIC_IDS)
    assert all(type(value) is int and 0 <= value <= 1_000_000 for value in values)


def test_an_empty_answer_scores_zero():
    assert set(compute_statistics(Tokens(), 48)) == {0}


def test_a_deterministic_answer_that_fits_scores_zero():
    certain = build_tokens([0.0] * 48, gap=25.0, logprob=0.0, grid=(0.0, 0.0))
    assert set(compute_statistics(certain, 48)) == {0}


def test_seeded_statistics_score_zero_without_a_seed():
    tokens = replace(build_tokens([1.0] * 48), margin=None, gap=None)
    values = dict(zip(STATISTIC_IDS, compute_statistics(tokens, 48), strict=True))
    assert all(values[spec.id] == 0 for spec in STATISTICS if spec.needs_seed)


def test_larger_margins_never_score_less():
    for statistic in STATISTIC_IDS:
        scores = [
            compute_statistics(build_tokens([margin] * 3 + [0.0] * 45), 48, (statistic,))[0]
            for margin in (0.0, 0.01, 0.05, 0.2, 0.6, 3.0, INF)
        ]
        assert scores == sorted(scores)


@pytest.mark.parametrize(
    ("statistic", "margins", "expected"),
    [
        ("seeded-margin-fine-v1", [0.12] + [0.0] * 47, 100_000),  # 0.12 / 48 / 0.5 / 0.05
        ("seeded-margin-fine-v1", [0.5] * 3 + [0.0] * 45, 1_000_000),
        ("seeded-margin-coarse-v1", [0.48] + [0.0] * 47, 100_000),  # 0.48 / 48 / 0.5 / 0.2
        ("seeded-margin-coarse-v1", [INF] * 6 + [0.0] * 42, 625_000),
        ("seeded-excess-v1", [0.15] * 48, 0),
        ("seeded-excess-v1", [0.27] + [0.1] * 47, 100_000),
    ],
)
def test_margins_by_hand(statistic, margins, expected):
    assert compute_statistics(build_tokens(margins), 48, (statistic,))[0] == pytest.approx(expected, abs=1)


def test_one_odd_token_of_a_short_answer_is_not_taken_for_a_rate():
    short, long = build_tokens([0.16]), build_tokens([0.16] * 24)
    for statistic in MARGINS:
        (one,), (all_of_them,) = compute_statistics(short, 48, (statistic,)), compute_statistics(long, 48, (statistic,))
        assert one * 20 < all_of_them or all_of_them == 1_000_000


def test_a_flip_where_the_gap_is_small_is_forgiven_and_elsewhere_not():
    small = build_tokens([0.05] + [0.0] * 47, gap=2.0)
    large = build_tokens([1.5] + [0.0] * 47, gap=2.0)
    assert compute_statistics(small, 48, ("seeded-gap-ratio-v1",)) < (100_000,)
    assert compute_statistics(large, 48, ("seeded-gap-ratio-v1",)) > (900_000,)


def test_text_ratio_is_one_sided():
    worse = build_tokens([0.0] * 48, grid=(-1.5, -2.0))
    better = build_tokens([0.0] * 48, grid=(-0.8, -2.0))
    assert compute_statistics(worse, 48, TEXT) == (0,)
    assert compute_statistics(better, 48, TEXT)[0] > 900_000


def test_text_ratio_by_hand():
    tokens = build_tokens([0.0] * 10, grid=(-0.9, -INF))  # log ratio 1, half of the mixture
    assert compute_statistics(tokens, 48, TEXT)[0] == pytest.approx(1e6 * (1 - math.exp(-(1 - math.log(2)) / 2)), abs=1)


def test_a_token_that_both_filters_removed_says_nothing():
    tokens = build_tokens([0.0] * 10, logprob=-INF, grid=(-INF, -INF))
    assert compute_statistics(tokens, 48, TEXT) == (0,)


def test_positions_beyond_max_tokens_are_not_looked_at():
    inside = build_tokens([0.01] * 8)
    beyond = build_tokens([0.01] * 8 + [5.0] * 8)
    assert compute_statistics(inside, 8) == compute_statistics(beyond, 8)


def test_statistics_come_in_the_order_asked_for():
    tokens = build_tokens([0.05] * 4 + [0.0] * 44)
    everything = dict(zip(STATISTIC_IDS, compute_statistics(tokens, 48), strict=True))
    backwards = compute_statistics(tokens, 48, STATISTIC_IDS[::-1])
    assert backwards == tuple(everything[name] for name in STATISTIC_IDS[::-1])


def test_ids_are_versioned_and_distinct():
    assert len(set(STATISTIC_IDS)) == len(STATISTIC_IDS)
    assert all(name.rsplit("-", 1)[1].startswith("v") for name in STATISTIC_IDS)


@pytest.mark.parametrize("column", ["logprob", "margin", "gap", "grid_logprob"])
def test_refuses_nan(column):
    tokens = build_tokens([0.0] * 3)
    spoiled = (math.nan,) * 3 if column != "grid_logprob" else ((0.0, math.nan),) * 3
    with pytest.raises(InvalidInput, match="NaN"):
        compute_statistics(replace(tokens, **{column: spoiled}), 48)


def test_refuses_unknown_ids_and_no_tokens():
    with pytest.raises(InvalidInput, match="unknown statistic"):
        find_statistic("seeded-margin-fine-v0")
    with pytest.raises(InvalidInput, match="unknown statistic"):
        compute_statistics(Tokens(), 48, ("nothing",))
    with pytest.raises(InvalidInput, match="max_tokens"):
        compute_statistics(Tokens(), 0)
