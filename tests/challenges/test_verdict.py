"""From votes to a verdict, and from a verdict to payments."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenges.payout import ChallengeTerms, compute_payout
from challenges.verdict import Verdict, Vote, compute_verdict
from scoring.errors import InvalidInput

SCALE = 10**18
HIGH, LOW, BETWEEN = 300 * SCALE, SCALE, 50 * SCALE
TERMS = ChallengeTerms(
    filing_fee_wei=10,
    bond_wei=101,
    reward_wei=60,
    member_fee_wei=5,
    committee_size=3,
    draw_delay_epochs=2,
    commit_epochs=2,
    reveal_epochs=2,
)
MEMBERS = [b"\x01" * 20, b"\x02" * 20, b"\x03" * 20]

VERDICTS: dict[str, tuple[list[int | None], Verdict]] = {
    "all high": ([HIGH, HIGH, HIGH], Verdict.UPHELD),
    "two of three high": ([HIGH, HIGH, 0], Verdict.UPHELD),
    "exactly at the threshold": ([HIGH, HIGH, None], Verdict.UPHELD),
    "a unit below the threshold": ([HIGH - 1, HIGH - 1, HIGH], Verdict.INCONCLUSIVE),
    "half of an even committee": ([HIGH, HIGH, LOW, LOW], Verdict.INCONCLUSIVE),
    "one high and two silent": ([HIGH, None, None], Verdict.INCONCLUSIVE),
    "all at most one": ([LOW, 0, LOW], Verdict.REJECTED),
    "a unit above one": ([LOW + 1, LOW + 1, 0], Verdict.INCONCLUSIVE),
    "one low and two silent": ([LOW, None, None], Verdict.INCONCLUSIVE),
    "between": ([BETWEEN, BETWEEN, BETWEEN], Verdict.INCONCLUSIVE),
    "nobody": ([None, None, None], Verdict.INCONCLUSIVE),
    "no committee": ([], Verdict.INCONCLUSIVE),
}


@pytest.mark.parametrize(("votes", "verdict"), VERDICTS.values(), ids=VERDICTS.keys())
def test_the_verdict_needs_more_than_half_of_all_seats(votes: list[int | None], verdict: Verdict) -> None:
    assert compute_verdict(votes, window_count=3, scale=SCALE) is verdict


def test_the_threshold_grows_with_the_windows_to_pick_from() -> None:
    assert compute_verdict([HIGH] * 3, window_count=4, scale=SCALE) is Verdict.INCONCLUSIVE
    with pytest.raises(InvalidInput):
        compute_verdict([HIGH], window_count=0, scale=SCALE)


def test_a_commitment_names_its_member_and_hides_behind_its_salt() -> None:
    vote = Vote(challenge_id=bytes(32), validator=MEMBERS[0], e_value=HIGH, abstention="", salt=b"\x09" * 32)
    assert vote.commitment != replace(vote, validator=MEMBERS[1]).commitment
    assert vote.commitment != replace(vote, salt=b"\x08" * 32).commitment
    with pytest.raises(InvalidInput, match="e_value"):
        replace(vote, abstention="no such model")
    with pytest.raises(InvalidInput, match="abstention"):
        replace(vote, e_value=0, abstention="x" * 201)


def test_upheld_pays_bond_reward_and_members_and_returns_the_rest_of_the_cover() -> None:
    payout = compute_payout(Verdict.UPHELD, TERMS, 75, MEMBERS[:2])
    assert (payout.consumer_wei, payout.provider_wei, payout.provider_bond_wei, payout.burned_wei) == (161, 0, 5, 0)
    assert payout.members == dict.fromkeys(MEMBERS[:2], 10)


def test_a_short_cover_pays_the_reward_first() -> None:
    payout = compute_payout(Verdict.UPHELD, TERMS, 62, MEMBERS[:2])
    assert (payout.consumer_wei, payout.members[MEMBERS[0]], payout.provider_bond_wei) == (161, 6, 0)
    assert compute_payout(Verdict.UPHELD, TERMS, 0, MEMBERS).consumer_wei == 101


def test_rejected_burns_half_of_the_bond_and_gives_half_to_the_provider() -> None:
    payout = compute_payout(Verdict.REJECTED, TERMS, 75, MEMBERS[:2])
    assert (payout.consumer_wei, payout.provider_wei, payout.provider_bond_wei, payout.burned_wei) == (0, 50, 75, 51)


def test_inconclusive_returns_the_bond_but_never_the_fee() -> None:
    payout = compute_payout(Verdict.INCONCLUSIVE, TERMS, 75, [])
    assert (payout.consumer_wei, payout.provider_bond_wei, payout.burned_wei) == (101, 75, 10)


amounts = st.integers(min_value=0, max_value=10**24)


@given(st.sampled_from(Verdict), amounts, amounts, amounts, amounts, amounts, st.integers(min_value=0, max_value=3))
def test_every_payout_divides_the_escrow_exactly(
    verdict: Verdict, fee: int, bond: int, reward: int, member_fee: int, cover: int, voters: int
) -> None:
    terms = replace(TERMS, filing_fee_wei=fee, bond_wei=bond, reward_wei=reward, member_fee_wei=member_fee)
    payout = compute_payout(verdict, terms, cover, MEMBERS[:voters])
    parts = [payout.consumer_wei, payout.provider_wei, payout.provider_bond_wei, payout.burned_wei]
    assert payout.total_wei == fee + bond + cover
    assert all(part >= 0 for part in (*parts, *payout.members.values()))
