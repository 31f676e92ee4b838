"""Seats that are down, hang, come back or start again in the middle: with more than 2/3 of stake, epochs go on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from simulation.network import HASTY, SimulatedNetwork, SimulatedSeat, open_network

from scoring.certificate import parse_bitfield
from scoring.errors import OracleError
from validator.agreement import EpochAbandoned
from validator.board import Board
from validator.epoch import CertifiedOutcome
from validator.publishing import load_certified
from validator.store import DocumentKind

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedNetwork]:
    """A network with epoch 0 behind it; each test takes epochs of its own and leaves everybody up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("validator.catch_up.ASK_S", 0.5)
        async with open_network(tmp_path_factory.mktemp("absence"), providers=("honest",), phases=HASTY) as opened:
            await opened.certify_epoch(0)
            yield opened


def assert_alike(seats: list[SimulatedSeat]) -> None:
    """Assert that the seats hold the same state and the same e-processes."""
    assert len({seat.get().last_epoch for seat in seats}) == 1
    assert len({seat.get().previous for seat in seats}) == 1
    assert len({seat.get().state.encode() for seat in seats}) == 1
    for digest in seats[0].get().casework.cases:
        assert len({seat.get().casework.cases[digest].pooled for seat in seats}) == 1


async def go_on_until_all_certify(network: SimulatedNetwork) -> None:
    """Run epochs until nobody is left out: what still waits for a peer that hung keeps new messages from it."""
    for _ in range(8):
        results = await network.run_epoch(network.take_epoch())
        if all(isinstance(result, CertifiedOutcome) for result in results.values()):
            break
    assert_alike(network.seats)


async def test_three_of_four_certify_and_the_fourth_catches_up_and_takes_part_again(network: SimulatedNetwork) -> None:
    away = network.seats[1]
    await away.stop()
    for _ in range(2):
        certified = await network.certify_epoch(network.take_epoch(), [0, 2, 3])
        assert set(certified.reveals) == {0, 2, 3}
        assert parse_bitfield(certified.certified.certificate.signers, 4) == (0, 2, 3)
    await away.start()
    certified = await network.certify_epoch(network.take_epoch())
    assert set(certified.reveals) == {0, 1, 2, 3}
    assert_alike(network.seats)


async def test_two_of_four_reveal_nothing_and_sign_nothing(network: SimulatedNetwork) -> None:
    epoch = network.take_epoch()
    results = await network.run_epoch(epoch, [0, 3])
    assert all(isinstance(result, EpochAbandoned) for result in results.values())
    for seat in network.seats:
        assert not seat.get().board.at(epoch).reveals, "nobody reveals to so few"
        assert not seat.get().board.at(epoch).votes
        assert load_certified(seat.get().store, epoch) is None
    # The calendar goes on without that epoch.
    certified = await network.certify_epoch(network.take_epoch())
    assert certified.checkpoint.epoch == epoch + 1


async def test_a_seat_that_hangs_holds_up_no_phase_beyond_its_timeout(network: SimulatedNetwork) -> None:
    hanging = network.seats[2]
    hanging.is_hanging = True
    loop = asyncio.get_running_loop()
    try:
        started_s = loop.time()
        certified = await network.certify_epoch(network.take_epoch(), [0, 1, 3])
        # Commits are waited for 1.4 s, an absent leader 0.7 s; one try to reach the seat takes 5 s.
        assert loop.time() - started_s < 4.5
        assert set(certified.reveals) == {0, 1, 3}
    finally:
        hanging.is_hanging = False
    await go_on_until_all_certify(network)


async def test_catching_up_waits_for_no_peer_that_hangs(network: SimulatedNetwork) -> None:
    away, hanging = network.seats[0], network.seats[1]
    await away.stop()
    await network.certify_epoch(network.take_epoch(), [1, 2, 3])
    await away.start()
    hanging.is_hanging = True
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    try:
        await away.catch_up(network.epoch + 1)
    finally:
        hanging.is_hanging = False
    assert away.get().last_epoch == network.epoch
    assert loop.time() - started_s < 3
    await go_on_until_all_certify(network)


async def test_a_seat_that_missed_a_reveal_fetches_it_from_any_peer(network: SimulatedNetwork) -> None:
    # Not the leader: a leader proposes what has reached it.
    order = network.order_leaders(network.epoch + 1)
    deaf, unheard = network.seats[order[-1]], order[0]
    deaf.is_dropped = lambda envelope: (envelope.kind, envelope.sender) == ("reveal", network.seats[unheard].address)
    try:
        certified = await network.certify_epoch(network.take_epoch())
    finally:
        deaf.is_dropped = lambda envelope: False
    assert len(certified.reveals) == 4
    assert unheard not in deaf.get().board.at(network.epoch).reveals


async def test_a_reveal_that_reached_nobody_is_fetched_from_the_leader_that_made_it(
    network: SimulatedNetwork,
) -> None:
    epoch = network.take_epoch()
    leader = network.seats[network.order_leaders(epoch)[0]]
    for seat in network.seats:
        seat.is_dropped = lambda envelope: (envelope.kind, envelope.sender) == ("reveal", leader.address)
    try:
        certified = await network.certify_epoch(epoch)
    finally:
        for seat in network.seats:
            seat.is_dropped = lambda envelope: False
    assert len(certified.reveals) == 4


async def test_a_seat_that_missed_the_certificate_adopts_it_from_its_peers(network: SimulatedNetwork) -> None:
    deaf = network.seats[network.order_leaders(network.epoch + 1)[-1]]
    deaf.is_dropped = lambda envelope: envelope.kind == "certificate"
    epoch = network.take_epoch()
    try:
        results = await network.run_epoch(epoch)
    finally:
        deaf.is_dropped = lambda envelope: False
    assert sum(isinstance(result, CertifiedOutcome) for result in results.values()) >= 3
    await network.certify_epoch(network.take_epoch())
    assert_alike(network.seats)


async def test_a_late_commit_is_not_counted(network: SimulatedNetwork) -> None:
    epoch = network.take_epoch()
    late = network.seats[2]

    async def come_late() -> object:
        await asyncio.sleep(2.0)
        return await asyncio.gather(late.run_epoch(epoch), return_exceptions=True)

    results, _ = await asyncio.gather(network.run_epoch(epoch, [0, 1, 3]), come_late())
    outcomes = [result for result in results.values() if isinstance(result, CertifiedOutcome)]
    assert len(outcomes) == 3
    assert all(set(outcome.reveals) == {0, 1, 3} for outcome in outcomes)
    await network.certify_epoch(network.take_epoch())


async def test_a_restart_after_the_own_reveal_was_stored_sends_the_same_reveal(network: SimulatedNetwork) -> None:
    epoch = network.take_epoch()
    sim = network.seats[0]
    task = asyncio.create_task(sim.run_epoch(epoch))
    async with asyncio.timeout(20):
        while sim.get().store.get_document(DocumentKind.OWN_REVEAL, str(epoch)) is None:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept = sim.get().load_own_reveal(epoch)
    asked = len(network.providers["honest"].requests)
    await sim.stop()
    await sim.start()
    certified = await network.certify_epoch(epoch)
    assert kept is not None
    assert certified.reveals[0] == kept
    # Three seats asked; the fourth had its answers.
    assert len(network.providers["honest"].requests) - asked == 3 * 2


async def test_a_restart_after_the_others_revealed_finds_their_messages_again(network: SimulatedNetwork) -> None:
    epoch = network.take_epoch()
    sim = network.seats[0]
    tasks = {number: asyncio.create_task(network.seats[number].run_epoch(epoch)) for number in range(4)}
    async with asyncio.timeout(20):
        while len(sim.get().board.at(epoch).reveals) < 4:
            await asyncio.sleep(0.002)
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await sim.stop()
    await sim.start()
    result = (await asyncio.gather(sim.run_epoch(epoch), return_exceptions=True))[0]
    await asyncio.gather(*(tasks[number] for number in (1, 2, 3)))
    # Either in time to be certified with the others, or caught up with at once after: never stuck, never two votes.
    if isinstance(result, BaseException):
        assert isinstance(result, OracleError)
        await sim.catch_up(epoch + 1)
    assert_alike(network.seats)
    board = sim.get().board.at(epoch)
    assert board.commits.keys() >= {1, 2, 3} or not isinstance(result, CertifiedOutcome)


async def test_a_restart_replays_the_open_case_to_the_same_wealth(network: SimulatedNetwork) -> None:
    sim = network.seats[3]
    before = dict(sim.get().casework.cases)
    state, previous = sim.get().state, sim.get().previous
    await sim.stop()
    await sim.start()
    assert dict(sim.get().casework.cases) == before
    # Messages of the next epoch are taken at once, however high its number.
    assert network.epoch > 2 * Board.WINDOW
    sim.get().board.at(network.epoch + 1)
    assert (sim.get().state, sim.get().previous) == (state, previous)


async def test_a_fresh_store_catches_up_from_the_beginning(network: SimulatedNetwork) -> None:
    sim = network.seats[1]
    await sim.stop()
    for path in sim.directory.glob("store.sqlite*"):
        path.unlink()
    await sim.start()
    assert sim.get().last_epoch == -1
    await sim.catch_up(network.epoch + 1)
    assert_alike(network.seats)
    certified = await network.certify_epoch(network.take_epoch())
    assert len(certified.reveals) == 4


async def test_a_ledger_that_was_gone_gets_every_checkpoint_afterwards(network: SimulatedNetwork) -> None:
    first = network.take_epoch()
    results = asyncio.create_task(network.run_epoch(first))
    async with asyncio.timeout(20):
        while not network.seats[0].get().board.at(first).commits:
            await asyncio.sleep(0.002)
    await network.stop_ledger()
    for result in (await results).values():
        assert isinstance(result, CertifiedOutcome)
    assert network.ledger.state.epoch < first
    assert_alike(network.seats)
    # Without a ledger nobody knows the facts of another epoch.
    results_without = await network.run_epoch(network.take_epoch())
    assert all(isinstance(result, OracleError) for result in results_without.values())
    await network.start_ledger()
    certified = await network.certify_epoch(network.take_epoch())
    assert network.ledger.state.epoch == certified.checkpoint.epoch
    assert_alike(network.seats)
