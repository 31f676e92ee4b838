"""The server as a process: starting, stopping, dying."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledger.embedded.sync_client import SyncLedgerClient
from ledger.state.transactions import Transfer
from scoring.errors import Unavailable

pytestmark = pytest.mark.slow
Spawn = Callable[..., tuple["subprocess.Popen[bytes]", str]]


def test_stops_quietly_on_sigterm_and_starts_again_where_it_was(spawn: Spawn, world: Any) -> None:
    process, url = spawn()
    with SyncLedgerClient(url, world.genesis.domain) as client:
        client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=7)
        root = client.status().log_root
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0 and process.stderr is not None and process.stderr.read() == b""
    _, url = spawn()
    with SyncLedgerClient(url, world.genesis.domain) as client:
        assert client.status().log_root == root


def _send_until_it_fails(url: str, world: Any) -> int:
    """Return how many transactions of this run were acknowledged."""
    acknowledged = 0
    with SyncLedgerClient(url, world.genesis.domain) as client:
        while True:
            try:
                client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=1)
            except Unavailable:
                return acknowledged
            acknowledged += 1


def test_what_was_answered_survives_kill_9_at_any_moment(spawn: Spawn, world: Any) -> None:
    expected = 0
    for delay_s in (0.21, 0.33, 0.47):
        process, url = spawn()
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(_send_until_it_fails, url, world)
            time.sleep(delay_s)
            process.kill()
            acknowledged = sending.result(30)
        process.wait(10)
        process, url = spawn()
        with SyncLedgerClient(url, world.genesis.domain) as client:
            size = client.status().log_size
            # One more may be on disk than was answered: the kill came between the two.
            assert expected + acknowledged <= size <= expected + acknowledged + 1
            assert client.account(b"\x01" * 20).balance_wei == size
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        expected = size
    assert expected > 3


def test_ends_with_its_parent_when_asked(spawn: Spawn, world: Any, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    arguments = ["--genesis", str(tmp_path / "genesis.json"), "--data", str(tmp_path / "orphan"), "--port", "0"]
    arguments += ["--port-file", str(port_file), "--exit-with-parent"]
    script = (
        "import subprocess, sys, time, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-P', '-m', 'ledger.embedded.server', *{arguments!r}])\n"
        f"while not pathlib.Path({str(port_file)!r}).exists(): time.sleep(0.02)\n"
        "print(child.pid)\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=True)
    child = int(shown.stdout)
    deadline = time.monotonic() + 10
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def test_says_in_one_line_why_it_cannot_start(spawn: Spawn, world: Any, tmp_path: Path) -> None:
    spawn()
    process, _ = spawn()
    assert process.wait(10) == 2 and process.stderr is not None
    assert process.stderr.read().decode().startswith("quiver ledger: another process serves the ledger")
    (tmp_path / "genesis.json").write_bytes(b"{}")
    process, _ = spawn()
    assert process.wait(10) == 2 and process.stderr is not None
    assert process.stderr.read().decode().count("\n") == 1
