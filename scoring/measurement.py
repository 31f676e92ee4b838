"""What one epoch's reveals say about one offer, seat by seat.

Each seat's numbers stay apart until the score is computed: the score takes stake-weighted medians of the seats' means
over the whole window, so that less than a third of the stake cannot move a measured quantity out of the range that
the honest seats saw, and a fault that hits one seat in ten is not lost in a median of single epochs.

Counts and sums are in micro units: one sample is 1,000,000, and a sum of shares adds each sample's ppm.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scoring.canonical import MAX_SAFE_INTEGER
from scoring.eip712 import Address, Bytes32, Record, Uint64, Wei, compute_struct_hash
from scoring.errors import InvalidInput
from scoring.interval import compute_lower_median
from scoring.parameters import TrustParameters
from scoring.records import PPM, Offer, ProbeOutcome, Reveal, ValidatorSet


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatTally(Record):
    """One validator's sums for one offer. `requests` counts answers and provider faults, `scored` scored answers.

    `successes` are requests without the provider's fault; `fidelity`, `latency`, `throughput` and `fast` sum over the
    scored answers, `similarity` over the `similar` ones that have one.
    """

    validator: Address
    stake_wei: Wei
    requests_micro: Uint64
    successes_micro: Uint64
    scored_micro: Uint64
    fidelity_micro: Uint64
    latency_micro: Uint64
    throughput_micro: Uint64
    fast_micro: Uint64
    similar_micro: Uint64
    similarity_micro: Uint64


SUM_FIELDS = (
    "requests_micro",
    "successes_micro",
    "scored_micro",
    "fidelity_micro",
    "latency_micro",
    "throughput_micro",
    "fast_micro",
    "similar_micro",
    "similarity_micro",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMeasurement(Record):
    """One epoch of one offer: a tally for every seat of the validator set, in order of address.

    `ttft_ms` and `tokens_per_s_milli` are stake-weighted lower medians of the seats' own lower medians over scored
    answers, 0 when there are none. They inform; the score uses the tallies.
    """

    offer_digest: Bytes32
    epoch: Uint64
    total_stake_wei: Wei
    seats: tuple[SeatTally, ...]
    ttft_ms: Uint64
    tokens_per_s_milli: Uint64

    @property
    def requests(self) -> int:
        """Probes that count for uptime: answered, or failed by the provider."""
        return sum(seat.requests_micro for seat in self.seats) // PPM

    @property
    def provider_faults(self) -> int:
        """Probes that the provider failed."""
        return sum(seat.requests_micro - seat.successes_micro for seat in self.seats) // PPM

    @property
    def scored(self) -> int:
        """Probes that were scored."""
        return sum(seat.scored_micro for seat in self.seats) // PPM


def build_epoch_measurement(
    reveals: Sequence[Reveal], validator_set: ValidatorSet, offer: Offer, epoch: int, parameters: TrustParameters
) -> EpochMeasurement:
    """Return what the certified reveals say about the offer; the order of the reveals does not matter.

    Late reveals of earlier epochs count with the epoch that certifies them. Reveals of accounts without a seat weigh
    nothing. Raises InvalidInput when a reveal comes twice.
    """
    keys = [(reveal.validator, reveal.epoch) for reveal in reveals]
    if len(set(keys)) != len(keys):
        raise InvalidInput("two reveals of one validator and epoch", "reveals")
    offer_digest = compute_struct_hash(offer)
    outcomes: dict[bytes, list[ProbeOutcome]] = {entry.address: [] for entry in validator_set.validators}
    for reveal in reveals:
        if reveal.validator in outcomes:
            outcomes[reveal.validator] += _of_offer(reveal, offer, offer_digest, parameters)
    stakes = {entry.address: entry.stake_wei for entry in validator_set.validators}
    weighted = [(stakes[address], seen) for address, seen in outcomes.items()]
    return EpochMeasurement(
        offer_digest=offer_digest,
        epoch=epoch,
        total_stake_wei=validator_set.total_stake_wei,
        seats=tuple(
            _tally(address, stakes[address], outcomes[address], offer, parameters) for address in sorted(stakes)
        ),
        ttft_ms=_median(weighted, lambda outcome: outcome.ttft_ms, parameters),
        tokens_per_s_milli=_median(weighted, compute_tokens_per_s_milli, parameters),
    )


def compute_tokens_per_s_milli(outcome: ProbeOutcome) -> int:
    """Return the answer's tokens per second from request to last byte, in thousandths.

    The wait for the first token is in it, so holding an answer back to send it in one burst gains nothing. Capped at
    the largest integer that a record holds, or one absurd claim would stop the outcome of everybody.
    """
    return min(MAX_SAFE_INTEGER, outcome.output_tokens * PPM // max(1, outcome.latency_ms))


def compute_latency_score_ppm(outcome: ProbeOutcome, offer: Offer) -> int:
    """Return min(1, advertised / measured time to first token); an offer that advertises 0 ms scores 0."""
    return min(PPM, offer.advertised_ttft_ms * PPM // max(1, outcome.ttft_ms))


def compute_throughput_score_ppm(outcome: ProbeOutcome, offer: Offer) -> int:
    """Return min(1, measured / advertised tokens per second); an offer that advertises 0 scores 0."""
    if offer.advertised_tokens_per_s == 0:
        return 0
    return min(PPM, compute_tokens_per_s_milli(outcome) * 1000 // offer.advertised_tokens_per_s)


def compute_fidelity_ppm(outcome: ProbeOutcome, parameters: TrustParameters) -> int:
    """Return 1 - min(1, g / zero point) of the plan's main statistic g of a scored outcome."""
    statistic_ppm = outcome.statistics_ppm[parameters.statistic_index]
    return PPM - min(PPM, statistic_ppm * PPM // parameters.fidelity_zero_ppm)


def _of_offer(reveal: Reveal, offer: Offer, offer_digest: bytes, parameters: TrustParameters) -> Iterable[ProbeOutcome]:
    # No seat may weigh more by listing more probes than the plan draws.
    return (
        outcome
        for outcome in reveal.outcomes
        if outcome.provider == offer.provider
        and outcome.offer_digest == offer_digest
        and outcome.index < parameters.max_probes_per_seat
    )


def _is_scored(outcome: ProbeOutcome, parameters: TrustParameters) -> bool:
    # A vector shorter than the plan's comes from a broken or lying validator: it is not a score.
    return len(outcome.statistics_ppm) > parameters.statistic_index and not outcome.is_provider_fault


def _tally(
    validator: bytes, stake_wei: int, outcomes: Sequence[ProbeOutcome], offer: Offer, parameters: TrustParameters
) -> SeatTally:
    scored = [outcome for outcome in outcomes if _is_scored(outcome, parameters)]
    similar = [outcome for outcome in scored if outcome.has_similarity]
    faults = sum(outcome.is_provider_fault for outcome in outcomes)
    return SeatTally(
        validator=validator,
        stake_wei=stake_wei,
        requests_micro=(len(scored) + faults) * PPM,
        successes_micro=len(scored) * PPM,
        scored_micro=len(scored) * PPM,
        fidelity_micro=sum(compute_fidelity_ppm(outcome, parameters) for outcome in scored),
        latency_micro=sum(compute_latency_score_ppm(outcome, offer) for outcome in scored),
        throughput_micro=sum(compute_throughput_score_ppm(outcome, offer) for outcome in scored),
        fast_micro=sum(PPM for outcome in scored if outcome.ttft_ms < parameters.fast_ttft_ms),
        similar_micro=len(similar) * PPM,
        similarity_micro=sum(outcome.similarity_ppm for outcome in similar),
    )


def _median(
    weighted: Sequence[tuple[int, Sequence[ProbeOutcome]]],
    measure: Callable[[ProbeOutcome], int],
    parameters: TrustParameters,
) -> int:
    medians = []
    for stake_wei, outcomes in weighted:
        own = compute_lower_median([(measure(outcome), 1) for outcome in outcomes if _is_scored(outcome, parameters)])
        if own is not None:
            medians.append((own, stake_wei))
    return compute_lower_median(medians) or 0
