"""Committee duty: what a member votes, when it abstains, and what it does when something is gone."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from simulation.engine import FakeEngine
from simulation.ledger import MemoryLedger
from simulation.provider import StandIn
from simulation.setting import build_simulation_plan
from simulation.story import Story, play_story

from challenges.filing import Dossier, DossierEntry, build_dossier
from challenges.lifecycle import Phase
from challenges.receipt import SignedReceipt
from scoring.evidence.plan import Plan
from scoring.evidence.wealth import ONE
from validator.jury import Jury
from validator.ledger_port import JuryCall
from validator.scorer import Scorer
from validator.store import DocumentKind, Store

CHALLENGE = b"\x05" * 32
ADDRESS = b"\x06" * 20


def build_request(number: int = 0, **changes: Any) -> dict[str, Any]:
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": f"question {number}"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 16,
        "seed": number,
        "return_token_ids": True,
        "quiver_nonce": "0x" + bytes([number]).hex() * 32,
        "quiver_consumer": "0x" + "07" * 20,
    }
    return {key: value for key, value in (request | changes).items() if value is not None}


def build_entries(provider: StandIn, *requests: dict[str, Any]) -> Dossier:
    answers: list[tuple[SignedReceipt, dict[str, Any], dict[str, Any]]] = []
    for request in requests:
        response = provider.build_answer(request)
        answers.append((SignedReceipt.from_json(response.pop("quiver_receipt")), request, response))
    return build_dossier(answers)


@dataclass
class Bench:
    """One member of committees."""

    story: Story
    store: Store
    plan: Plan = field(default_factory=build_simulation_plan)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    engine: FakeEngine = field(default_factory=FakeEngine)

    def open(self) -> Jury:
        scorer = Scorer(self.engine, self.plan)  # type: ignore[arg-type]
        return Jury(self.plan, ADDRESS, scorer, self.ledger, self.store, lambda challenge: challenge[::-1])

    def call(self, name: str = "liar", *requests: dict[str, Any], **changes: Any) -> JuryCall:
        """Put a call into the ledger and return it."""
        provider = self.story.providers[name]
        call = JuryCall(
            challenge_id=CHALLENGE,
            phase=Phase.COMMITTEE,
            offer=provider.offer,
            dossier=build_entries(provider, *(requests or [build_request(number) for number in range(4)])),
            has_committed=False,
            has_revealed=False,
        )
        self.ledger.calls = [replace(call, **changes)]
        return self.ledger.calls[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = Store(tmp_path / "store.sqlite")
    yield Bench(story=play_story(), store=store)
    store.close()


async def test_another_models_words_earn_a_large_e_value(bench: Bench) -> None:
    bench.call("liar")
    await bench.open().serve()
    (vote,) = bench.ledger.commits
    assert vote.e_value > 400 * ONE
    assert vote.abstention == ""
    assert not bench.ledger.reveals


async def test_the_claimed_models_words_earn_at_most_one(bench: Bench) -> None:
    bench.call("honest")
    await bench.open().serve()
    assert bench.ledger.commits[0].e_value <= ONE


async def test_the_vote_is_revealed_when_it_is_time_and_no_sooner_and_once(bench: Bench) -> None:
    jury = bench.open()
    call = bench.call()
    await jury.serve()
    bench.ledger.calls = [replace(call, has_committed=True)]
    await jury.serve()
    assert not bench.ledger.reveals
    bench.ledger.calls = [replace(call, has_committed=True, phase=Phase.COMMITTED)]
    await jury.serve()
    bench.ledger.calls = [replace(call, has_committed=True, has_revealed=True, phase=Phase.COMMITTED)]
    await jury.serve()
    assert bench.ledger.reveals == bench.ledger.commits
    assert len(bench.ledger.commits) == 1


async def test_who_has_not_committed_reveals_nothing(bench: Bench) -> None:
    bench.call(phase=Phase.COMMITTED)
    await bench.open().serve()
    assert not bench.ledger.reveals
    assert bench.engine.scored == 0


async def test_after_a_restart_the_committed_vote_is_revealed_even_if_a_second_run_would_differ(bench: Bench) -> None:
    call = bench.call()
    await bench.open().serve()
    bench.ledger.calls = [replace(call, has_committed=True, phase=Phase.COMMITTED)]
    bench.engine.is_down = True
    await bench.open().serve()
    assert bench.ledger.reveals == bench.ledger.commits


async def test_an_engine_that_is_down_makes_no_vote_and_is_asked_again(bench: Bench) -> None:
    bench.call()
    bench.engine.is_down = True
    jury = bench.open()
    await jury.serve()
    assert not bench.ledger.commits
    assert bench.store.get_document(DocumentKind.OWN_VOTE, CHALLENGE.hex()) is None
    bench.engine.is_down = False
    await jury.serve()
    assert len(bench.ledger.commits) == 1


async def test_a_ledger_that_is_gone_is_no_error_of_the_round(bench: Bench) -> None:
    bench.call()
    bench.ledger.is_gone = True
    jury = bench.open()
    await jury.serve()
    bench.ledger.is_gone = False
    await jury.serve()
    assert len(bench.ledger.commits) == 1


async def test_one_call_that_fails_does_not_hold_up_the_next(bench: Bench) -> None:
    good = bench.call()
    entry = good.dossier.entries[0]
    broken = Dossier(entries=(DossierEntry(receipt=entry.receipt, request=entry.request, response={}),))
    bench.ledger.calls = [replace(good, challenge_id=b"\x09" * 32, dossier=broken), good]
    await bench.open().serve()
    assert [vote.challenge_id for vote in bench.ledger.commits] == [CHALLENGE]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"temperature": 1.5}, "a temperature is outside the calibrated envelope", id="hot"),
        pytest.param({"temperature": 0.0}, "a temperature is outside the calibrated envelope", id="greedy"),
        pytest.param({"top_p": 0.5}, "a top_p is outside the calibrated envelope", id="narrow"),
        pytest.param({"seed": None}, "a request has no seed", id="unseeded"),
        pytest.param(
            {"messages": [{"role": "user", "content": [1]}]},
            "a receipt cannot be scored: malformed-request",
            id="content that is no text",
        ),
        pytest.param({"messages": []}, "a receipt cannot be scored: malformed-request", id="no messages"),
    ],
)
async def test_abstains(bench: Bench, changes: dict[str, Any], reason: str) -> None:
    bench.call("liar", build_request(0), build_request(1, **changes))
    await bench.open().serve()
    (vote,) = bench.ledger.commits
    assert (vote.abstention, vote.e_value) == (reason, 0)


async def test_abstains_when_the_model_or_its_sampler_is_not_the_plans(bench: Bench) -> None:
    call = bench.call()
    other = replace(call.offer, offer=replace(call.offer.offer, manifest_digest=b"\x09" * 32))
    unseeded = replace(call.offer, offer=replace(call.offer.offer, sampler="none"))
    bench.ledger.calls = [
        replace(call, offer=other),
        replace(call, offer=unseeded, challenge_id=b"\x09" * 32),
    ]
    await bench.open().serve()
    assert [vote.abstention for vote in bench.ledger.commits] == [
        "the offer's model is not in the plan",
        "the offer's sampler is not the plan's",
    ]
