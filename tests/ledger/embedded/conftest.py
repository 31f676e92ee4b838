"""A served ledger: real HTTP on loopback, in the test's own process or in one of its own."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ledger.embedded.api import build_app
from ledger.embedded.client import LedgerClient
from ledger.embedded.rate_limit import Rate
from ledger.embedded.store import LedgerStore


@pytest.fixture
def store(world: Any, tmp_path: Path) -> Iterator[LedgerStore]:
    opened = LedgerStore(tmp_path / "ledger", world.genesis.encode())
    yield opened
    opened.close()


@pytest.fixture
async def serve(store: LedgerStore) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that serves the store (with a rate) and gives its URL."""
    runners: list[web.AppRunner] = []

    async def start(rate: Rate | None = None) -> str:
        runner = web.AppRunner(build_app(store, rate) if rate else build_app(store), access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def client(serve: Callable[..., Any], world: Any) -> AsyncIterator[LedgerClient]:
    async with LedgerClient(await serve(), world.genesis.domain) as opened:
        yield opened


@pytest.fixture
def spawn(world: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], str]]]:
    """Return a function that starts the server as a process and gives it with its URL, once it answers."""
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(world.genesis.encode())
    started: list[subprocess.Popen[bytes]] = []

    def start(*more: str, wait_s: float = 30.0) -> tuple[subprocess.Popen[bytes], str]:
        port_file = tmp_path / f"port-{len(started)}"
        command = [sys.executable, "-P", "-m", "ledger.embedded.server", "--genesis", str(genesis)]
        command += ["--data", str(tmp_path / "data"), "--port", "0", "--port-file", str(port_file), *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        started.append(process)
        deadline = time.monotonic() + wait_s
        while not port_file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return process, f"http://127.0.0.1:{port_file.read_text().strip()}" if port_file.exists() else ""

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
