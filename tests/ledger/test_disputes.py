"""Challenges on the ledger: who pays whom, and every filing that is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from challenges.lifecycle import Phase
from challenges.penalty import WEI_PER_QUIV as QUIV
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import CommitVerdict, DeclareInterest, Withdraw
from scoring.errors import VerificationFailed
from scoring.evidence.wealth import ONE

HIGH = 10**6 * ONE


def _draw(world: Any) -> bytes:
    challenge_id: bytes = world.open_challenge()
    world.certify(2)
    return challenge_id


def _challenge(world: Any, challenge_id: bytes) -> Any:
    return world.state.registry.challenges[challenge_id]


@pytest.fixture
def listed(world: Any) -> Any:
    """A world with a provider whose performance bond covers one challenge (6 reward, 3 members' fees) and 1 more."""
    world.register_provider(bond_wei=10 * QUIV)
    world.certify(2)
    return world


def test_filing_takes_fee_bond_and_cover_into_escrow(listed: Any) -> None:
    challenge_id = listed.open_challenge()
    assert listed.balance_wei("consumer") == (100_000 - 14) * QUIV
    assert listed.provider().bond_wei == 1 * QUIV
    assert _challenge(listed, challenge_id).escrow_wei == 23 * QUIV


def test_an_upheld_challenge_pays_the_consumer_and_the_committee_from_the_performance_bond(listed: Any) -> None:
    challenge_id = _draw(listed)
    events = listed.vote(challenge_id, [HIGH, HIGH, HIGH])
    assert events[-1].name == "challenge-resolved" and events[-1].fields["verdict"] == "upheld"
    assert listed.claimable_wei("consumer") == 16 * QUIV
    fee = 4 * QUIV // 3 + QUIV
    assert [listed.claimable_wei(listed.name_of(m)) for m in _challenge(listed, challenge_id).committee] == [fee] * 3
    assert listed.provider().bond_wei == 1 * QUIV and listed.provider().stake_wei == 10_000 * QUIV
    assert listed.provider().upheld_challenges == 1


def test_a_rejected_challenge_costs_the_bond_half_burned_half_to_the_provider(listed: Any) -> None:
    burned = listed.state.burned_wei
    listed.vote(_draw(listed), [0, ONE, 0])
    assert listed.claimable_wei("consumer") == 0
    assert listed.claimable_wei("provider") == 5 * QUIV
    assert listed.state.burned_wei - burned == 5 * QUIV + 4 * QUIV % 3
    assert listed.provider().bond_wei == 10 * QUIV and listed.provider().rejected_challenges == 1


def test_an_inconclusive_challenge_returns_the_bond(listed: Any) -> None:
    listed.vote(_draw(listed), [HIGH, 0, 5 * ONE])
    assert listed.claimable_wei("consumer") == 10 * QUIV
    assert listed.provider().bond_wei == 10 * QUIV


def test_members_who_stay_silent_are_not_paid(listed: Any) -> None:
    challenge_id = _draw(listed)
    listed.vote(challenge_id, [HIGH, None, HIGH])
    first, silent, last = _challenge(listed, challenge_id).committee
    assert _challenge(listed, challenge_id).phase is Phase.RESOLVED
    assert listed.claimable_wei(listed.name_of(silent)) == 0
    assert listed.claimable_wei(listed.name_of(first)) == listed.claimable_wei(listed.name_of(last)) == 3 * QUIV


def test_a_challenge_that_nobody_works_on_ends_at_its_deadline(listed: Any) -> None:
    challenge_id = _draw(listed)
    listed.certify(2)
    assert _challenge(listed, challenge_id).phase is Phase.RESOLVED
    assert listed.claimable_wei("consumer") == 10 * QUIV


def test_payouts_are_pulled(listed: Any) -> None:
    listed.vote(_draw(listed), [HIGH, HIGH, HIGH])
    before = listed.balance_wei("consumer")
    listed.send("consumer", Withdraw)
    assert listed.balance_wei("consumer") == before + 16 * QUIV
    assert listed.claimable_wei("consumer") == 0


def test_the_committee_is_unknown_when_filing_and_leaves_out_declared_interests(listed: Any) -> None:
    for index in (0, 1):
        party = listed.address("provider" if index else "consumer")
        listed.send(f"validator-{index}", DeclareInterest, party=party)
    challenge_id = listed.open_challenge()
    listed.certify()
    assert _challenge(listed, challenge_id).committee == ()
    listed.certify()
    members = {listed.name_of(member) for member in _challenge(listed, challenge_id).committee}
    assert members == {"validator-2", "validator-3"}


def test_terms_stay_as_they_were_at_the_filing(listed: Any) -> None:
    challenge_id = listed.open_challenge()
    assert _challenge(listed, challenge_id).terms == listed.genesis.parameters.challenge


Case = tuple[Callable[[Any], Any], str]
REFUSED: dict[str, Case] = {
    "another fee": (lambda w: w.sign_challenge(w.dossier(), filing_fee_wei=1), "wrong-amount"),
    "another bond": (lambda w: w.sign_challenge(w.dossier(), bond_wei=1), "wrong-amount"),
    "unknown provider": (lambda w: w.sign_challenge(w.dossier(), provider=b"\x01" * 20), "unknown-provider"),
    "unknown offer": (lambda w: w.sign_challenge(w.dossier(), offer_digest=bytes(32)), "unknown-offer"),
    "another dossier than signed": (lambda w: w.sign_challenge(w.dossier(), dossier_digest=bytes(32)), "wrong-dossier"),
    "provider against itself": (lambda w: w.sign_challenge(w.dossier(), "provider"), "own-challenge"),
}


@pytest.mark.parametrize(("build", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_filing(listed: Any, build: Callable[[Any], Any], code: str) -> None:
    before = listed.state
    with pytest.raises(TransactionRefused) as refusal:
        listed.apply(build(listed))
    assert refusal.value.code == code and listed.state is before


def test_refuses_a_second_challenge_with_the_same_receipt_even_after_the_first_ended(listed: Any) -> None:
    listed.vote(_draw(listed), [HIGH, HIGH, HIGH])
    with pytest.raises(TransactionRefused) as refusal:
        listed.open_challenge(listed.dossier(first_counter=2))
    assert refusal.value.code == "receipt-already-used"
    listed.open_challenge(listed.dossier(first_counter=3))


def test_refuses_a_second_open_challenge_of_one_consumer_against_one_provider(listed: Any) -> None:
    listed.open_challenge()
    with pytest.raises(TransactionRefused) as refusal:
        listed.open_challenge(listed.dossier(first_counter=3))
    assert refusal.value.code == "challenge-already-open"


def test_refuses_somebody_elses_receipts(listed: Any) -> None:
    with pytest.raises(VerificationFailed, match="another consumer"):
        listed.apply(listed.sign_challenge(listed.dossier(), "stranger"))


def test_refuses_expired_receipts(listed: Any) -> None:
    with pytest.raises(VerificationFailed, match="expired"):
        listed.open_challenge(listed.dossier(issued_s=1_800_000_000, expires_s=1_800_000_010))


def test_refuses_a_filer_who_cannot_pay(listed: Any) -> None:
    receipts = listed.dossier(consumer=listed.address("validator-3"))
    with pytest.raises(TransactionRefused) as refusal:
        listed.apply(listed.sign_challenge(receipts, "validator-3"))
    assert refusal.value.code == "insufficient-balance"


def test_refuses_votes_of_strangers_and_on_unknown_challenges(listed: Any) -> None:
    challenge_id = _draw(listed)
    with pytest.raises(VerificationFailed, match="no seat"):
        listed.send("stranger", CommitVerdict, challenge_id=challenge_id, commitment=bytes(32))
    with pytest.raises(TransactionRefused, match="no such challenge"):
        listed.send("validator-0", CommitVerdict, challenge_id=bytes(32), commitment=bytes(32))
