"""Certified records: checkpoints move the ledger's epoch, evidence slashes and burns.

Which validator set may sign: a checkpoint is signed by the set as the last certified checkpoint found it; evidence by
the set that certified the last epoch of its case.
"""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from challenges.penalty import compute_class, compute_slash_wei
from ledger.state.errors import TransactionRefused, require
from ledger.state.holdings import (
    CertifiedEpoch,
    Event,
    InfractionEntry,
    LedgerState,
    PendingSlash,
    Provider,
    Unbonding,
    check_conservation,
    compute_validator_set,
    with_item,
    with_provider,
)
from ledger.state.staking import Applied, get_provider
from ledger.state.transactions import SubmitCheckpoint, SubmitEvidence
from scoring.certificate import compute_validator_set_digest, verify_certificate
from scoring.eip712 import compute_signing_root, compute_struct_hash
from scoring.errors import InvalidInput
from scoring.evidence.cases import compute_first_epoch, compute_threshold
from scoring.records import Checkpoint, SlashingEvidence
from scoring.schedule import BEACON_LAG_EPOCHS, compute_beacon, compute_epoch_start_s, compute_vrf_mix


def apply_submit_checkpoint(
    state: LedgerState, transaction: SubmitCheckpoint, advance_challenges: Callable[[LedgerState], Applied]
) -> Applied:
    """Accept a certified checkpoint: close the registry, move the epoch, execute what is due."""
    checkpoint = transaction.checkpoint
    _check_checkpoint(state, checkpoint)
    root = compute_signing_root(checkpoint, state.domain)
    verify_certificate(transaction.certificate, state.validator_set, root)
    state = _certify(state, checkpoint, root)
    event = Event(name="checkpoint-certified", fields={"epoch": checkpoint.epoch, "root": "0x" + root.hex()})
    state, slashed = _execute_due_slashes(state)
    state, moved = advance_challenges(state)
    check_conservation(state)
    return state, (event, *slashed, *moved)


def compute_expected_beacon(state: LedgerState, epoch: int) -> bytes:
    """Return the beacon of an epoch after the last certified one, from what was certified at least two before it."""
    known = [number for number in state.certified if number <= epoch - BEACON_LAG_EPOCHS]
    mix = state.certified[max(known)].mix if known else state.genesis_beacon
    return compute_beacon(state.network, epoch, mix)


def apply_submit_evidence(state: LedgerState, transaction: SubmitEvidence) -> Applied:
    """Accept certified evidence: once per offence, executed at once or after the timelock."""
    evidence = transaction.evidence
    provider = get_provider(state, evidence.provider)
    _check_evidence(state, evidence, provider)
    offence = (evidence.offer_digest, evidence.rule, evidence.case_index)
    require(offence not in state.offences, "offence-already-slashed", "this offence is slashed already", "evidence")
    validator_set = state.validator_sets[state.certified[evidence.last_epoch].validator_set_digest]
    verify_certificate(transaction.certificate, validator_set, compute_signing_root(evidence, state.domain))
    digest = compute_struct_hash(evidence)
    state = replace(state, offences=with_item(state.offences, offence, digest))
    accepted = Event(name="evidence-accepted", fields=_describe(evidence))
    timelock = state.parameters.timelock_epochs
    if timelock == 0:
        state, slashed = _execute_slash(state, evidence)
        return state, (accepted, slashed)
    pending = PendingSlash(evidence=evidence, execute_epoch=state.epoch + timelock)
    return replace(state, pending_slashes=(*state.pending_slashes, pending)), (accepted,)


def _check_checkpoint(state: LedgerState, checkpoint: Checkpoint) -> None:
    stale = f"epoch {checkpoint.epoch} is not after the last certified epoch {state.epoch}"
    require(checkpoint.epoch > state.epoch, "stale-epoch", stale, "checkpoint.epoch")
    follows = checkpoint.previous == state.head_root
    require(follows, "wrong-previous", "it does not follow the last certified checkpoint", "checkpoint.previous")
    time_s = compute_epoch_start_s(state.start_s, state.epoch_s, checkpoint.epoch)
    require(checkpoint.time_s == time_s, "wrong-time", f"epoch starts at {time_s}", "checkpoint.time_s")
    is_sealed = checkpoint.plan_digest == state.plan.compute_digest()
    require(is_sealed, "foreign-plan", "another plan than the sealed one", "checkpoint.plan_digest")
    is_set = checkpoint.validator_set_digest == compute_validator_set_digest(state.validator_set)
    require(is_set, "wrong-validator-set", "another validator set", "checkpoint.validator_set_digest")
    is_beacon = checkpoint.beacon == compute_expected_beacon(state, checkpoint.epoch)
    require(is_beacon, "wrong-beacon", "another beacon than the one that was drawn", "checkpoint.beacon")
    seats = len(state.validator_set.validators)
    require(len(checkpoint.vrf_outputs) <= seats, "too-many-outputs", f"over {seats}", "checkpoint.vrf_outputs")


def _certify(state: LedgerState, checkpoint: Checkpoint, root: bytes) -> LedgerState:
    entry = CertifiedEpoch(
        root=root,
        validator_set_digest=checkpoint.validator_set_digest,
        mix=compute_vrf_mix(checkpoint.vrf_outputs),
    )
    horizon = checkpoint.epoch - state.parameters.unbonding_epochs
    recent = {number: old for number, old in state.certified.items() if number >= horizon or number == state.epoch}
    needed = {old.validator_set_digest for old in recent.values()} | {entry.validator_set_digest}
    sets = {digest: item for digest, item in state.validator_sets.items() if digest in needed}
    next_set = compute_validator_set(state.network, state.registry, state.parameters.minimum_validator_stake_wei)
    return replace(
        state,
        epoch=checkpoint.epoch,
        head_root=root,
        time_s=checkpoint.time_s,
        settled=state.registry,
        validator_set=next_set,
        certified=MappingProxyType({**recent, checkpoint.epoch: entry}),
        validator_sets=MappingProxyType({**sets, compute_validator_set_digest(next_set): next_set}),
    )


def _check_evidence(state: LedgerState, evidence: SlashingEvidence, provider: Provider) -> None:
    offer = provider.find_offer(evidence.offer_digest)
    require(offer is not None, "unknown-offer", "the provider never posted this offer", "evidence.offer_digest")
    is_sealed = evidence.plan_digest == state.plan.compute_digest()
    require(is_sealed, "foreign-plan", "another plan than the sealed one", "evidence.plan_digest")
    certified = state.certified.get(evidence.last_epoch)
    if certified is None:
        raise TransactionRefused("unknown-epoch", "its last epoch is not certified or too old", "evidence.last_epoch")
    names_it = certified.root == evidence.checkpoint
    require(names_it, "wrong-checkpoint", "not the checkpoint of its last epoch", "evidence.checkpoint")
    _check_calendar(state, evidence)
    try:
        compute_class(evidence.slash_bps)
    except InvalidInput as error:
        raise TransactionRefused("bad-slash", str(error), "evidence.slash_bps") from None


def _check_calendar(state: LedgerState, evidence: SlashingEvidence) -> None:
    require(evidence.case_index > 0, "wrong-case", "cases are numbered from 1", "evidence.case_index")
    first_epoch = compute_first_epoch(state.plan, evidence.case_index)
    is_case = first_epoch == evidence.first_epoch <= evidence.last_epoch < first_epoch + state.plan.case_length_epochs
    require(is_case, "wrong-case", "its epochs are not those of its case", "evidence.first_epoch")
    threshold = compute_threshold(state.plan, evidence.case_index)
    is_due = evidence.threshold == threshold
    require(is_due, "wrong-threshold", f"the case's threshold is {threshold}", "evidence.threshold")


def _execute_due_slashes(state: LedgerState) -> Applied:
    events: list[Event] = []
    for item in state.pending_slashes:
        if item.execute_epoch <= state.epoch:
            state, event = _execute_slash(state, item.evidence)
            events.append(event)
    left = tuple(item for item in state.pending_slashes if item.execute_epoch > state.epoch)
    return replace(state, pending_slashes=left), tuple(events)


def _execute_slash(state: LedgerState, evidence: SlashingEvidence) -> tuple[LedgerState, Event]:
    provider = state.registry.providers[evidence.provider]
    amount_wei = compute_slash_wei(provider.slashable_wei, evidence.slash_bps, state.parameters.tiers)
    entry = InfractionEntry(
        infraction=compute_class(evidence.slash_bps).value,
        rule=evidence.rule,
        offer_digest=evidence.offer_digest,
        case_index=evidence.case_index,
        evidence_digest=compute_struct_hash(evidence),
        epoch=state.epoch,
        slashed_wei=amount_wei,
    )
    provider = replace(_take_stake(provider, amount_wei), infractions=(*provider.infractions, entry))
    state = replace(with_provider(state, provider), burned_wei=state.burned_wei + amount_wei)
    fields = {**_describe(evidence), "infraction": entry.infraction, "burned_wei": str(amount_wei)}
    return state, Event(name="provider-slashed", fields=fields)


def _take_stake(provider: Provider, amount_wei: int) -> Provider:
    """Take from stake in service first, then from what unbonds, the last to leave first."""
    from_stake = min(provider.stake_wei, amount_wei)
    amount_wei -= from_stake
    unbondings: list[Unbonding] = []
    for item in reversed(provider.unbondings):
        taken = min(item.amount_wei, amount_wei)
        amount_wei -= taken
        if item.amount_wei > taken:
            unbondings.append(replace(item, amount_wei=item.amount_wei - taken))
    return replace(provider, stake_wei=provider.stake_wei - from_stake, unbondings=tuple(reversed(unbondings)))


def _describe(evidence: SlashingEvidence) -> dict[str, str | int]:
    return {
        "provider": "0x" + evidence.provider.hex(),
        "offer": "0x" + evidence.offer_digest.hex(),
        "rule": evidence.rule,
        "case_index": evidence.case_index,
        "evidence": "0x" + compute_struct_hash(evidence).hex(),
    }
