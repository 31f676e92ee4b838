"""The trust score: capped by infractions, lower with little evidence, aged by its half-life, kept in bytes."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from trust_network import (
    ANSWER,
    FOUR,
    HONEST,
    NO_FLAGS,
    OFFER,
    OTHER_OFFER,
    PARAMETERS,
    address,
    build_fault,
    build_outcome,
    build_reveal,
    build_set,
    honest,
    measure,
    reveal_of,
    score,
)

from scoring.eip712 import compute_struct_hash
from scoring.errors import InvalidInput
from scoring.measurement import SeatTally
from scoring.records import PPM, Flag
from scoring.trust import (
    EpochMeasurement,
    Infraction,
    Parts,
    TrustParameters,
    TrustState,
    build_epoch_measurement,
    build_trust_parameters,
    compute_feed_item,
    compute_trust,
    compute_trust_state_digest,
    update_trust_state,
)


def test_a_good_provider_with_many_samples_scores_high() -> None:
    item = score(*HONEST)
    assert item.samples == 200
    assert item.parts_present == 0b101111
    assert item.flags == Flag.RENORMALISED
    assert 955 <= item.trust <= 985
    assert item.trust_low < item.trust < item.trust_high
    assert (item.availability_ppm, item.epoch, item.time_s) == (PPM, 5, 1_000)


def test_few_samples_mean_a_lower_score_and_the_provisional_flag() -> None:
    item = score(*(honest(seat, count=2) for seat in range(4)))
    assert item.flags == Flag.RENORMALISED | Flag.PROVISIONAL
    assert item.samples == 8
    assert item.trust < 800 < item.trust_high


def test_no_data_is_no_score_and_not_a_default() -> None:
    item = score()
    assert (item.trust, item.trust_low, item.trust_high, item.parts_present, item.samples) == (0, 0, 0, 0, 0)
    assert item.flags == Flag.RENORMALISED | Flag.PROVISIONAL
    assert (item.speed_multiplier_ppm, item.quality_multiplier_ppm) == (PPM, PPM)


def test_parts_without_data_are_left_out_and_the_weights_renormalised() -> None:
    item = score(*(build_reveal(seat, *(build_fault(index) for index in range(20))) for seat in range(4)))
    assert item.parts_present == 0b000010
    assert (item.uptime_ppm, item.trust, item.availability_ppm) == (0, 0, 0)
    parts = Parts(
        accuracy_ppm=900_000,
        uptime_ppm=None,
        latency_ppm=None,
        throughput_ppm=None,
        rating_ppm=None,
        agreement_ppm=400_000,
    )
    assert compute_trust(parts, PARAMETERS) == 1000 * (4 * 900_000 + 400_000) // (5 * PPM)


def test_a_report_of_a_minority_is_provisional_however_long() -> None:
    item = score(*HONEST[:2])
    assert item.samples == 100
    assert Flag.PROVISIONAL in Flag(item.flags)
    assert Flag.PROVISIONAL not in Flag(score(*HONEST[:3]).flags)


def test_an_unscored_probe_that_is_not_the_providers_fault_counts_nowhere() -> None:
    lost = build_outcome(60, reason="the engine was restarted", statistics_ppm=(), output_tokens=0)
    with_lost = (build_reveal(0, *HONEST[0].outcomes, lost), *HONEST[1:])
    assert score(*with_lost) == score(*HONEST)


def test_faults_lower_uptime_and_nothing_else() -> None:
    faulty = tuple(
        build_reveal(seat, *HONEST[seat].outcomes, *(build_fault(50 + index) for index in range(10)))
        for seat in range(4)
    )
    measurement = measure(*faulty)
    assert (measurement.requests, measurement.provider_faults, measurement.scored) == (240, 40, 200)
    item, best = score(*faulty), score(*HONEST)
    assert item.availability_ppm == 833_333
    assert item.uptime_ppm < best.uptime_ppm
    assert item.accuracy_ppm == best.accuracy_ppm
    assert item.trust < best.trust


def test_faults_that_hit_one_seat_at_a_time_are_not_lost_in_the_median() -> None:
    # A median of single epochs would see no fault here: in each, three seats of four are content.
    state = None
    for epoch in range(4):
        reveals = [reveal_of(seat, [None if seat == epoch else ANSWER] * 6, epoch) for seat in range(4)]
        state = update_trust_state(state, measure(*reveals, epoch=epoch), PARAMETERS)
    assert state is not None
    item = compute_feed_item(state, OFFER, 3, 0, (), NO_FLAGS, PARAMETERS)
    assert item.availability_ppm == pytest.approx(750_000, abs=2_000)


@pytest.mark.parametrize(
    ("infractions", "cap", "flags"),
    [
        ((Infraction.MINOR,), 700, Flag.CAPPED_MINOR),
        ((Infraction.MAJOR,), 400, Flag.CAPPED_MAJOR),
        ((Infraction.MINOR, Infraction.MAJOR), 400, Flag.CAPPED_MINOR | Flag.CAPPED_MAJOR),
        ((Infraction.SEVERE,), 0, Flag.CAPPED_SEVERE),
        ((Infraction.BANNED, Infraction.MINOR), 0, Flag.BANNED | Flag.CAPPED_MINOR),
    ],
)
def test_certified_infractions_cap_the_score(infractions: tuple[Infraction, ...], cap: int, flags: Flag) -> None:
    item = score(*HONEST, infractions=infractions)
    assert (item.trust, item.trust_low, item.trust_high) == (cap, cap, cap)
    assert item.flags == flags | Flag.RENORMALISED
    assert item.accuracy_ppm == score(*HONEST).accuracy_ppm


def test_no_bonus_is_earned_under_a_cap() -> None:
    fast = tuple(honest(seat, ttft_ms=10) for seat in range(4))
    assert score(*fast).speed_multiplier_ppm > PPM
    item = score(*fast, infractions=(Infraction.MINOR,))
    assert (item.speed_multiplier_ppm, item.quality_multiplier_ppm) == (PPM, PPM)


def test_seats_without_a_sample_take_no_room_in_the_state() -> None:
    state = update_trust_state(None, measure(*HONEST[1:]), PARAMETERS)
    assert [seat.validator for seat in state.seats] == [address(seat) for seat in (1, 2, 3)]


def test_open_cases_and_challenges_are_flags_and_cost_nothing() -> None:
    flags = Flag.CASE_OPEN | Flag.CHALLENGE_OPEN | Flag.ALARM
    item = score(*HONEST, flags=flags)
    assert item == replace(score(*HONEST), flags=flags | Flag.RENORMALISED)


@pytest.mark.parametrize("flag", [Flag.PROVISIONAL, Flag.RENORMALISED, Flag.BANNED, Flag.CAPPED_MINOR])
def test_refuses_flags_that_are_computed_here(flag: Flag) -> None:
    with pytest.raises(InvalidInput, match="flags"):
        score(*HONEST, flags=flag)


def test_refuses_an_unknown_infraction() -> None:
    with pytest.raises(InvalidInput, match="infraction"):
        score(*HONEST, infractions=("rude",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "changes", "part", "expected"),
    [
        ("as fast as advertised", {"ttft_ms": 200}, "latency_ppm", PPM),
        ("twice as slow as advertised", {"ttft_ms": 400}, "latency_ppm", PPM // 2),
        ("faster than advertised earns no more", {"ttft_ms": 0}, "latency_ppm", PPM),
        ("as many tokens as advertised", {"latency_ms": 2_400}, "throughput_ppm", PPM),
        ("half the tokens advertised", {"latency_ms": 4_800}, "throughput_ppm", PPM // 2),
        ("a burst at the end", {"latency_ms": 4_800, "ttft_ms": 4_799}, "throughput_ppm", PPM // 2),
        ("perfect fidelity", {"statistics_ppm": (0, 500_000)}, "accuracy_ppm", PPM),
        ("a tenth of the statistic's range", {"statistics_ppm": (100_000, 0)}, "accuracy_ppm", 900_000),
        (
            "similarity enters with a fifth",
            {"statistics_ppm": (0, 0), "has_similarity": True, "similarity_ppm": 500_000},
            "accuracy_ppm",
            900_000,
        ),
    ],
)
def test_parts_follow_their_measure(name: str, changes: dict[str, Any], part: str, expected: int) -> None:
    exact = TrustParameters(z_milli=0, interval_z_milli=0)
    item = score(*(honest(seat, **changes) for seat in range(4)), parameters=exact)
    assert getattr(item, part) == expected


@pytest.mark.parametrize(
    ("every", "weight_ppm"), [(1, 200_000), (4, 200_000), (5, 200_000), (10, 100_000), (50, 20_000)]
)
def test_no_measured_similarity_weighs_more_than_one_answer(every: int, weight_ppm: int) -> None:
    exact = TrustParameters(z_milli=0, interval_z_milli=0)
    seats = []
    for seat in range(4):
        answers: list[dict[str, Any] | None] = [{"statistics_ppm": (0, 0)} for _ in range(50)]
        for changes in answers[::every]:
            assert changes is not None
            changes |= {"has_similarity": True, "similarity_ppm": 0}
        seats.append(reveal_of(seat, answers))
    assert score(*seats, parameters=exact).accuracy_ppm == PPM - weight_ppm


def test_an_offer_whose_similarity_was_seldom_measured_is_scored_like_one_where_it_never_was() -> None:
    """One poor similarity among 48 answers, by chance, must not cost more than its share of the answers."""
    seldom = [reveal_of(seat, [{"has_similarity": not i and not seat} for i in range(12)]) for seat in range(4)]
    without = score(*(honest(seat, count=12) for seat in range(4)))
    assert without.trust - score(*seldom).trust <= 1000 // 48


def test_an_offer_that_promises_nothing_earns_nothing_for_speed() -> None:
    lazy = replace(OFFER, advertised_ttft_ms=0, advertised_tokens_per_s=0)
    outcomes = [build_outcome(index, offer_digest=compute_struct_hash(lazy)) for index in range(9)]
    measurement = build_epoch_measurement([build_reveal(0, *outcomes)], FOUR, lazy, 5, PARAMETERS)
    item = compute_feed_item(update_trust_state(None, measurement, PARAMETERS), lazy, 5, 0, (), NO_FLAGS, PARAMETERS)
    assert (item.latency_ppm, item.throughput_ppm) == (0, 0)
    assert item.parts_present == 0b001111


def test_agreement_falls_when_seats_are_treated_differently() -> None:
    two_faced = (*HONEST[:2], *(honest(seat, statistics_ppm=(120_000, 0)) for seat in (2, 3)))
    exact = TrustParameters(z_milli=0, interval_z_milli=0)
    assert score(*HONEST, parameters=exact).agreement_ppm == PPM
    assert score(*two_faced, parameters=exact).agreement_ppm == PPM // 2
    assert score(HONEST[0]).parts_present & 0b100000 == 0


def test_multipliers_follow_speed_and_accuracy() -> None:
    item = score(*(honest(seat, ttft_ms=99) for seat in range(4)))
    assert item.speed_multiplier_ppm == 1_200_000
    assert item.quality_multiplier_ppm == PPM + item.accuracy_ppm // 2
    assert score(*HONEST).speed_multiplier_ppm == PPM


def test_the_order_of_reveals_does_not_change_a_byte() -> None:
    reveals = tuple(
        build_reveal(seat, *(build_outcome(i, ttft_ms=50 + 37 * seat + i) for i in range(3))) for seat in range(4)
    )
    digests = set()
    for order in permutations(reveals):
        state = update_trust_state(None, measure(*order), PARAMETERS)
        item = compute_feed_item(state, OFFER, 5, 0, (), NO_FLAGS, PARAMETERS)
        digests.add((compute_trust_state_digest(state), item.encode()))
    assert len(digests) == 1


def test_the_state_is_read_back_from_its_bytes() -> None:
    state = update_trust_state(None, measure(*HONEST), PARAMETERS)
    assert TrustState.decode(state.encode()) == state
    assert TrustState.from_json(state.to_json()) == state
    measurement = measure(*HONEST)
    assert EpochMeasurement.decode(measurement.encode()) == measurement
    assert TrustParameters.decode(PARAMETERS.encode()) == PARAMETERS


def test_evidence_ages_by_the_half_life_and_the_score_falls_in_silence() -> None:
    parameters = TrustParameters(half_life_epochs=10)
    state = update_trust_state(None, measure(*HONEST), parameters)
    items = [compute_feed_item(state, OFFER, epoch, 0, (), NO_FLAGS, parameters) for epoch in (5, 15, 25, 10_000)]
    assert [item.samples for item in items] == [200, 100, 50, 0]
    assert items[0].trust > items[1].trust > items[2].trust > items[3].trust == 0
    assert Flag.PROVISIONAL in Flag(items[3].flags)


def test_new_epochs_add_to_the_decayed_old_ones() -> None:
    parameters = TrustParameters(half_life_epochs=10)
    state = update_trust_state(None, measure(*HONEST), parameters)
    state = update_trust_state(state, measure(*HONEST, epoch=15), parameters)
    assert [seat.scored_micro for seat in state.seats] == [75 * PPM] * 4


def test_seats_that_left_are_forgotten_and_stakes_are_the_newest() -> None:
    state = update_trust_state(None, measure(*HONEST), PARAMETERS)
    later = measure(validator_set=build_set(10, 99), epoch=6)
    state = update_trust_state(state, later, PARAMETERS)
    assert [(seat.validator, seat.stake_wei) for seat in state.seats] == [(address(0), 10), (address(1), 99)]
    assert state.total_stake_wei == 109


def test_refuses_measurements_of_another_offer_or_an_earlier_epoch() -> None:
    state = update_trust_state(None, measure(*HONEST), PARAMETERS)
    with pytest.raises(InvalidInput, match="not after"):
        update_trust_state(state, measure(epoch=5), PARAMETERS)
    other = build_epoch_measurement((), FOUR, OTHER_OFFER, 6, PARAMETERS)
    with pytest.raises(InvalidInput, match="another offer"):
        update_trust_state(state, other, PARAMETERS)
    with pytest.raises(InvalidInput, match="another offer"):
        compute_feed_item(state, OTHER_OFFER, 5, 0, (), NO_FLAGS, PARAMETERS)
    with pytest.raises(InvalidInput, match="before the state"):
        compute_feed_item(state, OFFER, 4, 0, (), NO_FLAGS, PARAMETERS)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("weights that are not a whole", {"accuracy_weight_ppm": 1}, "sum to 1,000,000"),
        ("no half-life", {"half_life_epochs": 0}, "half_life_epochs"),
        ("an endless half-life", {"half_life_epochs": 10_001}, "half_life_epochs"),
        ("a cap over the top", {"minor_cap": 1001}, "minor_cap"),
        ("a major infraction cheaper than a minor", {"minor_cap": 100}, "major_cap"),
        ("an interval inside the score", {"interval_z_milli": 1}, "interval_z_milli"),
        ("similarity over fidelity", {"similarity_weight_ppm": 500_001}, "similarity_weight_ppm"),
        ("a float", {"z_milli": 1645.0}, "z_milli"),
    ],
)
def test_refuses_parameters(name: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        replace(PARAMETERS, **changes)


def test_the_window_counts_epochs() -> None:
    assert build_trust_parameters(24).half_life_epochs == 720
    assert build_trust_parameters(10**6).half_life_epochs == 10_000


def test_sums_of_a_seat_never_exceed_their_count() -> None:
    state = update_trust_state(None, measure(*HONEST), PARAMETERS)
    for epoch in (6, 13, 700, 9_000):
        state = update_trust_state(state, measure(HONEST[0], epoch=epoch), PARAMETERS)
        for seat in state.seats:
            assert isinstance(seat, SeatTally)
            assert max(seat.fidelity_micro, seat.latency_micro, seat.throughput_micro) <= seat.scored_micro
            assert seat.successes_micro <= seat.requests_micro
