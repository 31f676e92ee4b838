"""One offer, four seats, and reveals of what they saw: what trust scores are computed from."""

from dataclasses import replace
from typing import Any

from scoring.eip712 import compute_struct_hash
from scoring.records import FeedItem, Flag, Offer, ProbeOutcome, Reveal, ValidatorEntry, ValidatorSet
from scoring.trust import (
    EpochMeasurement,
    Infraction,
    TrustParameters,
    build_epoch_measurement,
    compute_feed_item,
    update_trust_state,
)

PARAMETERS = TrustParameters()
NO_FLAGS = Flag(0)
OFFER = Offer(
    provider=b"\x0a" * 20,
    model="model",
    manifest_digest=b"\x0b" * 32,
    sampler="gumbel-philox-v1",
    context_length_tokens=2048,
    input_price_wei=1,
    output_price_wei=2,
    advertised_ttft_ms=200,
    advertised_tokens_per_s=20,
    endpoint="https://provider.example",
    issued_s=0,
    expires_s=2**40,
)
OFFER_DIGEST = compute_struct_hash(OFFER)
OTHER_OFFER = replace(OFFER, model="another")


def address(seat: int) -> bytes:
    return bytes([seat + 1]) * 20


def build_set(*stakes_wei: int) -> ValidatorSet:
    entries = tuple(
        ValidatorEntry(
            address=address(seat),
            public_key=bytes([seat + 1]) * 48,
            transport_key=bytes([seat + 1]) * 32,
            stake_wei=stake_wei,
        )
        for seat, stake_wei in enumerate(stakes_wei)
    )
    return ValidatorSet(network=bytes(32), validators=entries)


def build_outcome(index: int = 0, **changes: Any) -> ProbeOutcome:
    values: dict[str, Any] = {
        "provider": OFFER.provider,
        "offer_digest": OFFER_DIGEST,
        "index": index,
        "reason": "",
        "is_provider_fault": False,
        "transcript_digest": b"\x01" * 32,
        "ttft_ms": 100,
        "latency_ms": 2_000,
        "output_tokens": 48,
        "statistics_ppm": (20_000, 0),
        "has_similarity": False,
        "similarity_ppm": 0,
        **changes,
    }
    return ProbeOutcome(**values)


def build_fault(index: int = 0) -> ProbeOutcome:
    return build_outcome(index, reason="timeout", is_provider_fault=True, statistics_ppm=(), output_tokens=0)


def build_reveal(seat: int, *outcomes: ProbeOutcome, epoch: int = 5) -> Reveal:
    return Reveal(validator=address(seat), epoch=epoch, salt=bytes(32), vrf_proof=bytes(96), outcomes=tuple(outcomes))


def reveal_of(seat: int, drawn: list[dict[str, Any] | None], epoch: int = 5) -> Reveal:
    """Return a reveal of answers with these changes, and of faults where there is None."""
    outcomes = (build_fault(i) if changes is None else build_outcome(i, **changes) for i, changes in enumerate(drawn))
    return build_reveal(seat, *outcomes, epoch=epoch)


ANSWER: dict[str, Any] = {}
FOUR = build_set(10, 10, 10, 10)


def measure(*reveals: Reveal, validator_set: ValidatorSet = FOUR, epoch: int = 5) -> EpochMeasurement:
    return build_epoch_measurement(reveals, validator_set, OFFER, epoch, PARAMETERS)


def score(
    *reveals: Reveal,
    validator_set: ValidatorSet = FOUR,
    infractions: tuple[Infraction, ...] = (),
    flags: Flag = NO_FLAGS,
    parameters: TrustParameters = PARAMETERS,
) -> FeedItem:
    measurement = build_epoch_measurement(reveals, validator_set, OFFER, 5, parameters)
    state = update_trust_state(None, measurement, parameters)
    return compute_feed_item(state, OFFER, 5, 1_000, infractions, flags, parameters)


def honest(seat: int, count: int = 50, **changes: Any) -> Reveal:
    return build_reveal(seat, *(build_outcome(index, **changes) for index in range(count)))


HONEST = tuple(honest(seat) for seat in range(4))
