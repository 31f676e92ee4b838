"""The trust score over whole networks: bounded, monotone, deaf to a minority, deaf to a crowd of tiny seats."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trust_network import HONEST, PARAMETERS, build_set, honest, reveal_of, score

from scoring.records import PPM
from scoring.trust import (
    Parts,
    TrustParameters,
    compute_trust,
)

outcome_strategy = st.builds(
    lambda ttft, latency, tokens, g, similarity: {
        "ttft_ms": ttft,
        "latency_ms": latency,
        "output_tokens": tokens,
        "statistics_ppm": (g, 0),
        "has_similarity": similarity is not None,
        "similarity_ppm": similarity or 0,
    },
    st.integers(0, 5_000),
    st.integers(1, 20_000),
    st.integers(0, 200),
    st.integers(0, PPM),
    st.none() | st.integers(0, PPM),
)
seat_strategy = st.lists(st.none() | outcome_strategy, max_size=6)
answered_seat_strategy = st.builds(
    lambda others, answer, place: [*others[:place], answer, *others[place:]],
    st.lists(st.none() | outcome_strategy, max_size=5),
    outcome_strategy,
    st.integers(0, 5),
)
"""Every seat of `seat_strategy` that has an answer, made rather than waited for."""


@settings(deadline=None)
@given(st.lists(seat_strategy, min_size=4, max_size=4), st.lists(st.integers(0, 10**24), min_size=4, max_size=4))
def test_the_score_is_bounded_and_an_integer(drawn: list[Any], stakes: list[int]) -> None:
    item = score(*(reveal_of(seat, changes) for seat, changes in enumerate(drawn)), validator_set=build_set(*stakes))
    assert 0 <= item.trust_low <= item.trust <= item.trust_high <= 1000
    for field in fields(item):
        assert isinstance(getattr(item, field.name), int | bytes)
        if field.name.endswith("_ppm") and "multiplier" not in field.name:
            assert 0 <= getattr(item, field.name) <= PPM
    assert PPM <= item.speed_multiplier_ppm <= 1_200_000
    assert PPM <= item.quality_multiplier_ppm <= 1_500_000


GOOD_CHANGES: dict[str, Any] = {
    "ttft_ms": lambda changes: {"ttft_ms": changes["ttft_ms"] // 2},
    "latency_ms": lambda changes: {"latency_ms": max(1, changes["latency_ms"] // 2)},
    "statistics_ppm": lambda changes: {"statistics_ppm": (changes["statistics_ppm"][0] // 2, 0)},
    "similarity_ppm": lambda changes: {"similarity_ppm": (changes["similarity_ppm"] + PPM) // 2},
}
PART_OF = {
    "ttft_ms": "latency_ppm",
    "latency_ms": "throughput_ppm",
    "statistics_ppm": "accuracy_ppm",
    "similarity_ppm": "accuracy_ppm",
}


@pytest.mark.parametrize("better", sorted(GOOD_CHANGES))
@settings(deadline=None, max_examples=60)
@given(drawn=st.lists(seat_strategy, min_size=4, max_size=4), data=st.data())
def test_one_better_answer_never_lowers_its_part(better: str, drawn: list[Any], data: st.DataObject) -> None:
    places = [(s, i) for s, seat in enumerate(drawn) for i, changes in enumerate(seat) if changes is not None]
    assume(places)
    seat, index = data.draw(st.sampled_from(places))
    improved = [list(changes) for changes in drawn]
    improved[seat][index] = {**drawn[seat][index], **GOOD_CHANGES[better](drawn[seat][index])}
    before = score(*(reveal_of(s, changes) for s, changes in enumerate(drawn)))
    after = score(*(reveal_of(s, changes) for s, changes in enumerate(improved)))
    assert getattr(after, PART_OF[better]) >= getattr(before, PART_OF[better])
    if better != "statistics_ppm":  # Fidelity that one seat alone sees rise may lower agreement, a part of its own.
        assert (after.trust, after.trust_low, after.trust_high) >= (before.trust, before.trust_low, before.trust_high)


@settings(deadline=None, max_examples=60)
@given(st.lists(seat_strategy, min_size=4, max_size=4), st.data())
def test_an_answer_in_place_of_a_fault_never_lowers_uptime(drawn: list[Any], data: st.DataObject) -> None:
    places = [(s, i) for s, seat in enumerate(drawn) for i, changes in enumerate(seat) if changes is None]
    assume(places)
    seat, index = data.draw(st.sampled_from(places))
    improved = [list(changes) for changes in drawn]
    improved[seat][index] = data.draw(outcome_strategy)
    before = score(*(reveal_of(s, changes) for s, changes in enumerate(drawn)))
    after = score(*(reveal_of(s, changes) for s, changes in enumerate(improved)))
    assert after.uptime_ppm >= before.uptime_ppm
    assert after.availability_ppm >= before.availability_ppm


parts_strategy = st.lists(st.integers(0, PPM), min_size=6, max_size=6)
PART_NAMES = [field.name for field in fields(Parts)]


@settings(deadline=None)
@given(parts_strategy, parts_strategy, st.sets(st.sampled_from(PART_NAMES)))
def test_the_score_is_monotone_in_every_part(first: list[int], second: list[int], absent: set[str]) -> None:
    def parts(values: list[int]) -> Parts:
        return Parts(**{n: None if n in absent else v for n, v in zip(PART_NAMES, values, strict=True)})

    low, high = (
        [min(pair) for pair in zip(first, second, strict=True)],
        [max(p) for p in zip(first, second, strict=True)],
    )
    assert 0 <= compute_trust(parts(low), PARAMETERS) <= compute_trust(parts(high), PARAMETERS) <= 1000


@settings(deadline=None, max_examples=100)
@given(
    st.lists(answered_seat_strategy, min_size=3, max_size=3),
    st.lists(seat_strategy, min_size=2, max_size=2),
    st.data(),
)
def test_a_minority_cannot_move_a_measured_share_out_of_the_honest_range(
    drawn: list[Any], lies: list[Any], data: st.DataObject
) -> None:
    """Two liars with together less than a third of the stake say what they like about three honest seats' offer."""
    stakes = [data.draw(st.integers(1, 10**24)) for _ in range(3)]
    lying = [data.draw(st.integers(0, (sum(stakes) - 1) // 4)) for _ in range(2)]
    assert 3 * sum(lying) < sum(stakes) + sum(lying)
    exact = TrustParameters(z_milli=0, interval_z_milli=0)
    without = {"has_similarity": False, "similarity_ppm": 0}  # accuracy is then fidelity alone
    told = [[changes and {**changes, **without} for changes in seat] for seat in (*drawn, *lies)]
    reveals = [reveal_of(seat, changes) for seat, changes in enumerate(told)]
    alone = [score(reveal, validator_set=build_set(*stakes), parameters=exact) for reveal in reveals[:3]]
    together = score(*reveals, validator_set=build_set(*stakes, *lying), parameters=exact)
    for name in ("accuracy_ppm", "uptime_ppm", "latency_ppm", "throughput_ppm", "availability_ppm"):
        honest_values = [getattr(item, name) for item in alone]
        assert min(honest_values) <= getattr(together, name) <= max(honest_values)


def test_a_crowd_of_tiny_seats_adds_no_certainty() -> None:
    crowd = build_set(*[10**24] * 4, *[1] * 60)
    reveals = (*HONEST, *(honest(seat) for seat in range(4, 64)))
    assert score(*reveals, validator_set=crowd).samples == 200
