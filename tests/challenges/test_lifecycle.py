"""The life of a challenge, checkpoint by checkpoint."""

from dataclasses import replace
from typing import Any

import pytest

from challenges.lifecycle import Challenge, Phase, advance, commit_vote, mark_resolved, reveal_vote
from challenges.payout import ChallengeTerms
from challenges.verdict import Verdict, Vote
from scoring.errors import InvalidInput, VerificationFailed

SCALE = 10**18
CANDIDATES = [(bytes([index]) * 20, 100) for index in range(1, 6)]
CONSUMER, PROVIDER = b"\xaa" * 20, b"\xbb" * 20
FILED = Challenge(
    challenge_id=b"\x07" * 32,
    consumer=CONSUMER,
    provider=PROVIDER,
    offer_digest=bytes(32),
    dossier_digest=bytes(32),
    window_count=1,
    terms=ChallengeTerms(
        filing_fee_wei=1,
        bond_wei=2,
        reward_wei=3,
        member_fee_wei=4,
        committee_size=3,
        draw_delay_epochs=2,
        commit_epochs=2,
        reveal_epochs=2,
    ),
    cover_wei=5,
    filed_epoch=4,
    phase_epoch=4,
)


def _advance(challenge: Challenge, epoch: int, **changes: Any) -> Challenge:
    given: dict[str, Any] = {"network": bytes(32), "mix": b"\x05" * 32, "candidates": CANDIDATES, "excluded": ()}
    return advance(challenge, epoch=epoch, scale=SCALE, **(given | changes))


def _vote(member: bytes, e_value: int = 1000 * SCALE, abstention: str = "") -> Vote:
    salt = member + bytes(12)
    return Vote(challenge_id=b"\x07" * 32, validator=member, e_value=e_value, abstention=abstention, salt=salt)


def _commit(challenge: Challenge, vote: Vote) -> Challenge:
    return commit_vote(challenge, vote.validator, vote.commitment, epoch=6, scale=SCALE)


def _reveal(challenge: Challenge, vote: Vote) -> Challenge:
    return reveal_vote(challenge, vote, epoch=6, scale=SCALE)


DRAWN = _advance(FILED, 6)


def test_the_committee_is_drawn_only_by_a_checkpoint_well_after_the_filing() -> None:
    assert _advance(FILED, 5) is FILED
    assert DRAWN.phase is Phase.COMMITTEE and len(DRAWN.committee) == 3 and DRAWN.phase_epoch == 6


def test_interested_validators_and_both_parties_are_left_out() -> None:
    candidates = [*CANDIDATES, (CONSUMER, 10**9), (PROVIDER, 10**9)]
    drawn = _advance(FILED, 6, candidates=candidates, excluded={CANDIDATES[0][0], CANDIDATES[1][0]})
    assert set(drawn.committee) == {address for address, _ in CANDIDATES[2:]}


def test_everybody_commits_reveals_and_the_verdict_stands() -> None:
    challenge = DRAWN
    for member in DRAWN.committee:
        challenge = _commit(challenge, _vote(member))
    assert challenge.phase is Phase.COMMITTED
    for member in DRAWN.committee:
        challenge = _reveal(challenge, _vote(member))
    assert challenge.phase is Phase.REVEALED and challenge.verdict is Verdict.UPHELD
    assert challenge.voters == DRAWN.committee
    assert challenge.escrow_wei == 8 and mark_resolved(challenge, 6).escrow_wei == 0


def test_members_who_stay_silent_lose_their_turn_at_the_deadlines() -> None:
    vote = _vote(DRAWN.committee[0])
    challenge = _commit(DRAWN, vote)
    assert _advance(challenge, 7) is challenge
    challenge = _advance(challenge, 8)
    assert challenge.phase is Phase.COMMITTED
    with pytest.raises(VerificationFailed, match="not committed now"):
        _commit(challenge, _vote(DRAWN.committee[1]))
    decided = _advance(challenge, 10)
    assert decided.phase is Phase.REVEALED and decided.verdict is Verdict.INCONCLUSIVE and decided.voters == ()


def test_a_committee_that_commits_nothing_ends_inconclusive_at_the_first_deadline() -> None:
    challenge = _advance(DRAWN, 8)
    assert challenge.phase is Phase.REVEALED and challenge.verdict is Verdict.INCONCLUSIVE


def test_a_challenge_that_nobody_may_judge_ends_inconclusive_at_the_draw() -> None:
    challenge = _advance(FILED, 6, candidates=[])
    assert challenge.phase is Phase.REVEALED and challenge.verdict is Verdict.INCONCLUSIVE


def test_a_member_who_abstains_counts_for_neither_side_and_is_not_paid() -> None:
    votes = [_vote(member) for member in DRAWN.committee[:2]] + [_vote(DRAWN.committee[2], 0, "no such model")]
    challenge = DRAWN
    for vote in votes:
        challenge = _commit(challenge, vote)
    for vote in votes:
        challenge = _reveal(challenge, vote)
    assert challenge.verdict is Verdict.UPHELD and challenge.voters == DRAWN.committee[:2]


def _all_committed() -> Challenge:
    challenge = DRAWN
    for member in DRAWN.committee:
        challenge = _commit(challenge, _vote(member))
    return challenge


def test_refuses_commitments_of_strangers_twice_or_of_a_wrong_length() -> None:
    member = DRAWN.committee[0]
    once = _commit(DRAWN, _vote(member))
    with pytest.raises(VerificationFailed, match="no seat"):
        _commit(DRAWN, _vote(b"\x63" * 20))
    with pytest.raises(VerificationFailed, match="already"):
        _commit(once, _vote(member))
    with pytest.raises(InvalidInput, match="commitment"):
        commit_vote(DRAWN, member, b"", epoch=6, scale=SCALE)
    with pytest.raises(VerificationFailed, match="not committed now"):
        _commit(FILED, _vote(member))


def test_refuses_reveals_too_early_of_strangers_twice_or_other_than_committed() -> None:
    member, committed = DRAWN.committee[0], _all_committed()
    once = _reveal(committed, _vote(member))
    refused = {
        "not revealed now": (DRAWN, _vote(member)),
        "committed no vote": (committed, _vote(b"\x63" * 20)),
        "already": (once, _vote(member)),
        "not the one": (committed, _vote(member, e_value=1)),
        "another challenge": (committed, replace(_vote(member), challenge_id=bytes(32))),
    }
    for sentence, (challenge, vote) in refused.items():
        with pytest.raises(VerificationFailed, match=sentence):
            _reveal(challenge, vote)


def test_only_a_verdict_is_paid() -> None:
    with pytest.raises(ValueError, match="no verdict"):
        mark_resolved(DRAWN, 9)
