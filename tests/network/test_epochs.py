"""Epochs of a whole network: everybody computes the same, from draws that nobody chose."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from simulation.network import HASTY, open_network
from simulation.provider import BROKEN
from simulation.story import CAST, EPOCHS, Story

from quiver_oracle import ValidatorSetFile, VerificationFailed, parse_feed_proof, verify_feed_proof
from scoring import canonical
from scoring.certificate import parse_bitfield, verify_certificate
from scoring.eip712 import compute_signing_root
from scoring.evidence.wealth import ONE
from scoring.records import FeedItem, Flag, ProbeOutcome
from scoring.vrf import compute_vrf_output
from validator.publishing import load_certified, load_reveals, load_state
from validator.store import DocumentKind


def test_every_seat_certifies_the_same_checkpoint_of_every_epoch(story: Story) -> None:
    for results in story.outcomes:
        assert len(results) == 4
        assert len({outcome.checkpoint for outcome in results.values()}) == 1
        assert len({outcome.outcome.state.encode() for outcome in results.values()}) == 1


def test_each_certificate_verifies_and_names_all_four_seats(story: Story) -> None:
    for results in story.outcomes:
        certified = results[0].certified
        root = compute_signing_root(certified.proposal.checkpoint, story.genesis.domain)
        verify_certificate(certified.certificate, story.genesis.validator_set, root)
        assert parse_bitfield(certified.certificate.signers, 4) == (0, 1, 2, 3)


def test_checkpoints_are_a_chain_that_the_ledger_follows(story: Story) -> None:
    previous = story.genesis.network
    for results in story.outcomes:
        assert results[0].checkpoint.previous == previous
        previous = compute_signing_root(results[0].checkpoint, story.genesis.domain)
    assert story.ledger.head_root == previous
    assert story.ledger.epoch == EPOCHS - 1


def test_beacons_differ_from_epoch_to_epoch_and_follow_from_what_was_certified_two_epochs_before(
    story: Story,
) -> None:
    beacons = [results[0].checkpoint.beacon for results in story.outcomes]
    assert len(set(beacons)) == EPOCHS


def test_no_two_probes_of_any_seats_epochs_or_providers_are_alike(story: Story) -> None:
    for name in ("honest", "liar"):
        requests = story.providers[name].requests
        assert len(requests) == (EPOCHS - 1) * 4 * story.genesis.plan.probes_per_epoch
        for field in ("quiver_nonce", "quiver_consumer", "seed"):
            assert len({request[field] for request in requests}) == len(requests)


def test_a_provider_cannot_tell_a_probe_by_its_consumer(story: Story) -> None:
    asked = [{request["quiver_consumer"] for request in item.requests} for item in story.providers.values()]
    assert all(not one & other for one, other in combinations(asked, 2))


def test_what_a_seat_probes_follows_from_its_random_function_alone(story: Story) -> None:
    for epoch in range(1, EPOCHS):
        context = story.outcomes[epoch][0].context
        for seat, message in story.own_reveals[epoch].items():
            drawn = context.draw(compute_vrf_output(message.reveal.vrf_proof))
            keys = [(item.provider, item.offer_digest, item.index) for item in message.reveal.outcomes]
            assert keys == [probe.key for probe in drawn], seat


def test_the_first_epoch_closes_the_registrations_and_probes_nobody(story: Story) -> None:
    assert story.outcomes[0][0].outcome.feed_items == ()
    assert len(story.outcomes[1][0].outcome.feed_items) == len(CAST)


def test_a_feed_item_from_any_seat_verifies_offline(story: Story) -> None:
    trusted = ValidatorSetFile(domain=story.genesis.domain, validator_set=story.genesis.validator_set)
    for store in story.stores:
        files = [
            document
            for document in store.list_documents(DocumentKind.FEED_PROOF, EPOCHS - 1)
            if document.key.endswith(".json")
        ]
        assert len(files) == len(CAST)
        for document in files:
            proof = parse_feed_proof(document.body)
            verify_feed_proof(proof, trusted, now_s=proof.item.time_s + 5, max_age_s=60)


def test_the_feed_of_one_seat_is_byte_for_byte_that_of_another(story: Story) -> None:
    feeds = [[doc.body for doc in store.list_documents(DocumentKind.FEED_PROOF, EPOCHS - 1)] for store in story.stores]
    assert feeds[0] == feeds[1] == feeds[2] == feeds[3]


def test_a_feed_item_is_refused_by_who_trusts_another_set(story: Story) -> None:
    document = next(
        doc for doc in story.stores[0].list_documents(DocumentKind.FEED_PROOF, 1) if doc.key.endswith(".json")
    )
    proof = parse_feed_proof(document.body)
    other = story.genesis.validator_set
    stranger = ValidatorSetFile(
        domain=story.genesis.domain, validator_set=replace(other, validators=other.validators[:3])
    )
    with pytest.raises(VerificationFailed):
        verify_feed_proof(proof, stranger, now_s=proof.item.time_s + 5, max_age_s=60)


def test_what_a_seat_stored_of_an_epoch_is_what_it_adopted(story: Story) -> None:
    for seat, store in enumerate(story.stores):
        certified = load_certified(store, EPOCHS - 1)
        assert certified == story.last(seat).certified
        assert certified is not None
        assert load_reveals(store, certified) == dict(story.last(seat).reveals)
        assert load_state(store) == story.last(seat).outcome.state


def test_an_honest_provider_scores_above_every_other(story: Story) -> None:
    trust = {name: _find_item(story, name).trust for name in CAST}
    honest = min(trust["honest"], trust["honest-two"])
    assert all(honest > value for name, value in trust.items() if not name.startswith("honest"))


@pytest.mark.parametrize(
    ("character", "reason"),
    [
        ("hangs", "timeout"),
        ("endless", "timeout"),
        ("fails", "http-status"),
        ("garbage", "malformed"),
        ("deep", "malformed"),
        ("mute", "no-receipt"),
        ("forger", "bad-receipt"),
        ("short", "bad-receipt"),
        ("renamed", "bad-receipt"),
    ],
)
def test_a_broken_provider_costs_each_probe_one_unscored_sample_and_counts_against_uptime(
    story: Story, character: str, reason: str
) -> None:
    for epoch in range(1, EPOCHS):
        for message in story.own_reveals[epoch].values():
            outcomes = _list_outcomes(story, message.reveal.outcomes, character)
            assert [(item.reason, item.is_provider_fault) for item in outcomes] == [(reason, True)] * 2
    item = _find_item(story, character)
    assert item.samples == 0
    assert item.uptime_ppm < 200_000
    assert item.accuracy_ppm == 0
    assert not item.parts_present & 1, "no accuracy without an answer"


def test_the_table_of_broken_providers_is_complete() -> None:
    marks = test_a_broken_provider_costs_each_probe_one_unscored_sample_and_counts_against_uptime.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == BROKEN


def test_a_flaky_provider_loses_uptime_and_not_its_accuracy(story: Story) -> None:
    flaky, honest, liar = (_find_item(story, name) for name in ("flaky", "honest", "liar"))
    assert flaky.uptime_ppm < honest.uptime_ppm
    assert flaky.samples < honest.samples
    assert flaky.accuracy_ppm > liar.accuracy_ppm
    assert flaky.availability_ppm == pytest.approx(500_000, abs=1)


def test_broken_answers_win_no_evidence(story: Story) -> None:
    for casework in story.casework:
        for name in sorted(BROKEN):
            case = casework.cases[story.providers[name].offer.digest]
            assert case.missing_probes == case.accounted_probes
            assert case.case_wealth < ONE


def test_a_slashed_provider_carries_its_flag_in_the_feed(story: Story) -> None:
    assert _find_item(story, "liar").flags & Flag.CAPPED_MAJOR
    assert _find_item(story, "liar").trust <= story.genesis.parameters.trust.major_cap


async def test_seven_seats_certify_with_five_and_not_with_four(tmp_path: Path) -> None:
    async with open_network(tmp_path, seats=7, providers=("honest",), phases=HASTY) as network:
        await network.certify_epoch(0)
        certified = await network.certify_epoch(1, range(5))
        assert len(certified.reveals) == 5
        results = await network.run_epoch(2, range(4))
        assert all(isinstance(result, Exception) for result in results.values())


def _find_item(story: Story, name: str) -> FeedItem:
    offer = story.providers[name].offer
    return next(item for item in story.last().outcome.feed_items if item.offer_digest == offer.digest)


def _list_outcomes(story: Story, outcomes: tuple[ProbeOutcome, ...], name: str) -> list[ProbeOutcome]:
    return [item for item in outcomes if item.offer_digest == story.providers[name].offer.digest]


def test_canonical_bytes_of_a_stored_checkpoint_are_what_peers_are_served(story: Story) -> None:
    body = story.stores[0].get_document(DocumentKind.CHECKPOINT, "1")
    assert body is not None
    assert canonical.encode(canonical.decode(body)) == body
