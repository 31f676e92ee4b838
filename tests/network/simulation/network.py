"""A whole network in one process: real stores, guards, signers, HTTP on loopback and ledger; made-up answers.

The clock of receipts stands still and all keys are fixed, so that beacons, draws and answers are the same in every run.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from simulation.engine import VOCABULARY, FakeEngine
from simulation.fair_clock import install_fair_clock
from simulation.provider import StandIn
from simulation.setting import (
    EPOCH_S,
    NOW_S,
    QUIV,
    build_simulation_genesis,
    build_simulation_plan,
    build_validator_keys,
)

from ledger.embedded.api import build_app as build_ledger_app
from ledger.embedded.client import LedgerClient
from ledger.embedded.store import LedgerStore
from ledger.state.genesis import Genesis
from ledger.state.transactions import PostPerformanceBond, RegisterProvider
from scoring.errors import OracleError
from scoring.evidence.plan import Plan
from scoring.feed import ValidatorSetFile
from scoring.schedule import compute_leader_order
from validator.api import PublicApi
from validator.catch_up import catch_up
from validator.config import PhaseTimeouts
from validator.embedded_ledger import EmbeddedLedger
from validator.epoch import CertifiedOutcome, compute_epoch_beacon
from validator.fetch import ProviderClient
from validator.http_errors import build_app
from validator.keys import ValidatorKeys, create_keys
from validator.node import Connections, build_inbox, build_seat
from validator.peer_envelope import ENVELOPE_HEADER, MAX_BODY_BYTES, MAX_ENVELOPE_BYTES, PeerEnvelope, SignedEnvelope
from validator.peer_inbox import add_peer_routes
from validator.peers import Peer, PeerClient, SendLimits
from validator.round import run_epoch
from validator.seat import Seat
from validator.sign_guard import SignGuard
from validator.signer import Signer
from validator.store import Store

PATIENT = PhaseTimeouts(probe_ms=20_000, commit_ms=20_000, reveal_ms=20_000, proposal_ms=20_000, vote_ms=20_000)
HASTY = PhaseTimeouts(probe_ms=700, commit_ms=700, reveal_ms=700, proposal_ms=700, vote_ms=700)
"""For networks in which somebody is waited for in vain."""
LIMITS = SendLimits(timeout_s=5.0, tries=2, backoff_s=0.05)


@dataclass
class SimulatedSeat:
    """One validator with its own directory and port. Start, stop and start it again as you like."""

    number: int
    keys: ValidatorKeys
    directory: Path
    genesis: Genesis
    phases: PhaseTimeouts
    peers: list[Peer] = field(default_factory=list)
    ledger_url: str = ""
    port: int = 0
    engine: FakeEngine = field(default_factory=FakeEngine)
    is_hanging: bool = False
    is_dropped: Callable[[PeerEnvelope], bool] = lambda envelope: False
    """Tells whether an incoming message gets lost on the way."""
    seat: Seat | None = None
    client: PeerClient | None = None
    _stack: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> bytes:
        return self.keys.address

    @property
    def is_up(self) -> bool:
        return self._stack is not None

    @property
    def others(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.address != self.address]

    def get(self) -> Seat:
        assert self.seat is not None
        return self.seat

    async def start(self) -> None:
        async with AsyncExitStack() as stack:
            connections = await self._open(stack)
            self.seat = build_seat(self.genesis, self.keys, connections, self.peers, self.phases, 32)
            self.client = connections.peers
            await self._serve(stack)
            await self.seat.recover()
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        if self._stack is not None:
            await self._stack.aclose()
            self._stack = None

    async def run_epoch(self, epoch: int) -> CertifiedOutcome:
        """Do what the node does in an epoch."""
        await self.catch_up(epoch)
        return await run_epoch(self.get(), epoch)

    async def catch_up(self, epoch: int) -> None:
        """Adopt what was certified before an epoch."""
        assert self.client is not None
        if self.get().last_epoch < epoch - 1:
            await catch_up(self.get(), self.others, self.client)

    async def _open(self, stack: AsyncExitStack) -> Connections:
        store = Store(self.directory / "store.sqlite")
        stack.callback(store.close)
        guard = SignGuard.open(self.directory / "guard.sqlite", self.directory / "keys")
        stack.callback(guard.close)
        signer = Signer(self.keys, guard, self.genesis.domain, self.genesis.network)
        peers = PeerClient(
            address=self.address,
            network=self.genesis.network,
            domain=self.genesis.domain,
            sign=signer.sign_envelope,
            counters=store,
            now_ms=lambda: int(time.time() * 1000),
            limits=LIMITS,
        )
        ledger = EmbeddedLedger(self.ledger_url, self.genesis.domain, self.keys.account_sk, store)
        return Connections(
            signer=signer,
            store=store,
            ledger=await stack.enter_async_context(ledger),
            engine=self.engine,  # type: ignore[arg-type]  # the same methods, see test_engine_contract
            vocabulary_size=VOCABULARY,
            providers=await stack.enter_async_context(ProviderClient(allows_private_endpoints=True)),
            peers=await stack.enter_async_context(peers),
            now_s=lambda: NOW_S,
        )

    async def _serve(self, stack: AsyncExitStack) -> None:
        app = build_app(max(MAX_BODY_BYTES.values()) + MAX_ENVELOPE_BYTES)
        app.middlewares.insert(0, self._disturb)  # type: ignore[arg-type]
        add_peer_routes(app, build_inbox(self.genesis, self.get()))
        trusted = ValidatorSetFile(domain=self.genesis.domain, validator_set=self.genesis.validator_set)
        PublicApi(self.get().store, trusted, dict, CollectorRegistry(), EPOCH_S).add_routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]

    @web.middleware
    async def _disturb(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_hanging:
            await asyncio.sleep(3600)
        header = request.headers.get(ENVELOPE_HEADER)
        if header is not None and self.is_dropped(SignedEnvelope.decode_header(header).envelope):
            # Looks delivered to its sender.
            return web.json_response({"status": "ok"})
        response: web.StreamResponse = await handler(request)
        return response


@dataclass
class SimulatedNetwork:
    """Seats, providers and a ledger. Epoch 0 closes the registrations; providers are probed from epoch 1 on."""

    genesis: Genesis
    seats: list[SimulatedSeat]
    providers: dict[str, StandIn]
    ledger: LedgerStore
    ledger_url: str
    ledger_runner: web.AppRunner
    epoch: int = 0
    """The epoch that a test has taken last."""

    @property
    def up(self) -> list[SimulatedSeat]:
        return [seat for seat in self.seats if seat.is_up]

    def take_epoch(self) -> int:
        """Return the next epoch, for tests that share a network."""
        self.epoch += 1
        return self.epoch

    async def run_epoch(
        self, epoch: int, seats: Iterable[int] | None = None
    ) -> dict[int, CertifiedOutcome | BaseException]:
        """Run an epoch on some seats (default: all that are up) at once; return what came out at each."""
        numbers = [seat.number for seat in self.up] if seats is None else list(seats)
        results = await asyncio.gather(
            *(self.seats[number].run_epoch(epoch) for number in numbers), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, OracleError):
                raise result
        return dict(zip(numbers, results, strict=True))

    async def certify_epoch(self, epoch: int, seats: Iterable[int] | None = None) -> CertifiedOutcome:
        """Run an epoch that every seat must certify alike; return the first seat's outcome."""
        results = await self.run_epoch(epoch, seats)
        failed = [result for result in results.values() if isinstance(result, BaseException)]
        if failed:
            raise failed[0]
        outcomes = [result for result in results.values() if isinstance(result, CertifiedOutcome)]
        assert len({outcome.checkpoint for outcome in outcomes}) == 1
        return outcomes[0]

    async def certify_epochs(self, first: int, last: int) -> CertifiedOutcome:
        """Certify several epochs, one after the other."""
        for epoch in range(first, last + 1):
            certified = await self.certify_epoch(epoch)
        return certified

    def order_leaders(self, epoch: int) -> tuple[int, ...]:
        """Return the seats in the order in which they lead an epoch."""
        seat = max((seat.get() for seat in self.up), key=lambda seat: seat.last_epoch)
        beacon = compute_epoch_beacon(self.genesis.network, epoch, seat.checkpoints, self.genesis.beacon)
        return compute_leader_order(beacon, self.genesis.validator_set)

    async def stop_ledger(self) -> None:
        await self.ledger_runner.cleanup()

    async def start_ledger(self) -> None:
        port = int(self.ledger_url.rpartition(":")[2])
        self.ledger_runner = await _serve_ledger(self.ledger, port)


@asynccontextmanager
async def open_network(
    directory: Path,
    *,
    seats: int = 4,
    providers: Sequence[str] = ("honest", "liar"),
    phases: PhaseTimeouts = PATIENT,
    plan: Plan | None = None,
) -> AsyncIterator[SimulatedNetwork]:
    """Open a network whose providers are named by their characters, with everybody up and registered."""
    install_fair_clock(asyncio.get_running_loop())
    keys = build_validator_keys(seats)
    genesis = build_simulation_genesis(keys, plan or build_simulation_plan(), providers)
    ledger = LedgerStore(directory / "ledger", genesis.encode())
    runner = await _serve_ledger(ledger, 0)
    network = SimulatedNetwork(
        genesis=genesis,
        seats=[],
        providers={name: StandIn(name=name, character=name.partition("-")[0]) for name in providers},
        ledger=ledger,
        ledger_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
        ledger_runner=runner,
    )
    try:
        for number, item in enumerate(keys):
            home = directory / f"seat-{number}"
            create_keys(home / "keys", item)
            network.seats.append(SimulatedSeat(number, item, home, genesis, phases, ledger_url=network.ledger_url))
        await _register(network)
        for seat in network.seats:
            await seat.start()
        peers = [Peer(address=seat.address, endpoint=seat.url) for seat in network.seats]
        for seat in network.seats:
            # The ports are known only now.
            await seat.stop()
            seat.peers = peers
            await seat.start()
        yield network
    finally:
        for seat in network.seats:
            await seat.stop()
        for provider in network.providers.values():
            await provider.stop()
        await network.ledger_runner.cleanup()
        ledger.close()


async def _register(network: SimulatedNetwork) -> None:
    async with LedgerClient(network.ledger_url, network.genesis.domain) as client:
        for provider in network.providers.values():
            await provider.start(network.genesis.network, network.genesis.domain)
            signed = provider.offer
            await client.send(
                RegisterProvider,
                provider.key,
                stake_wei=provider.stake_quiv * QUIV,
                offer=signed.offer,
                offer_signature=signed.signature,
            )
            await client.send(PostPerformanceBond, provider.key, amount_wei=100 * QUIV)


async def _serve_ledger(store: LedgerStore, port: int) -> web.AppRunner:
    runner = web.AppRunner(build_ledger_app(store), access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner
