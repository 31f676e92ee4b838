"""The outcome of an epoch is one function of the reveals: whoever computes it, in any order, gets the same bytes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import canonical
from scoring.eip712 import Record, compute_struct_hash
from scoring.errors import InvalidInput
from scoring.evidence.cases import build_case, compute_case_wealth, compute_first_epoch
from scoring.evidence.plan import Plan, PlanStatistic
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.evidence.wealth import ONE
from scoring.hashing import keccak256, tagged_digest
from scoring.merkle import EMPTY_ROOT, compute_proof, compute_root, verify_proof
from scoring.outcome import (
    EMPTY_STATE,
    AggregationState,
    EpochInputs,
    Outcome,
    build_accounted_probes,
    compute_outcome,
    find_case,
)
from scoring.parameters import build_trust_parameters
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import Flag, Offer, ProbeOutcome, Reveal, ValidatorEntry, ValidatorSet
from scoring.trust import Infraction
from scoring.vrf import compute_vrf_output

NETWORK = b"\x01" * 32
SEATS = 4
STATISTICS = 2
START_S, EPOCH_S = 1_800_000_000, 10

PLAN = Plan(
    protocol_version="quiver-1",
    rule="mean-betting-v1",
    development=True,
    activation_epoch=0,
    manifest_digest=b"\x03" * 32,
    profile_digest=b"\x04" * 32,
    sampler="gumbel-philox-v1",
    generator=GENERATOR_ID,
    strata=(STRATA[0],),
    statistics=tuple(
        PlanStatistic(statistic=name, mu_ppm=50_000, lambdas_ppm=(1_000_000, 10_000_000))
        for name in STATISTIC_IDS[:STATISTICS]
    ),
    request_cap=100,
    epoch_cap=100,
    one_over_alpha=1_000_000,
    case_length_epochs=3,
    probes_per_epoch=2,
    max_tokens=48,
    temperature_min_ppm=1_000_000,
    temperature_max_ppm=1_000_000,
    top_p_min_ppm=1_000_000,
    top_p_max_ppm=1_000_000,
    max_delay_ms=0,
)
VALIDATOR_SET = ValidatorSet(
    network=NETWORK,
    validators=tuple(
        ValidatorEntry(
            address=bytes([16 + seat]) * 20,
            public_key=bytes([seat]) * 48,
            transport_key=bytes([seat]) * 32,
            stake_wei=10_000 * 10**18,
        )
        for seat in range(SEATS)
    ),
)

GOLDEN = ["40e17fdf2095daf2", "cb3f993aea279a56", "2e0e42f9e2495ee3"]


def build_offer(name: bytes, manifest_digest: bytes = PLAN.manifest_digest) -> Offer:
    return Offer(
        provider=keccak256(name)[-20:],
        model=name.decode(),
        manifest_digest=manifest_digest,
        sampler=PLAN.sampler,
        context_length_tokens=2048,
        input_price_wei=1,
        output_price_wei=2,
        advertised_ttft_ms=100,
        advertised_tokens_per_s=10,
        endpoint="http://127.0.0.1:1",
        issued_s=START_S,
        expires_s=START_S + 100_000,
    )


HONEST, LIAR = build_offer(b"honest"), build_offer(b"liar")
UNAUDITED = build_offer(b"other model", b"\x05" * 32)


def build_inputs(epoch: int = 1, **changes: object) -> EpochInputs:
    given_values: dict[str, object] = {
        "epoch": epoch,
        "previous": tagged_digest("quiver-test", b"previous"),
        "time_s": START_S + epoch * EPOCH_S,
        "beacon": tagged_digest("quiver-test", b"beacon", bytes([epoch])),
        "validator_set": VALIDATOR_SET,
        "plan": PLAN,
        "trust_parameters": build_trust_parameters(24),
        "offers": (HONEST, LIAR),
        "infractions": {},
        "challenged": frozenset(),
    }
    return EpochInputs(**(given_values | changes))  # type: ignore[arg-type]


def build_probe_outcome(offer: Offer, index: int, statistics_ppm: tuple[int, ...], ttft_ms: int = 80) -> ProbeOutcome:
    is_scored = bool(statistics_ppm)
    return ProbeOutcome(
        provider=offer.provider,
        offer_digest=compute_struct_hash(offer),
        index=index,
        reason="" if is_scored else "timeout",
        is_provider_fault=not is_scored,
        transcript_digest=keccak256(bytes([index])) if is_scored else bytes(32),
        ttft_ms=ttft_ms,
        latency_ms=1_000,
        output_tokens=48 if is_scored else 0,
        statistics_ppm=statistics_ppm,
        has_similarity=False,
        similarity_ppm=0,
    )


def build_reveal(seat: int, outcomes: Sequence[ProbeOutcome], epoch: int = 1) -> Reveal:
    ordered = sorted(outcomes, key=lambda item: (item.provider, item.offer_digest, item.index))
    return Reveal(
        validator=VALIDATOR_SET.validators[seat].address,
        epoch=epoch,
        salt=bytes([seat]) * 32,
        vrf_proof=bytes([seat, epoch]) * 48,
        outcomes=tuple(ordered),
    )


def build_typical_reveals(epoch: int = 1, seats: Sequence[int] = range(SEATS)) -> dict[int, Reveal]:
    """Return reveals in which the honest provider gives nothing to bet on and the liar's g is a fifth of its range."""
    return {
        seat: build_reveal(
            seat,
            [
                build_probe_outcome(offer, index, (level, level // 2))
                for offer, level in ((HONEST, 0), (LIAR, 200_000))
                for index in range(PLAN.probes_per_epoch)
            ],
            epoch,
        )
        for seat in seats
    }


def follow(epochs: int, seats: Sequence[int] = range(SEATS)) -> list[Outcome]:
    """Return the outcomes of epochs 0 to `epochs` - 1, each computed from the state before it."""
    state, outcomes = EMPTY_STATE, []
    for epoch in range(epochs):
        outcomes.append(compute_outcome(build_inputs(epoch), state, build_typical_reveals(epoch, seats)))
        state = outcomes[-1].state
    return outcomes


@st.composite
def draw_reveals(draw: st.DrawFn) -> dict[int, Reveal]:
    statistics = st.one_of(st.just(()), st.tuples(*[st.integers(0, 1_000_000)] * STATISTICS))
    reveals = {}
    for seat in draw(st.sets(st.integers(0, SEATS - 1))):
        outcomes = [
            build_probe_outcome(offer, index, draw(statistics), draw(st.integers(0, 2**53 - 1)))
            for offer in (HONEST, LIAR)
            for index in range(draw(st.integers(0, 3)))
        ]
        reveals[seat] = build_reveal(seat, outcomes)
    return reveals


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reveals=draw_reveals(), data=st.data())
def test_the_order_of_reveals_and_offers_does_not_matter(reveals: dict[int, Reveal], data: st.DataObject) -> None:
    state = follow(1)[-1].state
    expected = compute_outcome(build_inputs(1, offers=(HONEST, LIAR, UNAUDITED)), state, reveals)
    shuffled = {seat: reveals[seat] for seat in data.draw(st.permutations(sorted(reveals)))}
    offers = tuple(data.draw(st.permutations([UNAUDITED, LIAR, HONEST])))
    again = compute_outcome(build_inputs(1, offers=offers), state, shuffled)
    assert again == expected
    assert encode(again) == encode(expected)


def encode(outcome: Outcome) -> bytes:
    records: tuple[Record, ...] = (outcome.checkpoint, *outcome.feed_items, *outcome.case_items, outcome.state)
    return canonical.encode([record.to_json() for record in records])


def test_a_state_read_from_its_wire_form_leads_to_the_same_bytes() -> None:
    first = follow(1)[-1]
    read = AggregationState.decode(first.state.encode())
    assert compute_struct_hash(read) == first.checkpoint.state_digest
    inputs, reveals = build_inputs(1), build_typical_reveals(1)
    read_reveals = {seat: Reveal.decode(reveal.encode()) for seat, reveal in reveals.items()}
    assert encode(compute_outcome(inputs, read, read_reveals)) == encode(compute_outcome(inputs, first.state, reveals))


def test_the_outcome_of_three_epochs_is_what_it_was() -> None:
    # A change of these bytes splits a network: it needs a new protocol version and an activation epoch.
    digests = [keccak256(encode(outcome)).hex()[:16] for outcome in follow(3)]
    assert digests == GOLDEN


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reveals=draw_reveals())
def test_there_are_integers_only_in_everything_that_is_signed(reveals: dict[int, Reveal]) -> None:
    outcome = compute_outcome(build_inputs(1), EMPTY_STATE, reveals)
    # The encoder refuses floats and integers beyond 2**53 - 1; wei and wealth are decimal strings.
    decoded = canonical.decode(encode(outcome))
    assert not find_floats(decoded)


def find_floats(value: object) -> bool:
    if isinstance(value, dict):
        return any(find_floats(item) for item in value.values())
    if isinstance(value, list):
        return any(find_floats(item) for item in value)
    return isinstance(value, float)


def test_the_checkpoint_commits_to_everything_that_is_published() -> None:
    inputs, reveals = build_inputs(1), build_typical_reveals(1)
    outcome = compute_outcome(inputs, EMPTY_STATE, reveals)
    checkpoint = outcome.checkpoint
    assert (checkpoint.epoch, checkpoint.previous, checkpoint.time_s) == (1, inputs.previous, inputs.time_s)
    assert checkpoint.vrf_outputs == tuple(compute_vrf_output(reveals[seat].vrf_proof) for seat in range(SEATS))
    assert checkpoint.reveals_root == compute_root([compute_struct_hash(reveal) for reveal in reveals.values()])
    for root, items in (
        (checkpoint.feed_root, outcome.feed_items),
        (checkpoint.case_root, outcome.case_items),
    ):
        leaves = [compute_struct_hash(item) for item in items]
        assert len(leaves) == 2
        for index, leaf in enumerate(leaves):
            verify_proof(root, leaf, compute_proof(leaves, index))
    assert checkpoint.plan_digest == PLAN.compute_digest()
    assert checkpoint.state_digest == compute_struct_hash(outcome.state)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("the beacon", {"beacon": b"\x09" * 32}),
        ("the previous checkpoint", {"previous": b"\x09" * 32}),
        ("the time", {"time_s": START_S}),
        ("the offers", {"offers": (HONEST,)}),
        ("an infraction", {"infractions": {LIAR.provider: {Infraction.MAJOR}}}),
        ("an open challenge", {"challenged": frozenset({compute_struct_hash(LIAR)})}),
        ("the plan", {"plan": replace(PLAN, epoch_cap=50)}),
        ("the parameters", {"trust_parameters": replace(build_trust_parameters(24), fidelity_zero_ppm=1_000)}),
    ],
)
def test_a_change_of_the_inputs_changes_the_checkpoint(name: str, changes: dict[str, object]) -> None:
    reveals = build_typical_reveals(1)
    expected = compute_outcome(build_inputs(1), EMPTY_STATE, reveals).checkpoint
    assert compute_outcome(build_inputs(1, **changes), EMPTY_STATE, reveals).checkpoint != expected, name


def test_an_infraction_and_a_challenge_show_in_the_item() -> None:
    inputs = build_inputs(
        1,
        infractions={LIAR.provider: {Infraction.MAJOR}},
        challenged=frozenset({compute_struct_hash(HONEST)}),
    )
    items = {item.provider: item for item in compute_outcome(inputs, EMPTY_STATE, build_typical_reveals(1)).feed_items}
    assert items[LIAR.provider].trust <= inputs.trust_parameters.major_cap
    assert items[LIAR.provider].flags & Flag.CAPPED_MAJOR
    assert items[HONEST.provider].flags & Flag.CHALLENGE_OPEN
    assert not items[LIAR.provider].flags & Flag.CHALLENGE_OPEN


def test_absent_seats_are_missing_probes() -> None:
    full = compute_outcome(build_inputs(1), EMPTY_STATE, build_typical_reveals(1))
    partial = compute_outcome(build_inputs(1), EMPTY_STATE, build_typical_reveals(1, seats=(0, 2, 3)))
    for item in full.case_items:
        assert (item.accounted_probes, item.missing_probes) == (8, 0)
    for item in partial.case_items:
        assert (item.accounted_probes, item.missing_probes) == (8, 2)
    assert len(partial.checkpoint.vrf_outputs) == 3
    liars = [next(i for i in outcome.case_items if i.provider == LIAR.provider) for outcome in (full, partial)]
    assert liars[1].wealth < liars[0].wealth, "a seat that stays away must not make a case stronger"


def test_an_epoch_without_reveals_is_an_epoch_of_missing_probes() -> None:
    outcome = compute_outcome(build_inputs(1), EMPTY_STATE, {})
    assert outcome.checkpoint.reveals_root == EMPTY_ROOT
    assert outcome.checkpoint.vrf_outputs == ()
    assert {(item.accounted_probes, item.missing_probes) for item in outcome.case_items} == {(8, 8)}
    assert {item.samples for item in outcome.feed_items} == {0}


def test_without_offers_there_is_a_checkpoint_with_empty_roots() -> None:
    outcome = compute_outcome(build_inputs(1, offers=()), EMPTY_STATE, build_typical_reveals(1))
    assert (outcome.checkpoint.feed_root, outcome.checkpoint.case_root) == (EMPTY_ROOT, EMPTY_ROOT)
    assert len(outcome.checkpoint.vrf_outputs) == SEATS


def test_a_model_outside_the_plan_is_published_but_has_no_case() -> None:
    outcome = compute_outcome(build_inputs(1, offers=(HONEST, UNAUDITED)), EMPTY_STATE, build_typical_reveals(1))
    assert {item.provider for item in outcome.feed_items} == {HONEST.provider, UNAUDITED.provider}
    assert [item.provider for item in outcome.case_items] == [HONEST.provider]


def test_probes_beyond_the_plan_and_of_other_accounts_do_not_count() -> None:
    state = EMPTY_STATE
    plain = compute_outcome(build_inputs(1, offers=(HONEST,)), state, build_typical_reveals(1))
    stuffed = {
        seat: replace(
            reveal,
            outcomes=tuple(
                sorted(
                    [*reveal.outcomes, build_probe_outcome(HONEST, 2, (1_000_000, 1_000_000))],
                    key=lambda item: (item.provider, item.offer_digest, item.index),
                )
            ),
        )
        for seat, reveal in build_typical_reveals(1).items()
    }
    again = compute_outcome(build_inputs(1, offers=(HONEST,)), state, stuffed)
    assert again.case_items == plain.case_items


def test_the_case_grows_with_a_liar_and_not_with_an_honest_provider() -> None:
    last = {item.provider: item for item in follow(3)[-1].case_items}
    assert last[LIAR.provider].wealth > 1_000 * ONE
    assert last[HONEST.provider].wealth < ONE


def test_the_public_case_is_what_anybody_folds_from_the_reveals() -> None:
    item = next(item for item in follow(3)[-1].case_items if item.provider == LIAR.provider)
    statistics = {(seat, index): (200_000, 100_000) for seat in range(SEATS) for index in range(PLAN.probes_per_epoch)}
    probes = build_accounted_probes(PLAN, SEATS, statistics)
    assert compute_case_wealth(PLAN, 1, [probes] * 3).pooled_wealth == item.wealth


def test_the_calendar_opens_a_new_case_and_forgets_the_old_one() -> None:
    outcomes = follow(2 * PLAN.case_length_epochs)
    cases = [next(i for i in outcome.case_items if i.provider == LIAR.provider) for outcome in outcomes]
    assert [item.case_index for item in cases] == [1, 1, 1, 2, 2, 2]
    assert [item.first_epoch for item in cases] == [0, 0, 0, 3, 3, 3]
    assert [item.accounted_probes for item in cases] == [8, 16, 24, 8, 16, 24]
    assert cases[3].wealth < cases[2].wealth
    assert [item.wealth for item in cases[3:]] == [item.wealth for item in cases[:3]], "both cases saw the same"


def test_an_offer_that_comes_late_starts_inside_the_case_of_the_calendar() -> None:
    item = compute_outcome(build_inputs(5), EMPTY_STATE, build_typical_reveals(5)).case_items[0]
    assert (item.case_index, item.first_epoch, item.accounted_probes) == (2, 3, 8)


@given(epoch=st.integers(0, 200), case_index=st.integers(1, 70))
def test_a_case_is_kept_just_while_its_calendar_lasts(epoch: int, case_index: int) -> None:
    case = build_case(PLAN, case_index)
    found = find_case(PLAN, case, epoch)
    first = compute_first_epoch(PLAN, found.case_index)
    assert first <= epoch < first + PLAN.case_length_epochs
    assert (found is case) == (case_index == found.case_index)
    assert find_case(PLAN, None, epoch) == build_case(PLAN, found.case_index)


def test_probes_are_accounted_seat_by_seat_and_the_own_ones_are_marked() -> None:
    probes = build_accounted_probes(PLAN, 3, {(0, 1): (1, 2), (2, 0): None}, own_seat=0)
    assert [probe.is_own for probe in probes] == [True, True, False, False, False, False]
    assert [probe.statistics_ppm for probe in probes] == [None, (1, 2), None, None, None, None]


def test_the_state_carries_trust_from_epoch_to_epoch() -> None:
    samples = [outcome.feed_items[0].samples for outcome in follow(4)]
    assert samples == sorted(samples)
    assert samples[-1] > samples[0] > 0


@pytest.mark.parametrize(
    ("name", "reveals", "sentence"),
    [
        (
            "one validator twice",
            {0: build_typical_reveals()[0], 1: build_typical_reveals()[0]},
            "two reveals of one validator",
        ),
        (
            "a score with other statistics than the plan's",
            {0: build_reveal(0, [build_probe_outcome(HONEST, 0, (1, 2, 3))])},
            "expected 2 statistics, got 3",
        ),
    ],
)
def test_refuses(name: str, reveals: dict[int, Reveal], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        compute_outcome(build_inputs(1), EMPTY_STATE, reveals)
