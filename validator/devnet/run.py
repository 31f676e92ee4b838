"""A devnet from start to end: start everything, watch trust move, file two challenges, check how it came out."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.live import Live

from ledger.embedded.sync_client import SyncLedgerClient
from ledger.state.transactions import PostPerformanceBond, RegisterProvider
from scoring.errors import InvalidInput, OracleError, Unavailable
from validator.cli.output import write_file
from validator.consumer import fetch_offer
from validator.devnet.consumer import Consumer
from validator.devnet.inspection import inspect
from validator.devnet.judging import describe_judge, is_measured
from validator.devnet.layout import BOND_QUIV, PROVIDERS, draw_cast
from validator.devnet.network import Network, build_environment
from validator.devnet.result import ProviderResult, check_result
from validator.devnet.screen import build_live, print_result
from validator.devnet.watch import EXTRA_EPOCHS, Watch

OPENING_EPOCHS = 1
"""Epoch 0 closes the registrations; providers are probed from epoch 1 on."""
STALL_TIMEOUT_S = 300
SETTLE_TIMEOUT_S = 60
POLL_S = 1.0
PIPE_COLUMNS = 120
MAX_DIRECTORY_BYTES = 90
PREPARE = "from models.bundled import prepare_bundled; prepare_bundled()"
WEI = 10**18


def run_devnet(*, validators: int, epochs: int, json_path: Path | None, directory: Path | None, keep: bool) -> int:
    """Run a devnet and return the exit code: 0 when everything came out as it must."""
    console = _build_console()
    _check_paths(json_path, directory)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt))
        home = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quiver-devnet-")))
        home.mkdir(parents=True, exist_ok=True)
        _prepare_model(console)
        started_s = time.monotonic()
        cast = draw_cast(validators, PROVIDERS)
        network = stack.enter_context(Network(home, cast, PROVIDERS, lambda line: console.print(f"[dim]{line}[/dim]")))
        _start(network, epochs, console)
        watch = Watch(network, [_build_provider_result(network, item.name) for item in PROVIDERS], epochs)
        consumer = Consumer(network)
        _follow(network, watch, consumer, console, started_s)
        results = directory or Path(f"devnet-{network.genesis.chain_id}")
        result = inspect(network, watch, consumer, int(time.monotonic() - started_s), results)
        if json_path is not None:
            write_file(json_path, _encode(result.to_json()))
        print_result(console, result)
        if keep:
            _stay(network, console)
        return 0 if all(check.passed for check in check_result(result)) else 1


def _check_paths(json_path: Path | None, directory: Path | None) -> None:
    """Find out now, not after five minutes, that results have nowhere to go; raises InvalidInput."""
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {json_path.parent}", "--json")
    if directory is None:
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput(f"{directory} is not an empty folder: each devnet needs its own", "--dir")
    if len(str(directory.absolute()).encode()) > MAX_DIRECTORY_BYTES:
        raise InvalidInput(f"longer than {MAX_DIRECTORY_BYTES} bytes: the engine's socket in it has a limit", "--dir")


def _build_console() -> Console:
    # A pipe has no width: what is kept of the output should not be folded at 80 columns.
    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)


def _prepare_model(console: Console) -> None:
    console.print("[dim]preparing the bundled model (converted once, then kept in the cache)[/dim]")
    done = subprocess.run([sys.executable, "-P", "-c", PREPARE], check=False)
    if done.returncode:
        raise Unavailable("the bundled model could not be prepared, see above")
    if not is_measured():
        console.print("[dim]measuring the model as a judge on known answers (once, about a minute)[/dim]")
    describe_judge(build_environment())


def _start(network: Network, epochs: int, console: Console) -> None:
    console.print("[dim]starting engine, ledger, providers[/dim]")
    network.write_genesis(case_epochs=OPENING_EPOCHS + epochs + EXTRA_EPOCHS)
    network.start_ledger()
    network.start_engine()
    network.start_providers()
    with SyncLedgerClient(network.ledger_url, network.genesis.domain) as ledger:
        for spec in network.providers:
            _register(network, ledger, spec.name, spec.stake_quiv)
    network.start_validators()
    count = len(network.cast.validators)
    console.print(f"[dim]{count} validators serve; epoch 0 closes the registrations[/dim]")


def _register(network: Network, ledger: SyncLedgerClient, name: str, stake_quiv: int) -> None:
    signed = fetch_offer(network.provider_urls[name])
    key = network.cast.provider_keys[name]
    ledger.send(RegisterProvider, key, stake_wei=stake_quiv * WEI, offer=signed.offer, offer_signature=signed.signature)
    ledger.send(PostPerformanceBond, key, amount_wei=BOND_QUIV * WEI)


def _build_provider_result(network: Network, name: str) -> ProviderResult:
    spec = next(item for item in network.providers if item.name == name)
    address = network.cast.get_provider_address(name)
    return ProviderResult(spec=spec, address=f"0x{address.hex()}", stake_before_wei=spec.stake_quiv * WEI)


def _follow(network: Network, watch: Watch, consumer: Consumer, console: Console, started_s: float) -> None:
    last_change_s, last_epoch = time.monotonic(), -1
    filing: threading.Thread | None = None
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while not watch.is_finished(consumer):
            watch.update()
            live.update(
                build_live(watch.providers, watch.epoch, watch.epochs, int(time.monotonic() - started_s), watch.news)
            )
            if watch.epoch > last_epoch:
                last_epoch, last_change_s = watch.epoch, time.monotonic()
            if watch.epoch >= 0 and filing is None:
                filing = _in_background(consumer.file_both, watch.say)
            _require_progress(network, last_change_s)
            time.sleep(POLL_S)
    if filing is not None:
        filing.join(SETTLE_TIMEOUT_S)


def _require_progress(network: Network, last_change_s: float) -> None:
    dead = network.find_dead()
    if dead is not None:
        raise Unavailable(f"{dead.name} ended with status {dead.process.returncode}:\n{dead.read_log_tail()}")
    if time.monotonic() - last_change_s > STALL_TIMEOUT_S:
        raise Unavailable(f"no epoch was certified for {STALL_TIMEOUT_S} s; logs are in {network.directory / 'logs'}")


def _in_background(work: Callable[[Callable[[str], None]], None], say: Callable[[str], None]) -> threading.Thread:
    def run() -> None:
        try:
            work(say)
        except OracleError as error:
            say(f"the consumer failed: {error}")

    thread = threading.Thread(target=run, name="consumer", daemon=True)
    thread.start()
    return thread


def _stay(network: Network, console: Console) -> None:
    console.print("\n[bold]Still running[/bold] (Ctrl-C ends it)")
    console.print(f"  ledger      {network.ledger_url}", highlight=False)
    for number, url in enumerate(network.validator_urls):
        console.print(f"  validator {number} {url}", highlight=False)
    for name, url in network.provider_urls.items():
        console.print(f"  {name:<14} {url}", highlight=False)
    try:
        while network.find_dead() is None:
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return


def _encode(document: object) -> bytes:
    import json

    return json.dumps(document, indent=2).encode() + b"\n"


def _interrupt(number: int, frame: object) -> None:
    # SIGTERM ends the devnet as Ctrl-C does: through the stack, so that nothing is left running.
    raise KeyboardInterrupt(os.strerror(number))
