"""What an infraction costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenges.penalty import (
    TIERS,
    WEI_PER_QUIV,
    compute_class,
    compute_slash_wei,
    compute_tier,
    verify_slash_bps,
    verify_tiers,
)
from scoring.errors import InvalidInput
from scoring.trust import Infraction

TIER_STARTS = [("bronze", 10_000), ("silver", 50_000), ("gold", 250_000), ("platinum", 1_000_000)]


@pytest.mark.parametrize(("name", "stake"), TIER_STARTS)
def test_a_tier_starts_at_its_minimum_stake_and_not_a_wei_below(name: str, stake: int) -> None:
    tier = compute_tier(stake * WEI_PER_QUIV, TIERS)
    below = compute_tier(stake * WEI_PER_QUIV - 1, TIERS)
    assert tier is not None and tier.name == name
    assert below is None or below.name != name


@pytest.mark.parametrize(("stake", "cap_bps"), [(10_000, 500), (50_000, 1000), (250_000, 1500), (1_000_000, 2000)])
def test_the_tier_caps_the_slash(stake: int, cap_bps: int) -> None:
    stake_wei = stake * WEI_PER_QUIV
    assert compute_slash_wei(stake_wei, 2000, TIERS) == stake_wei * cap_bps // 10_000
    assert compute_slash_wei(stake_wei, 100, TIERS) == stake_wei // 100


def test_a_provider_below_every_tier_keeps_the_lowest_cap() -> None:
    assert compute_slash_wei(1_000_000, 2000, TIERS) == 50_000


@given(st.integers(min_value=0, max_value=2**120), st.integers(min_value=0, max_value=10_000))
def test_a_slash_rounds_down_and_never_exceeds_share_or_cap(stake_wei: int, slash_bps: int) -> None:
    amount_wei = compute_slash_wei(stake_wei, slash_bps, TIERS)
    assert 0 <= amount_wei * 10_000 <= stake_wei * min(slash_bps, 2000)


CLASSES = {100: "minor", 499: "minor", 500: "major", 1499: "major", 1500: "severe", 2000: "severe"}


@pytest.mark.parametrize(("slash_bps", "infraction"), CLASSES.items())
def test_the_share_names_the_class_and_the_graver_one_where_two_touch(slash_bps: int, infraction: str) -> None:
    assert compute_class(slash_bps) == infraction


@pytest.mark.parametrize("slash_bps", [0, 99, 2001, 10_000])
def test_refuses_a_share_outside_every_class(slash_bps: int) -> None:
    with pytest.raises(InvalidInput, match="slash_bps"):
        compute_class(slash_bps)


OUTSIDE = {"minor too much": (Infraction.MINOR, 501), "major too little": (Infraction.MAJOR, 499)}


@pytest.mark.parametrize(("infraction", "slash_bps"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_refuses_a_share_outside_its_class(infraction: Infraction, slash_bps: int) -> None:
    verify_slash_bps(Infraction.SEVERE, 2000)
    with pytest.raises(InvalidInput, match="slash_bps"):
        verify_slash_bps(infraction, slash_bps)
    with pytest.raises(InvalidInput, match="infraction"):
        verify_slash_bps(Infraction.BANNED, 2000)


def test_refuses_tiers_that_do_not_rise() -> None:
    verify_tiers(TIERS)
    for tiers in ((), TIERS[::-1], (TIERS[0], TIERS[0])):
        with pytest.raises(InvalidInput, match="tier"):
            verify_tiers(tiers)
