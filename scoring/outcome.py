"""The outcome of an epoch: one pure integer function of the certified past and a set of reveals.

Every validator computes it for itself and signs a checkpoint only when the bytes agree, so nothing here may depend on
the order in which messages came, on a clock, or on a float.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scoring.certificate import compute_validator_set_digest
from scoring.eip712 import Address, Bytes32, Record, Uint64, compute_struct_hash
from scoring.evidence.cases import AccountedProbe, CaseState, build_case, compute_case_index, fold_case_epoch
from scoring.evidence.cases import compute_first_epoch as compute_first_case_epoch
from scoring.evidence.plan import Plan
from scoring.measurement import build_epoch_measurement
from scoring.merkle import compute_root
from scoring.parameters import TrustParameters
from scoring.records import CaseItem, Checkpoint, FeedItem, Flag, Offer, Reveal, ValidatorSet
from scoring.trust import Infraction, TrustState, compute_feed_item, update_trust_state
from scoring.vrf import compute_vrf_output


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferCase(Record):
    """The public case of one offer, folded from the statistics that the reveals claim."""

    provider: Address
    offer_digest: Bytes32
    case: CaseState


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationState(Record):
    """What one epoch hands to the next; its digest is in the checkpoint, so a newcomer can take it from anybody."""

    epoch: Uint64
    trust: tuple[TrustState, ...]
    cases: tuple[OfferCase, ...]


EMPTY_STATE = AggregationState(epoch=0, trust=(), cases=())


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochInputs:
    """What the network agrees on before an epoch is computed. `previous` and `time_s` as in Checkpoint.

    `offers` are those in force, `infractions` the certified classes by provider, `challenged` the digests of offers
    with an open challenge.
    """

    epoch: int
    previous: bytes
    time_s: int
    beacon: bytes
    validator_set: ValidatorSet
    plan: Plan
    trust_parameters: TrustParameters
    offers: tuple[Offer, ...]
    infractions: Mapping[bytes, Collection[Infraction]]
    challenged: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The checkpoint to sign and what its roots commit to."""

    checkpoint: Checkpoint
    feed_items: tuple[FeedItem, ...]
    case_items: tuple[CaseItem, ...]
    state: AggregationState


def compute_outcome(inputs: EpochInputs, state: AggregationState, reveals: Mapping[int, Reveal]) -> Outcome:
    """Return the outcome of an epoch for the reveals of some seats."""
    offers = sorted(inputs.offers, key=lambda offer: (offer.provider, compute_struct_hash(offer)))
    trust = tuple(_update_trust(inputs, state, offer, list(reveals.values())) for offer in offers)
    audited = [offer for offer in offers if offer.manifest_digest == inputs.plan.manifest_digest]
    cases = tuple(_update_case(inputs, state, offer, reveals) for offer in audited)
    feed_items = tuple(_build_item(inputs, offer, item) for offer, item in zip(offers, trust, strict=True))
    case_items = tuple(_build_case_item(inputs, case) for case in cases)
    new_state = AggregationState(epoch=inputs.epoch, trust=trust, cases=cases)
    checkpoint = Checkpoint(
        epoch=inputs.epoch,
        previous=inputs.previous,
        time_s=inputs.time_s,
        beacon=inputs.beacon,
        vrf_outputs=tuple(compute_vrf_output(reveals[seat].vrf_proof) for seat in sorted(reveals)),
        reveals_root=compute_root([compute_struct_hash(reveals[seat]) for seat in sorted(reveals)]),
        feed_root=compute_root([compute_struct_hash(item) for item in feed_items]),
        case_root=compute_root([compute_struct_hash(item) for item in case_items]),
        state_digest=compute_struct_hash(new_state),
        validator_set_digest=compute_validator_set_digest(inputs.validator_set),
        plan_digest=inputs.plan.compute_digest(),
    )
    return Outcome(checkpoint=checkpoint, feed_items=feed_items, case_items=case_items, state=new_state)


def build_accounted_probes(
    plan: Plan,
    seat_count: int,
    statistics_ppm: Mapping[tuple[int, int], tuple[int, ...] | None],
    own_seat: int | None = None,
) -> list[AccountedProbe]:
    """Return every drawn probe of an offer in one epoch in canonical order, absent (seat, index) keys as missing."""
    return [
        AccountedProbe(is_own=seat == own_seat, statistics_ppm=statistics_ppm.get((seat, index)))
        for seat in range(seat_count)
        for index in range(plan.probes_per_epoch)
    ]


def find_case(plan: Plan, case: CaseState | None, epoch: int) -> CaseState:
    """Return the case to fold an epoch into: the one given, or a new one when the calendar has moved on."""
    case_index = compute_case_index(plan, epoch)
    return case if case is not None and case.case_index == case_index else build_case(plan, case_index)


def _update_trust(inputs: EpochInputs, state: AggregationState, offer: Offer, reveals: Sequence[Reveal]) -> TrustState:
    measurement = build_epoch_measurement(reveals, inputs.validator_set, offer, inputs.epoch, inputs.trust_parameters)
    earlier = next((item for item in state.trust if item.offer_digest == measurement.offer_digest), None)
    return update_trust_state(earlier, measurement, inputs.trust_parameters)


def _update_case(
    inputs: EpochInputs, state: AggregationState, offer: Offer, reveals: Mapping[int, Reveal]
) -> OfferCase:
    digest = compute_struct_hash(offer)
    earlier = next((item.case for item in state.cases if item.offer_digest == digest), None)
    claimed = {
        (seat, outcome.index): outcome.statistics_ppm or None
        for seat, reveal in reveals.items()
        for outcome in reveal.outcomes
        if outcome.offer_digest == digest and outcome.provider == offer.provider
    }
    probes = build_accounted_probes(inputs.plan, len(inputs.validator_set.validators), claimed)
    case = fold_case_epoch(inputs.plan, find_case(inputs.plan, earlier, inputs.epoch), probes)
    return OfferCase(provider=offer.provider, offer_digest=digest, case=case)


def _build_item(inputs: EpochInputs, offer: Offer, trust: TrustState) -> FeedItem:
    flags = Flag.CHALLENGE_OPEN if compute_struct_hash(offer) in inputs.challenged else Flag(0)
    infractions = inputs.infractions.get(offer.provider, ())
    return compute_feed_item(trust, offer, inputs.epoch, inputs.time_s, infractions, flags, inputs.trust_parameters)


def _build_case_item(inputs: EpochInputs, offer_case: OfferCase) -> CaseItem:
    case = offer_case.case
    return CaseItem(
        provider=offer_case.provider,
        offer_digest=offer_case.offer_digest,
        case_index=case.case_index,
        first_epoch=compute_first_case_epoch(inputs.plan, case.case_index),
        epoch=inputs.epoch,
        accounted_probes=case.accounted_probes,
        missing_probes=case.missing_probes,
        wealth=case.pooled_wealth,
    )
