"""Challenges on the ledger: filing with escrow, votes of the committee, payouts. The rules are in `challenges`."""

from dataclasses import replace

from challenges.filing import Dossier, verify_dossier
from challenges.lifecycle import Challenge, Phase, advance, commit_vote, mark_resolved, reveal_vote
from challenges.payout import Payout, compute_payout
from challenges.signed import SignedOffer
from challenges.verdict import Verdict, Vote
from ledger.state.errors import TransactionRefused, require
from ledger.state.holdings import (
    Event,
    LedgerState,
    Provider,
    credit_claimable,
    debit,
    with_challenge,
    with_item,
    with_provider,
)
from ledger.state.staking import Applied, get_provider
from ledger.state.transactions import CommitVerdict, OpenChallenge, RevealVerdict
from scoring.eip712 import compute_struct_hash
from scoring.evidence.wealth import ONE


def apply_open_challenge(state: LedgerState, transaction: OpenChallenge, dossier: Dossier) -> Applied:
    """File a challenge: fee and bond into escrow, and what the provider's performance bond must cover."""
    provider, offer = _check_filing(state, transaction, dossier)
    verify_dossier(
        dossier,
        domain=state.domain,
        offer=offer,
        consumer=transaction.sender,
        ledger_time_s=state.time_s,
    )
    terms = state.parameters.challenge
    state = debit(state, transaction.sender, terms.filing_fee_wei + terms.bond_wei, "bond_wei")
    cover_wei = min(provider.bond_wei, terms.cover_wei)
    state = with_provider(state, replace(provider, bond_wei=provider.bond_wei - cover_wei))
    challenge = Challenge(
        challenge_id=compute_struct_hash(transaction),
        consumer=transaction.sender,
        provider=provider.address,
        offer_digest=offer.digest,
        dossier_digest=transaction.dossier_digest,
        window_count=dossier.window_count,
        terms=terms,
        cover_wei=cover_wei,
        filed_epoch=state.epoch,
        phase_epoch=state.epoch,
    )
    for entry in dossier.entries:
        used = with_item(state.used_receipts, entry.receipt.digest, challenge.challenge_id)
        state = replace(state, used_receipts=used)
    return with_challenge(state, challenge), (_event("challenge-opened", challenge),)


def apply_commit_verdict(state: LedgerState, transaction: CommitVerdict) -> Applied:
    """Record a committee member's commitment."""
    challenge = get_challenge(state, transaction.challenge_id)
    challenge = commit_vote(challenge, transaction.sender, transaction.commitment, epoch=state.epoch, scale=ONE)
    event = _event("verdict-committed", challenge, member=transaction.sender)
    state, paid = _pay_if_decided(with_challenge(state, challenge), challenge)
    return state, (event, *paid)


def apply_reveal_verdict(state: LedgerState, transaction: RevealVerdict) -> Applied:
    """Record a revealed vote; the last one decides and pays."""
    vote = Vote(
        challenge_id=transaction.challenge_id,
        validator=transaction.sender,
        e_value=transaction.e_value,
        abstention=transaction.abstention,
        salt=transaction.salt,
    )
    challenge = get_challenge(state, transaction.challenge_id)
    challenge = reveal_vote(challenge, vote, epoch=state.epoch, scale=ONE)
    event = _event("verdict-revealed", challenge, member=transaction.sender)
    state, paid = _pay_if_decided(with_challenge(state, challenge), challenge)
    return state, (event, *paid)


def advance_challenges(state: LedgerState) -> Applied:
    """Move every open challenge on at the checkpoint that was just certified."""
    certified = state.certified[state.epoch]
    signers = state.validator_sets[certified.validator_set_digest]
    candidates = [(entry.address, entry.stake_wei) for entry in signers.validators]
    events: list[Event] = []
    for before in tuple(state.registry.challenges.values()):
        if not before.is_open:
            continue
        challenge = advance(
            before,
            epoch=state.epoch,
            network=state.network,
            mix=certified.mix,
            candidates=candidates,
            excluded=_find_interested(state, before),
            scale=ONE,
        )
        if challenge is before:
            continue
        events.append(_event(f"challenge-{challenge.phase}", challenge))
        state, paid = _pay_if_decided(with_challenge(state, challenge), challenge)
        events.extend(paid)
    return state, tuple(events)


def get_challenge(state: LedgerState, challenge_id: bytes) -> Challenge:
    """Return a challenge; raises TransactionRefused."""
    challenge = state.registry.challenges.get(challenge_id)
    if challenge is None:
        raise TransactionRefused("unknown-challenge", "no such challenge", "challenge_id")
    return challenge


def _check_filing(state: LedgerState, transaction: OpenChallenge, dossier: Dossier) -> tuple[Provider, SignedOffer]:
    provider = get_provider(state, transaction.provider)
    offer = provider.find_offer(transaction.offer_digest)
    if offer is None:
        raise TransactionRefused("unknown-offer", "the provider never posted this offer", "offer_digest")
    require(transaction.sender != provider.address, "own-challenge", "a provider cannot challenge itself", "sender")
    terms = state.parameters.challenge
    amounts = (transaction.filing_fee_wei, transaction.bond_wei)
    due = (terms.filing_fee_wei, terms.bond_wei)
    require(amounts == due, "wrong-amount", f"fee and bond are {due[0]} and {due[1]} wei", "bond_wei")
    is_named = dossier.digest == transaction.dossier_digest
    require(is_named, "wrong-dossier", "the dossier is not the one that was signed", "dossier_digest")
    for entry in dossier.entries:
        is_fresh = entry.receipt.digest not in state.used_receipts
        require(is_fresh, "receipt-already-used", "a receipt is challenged once", "attachment")
    for other in state.registry.challenges.values():
        is_same = other.is_open and (other.consumer, other.provider) == (transaction.sender, provider.address)
        require(not is_same, "challenge-already-open", "one open challenge per consumer and provider", "provider")
    return provider, offer


def _find_interested(state: LedgerState, challenge: Challenge) -> frozenset[bytes]:
    parties = {challenge.consumer, challenge.provider}
    return frozenset(v.address for v in state.registry.validators.values() if parties & set(v.interests))


def _pay_if_decided(state: LedgerState, challenge: Challenge) -> Applied:
    if challenge.phase is not Phase.REVEALED or challenge.verdict is None:
        return state, ()
    payout = compute_payout(challenge.verdict, challenge.terms, challenge.cover_wei, challenge.voters)
    provider = state.registry.providers[challenge.provider]
    provider = replace(
        provider,
        bond_wei=provider.bond_wei + payout.provider_bond_wei,
        upheld_challenges=provider.upheld_challenges + (challenge.verdict is Verdict.UPHELD),
        rejected_challenges=provider.rejected_challenges + (challenge.verdict is Verdict.REJECTED),
    )
    state = with_provider(state, provider)
    payments = {challenge.consumer: payout.consumer_wei, challenge.provider: payout.provider_wei, **payout.members}
    for address, amount_wei in payments.items():
        if amount_wei:
            state = credit_claimable(state, address, amount_wei)
    state = replace(state, burned_wei=state.burned_wei + payout.burned_wei)
    challenge = mark_resolved(challenge, state.epoch)
    return with_challenge(state, challenge), (_resolved_event(challenge, payout),)


def _resolved_event(challenge: Challenge, payout: Payout) -> Event:
    return Event(
        name="challenge-resolved",
        fields={
            "challenge": "0x" + challenge.challenge_id.hex(),
            "provider": "0x" + challenge.provider.hex(),
            "consumer": "0x" + challenge.consumer.hex(),
            "verdict": str(challenge.verdict),
            "consumer_wei": str(payout.consumer_wei),
            "provider_wei": str(payout.provider_wei),
            "burned_wei": str(payout.burned_wei),
            "members_wei": {"0x" + member.hex(): str(wei) for member, wei in payout.members.items()},
        },
    )


def _event(name: str, challenge: Challenge, **more: bytes) -> Event:
    named = {key: "0x" + value.hex() for key, value in more.items()}
    fields = {"challenge": "0x" + challenge.challenge_id.hex(), "provider": "0x" + challenge.provider.hex(), **named}
    return Event(name=name, fields={**fields, "phase": challenge.phase.value})
