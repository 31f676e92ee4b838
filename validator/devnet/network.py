"""The processes of a devnet: engine, ledger, providers, validators, all on loopback, all ended with this one."""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ledger.state.genesis import Genesis
from scoring.errors import Unavailable
from validator.devnet.layout import Cast, ProviderSpec, build_devnet_genesis
from validator.keys import create_keys
from validator.processes import Child, list_descendants, measure_pss_bytes, spawn, stop, wait_for_port
from validator.provider.config import write_config

START_TIMEOUT_S = 240.0
HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Network:
    """A running devnet. Use it as a context manager: leaving it ends every process."""

    directory: Path
    cast: Cast
    providers: Sequence[ProviderSpec]
    report_progress: Callable[[str], None]
    genesis: Genesis = field(init=False)
    ledger_url: str = field(init=False, default="")
    provider_urls: dict[str, str] = field(init=False, default_factory=dict)
    validator_urls: list[str] = field(init=False, default_factory=list)
    children: list[Child] = field(init=False, default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        stop(reversed(self.children))

    @property
    def engine_socket(self) -> Path:
        """The reference engine's socket, shared by all validators of this machine."""
        return self.directory / "engine.sock"

    def write_genesis(self, case_epochs: int) -> None:
        """Choose the validators' ports and write the genesis."""
        ports = _choose_ports(len(self.cast.validators))
        self.validator_urls = [f"http://{HOST}:{port}" for port in ports]
        self.genesis = build_devnet_genesis(self.cast, self.validator_urls, self.providers, case_epochs)
        self._genesis_path.write_bytes(self.genesis.encode())

    def start_ledger(self) -> None:
        """Start the embedded ledger and wait until it listens."""
        port_file = self.directory / "ledger.port"
        arguments = ["--genesis", str(self._genesis_path), "--data", str(self.directory / "ledger")]
        arguments += ["--host", HOST, "--port", "0", "--port-file", str(port_file)]
        child = self._spawn("ledger", "ledger.embedded.server", arguments)
        self.ledger_url = f"http://{HOST}:{wait_for_port(port_file, child, START_TIMEOUT_S)}"

    def start_engine(self) -> None:
        """Start the reference engine; it listens when the model is loaded."""
        arguments = ["--socket", str(self.engine_socket), "--model", "bundled", "--dtype", "bf16"]
        self._spawn("engine", "models.engine", arguments)

    def start_providers(self) -> None:
        """Start every provider, then wait for each."""
        started = [(spec, *self._start_provider(spec)) for spec in self.providers]
        for spec, port_file, child in started:
            port = wait_for_port(port_file, child, START_TIMEOUT_S)
            self.provider_urls[spec.name] = f"http://{HOST}:{port}"
            self.report_progress(f"provider {spec.name} serves")

    def start_validators(self) -> None:
        """Start every validator, then wait for each."""
        started = [self._start_validator(number) for number in range(len(self.cast.validators))]
        for port_file, child in started:
            wait_for_port(port_file, child, START_TIMEOUT_S)

    def measure_memory_bytes(self) -> int:
        """Return the proportional set size of all processes of the devnet, this one included."""
        pids = {os.getpid(), *list_descendants(os.getpid())}
        return measure_pss_bytes(pids)

    def find_dead(self) -> Child | None:
        """Return a process that ended on its own, or None."""
        return next((child for child in self.children if not child.is_alive()), None)

    @property
    def _genesis_path(self) -> Path:
        return self.directory / "genesis.json"

    def _start_provider(self, spec: ProviderSpec) -> tuple[Path, Child]:
        home = self.directory / "providers" / spec.name
        home.mkdir(parents=True)
        key_file, port_file, config_path = home / "key", home / "port", home / "config.json"
        key_file.touch(mode=0o600)
        key_file.write_text(f"0x{self.cast.provider_keys[spec.name].hex()}\n")
        settings = {
            "data_dir": str(home),
            "host": HOST,
            "port": 0,
            "port_file": str(port_file),
            "key_file": str(key_file),
            "network": "0x" + self.genesis.network.hex(),
            "chain_id": self.genesis.chain_id,
            "model": "bundled",
            "dtype": spec.dtype,
            "cheats": list(spec.cheats),
            # What a loaded laptop core keeps up with while five others work beside it.
            "advertised_ttft_ms": 30_000,
            "advertised_tokens_per_s": 1,
            "exit_with_parent": True,
        }
        write_config(config_path, settings)
        return port_file, self._spawn(spec.name, "validator.provider.server", ["--config", str(config_path)])

    def _start_validator(self, number: int) -> tuple[Path, Child]:
        home = self.directory / "validators" / str(number)
        create_keys(home / "keys", self.cast.validators[number])
        settings = {
            "keys_dir": str(home / "keys"),
            "data_dir": str(home / "data"),
            "genesis_path": str(self._genesis_path),
            "ledger_url": self.ledger_url,
            "engine_socket": str(self.engine_socket),
            "listen_host": HOST,
            "listen_port": int(self.validator_urls[number].rpartition(":")[2]),
            "port_file": str(home / "port"),
            "allows_private_endpoints": True,
            # Two providers at a time, the same for every seat: their batches fill and no answer waits for six others.
            "probe_concurrency": 4,
            "similarity_every": 16,
            # Generous: a shared machine may stall one seat for a minute, and a phase ends early when all are done.
            "phases": {"probe_ms": 120_000, "commit_ms": 90_000, "reveal_ms": 60_000, "proposal_ms": 30_000},
        }
        write_config(home / "config.json", settings)
        child = self._spawn(f"validator-{number}", "validator.node", ["--config", str(home / "config.json")])
        return home / "port", child

    def _spawn(self, name: str, module: str, arguments: Sequence[str]) -> Child:
        log_path = self.directory / "logs" / f"{name}.log"
        child = spawn(name, module, arguments, log_path=log_path, environment=build_environment())
        self.children.append(child)
        return child


def build_environment() -> dict[str, str]:
    """Return the environment of a devnet's processes."""
    # One torch thread each: busy processes with two threads each starve one another.
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _choose_ports(count: int) -> list[int]:
    """Return free ports; all are held open until all are chosen, so that no two are the same.

    Validators listen a minute later: a port of the range that systems take for outgoing connections (from 32,768 up on
    Linux) could be taken by then. Raises Unavailable when too few ports are free.
    """
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in secrets.SystemRandom().sample(PORTS, len(PORTS)):
            item = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                item.bind((HOST, port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise Unavailable(f"no {count} free ports between {PORTS[0]} and {PORTS[-1]}")
