"""Seats whose commits and reveals are not what they should be: refused, and the epoch goes on without them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import pytest_asyncio
from simulation.byzantine import Traitor
from simulation.network import HASTY, SimulatedNetwork, open_network

from scoring.errors import OracleError
from validator.epoch import CertifiedOutcome, EpochContext
from validator.messages import RevealMessage
from validator.publishing import load_reveals

pytestmark = pytest.mark.asyncio(loop_scope="module")
Deed = Callable[[Traitor, EpochContext, RevealMessage], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedNetwork]:
    """A network with epoch 0 behind it; each test takes the next epoch."""
    async with open_network(tmp_path_factory.mktemp("faces"), providers=("honest",), phases=HASTY) as opened:
        await opened.certify_epoch(0)
        yield opened


async def run_with_traitor(network: SimulatedNetwork, deed: Deed) -> dict[int, CertifiedOutcome | BaseException]:
    """Run the next epoch with a seat that observes honestly and then does its deed; it is the last to lead."""
    epoch = network.take_epoch()
    number = network.order_leaders(epoch)[-1]

    async def act() -> None:
        traitor = Traitor(network.seats[number], epoch)
        context = await traitor.open()
        await deed(traitor, context, await traitor.observe(context))

    others = [seat.number for seat in network.seats if seat.number != number]
    results, _ = await asyncio.gather(network.run_epoch(epoch, others), act())
    return results


def assert_certified_without(network: SimulatedNetwork, results: dict[int, CertifiedOutcome | BaseException]) -> None:
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
        assert set(result.reveals) == set(results), "those who kept to the rules"
    assert len(results) == 3


async def test_a_reveal_that_does_not_match_its_commit_is_refused(network: SimulatedNetwork) -> None:
    answers: list[str] = []

    async def change_its_mind(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        await traitor.send_commit(message.reveal)
        other = replace(message.reveal, salt=b"\x01" * 32)
        answers.extend(await traitor.send_reveal(traitor.seal(other, message.transcripts)))

    assert_certified_without(network, await run_with_traitor(network, change_its_mind))
    assert all("does not match its commit" in answer for answer in answers)


async def test_a_reveal_without_a_commit_is_not_counted(network: SimulatedNetwork) -> None:
    async def promise_nothing(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        await traitor.send_reveal(message)

    assert_certified_without(network, await run_with_traitor(network, promise_nothing))


async def test_a_reveal_of_chosen_probes_is_refused(network: SimulatedNetwork) -> None:
    async def choose(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        chosen = replace(message.reveal, vrf_proof=traitor.sign(message.reveal))
        await traitor.send_commit(chosen)
        await traitor.send_reveal(traitor.seal(chosen, message.transcripts))

    assert_certified_without(network, await run_with_traitor(network, choose))


async def test_a_second_commit_is_refused(network: SimulatedNetwork) -> None:
    answers: list[str] = []

    async def promise_twice(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        await traitor.send_commit(message.reveal)
        answers.extend(await traitor.send_commit(replace(message.reveal, salt=b"\x01" * 32)))
        await traitor.send_reveal(message)

    results = await run_with_traitor(network, promise_twice)
    assert all("two commits" in answer for answer in answers)
    for result in results.values():
        assert isinstance(result, CertifiedOutcome)
        assert len(result.reveals) == 4, "the first promise was kept"


async def test_a_false_reveal_shown_to_one_seat_does_not_split_the_others(network: SimulatedNetwork) -> None:
    """It comes before the commit there, so that it takes the place of the right one."""

    async def show_two_faces(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        false = traitor.seal(replace(message.reveal, salt=b"\x01" * 32), message.transcripts)
        order = network.order_leaders(network.epoch)
        await traitor.send_reveal(false, [order[1]])
        await traitor.send_commit(message.reveal)
        await traitor.send_reveal(message, [order[0], order[2]])

    results = await run_with_traitor(network, show_two_faces)
    for number, result in results.items():
        assert isinstance(result, CertifiedOutcome), result
        assert len(result.reveals) == 4
        # What was stored of the other face does not stand in the way of a restart.
        store = network.seats[number].get().store
        assert load_reveals(store, result.certified) == dict(result.reveals)


async def test_the_same_reveal_with_its_transcripts_in_another_order_splits_nobody(network: SimulatedNetwork) -> None:
    async def shuffle(traitor: Traitor, context: EpochContext, message: RevealMessage) -> None:
        shuffled = traitor.seal(message.reveal, tuple(reversed(message.transcripts)))
        assert shuffled.digest != message.digest
        order = network.order_leaders(network.epoch)
        await traitor.send_commit(message.reveal)
        await traitor.send_reveal(shuffled, [order[1]])
        await traitor.send_reveal(message, [order[0], order[2]])

    results = await run_with_traitor(network, shuffle)
    outcomes = [result for result in results.values() if isinstance(result, CertifiedOutcome)]
    assert len(outcomes) == 3
    assert len({outcome.certified for outcome in outcomes}) == 1
    for number, outcome in results.items():
        assert isinstance(outcome, CertifiedOutcome)
        store = network.seats[number].get().store
        assert load_reveals(store, outcome.certified) == dict(outcome.reveals)


async def test_a_seat_that_stored_another_face_catches_up_all_the_same(network: SimulatedNetwork) -> None:
    epoch = network.take_epoch()
    order = network.order_leaders(epoch)
    deceived = network.seats[order[2]]

    async def show_two_faces() -> None:
        traitor = Traitor(network.seats[order[3]], epoch)
        context = await traitor.open()
        message = await traitor.observe(context)
        false = traitor.seal(replace(message.reveal, salt=b"\x01" * 32), message.transcripts)
        await traitor.send_commit(false.reveal, [deceived.number])
        await traitor.send_reveal(false, [deceived.number])
        await traitor.send_commit(message.reveal, order[:2])
        await traitor.send_reveal(message, order[:2])
        board = traitor.sim.get().board.at(epoch)
        await board.wait_until(lambda it: bool(it.proposals), 10)
        for proposal in tuple(board.proposals.values()):
            await traitor.send_vote(proposal.checkpoint, order[:2])

    results, _ = await asyncio.gather(network.run_epoch(epoch, order[:3]), show_two_faces())
    assert all(isinstance(results[number], CertifiedOutcome) for number in order[:2])
    if isinstance(results[deceived.number], OracleError):
        await deceived.catch_up(epoch + 1)
    assert deceived.get().last_epoch == epoch
    assert deceived.get().state == network.seats[order[0]].get().state
    await network.certify_epoch(network.take_epoch())
