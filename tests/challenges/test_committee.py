"""The draw of a committee."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenges.committee import compute_committee_seed, draw_committee
from scoring.errors import InvalidInput

CANDIDATES = [(bytes([index]) * 20, stake) for index, stake in enumerate((100, 200, 300, 400))]
stakes = st.lists(st.integers(min_value=0, max_value=10**30), min_size=1, max_size=20)


@given(st.binary(min_size=32, max_size=32), stakes, st.integers(min_value=1, max_value=25))
def test_draws_each_eligible_candidate_at_most_once(seed: bytes, stake_list: list[int], size: int) -> None:
    candidates = [(index.to_bytes(20, "big"), stake) for index, stake in enumerate(stake_list)]
    excluded = {candidates[0][0]}
    eligible = {address for address, stake in candidates if stake and address not in excluded}
    drawn = draw_committee(seed, candidates, size, excluded)
    assert len(drawn) == len(set(drawn)) == min(size, len(eligible))
    assert set(drawn) <= eligible


def test_the_draw_follows_the_stake() -> None:
    draws = Counter(draw_committee(i.to_bytes(32, "big"), CANDIDATES, 1, ())[0] for i in range(4000))
    for address, stake in CANDIDATES:
        assert abs(draws[address] / 4000 - stake / 1000) < 0.03


def test_the_second_seat_follows_the_stake_that_is_left() -> None:
    pairs = [draw_committee(i.to_bytes(32, "big"), CANDIDATES, 2, ()) for i in range(6000)]
    after_last = [second for first, second in pairs if first == CANDIDATES[3][0]]
    for address, stake in CANDIDATES[:3]:
        assert abs(after_last.count(address) / len(after_last) - stake / 600) < 0.05


def test_the_same_seed_gives_the_same_committee() -> None:
    assert draw_committee(b"\x01" * 32, CANDIDATES, 3, ()) == draw_committee(b"\x01" * 32, CANDIDATES, 3, ())


def test_the_seed_depends_on_network_challenge_and_randomness() -> None:
    seeds = {
        compute_committee_seed(a, b, c)
        for a, b, c in ((b"n", b"c", b"m"), (b"o", b"c", b"m"), (b"n", b"d", b"m"), (b"n", b"c", b"o"))
    }
    assert len(seeds) == 4


def test_nobody_eligible_makes_an_empty_committee() -> None:
    assert draw_committee(bytes(32), CANDIDATES, 3, {address for address, _ in CANDIDATES}) == ()


def test_refuses_a_committee_without_seats_and_a_candidate_that_stands_twice() -> None:
    with pytest.raises(InvalidInput, match="size"):
        draw_committee(bytes(32), CANDIDATES, 0, ())
    with pytest.raises(InvalidInput, match="candidates"):
        draw_committee(bytes(32), [CANDIDATES[0], CANDIDATES[0]], 1, ())
