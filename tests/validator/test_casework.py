"""This seat's own e-processes: from nobody's numbers but its own, and the same after any restart."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from simulation.engine import FakeEngine
from simulation.setting import build_simulation_plan
from simulation.story import EPOCHS, Story, play_story

from challenges.evidence import RULE_FALSE_CAPABILITY
from scoring.evidence.plan import Plan
from scoring.evidence.wealth import ONE
from validator.casework import Casework, ClosedEpoch, build_seat_epoch, find_open_case_epochs
from validator.epoch import CertifiedOutcome
from validator.messages import RevealMessage
from validator.scorer import Scorer
from validator.store import DocumentKind, Store

OWN_SEAT = 1


@dataclass
class Archive:
    """A seat's casework over the story."""

    story: Story
    store: Store
    engine: FakeEngine = field(default_factory=FakeEngine)

    def open(self, plan: Plan | None = None, seat: int = OWN_SEAT) -> Casework:
        genesis = self.story.genesis
        scorer = Scorer(self.engine, plan or genesis.plan)  # type: ignore[arg-type]
        return Casework(plan or genesis.plan, genesis.domain, genesis.validator_set, seat, scorer, self.store)

    def digest(self, name: str) -> bytes:
        return self.story.providers[name].offer.digest

    def epoch(self, number: int) -> CertifiedOutcome:
        return self.story.outcomes[number][OWN_SEAT]

    def close_epoch(self, number: int, **changes: object) -> ClosedEpoch:
        """Return an epoch as the store remembers it, with changes."""
        outcome = self.epoch(number)
        record = ClosedEpoch(checkpoint=outcome.checkpoint, offers=outcome.offers, reveals=outcome.reveals)
        return replace(record, **changes)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    store = Store(tmp_path / "store.sqlite")
    yield Archive(story=play_story(), store=store)
    store.close()


async def test_a_replay_comes_to_the_wealth_that_the_round_had(archive: Archive) -> None:
    casework = archive.open()
    for number in range(EPOCHS):
        await casework.process_epoch(archive.close_epoch(number))
    assert dict(casework.cases) == dict(archive.story.casework[OWN_SEAT].cases)


async def test_seats_differ_in_their_own_wealth_and_agree_on_the_pooled_one(archive: Archive) -> None:
    first, second = archive.open(seat=0), archive.open(seat=2)
    for casework in (first, second):
        await casework.process_epoch(archive.epoch(1))
    liar = archive.digest("liar")
    assert first.cases[liar].pooled == second.cases[liar].pooled
    assert first.cases[liar].own != archive.open().cases.get(liar)


async def test_every_drawn_probe_of_every_seat_is_accounted_for(archive: Archive) -> None:
    casework = archive.open()
    await casework.process_epoch(archive.epoch(1))
    assert {case.accounted_probes for case in casework.cases.values()} == {4 * 2}
    assert casework.cases[archive.digest("hangs")].missing_probes == 8
    assert casework.cases[archive.digest("honest")].missing_probes == 0


async def test_what_a_seat_claims_of_its_scores_changes_nothing(archive: Archive) -> None:
    def lie(message: RevealMessage) -> RevealMessage:
        outcomes = tuple(
            item if item.reason else replace(item, statistics_ppm=(1_000_000, 1_000_000))
            for item in message.reveal.outcomes
        )
        return replace(message, reveal=replace(message.reveal, outcomes=outcomes))

    honest, deceived = archive.open(), archive.open()
    await honest.process_epoch(archive.epoch(1))
    lies = {seat: lie(message) for seat, message in archive.epoch(1).reveals.items()}
    await deceived.process_epoch(archive.close_epoch(1, reveals=lies))
    assert deceived.cases == honest.cases


async def test_a_seat_without_a_certified_reveal_bets_the_smallest_factor(archive: Archive) -> None:
    whole, without = archive.open(), archive.open()
    await whole.process_epoch(archive.epoch(1))
    reveals = {seat: message for seat, message in archive.epoch(1).reveals.items() if seat != 3}
    await without.process_epoch(archive.close_epoch(1, reveals=reveals))
    liar = archive.digest("liar")
    assert without.cases[liar].missing_probes == 2
    assert without.cases[liar].accounted_probes == 8
    assert without.cases[liar].alarm_wealth < whole.cases[liar].alarm_wealth


async def test_an_engine_that_is_down_bets_the_smallest_factor_for_all(archive: Archive) -> None:
    archive.engine.is_down = True
    casework = archive.open()
    await casework.process_epoch(archive.epoch(1))
    assert all(case.missing_probes == 8 and case.case_wealth < ONE for case in casework.cases.values())


async def test_offers_of_other_models_have_no_case(archive: Archive) -> None:
    casework = archive.open(plan=build_simulation_plan(manifest_digest=b"\x09" * 32))
    await casework.process_epoch(archive.epoch(1))
    assert not casework.cases


async def test_the_calendar_opens_the_next_case_with_nothing_carried_over(archive: Archive) -> None:
    casework = archive.open(plan=build_simulation_plan(case_length_epochs=2))
    await casework.process_epoch(archive.epoch(1))
    grown = casework.cases[archive.digest("liar")]
    assert (grown.case_index, grown.epochs) == (1, 1)
    await casework.process_epoch(archive.epoch(2))
    fresh = casework.cases[archive.digest("liar")]
    assert (fresh.case_index, fresh.epochs) == (2, 1)


async def test_only_cases_at_their_threshold_and_up_to_date_are_proven(archive: Archive) -> None:
    casework = archive.open()
    await casework.process_epoch(archive.epoch(1))
    assert casework.list_proven(1) == []
    await casework.process_epoch(archive.epoch(2))
    assert casework.list_proven(2) == [archive.digest("liar")]
    assert casework.list_proven(3) == []


async def test_evidence_is_built_after_its_bundle_is_stored(archive: Archive) -> None:
    casework = archive.open()
    for number in (1, 2):
        await casework.process_epoch(archive.epoch(number))
    evidence = casework.build_evidence(archive.digest("liar"), archive.epoch(2).checkpoint)
    assert evidence.rule == RULE_FALSE_CAPABILITY
    assert (evidence.first_epoch, evidence.last_epoch) == (0, 2)
    assert archive.store.get_document(DocumentKind.EVIDENCE_BUNDLE, evidence.bundle_digest.hex()) is not None
    assert casework.name_offence(archive.digest("liar")) == (evidence.offer_digest, evidence.rule, 1)


async def test_all_seats_build_the_same_evidence(archive: Archive) -> None:
    built = set()
    for seat in range(4):
        casework = archive.open(seat=seat)
        for number in (1, 2):
            await casework.process_epoch(archive.story.outcomes[number][seat])
        built.add(casework.build_evidence(archive.digest("liar"), archive.epoch(2).checkpoint))
    assert len(built) == 1


def test_a_bundle_says_why_there_is_no_answer(archive: Archive) -> None:
    plan, message = archive.story.genesis.plan, archive.epoch(1).reveals[0]
    mute = build_seat_epoch(plan, archive.story.providers["mute"].offer, message)
    assert mute is not None
    assert mute.transcripts == (None, None)
    assert mute.reasons == ("no-receipt", "no-receipt")
    assert build_seat_epoch(plan, archive.story.providers["mute"].offer, None) is None


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, range(0, 1)), (19, range(0, 20)), (20, range(20, 21)), (25, range(20, 26))]
)
def test_a_restart_replays_from_the_start_of_the_case(epoch: int, expected: range) -> None:
    assert find_open_case_epochs(build_simulation_plan(), epoch) == expected
