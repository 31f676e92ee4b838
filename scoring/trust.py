"""The trust score, 0 to 1000, of one offer: a pure fold over epochs, in integers.

Rules kept here:

* A measured share is the stake-weighted lower median of the seats' means over the window: less than a third of the
  stake cannot move it out of the range that honest seats saw, when seats with more than two thirds report.
* The number of samples behind it is the median seat's count times the effective number of seats (Kish: the square of
  the summed stakes over the sum of their squares), so that a crowd of tiny seats adds nothing.
* Each part is a lower Wilson bound: few samples give a lower score. Parts without data are left out, the weights
  renormalised and the flag set. Nothing is ever a default.
* Accuracy is the bound of the mean fidelity (1 - g of the plan's main statistic) and of similarity, where it was
  measured: its weight is `similarity_weight_ppm`, but no measured similarity weighs more than one answer's fidelity.
  Similarity is measured on few answers; with a bound and a fixed weight of its own, the one offer in two that had it
  measured at all lost a fifth of its accuracy to it. Judges have no weight here: reveals carry no judge score, and
  one gets weight only with a reliability that was shown on known-answer items.
* Certified infractions cap the score; open cases and challenges are only flags.

The formula is section 4 of the design (TE §4.2), the multipliers are those of TE §3.1.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from scoring.eip712 import Bytes32, Record, Uint64, Wei, compute_struct_hash
from scoring.errors import InvalidInput
from scoring.interval import compute_decay, compute_lower_median, compute_wilson_high_ppm, compute_wilson_low_ppm
from scoring.measurement import SUM_FIELDS, EpochMeasurement, SeatTally, build_epoch_measurement
from scoring.parameters import TrustParameters, build_trust_parameters
from scoring.records import PPM, FeedItem, Flag, Offer

__all__ = [
    "EpochMeasurement",
    "Infraction",
    "Parts",
    "TrustParameters",
    "TrustState",
    "build_epoch_measurement",
    "build_trust_parameters",
    "compute_feed_item",
    "compute_trust",
    "compute_trust_state_digest",
    "update_trust_state",
]

CALLER_FLAGS = Flag.CASE_OPEN | Flag.CHALLENGE_OPEN | Flag.ALARM
_FRACTION_BITS = 32


class Infraction(StrEnum):
    """The classes of certified infractions, by what they do to the score."""

    MINOR = "minor"
    MAJOR = "major"
    SEVERE = "severe"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustState(Record):
    """What is remembered of one offer: each seat's decayed sums as of `epoch`, in order of address."""

    offer_digest: Bytes32
    epoch: Uint64
    total_stake_wei: Wei
    seats: tuple[SeatTally, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A measured share and the effective number of samples (in millionths) behind it."""

    mean_ppm: int
    samples_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a score in ppm, None where there is no data."""

    accuracy_ppm: int | None
    uptime_ppm: int | None
    latency_ppm: int | None
    throughput_ppm: int | None
    rating_ppm: int | None
    agreement_ppm: int | None

    def listed(self) -> tuple[int | None, ...]:
        """Return the parts in the order of FeedItem.parts_present."""
        return (
            self.accuracy_ppm,
            self.uptime_ppm,
            self.latency_ppm,
            self.throughput_ppm,
            self.rating_ppm,
            self.agreement_ppm,
        )


def update_trust_state(
    state: TrustState | None, measurement: EpochMeasurement, parameters: TrustParameters
) -> TrustState:
    """Return the state after one more epoch: the old sums decayed, the new ones added.

    Seats that left the validator set are forgotten, stakes are those of the measurement. Raises InvalidInput when the
    measurement is of another offer or not later than the state.
    """
    old: dict[bytes, SeatTally] = {}
    if state is not None:
        if state.offer_digest != measurement.offer_digest:
            raise InvalidInput("the measurement is of another offer", "offer_digest")
        if measurement.epoch <= state.epoch:
            raise InvalidInput(f"epoch {measurement.epoch} is not after {state.epoch}", "epoch")
        old = {seat.validator: seat for seat in _age(state, measurement.epoch, parameters).seats}
    seats = (_add(old.get(seat.validator), seat) for seat in measurement.seats)
    return TrustState(
        offer_digest=measurement.offer_digest,
        epoch=measurement.epoch,
        total_stake_wei=measurement.total_stake_wei,
        seats=tuple(seat for seat in seats if seat.requests_micro),
    )


def compute_trust_state_digest(state: TrustState) -> bytes:
    """Return the 32-byte digest of the state (its struct hash)."""
    return compute_struct_hash(state)


def compute_feed_item(
    state: TrustState,
    offer: Offer,
    epoch: int,
    time_s: int,
    infractions: Collection[Infraction],
    flags: Flag,
    parameters: TrustParameters,
) -> FeedItem:
    """Return the published item of an offer at an epoch not before the state's; what is older has decayed.

    `infractions` are the certified ones in force, `flags` any of CASE_OPEN, CHALLENGE_OPEN and ALARM. Raises
    InvalidInput on a state of another offer or later epoch, an unknown infraction or a flag that is computed here.
    """
    if state.offer_digest != compute_struct_hash(offer):
        raise InvalidInput("the state is of another offer", "offer_digest")
    if flags & ~CALLER_FLAGS:
        raise InvalidInput("only open cases, open challenges and alarms are given from outside", "flags")
    seats = _age(state, epoch, parameters).seats
    parts = compute_parts(seats, parameters.z_milli, parameters)
    low = compute_parts(seats, parameters.interval_z_milli, parameters)
    high = compute_parts(seats, parameters.interval_z_milli, parameters, is_upper=True)
    cap, cap_flags = _compute_cap(infractions, parameters)
    samples = _compute_samples(seats)
    present = sum(1 << index for index, part in enumerate(parts.listed()) if part is not None)
    return FeedItem(
        provider=offer.provider,
        offer_digest=state.offer_digest,
        manifest_digest=offer.manifest_digest,
        epoch=epoch,
        time_s=time_s,
        trust=min(cap, compute_trust(parts, parameters)),
        trust_low=min(cap, compute_trust(low, parameters)),
        trust_high=min(cap, compute_trust(high, parameters)),
        accuracy_ppm=parts.accuracy_ppm or 0,
        uptime_ppm=parts.uptime_ppm or 0,
        latency_ppm=parts.latency_ppm or 0,
        throughput_ppm=parts.throughput_ppm or 0,
        rating_ppm=parts.rating_ppm or 0,
        agreement_ppm=parts.agreement_ppm or 0,
        parts_present=present,
        samples=samples,
        flags=int(flags | cap_flags | _compute_data_flags(parts, samples, seats, state.total_stake_wei, parameters)),
        speed_multiplier_ppm=PPM if cap_flags else _compute_speed_multiplier_ppm(seats, parameters),
        quality_multiplier_ppm=PPM if cap_flags else _compute_quality_multiplier_ppm(parts, parameters),
        availability_ppm=_compute_availability_ppm(seats),
    )


def compute_parts(
    seats: Sequence[SeatTally], z_milli: int, parameters: TrustParameters, *, is_upper: bool = False
) -> Parts:
    """Return each part's Wilson bound at z: the lower one, or the upper one for the top of the interval."""
    bound = compute_wilson_high_ppm if is_upper else compute_wilson_low_ppm

    def bounded(share: Share | None) -> int | None:
        return None if share is None else bound(share.mean_ppm, share.samples_micro, z_milli)

    return Parts(
        accuracy_ppm=bounded(compute_accuracy(seats, parameters)),
        uptime_ppm=bounded(compute_share(seats, "successes_micro", "requests_micro")),
        latency_ppm=bounded(compute_share(seats, "latency_micro", "scored_micro")),
        throughput_ppm=bounded(compute_share(seats, "throughput_micro", "scored_micro")),
        rating_ppm=None,
        agreement_ppm=bounded(_compute_agreement(seats, parameters)),
    )


def compute_trust(parts: Parts, parameters: TrustParameters) -> int:
    """Return the weighted mean of the parts that are there, 0 to 1000 rounded down; 0 when there are none."""
    pairs = [(w, p) for w, p in zip(parameters.weights_ppm, parts.listed(), strict=True) if p is not None]
    weight = sum(w for w, _ in pairs)
    return 1000 * sum(w * p for w, p in pairs) // (weight * PPM) if weight else 0


def compute_share(seats: Sequence[SeatTally], sum_field: str, count_field: str) -> Share | None:
    """Return the stake-weighted lower median of the seats' means, or None where no seat with stake has a sample."""
    means = [
        (getattr(seat, sum_field) * PPM // getattr(seat, count_field), seat.stake_wei)
        for seat in seats
        if getattr(seat, count_field)
    ]
    counts = [(getattr(seat, count_field), seat.stake_wei) for seat in seats if getattr(seat, count_field)]
    return _share(means, counts)


def compute_accuracy(seats: Sequence[SeatTally], parameters: TrustParameters) -> Share | None:
    """Return the mean of fidelity and similarity over as many samples as fidelity has, or None without a scored answer.

    With s similarities, f fidelities and a weight w of at most s / f, the variance of the mean of independent samples
    is (1 - w)^2 / f + w^2 / s <= 1 / f of one sample's, so that f samples stand for it.
    """
    fidelity = compute_share(seats, "fidelity_micro", "scored_micro")
    similarity = compute_share(seats, "similarity_micro", "similar_micro")
    if fidelity is None or similarity is None or not fidelity.samples_micro:
        return fidelity
    weight_ppm = min(parameters.similarity_weight_ppm, similarity.samples_micro * PPM // fidelity.samples_micro)
    mean_ppm = ((PPM - weight_ppm) * fidelity.mean_ppm + weight_ppm * similarity.mean_ppm) // PPM
    return Share(mean_ppm=mean_ppm, samples_micro=fidelity.samples_micro)


def _share(means: Sequence[tuple[int, int]], counts: Sequence[tuple[int, int]]) -> Share | None:
    mean_ppm, count_micro = compute_lower_median(means), compute_lower_median(counts)
    if mean_ppm is None or count_micro is None:
        return None
    stakes = [stake_wei for _, stake_wei in counts]
    effective_seats_micro = sum(stakes) ** 2 * PPM // sum(stake_wei**2 for stake_wei in stakes)
    return Share(mean_ppm=mean_ppm, samples_micro=count_micro * effective_seats_micro // PPM)


def _compute_agreement(seats: Sequence[SeatTally], parameters: TrustParameters) -> Share | None:
    """Return how close the median seat's fidelity is to the fidelity of all; None with fewer than two seats."""
    scored = [seat for seat in seats if seat.scored_micro and seat.stake_wei]
    middle = compute_share(scored, "fidelity_micro", "scored_micro")
    if middle is None or len(scored) < 2:
        return None
    closeness = []
    for seat in scored:
        apart_ppm = abs(seat.fidelity_micro * PPM // seat.scored_micro - middle.mean_ppm)
        closeness.append((PPM - min(PPM, apart_ppm * PPM // parameters.agreement_tolerance_ppm), seat.stake_wei))
    return _share(closeness, [(seat.scored_micro, seat.stake_wei) for seat in scored])


def _compute_samples(seats: Sequence[SeatTally]) -> int:
    fidelity = compute_share(seats, "fidelity_micro", "scored_micro")
    return 0 if fidelity is None else fidelity.samples_micro // PPM


def _compute_cap(infractions: Collection[Infraction], parameters: TrustParameters) -> tuple[int, Flag]:
    caps = {
        Infraction.MINOR: (parameters.minor_cap, Flag.CAPPED_MINOR),
        Infraction.MAJOR: (parameters.major_cap, Flag.CAPPED_MAJOR),
        Infraction.SEVERE: (0, Flag.CAPPED_SEVERE),
        Infraction.BANNED: (0, Flag.BANNED),
    }
    if any(infraction not in caps for infraction in infractions):
        raise InvalidInput("unknown class of infraction", "infractions")
    cap, flags = 1000, Flag(0)
    for infraction in infractions:
        cap, flags = min(cap, caps[infraction][0]), flags | caps[infraction][1]
    return cap, flags


def _compute_data_flags(
    parts: Parts, samples: int, seats: Sequence[SeatTally], total_stake_wei: int, parameters: TrustParameters
) -> Flag:
    flags = Flag(0)
    reporting_wei = sum(seat.stake_wei for seat in seats if seat.scored_micro)
    # A median is safe against a third of all stake only when more than two thirds of it report.
    if samples < parameters.min_samples or 3 * reporting_wei <= 2 * total_stake_wei:
        flags |= Flag.PROVISIONAL
    weighted = zip(parameters.weights_ppm, parts.listed(), strict=True)
    if any(part is None and weight for weight, part in weighted):
        flags |= Flag.RENORMALISED
    return flags


def _compute_speed_multiplier_ppm(seats: Sequence[SeatTally], parameters: TrustParameters) -> int:
    # "Response times under 100 ms" is read as: with confidence, at least half of the answers.
    fast = compute_share(seats, "fast_micro", "scored_micro")
    if fast is None or 2 * compute_wilson_low_ppm(fast.mean_ppm, fast.samples_micro, parameters.z_milli) < PPM:
        return PPM
    return PPM + parameters.speed_bonus_ppm


def _compute_quality_multiplier_ppm(parts: Parts, parameters: TrustParameters) -> int:
    present = [part for part in (parts.accuracy_ppm, parts.rating_ppm) if part is not None]
    return PPM + parameters.quality_bonus_ppm * sum(present) // (len(present) * PPM) if present else PPM


def _compute_availability_ppm(seats: Sequence[SeatTally]) -> int:
    share = compute_share(seats, "successes_micro", "requests_micro")
    return 0 if share is None else share.mean_ppm


def _age(state: TrustState, epoch: int, parameters: TrustParameters) -> TrustState:
    if epoch < state.epoch:
        raise InvalidInput(f"epoch {epoch} is before the state's {state.epoch}", "epoch")
    weight = _decay(epoch - state.epoch, parameters.half_life_epochs)

    def aged(seat: SeatTally) -> SeatTally:
        sums = {field: getattr(seat, field) * weight >> _FRACTION_BITS for field in SUM_FIELDS}
        return replace(seat, **sums)

    return replace(state, epoch=epoch, seats=tuple(aged(seat) for seat in state.seats))


def _add(old: SeatTally | None, new: SeatTally) -> SeatTally:
    if old is None:
        return new
    return replace(new, **{field: getattr(old, field) + getattr(new, field) for field in SUM_FIELDS})


@lru_cache(maxsize=256)
def _decay(epochs: int, half_life_epochs: int) -> int:
    return compute_decay(epochs, half_life_epochs, _FRACTION_BITS)
