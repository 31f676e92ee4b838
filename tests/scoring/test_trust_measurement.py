"""What reveals of an epoch are counted as: seats, faults and scores, times, and what is left out."""

import pytest
from trust_network import (
    FOUR,
    HONEST,
    OFFER,
    OTHER_OFFER,
    PARAMETERS,
    build_outcome,
    build_reveal,
    build_set,
    honest,
    measure,
    score,
)

from scoring.eip712 import compute_struct_hash
from scoring.errors import InvalidInput
from scoring.measurement import compute_tokens_per_s_milli
from scoring.records import PPM, ProbeOutcome, ValidatorSet
from scoring.trust import (
    TrustParameters,
    build_epoch_measurement,
)


def test_a_validator_counts_once_an_epoch_and_late_reveals_count_where_they_are_certified() -> None:
    with pytest.raises(InvalidInput, match="two reveals"):
        measure(HONEST[0], build_reveal(0))
    late = build_reveal(0, build_outcome(), epoch=4)
    assert measure(*HONEST, late).scored == 201


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("of another provider", build_outcome(0, provider=b"\x0c" * 20)),
        ("of another offer", build_outcome(0, offer_digest=compute_struct_hash(OTHER_OFFER))),
        ("beyond the plan's number of probes", build_outcome(PARAMETERS.max_probes_per_seat)),
    ],
)
def test_leaves_out_an_outcome(name: str, outcome: ProbeOutcome) -> None:
    assert measure(build_reveal(0, outcome)).requests == 0


def test_a_statistics_vector_shorter_than_the_plan_is_not_a_score() -> None:
    parameters = TrustParameters(statistic_index=2)
    measurement = build_epoch_measurement(HONEST, FOUR, OFFER, 5, parameters)
    assert (measurement.scored, measurement.requests) == (0, 0)


def test_an_answer_that_is_called_the_providers_fault_is_a_fault_and_not_a_score() -> None:
    measurement = measure(build_reveal(0, build_outcome(is_provider_fault=True)))
    assert (measurement.requests, measurement.provider_faults, measurement.scored) == (1, 1, 0)


def test_tallies_are_in_order_of_address_whatever_the_registry_says() -> None:
    backwards = ValidatorSet(network=bytes(32), validators=tuple(reversed(FOUR.validators)))
    assert measure(*HONEST, validator_set=backwards) == measure(*HONEST)


def test_a_reveal_of_an_account_without_a_seat_weighs_nothing() -> None:
    assert measure(*HONEST, honest(9)) == measure(*HONEST)


def test_measured_times_are_stake_weighted_medians() -> None:
    reveals = [honest(seat, ttft_ms=ttft_ms) for seat, ttft_ms in enumerate((10, 20, 30, 900_000))]
    assert measure(*reveals).ttft_ms == 20
    assert measure(*reveals, validator_set=build_set(1, 1, 7, 1)).ttft_ms == 30
    assert measure(*reveals).tokens_per_s_milli == compute_tokens_per_s_milli(build_outcome()) == 24_000
    assert measure().ttft_ms == 0


def test_absurd_claims_of_every_seat_stop_nothing() -> None:
    largest = 2**53 - 1
    changes = {"output_tokens": largest, "latency_ms": 0, "ttft_ms": largest, "statistics_ppm": (PPM, PPM)}
    item = score(*(honest(seat, **changes) for seat in range(4)))
    assert (item.throughput_ppm > 900_000, item.latency_ppm, item.accuracy_ppm) == (True, 0, 0)
    assert measure(honest(0, **changes)).tokens_per_s_milli == largest
