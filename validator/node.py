"""The daemon: one asyncio process that wires a seat together, serves its API and lets the calendar drive epochs.

Everything is opened once, here, in one exit stack, and handed down by constructor. The reference engine is another
process: a long prefill or a crash in it never stalls signing or the API.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiohttp import web
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from prometheus_client import CollectorRegistry

from ledger.state.genesis import MAX_GENESIS_BYTES, Genesis, parse_genesis
from models.engine_client import EngineClient
from scoring.canonical import Json
from scoring.errors import InvalidInput, OracleError, Unavailable
from scoring.feed import ValidatorSetFile
from scoring.hashing import tagged_digest
from scoring.schedule import compute_epoch_start_s
from validator.agreement import Agreement
from validator.api import PublicApi
from validator.board import Board
from validator.casework import Casework
from validator.catch_up import catch_up
from validator.config import NodeConfig, PhaseTimeouts, load_config
from validator.desk import MessageDesk
from validator.embedded_ledger import EmbeddedLedger
from validator.fetch import ProviderClient
from validator.http_errors import build_app
from validator.jury import Jury
from validator.keys import ValidatorKeys, load_keys
from validator.metrics import Metrics
from validator.observer import Observer
from validator.peer_envelope import MAX_BODY_BYTES, MAX_ENVELOPE_BYTES
from validator.peer_inbox import PeerInbox, add_peer_routes
from validator.peers import Peer, PeerClient
from validator.processes import write_port_file
from validator.prosecution import Prosecution
from validator.round import run_epoch
from validator.scorer import Scorer
from validator.seat import NetworkFacts, Seat
from validator.sign_guard import SignGuard
from validator.signer import Signer
from validator.store import Store

log = structlog.get_logger()


class Node:
    """A running validator: a seat, its scheduler, and what it tells of itself."""

    def __init__(self, seat: Seat, metrics: Metrics, others: Sequence[Peer], client: PeerClient) -> None:
        self._seat = seat
        self._others = others
        self._client = client
        self._metrics = metrics
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        self._next_epoch = 0
        self._last_error = ""

    async def start(self) -> None:
        """Pick up where the store stands and schedule the next epoch."""
        await self._seat.recover()
        await catch_up(self._seat, self._others, self._client)
        self._next_epoch = self._seat.last_epoch + 1
        self._scheduler.start()
        self._schedule(self._next_epoch)

    def stop(self) -> None:
        """Stop scheduling; a running round is cancelled with the loop."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def get_status(self) -> dict[str, Json]:
        """Return what the node says of itself."""
        facts = self._seat.facts
        return {
            "address": "0x" + self._seat.signer.address.hex(),
            "network": "0x" + facts.network.hex(),
            "chain_id": facts.domain.chain_id,
            "plan_digest": "0x" + facts.plan.compute_digest().hex(),
            "protocol_version": facts.plan.protocol_version,
            "is_development_plan": facts.plan.development,
            "seats": len(facts.validator_set.validators),
            "last_certified_epoch": self._seat.last_epoch,
            "next_epoch": self._next_epoch,
            "last_error": self._last_error,
        }

    def _schedule(self, epoch: int) -> None:
        facts = self._seat.facts
        start_s = compute_epoch_start_s(facts.start_s, facts.epoch_s, epoch)
        self._scheduler.add_job(
            self._run_epoch,
            "date",
            run_date=datetime.fromtimestamp(max(start_s, time.time()), UTC),
            args=[epoch],
            id=f"epoch-{epoch}",
            replace_existing=True,
        )

    async def _run_epoch(self, epoch: int) -> None:
        started_s = time.monotonic()
        try:
            if self._seat.last_epoch < epoch - 1:
                await catch_up(self._seat, self._others, self._client)
            if self._seat.last_epoch >= epoch:
                epoch = self._seat.last_epoch
                return
            certified = await run_epoch(self._seat, epoch)
        except OracleError as error:
            # This epoch is lost for this seat; the calendar goes on.
            self._last_error = f"epoch {epoch}: {error}"
            self._metrics.epochs_abandoned.inc()
            log.warning("epoch_abandoned", epoch=epoch, why=str(error))
        else:
            self._metrics.observe(certified, time.monotonic() - started_s)
            log.info("epoch_certified", epoch=epoch, seats=len(certified.reveals))
        finally:
            self._next_epoch = epoch + 1
            self._schedule(self._next_epoch)


async def run_node(config: NodeConfig) -> None:
    """Run a validator until SIGTERM or SIGINT."""
    configure_logging(config.log_level)
    genesis = load_genesis(config.genesis_path)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        node = await open_node(stack, config, genesis, load_keys(config.keys_dir))
        await node.start()
        log.info("validator_running", **node.get_status())
        await stopping.wait()
        node.stop()


async def open_node(stack: AsyncExitStack, config: NodeConfig, genesis: Genesis, keys: ValidatorKeys) -> Node:
    """Open everything a validator needs on the stack and return the node, serving but not yet scheduled."""
    connections = await _open_connections(stack, config, genesis, keys)
    peers = build_peers(genesis)
    seat = build_seat(
        genesis, keys, connections, peers, config.phases, config.probe_concurrency, config.similarity_every
    )
    metrics = Metrics(CollectorRegistry())
    node = Node(seat, metrics, [peer for peer in peers if peer.address != keys.address], connections.peers)
    app = build_app(max(MAX_BODY_BYTES.values()) + MAX_ENVELOPE_BYTES)
    add_peer_routes(app, build_inbox(genesis, seat))
    trusted = ValidatorSetFile(domain=genesis.domain, validator_set=genesis.validator_set)
    PublicApi(seat.store, trusted, node.get_status, metrics.registry, genesis.epoch_s).add_routes(app)
    await _serve(stack, config, app)
    return node


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """What is open for as long as the node runs."""

    signer: Signer
    store: Store
    ledger: EmbeddedLedger
    engine: EngineClient
    vocabulary_size: int
    providers: ProviderClient
    peers: PeerClient
    now_s: Callable[[], int] = lambda: int(time.time())


async def _open_connections(
    stack: AsyncExitStack, config: NodeConfig, genesis: Genesis, keys: ValidatorKeys
) -> Connections:
    store = Store(config.store_path)
    stack.callback(store.close)
    guard = SignGuard.open(config.guard_path, config.keys_dir)
    signer = Signer(keys, guard, genesis.domain, genesis.network)
    ledger = await stack.enter_async_context(EmbeddedLedger(config.ledger_url, genesis.domain, keys.account_sk, store))
    engine = await EngineClient.connect(config.engine_socket)
    stack.push_async_callback(engine.close)
    hello = await engine.hello()
    if hello.manifest.compute_digest() != genesis.plan.manifest_digest:
        raise InvalidInput("the reference engine runs another model than the plan's", "engine_socket")
    peers = PeerClient(
        address=keys.address,
        network=genesis.network,
        domain=genesis.domain,
        sign=signer.sign_envelope,
        counters=store,
        now_ms=lambda: int(time.time() * 1000),
    )
    providers = ProviderClient(allows_private_endpoints=config.allows_private_endpoints)
    return Connections(
        signer=signer,
        store=store,
        ledger=ledger,
        engine=engine,
        vocabulary_size=hello.manifest.vocabulary_size,
        providers=await stack.enter_async_context(providers),
        peers=await stack.enter_async_context(peers),
    )


def build_seat(
    genesis: Genesis,
    keys: ValidatorKeys,
    connections: Connections,
    peers: Sequence[Peer],
    phases: PhaseTimeouts,
    probe_concurrency: int,
    similarity_every: int = 4,
) -> Seat:
    """Put a seat together from what is open; raises InvalidInput when the keys have no seat in this network."""
    validator_set, domain, plan = genesis.validator_set, genesis.domain, genesis.plan
    number = validator_set.index_of(keys.address)
    if number is None:
        raise InvalidInput(f"0x{keys.address.hex()} has no seat in this network's validator set", "keys_dir")
    board = Board()
    scorer = Scorer(connections.engine, plan)
    casework = Casework(plan, domain, validator_set, number, scorer, connections.store)
    return Seat(
        facts=_build_facts(genesis),
        signer=connections.signer,
        store=connections.store,
        board=board,
        ledger=connections.ledger,
        observer=Observer(
            connections.providers,
            scorer,
            domain,
            connections.vocabulary_size,
            connections.now_s,
            concurrency=probe_concurrency,
            similarity_every=similarity_every,
            phase_s=phases.probe_ms / 1000,
        ),
        agreement=Agreement(
            signer=connections.signer,
            seat=number,
            validator_set=validator_set,
            domain=domain,
            board=board,
            store=connections.store,
            peers=peers,
            client=connections.peers,
            timeouts=phases,
        ),
        casework=casework,
        prosecution=Prosecution(
            signer=connections.signer,
            seat=number,
            validator_set=validator_set,
            domain=domain,
            casework=casework,
            ledger=connections.ledger,
            store=connections.store,
            peers=peers,
            client=connections.peers,
        ),
        jury=Jury(
            plan,
            keys.address,
            scorer,
            connections.ledger,
            connections.store,
            lambda challenge_id: tagged_digest("quiver-vote-salt", keys.account_sk, challenge_id),
        ),
    )


def build_inbox(genesis: Genesis, seat: Seat) -> PeerInbox:
    """Return the inbox that feeds a seat."""
    transport_keys = {entry.address: entry.transport_key for entry in genesis.validator_set.validators}
    desk = MessageDesk(genesis.validator_set, genesis.domain, seat.board, seat.store, seat.prosecution.process_vote)
    return PeerInbox(
        address=seat.signer.address,
        network=genesis.network,
        domain=genesis.domain,
        find_transport_key=transport_keys.get,
        find_document=seat.store.find_by_digest,
        counters=seat.store,
        handler=desk.handle,
        now_s=time.monotonic,
    )


async def _serve(stack: AsyncExitStack, config: NodeConfig, app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, config.listen_host, config.listen_port)
    try:
        await site.start()
    except OSError as error:
        raise Unavailable(f"cannot listen on {config.listen_host}:{config.listen_port}: {error.strerror}") from error
    if config.port_file is not None:
        write_port_file(config.port_file, runner.addresses[0][1])


def _build_facts(genesis: Genesis) -> NetworkFacts:
    return NetworkFacts(
        network=genesis.network,
        domain=genesis.domain,
        validator_set=genesis.validator_set,
        plan=genesis.plan,
        trust_parameters=genesis.parameters.trust,
        start_s=genesis.start_s,
        epoch_s=genesis.epoch_s,
        beacon_seed=genesis.beacon,
    )


def build_peers(genesis: Genesis) -> list[Peer]:
    """Return every seat with its URL, in seat order."""
    return [Peer(address=address, endpoint=endpoint) for address, endpoint in genesis.endpoints.items()]


def load_genesis(path: Path) -> Genesis:
    """Read a genesis file; raises Unavailable or InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_GENESIS_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    return parse_genesis(data)


def configure_logging(level: str) -> None:
    """Log events as JSON lines on standard output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )


def main() -> int:
    """Run a validator from a configuration file: what the command line and a devnet start."""
    parser = argparse.ArgumentParser(prog="validator.node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        asyncio.run(run_node(load_config(arguments.config)))
    except OracleError as error:
        print(f"validator: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
