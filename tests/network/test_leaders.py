"""Leaders that are gone, lie or have two faces: never a wrong certificate, and the next leader goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import pytest_asyncio
from simulation.byzantine import Traitor
from simulation.network import HASTY, SimulatedNetwork, open_network

from scoring.certificate import build_certificate, parse_bitfield
from scoring.eip712 import compute_signing_root
from scoring.records import ZERO_DIGEST
from validator.epoch import CertifiedOutcome, EpochContext
from validator.messages import Certified, RevealMessage
from validator.peer_envelope import PeerKind

Deed = Callable[[Traitor, EpochContext, dict[int, RevealMessage]], Awaitable[None]]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedNetwork]:
    """A network with epoch 0 behind it; each test takes the next epoch."""
    async with open_network(tmp_path_factory.mktemp("leaders"), providers=("honest",), phases=HASTY) as opened:
        await opened.certify_epoch(0)
        yield opened


async def run_with_leader(network: SimulatedNetwork, deed: Deed) -> dict[int, CertifiedOutcome | BaseException]:
    """Run the next epoch with a first leader that reveals honestly, then does its deed; return the others' results."""
    epoch = network.take_epoch()
    leader = network.order_leaders(epoch)[0]
    others = [seat.number for seat in network.seats if seat.number != leader]

    async def lead() -> None:
        traitor = Traitor(network.seats[leader], epoch)
        context = await traitor.open()
        message = await traitor.observe(context)
        await traitor.send_commit(message.reveal)
        await traitor.send_reveal(message)
        reveals = {**await traitor.wait_for_reveals(others), leader: message}
        await deed(traitor, context, reveals)

    results, _ = await asyncio.gather(network.run_epoch(epoch, others), lead())
    return results


def get_certified(results: dict[int, CertifiedOutcome | BaseException]) -> list[CertifiedOutcome]:
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    outcomes = [result for result in results.values() if isinstance(result, CertifiedOutcome)]
    assert len({outcome.checkpoint for outcome in outcomes}) == 1
    return outcomes


async def test_the_next_leader_takes_over_from_one_that_is_gone_before_it_proposed(network: SimulatedNetwork) -> None:
    async def vanish(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        return

    outcomes = get_certified(await run_with_leader(network, vanish))
    leader = network.order_leaders(network.epoch)[0]
    assert set(outcomes[0].reveals) == {0, 1, 2, 3}, "its reveal counts all the same"
    assert leader not in parse_bitfield(outcomes[0].certified.certificate.signers, 4)


async def test_a_leader_that_is_gone_after_proposing_leaves_its_proposal_to_the_next(
    network: SimulatedNetwork,
) -> None:
    # It left out a reveal that all the others have, so the next leader alone would come to another checkpoint.
    async def propose_and_vanish(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        last = network.order_leaders(network.epoch)[-1]
        kept = {number: message for number, message in reveals.items() if number != last}
        await traitor.send_proposal(traitor.propose(context, kept))

    outcomes = get_certified(await run_with_leader(network, propose_and_vanish))
    assert set(outcomes[0].reveals) == {0, 1, 2, 3} - {network.order_leaders(network.epoch)[-1]}


@pytest.mark.parametrize("field", ["feed_root", "state_digest", "previous"])
async def test_a_wrong_checkpoint_gets_no_vote_and_the_next_leader_certifies_the_right_one(
    network: SimulatedNetwork, field: str
) -> None:
    async def lie(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        right = traitor.propose(context, reveals)
        wrong = replace(right, checkpoint=replace(right.checkpoint, **{field: b"\x99" * 32}))
        await traitor.send_proposal(wrong)

    outcomes = get_certified(await run_with_leader(network, lie))
    assert getattr(outcomes[0].checkpoint, field) != b"\x99" * 32
    for seat in network.seats:
        assert len(seat.get().board.at(network.epoch).votes) <= 1, "nobody voted for the wrong one"


async def test_a_proposal_from_too_few_reveals_gets_no_vote(network: SimulatedNetwork) -> None:
    async def exclude_half(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        kept = dict(list(reveals.items())[:2])
        await traitor.send_proposal(traitor.propose(context, kept))

    outcomes = get_certified(await run_with_leader(network, exclude_half))
    assert len(outcomes[0].reveals) == 4


async def test_a_proposal_that_names_reveals_nobody_has_is_refused(network: SimulatedNetwork) -> None:
    async def invent(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        right = traitor.propose(context, reveals)
        await traitor.send_proposal(replace(right, reveals=(ZERO_DIGEST,) * 4))

    outcomes = get_certified(await run_with_leader(network, invent))
    assert len(outcomes[0].reveals) == 4


async def test_a_proposal_that_names_a_seat_that_does_not_exist_is_refused(network: SimulatedNetwork) -> None:
    async def invent(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        right = traitor.propose(context, reveals)
        await traitor.send_proposal(
            replace(right, seats=(*right.seats, 700), reveals=(*right.reveals, right.reveals[0]))
        )

    assert len(get_certified(await run_with_leader(network, invent))) == 3


async def test_a_leader_with_two_faces_certifies_neither_and_nobody_signs_twice(network: SimulatedNetwork) -> None:
    async def equivocate(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        _, second, third, fourth = network.order_leaders(network.epoch)
        everybody = traitor.propose(context, reveals)
        without = traitor.propose(context, {n: m for n, m in reveals.items() if n != fourth})
        await traitor.send_proposal(everybody, [second])
        await traitor.send_proposal(without, [third])
        await traitor.send_vote(everybody.checkpoint)
        assert any("two votes" in answer for answer in await traitor.send_vote(without.checkpoint))

    results = await run_with_leader(network, equivocate)
    certified = [result for result in results.values() if isinstance(result, CertifiedOutcome)]
    assert len({outcome.checkpoint for outcome in certified}) <= 1
    for seat in network.seats:
        voters = [set(votes) for votes in seat.get().board.at(network.epoch).votes.values()]
        assert sum(len(item) for item in voters) == len(set().union(*voters)), "a seat's vote counts once"
    # The epoch may be lost; the next one is not.
    await network.certify_epoch(network.take_epoch())


async def test_a_certificate_that_names_other_reveals_than_it_was_made_from_is_read_by_our_own_vote(
    network: SimulatedNetwork,
) -> None:
    async def misdirect(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        right = traitor.propose(context, reveals)
        await traitor.send_proposal(right)
        await traitor.send_vote(right.checkpoint, [traitor.sim.number])
        root = compute_signing_root(right.checkpoint, network.genesis.domain)
        board = traitor.sim.get().board.at(network.epoch)
        await board.wait_until(lambda it: len(it.votes.get(root, {})) == 3, 10)
        votes = {**board.votes[root], traitor.sim.number: traitor.sign(right.checkpoint)}
        certificate = build_certificate(root, network.genesis.validator_set, votes)
        lie = replace(right, seats=(0, 1, 2), reveals=(b"\x01" * 32,) * 3)
        await traitor.send(PeerKind.CERTIFICATE, Certified(proposal=lie, certificate=certificate).to_json())

    outcomes = get_certified(await run_with_leader(network, misdirect))
    assert all(outcome.certified.proposal.seats == (0, 1, 2, 3) for outcome in outcomes)
    assert all(len(outcome.reveals) == 4 for outcome in outcomes)


async def test_a_leader_that_takes_no_votes_holds_nobody_up(network: SimulatedNetwork) -> None:
    loop = asyncio.get_running_loop()

    async def propose_and_hang(traitor: Traitor, context: EpochContext, reveals: dict[int, RevealMessage]) -> None:
        await traitor.send_proposal(traitor.propose(context, reveals))
        traitor.sim.is_hanging = True

    started_s = loop.time()
    outcomes = get_certified(await run_with_leader(network, propose_and_hang))
    assert len(outcomes) == 3
    # One try to send to it takes five seconds alone.
    assert loop.time() - started_s < 4.5
    network.seats[network.order_leaders(network.epoch)[0]].is_hanging = False
