"""From a liar's answers to its slash, and what must never slash."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from simulation.network import SimulatedNetwork, open_network
from simulation.setting import QUIV, build_simulation_plan
from simulation.story import EPOCHS, Story

from challenges.evidence import EvidenceFile
from quiver_oracle import InvalidInput, VerificationFailed, parse_evidence_file, verify_evidence
from scoring.certificate import parse_bitfield
from scoring.eip712 import Record
from scoring.evidence.cases import compute_threshold
from scoring.evidence.wealth import ONE
from validator.config import PhaseTimeouts
from validator.epoch import CertifiedOutcome
from validator.store import DocumentKind


def load_evidence(story: Story, seat: int = 0) -> list[EvidenceFile]:
    documents = story.stores[seat].list_documents_between(DocumentKind.EVIDENCE, 0, EPOCHS)
    return [parse_evidence_file(document.body) for document in documents]


def test_a_liars_case_grows_until_it_is_proven_and_an_honest_ones_does_not(story: Story) -> None:
    liar, honest = (story.providers[name].offer.digest for name in ("liar", "honest"))
    threshold = compute_threshold(story.genesis.plan, 1) * ONE
    for casework in story.casework:
        assert casework.cases[liar].case_wealth >= threshold
        assert casework.cases[honest].case_wealth < 10 * ONE


def test_all_seats_sign_the_same_evidence(story: Story) -> None:
    files = [load_evidence(story, seat) for seat in range(4)]
    assert all(len(found) == 1 for found in files)
    assert len({found[0].evidence for found in files}) == 1
    assert files[0][0].evidence.provider == story.providers["liar"].offer.offer.provider


def test_the_liar_is_slashed_once_and_within_its_tiers_cap(story: Story) -> None:
    holder = story.holder("liar")
    # 50,000 QUIV are silver: the cap of 10 % is below the 15 % of the rule.
    assert holder.stake_wei == 45_000 * QUIV
    assert len(holder.infractions) == 1
    assert story.ledger.burned_wei == 5_000 * QUIV


def test_nobody_but_the_liar_is_slashed(story: Story) -> None:
    for name in story.providers:
        if name != "liar":
            assert story.holder(name).stake_wei == 50_000 * QUIV, name
            assert not story.holder(name).infractions, name


def test_the_evidence_of_every_seat_verifies_for_a_stranger(story: Story) -> None:
    for seat in range(4):
        (file,) = load_evidence(story, seat)
        assert file.witness == story.genesis.validator_set.validators[seat].address
        case = verify_evidence(file, story.genesis.validator_set, story.genesis.domain)
        assert case.case_wealth >= file.evidence.threshold * ONE


def test_evidence_needs_at_least_two_epochs_of_a_capped_case(story: Story) -> None:
    (file,) = load_evidence(story)
    assert len(parse_bitfield(file.certificate.signers, 4)) >= 3
    assert file.evidence.last_epoch == 2
    assert [item.epoch for item in file.bundle] == [1, 2], "nobody was probed in epoch 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """One field changed once."""

    name: str
    change: Callable[[EvidenceFile], EvidenceFile]


def list_tamperings(file: EvidenceFile) -> Iterator[Tampering]:
    yield from _change_record("evidence", file.evidence, lambda it, record: replace(it, evidence=record))
    yield from _change_record("certificate", file.certificate, lambda it, record: replace(it, certificate=record))
    yield from _change_record("plan", file.plan, lambda it, record: replace(it, plan=record))
    yield from _change_record(
        "offer", file.offer.offer, lambda it, record: replace(it, offer=replace(it.offer, offer=record))
    )
    yield Tampering(
        name="offer.signature",
        change=lambda it: replace(it, offer=replace(it.offer, signature=_flip(it.offer.signature))),
    )
    entry = file.validator_set.validators[1]
    yield from _change_record("validator", entry, _put_entry)
    yield Tampering(name="domain.chain_id", change=lambda it: replace(it, domain=replace(it.domain, chain_id=78)))
    yield Tampering(
        name="domain.verifying_contract",
        change=lambda it: replace(it, domain=replace(it.domain, verifying_contract=bytes(20))),
    )
    yield Tampering(name="witness", change=lambda it: replace(it, witness=b"\x01" * 20))
    yield Tampering(name="statistics", change=lambda it: replace(it, statistics={}))
    yield Tampering(name="bundle: an epoch left out", change=lambda it: replace(it, bundle=it.bundle[1:]))
    yield Tampering(name="bundle: another beacon", change=lambda it: _put_epoch(it, beacon=bytes(32)))
    yield Tampering(name="bundle: another epoch number", change=lambda it: _put_epoch(it, epoch=0))
    yield Tampering(
        name="bundle: a seat left out", change=lambda it: _put_epoch(it, seats=(None, *it.bundle[0].seats[1:]))
    )
    yield Tampering(name="bundle: a seat too few", change=lambda it: _put_epoch(it, seats=it.bundle[0].seats[1:]))
    yield Tampering(name="bundle: another proof", change=lambda it: _put_seat(it, vrf_proof=bytes(96)))
    yield Tampering(name="bundle: an answer left out", change=_leave_out_answer)
    for part in ("request", "response", "receipt", "timing", "probe_index", "kind"):
        yield Tampering(name=f"bundle: another {part}", change=lambda it, part=part: _put_transcript(it, part))


def _change_record(name: str, record: Record, put: Callable[[EvidenceFile, Any], EvidenceFile]) -> Iterator[Tampering]:
    for field in fields(record):
        changed = _change_value(getattr(record, field.name))
        yield Tampering(
            name=f"{name}.{field.name}",
            change=lambda it, field=field, changed=changed: put(it, replace(record, **{field.name: changed})),
        )


def _change_value(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return _flip(value)
        case tuple():
            return value[1:]
    raise TypeError(type(value))


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _put_entry(file: EvidenceFile, entry: Any) -> EvidenceFile:
    entries = (file.validator_set.validators[0], entry, *file.validator_set.validators[2:])
    return replace(file, validator_set=replace(file.validator_set, validators=entries))


def _put_epoch(file: EvidenceFile, **changes: Any) -> EvidenceFile:
    return replace(file, bundle=(replace(file.bundle[0], **changes), *file.bundle[1:]))


def _put_seat(file: EvidenceFile, **changes: Any) -> EvidenceFile:
    first = file.bundle[0].seats[0]
    assert first is not None
    return _put_epoch(file, seats=(replace(first, **changes), *file.bundle[0].seats[1:]))


def _leave_out_answer(file: EvidenceFile) -> EvidenceFile:
    first = file.bundle[0].seats[0]
    assert first is not None
    return _put_seat(file, transcripts=(None, *first.transcripts[1:]), reasons=("lost", *first.reasons[1:]))


def _put_transcript(file: EvidenceFile, part: str) -> EvidenceFile:
    first = file.bundle[0].seats[0]
    assert first is not None
    assert first.transcripts[0] is not None
    changed = dict(first.transcripts[0])
    value = changed[part]
    changed[part] = {**value, "extra": 1} if isinstance(value, dict) else _change_value(value)
    return _put_seat(file, transcripts=(changed, *first.transcripts[1:]))


def test_evidence_with_any_field_changed_once_is_refused(story: Story) -> None:
    (file,) = load_evidence(story)
    rows = list(list_tamperings(file))
    assert len(rows) > 60
    accepted = []
    for row in rows:
        try:
            verify_evidence(row.change(file), story.genesis.validator_set, story.genesis.domain)
        except (InvalidInput, VerificationFailed):
            continue
        accepted.append(row.name)
    assert accepted == []


async def test_a_sleeper_is_caught_soon_after_it_wakes_and_honest_providers_never_are(tmp_path: Path) -> None:
    async with open_network(tmp_path, providers=("honest", "honest-two", "honest-sleeper")) as network:
        sleeper = network.providers["honest-sleeper"]
        await network.certify_epochs(0, 3)
        sleeper.is_lying = lambda request: True
        await network.certify_epochs(4, 6)
        holders = network.ledger.state.registry.providers
        assert holders[sleeper.offer.offer.provider].infractions
        for name in ("honest", "honest-two"):
            assert not holders[network.providers[name].offer.offer.provider].infractions


async def test_evidence_that_the_ledger_did_not_get_is_brought_after_a_restart_into_the_next_case(
    tmp_path: Path,
) -> None:
    plan = build_simulation_plan(case_length_epochs=3)
    async with open_network(tmp_path, providers=("liar",), plan=plan) as network:
        await network.certify_epochs(0, 1)
        await _certify_without_ledger(network, 2)
        # Certified and stored all the same, once the votes have come in.
        async with asyncio.timeout(20):
            while any(not seat.get().store.list_documents(DocumentKind.EVIDENCE, 2) for seat in network.seats):
                await asyncio.sleep(0.02)
        assert not _get_infractions(network, "liar")
        for seat in network.seats:
            await seat.stop()
        await network.start_ledger()
        for seat in network.seats:
            await seat.start()
        # Epoch 3 opens the next case; the old one is still brought to its end.
        await network.certify_epoch(3)
        (infraction,) = _get_infractions(network, "liar")
        assert infraction.case_index == 1


async def test_a_provider_that_keeps_one_seat_waiting_does_not_shut_it_out(tmp_path: Path) -> None:
    # The others are done long before that; commits alone would have been waited for 0.3 s.
    phases = PhaseTimeouts(probe_ms=10_000, commit_ms=300, reveal_ms=5_000, proposal_ms=5_000, vote_ms=5_000)
    async with open_network(tmp_path, providers=("honest",), phases=phases) as network:
        await network.certify_epoch(0)
        slow: list[str] = []

        def keep_the_first_waiting(request: dict[str, Any]) -> float:
            slow.append(request["quiver_consumer"])
            return 1.5 if request["quiver_consumer"] == slow[0] else 0.0

        network.providers["honest"].compute_delay_s = keep_the_first_waiting
        certified = await network.certify_epoch(1)
        assert len(certified.reveals) == 4


async def test_probing_ends_with_its_phase_and_what_is_missing_is_not_the_providers_fault(tmp_path: Path) -> None:
    phases = PhaseTimeouts(probe_ms=700, commit_ms=5_000, reveal_ms=5_000, proposal_ms=5_000, vote_ms=5_000)
    async with open_network(tmp_path, providers=("honest",), phases=phases) as network:
        await network.certify_epoch(0)
        network.providers["honest"].compute_delay_s = lambda request: 30.0
        certified = await network.certify_epoch(1)
        outcomes = [item for message in certified.reveals.values() for item in message.reveal.outcomes]
        assert {(item.reason, item.is_provider_fault) for item in outcomes} == {("own-deadline", False)}


async def test_a_seat_whose_engine_is_down_blames_nobody_and_the_others_prove_the_case(tmp_path: Path) -> None:
    async with open_network(tmp_path, providers=("honest", "liar")) as network:
        await network.certify_epoch(0)
        network.seats[0].engine.is_down = True
        certified = await network.certify_epochs(1, 3)
        own = certified.reveals[0].reveal.outcomes
        assert {(item.reason, item.is_provider_fault) for item in own} == {("own-engine", False)}
        liar = network.providers["liar"].offer.digest
        assert network.seats[0].get().casework.cases[liar].case_wealth < ONE
        assert _get_infractions(network, "liar")
        assert not _get_infractions(network, "honest")


async def _certify_without_ledger(network: SimulatedNetwork, epoch: int) -> None:
    """Certify an epoch whose ledger goes away once its facts are known."""
    running = asyncio.create_task(network.run_epoch(epoch))
    async with asyncio.timeout(20):
        while any(not seat.get().board.at(epoch).commits for seat in network.seats):
            await asyncio.sleep(0.002)
    await network.stop_ledger()
    assert all(isinstance(result, CertifiedOutcome) for result in (await running).values())


def _get_infractions(network: SimulatedNetwork, name: str) -> tuple[Any, ...]:
    address = network.providers[name].offer.offer.provider
    return network.ledger.state.registry.providers[address].infractions
