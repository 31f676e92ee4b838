"""Child processes: they listen, they are measured, and nothing of them is left, however the parent ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scoring.errors import Unavailable
from validator.processes import (
    Child,
    list_descendants,
    measure_pss_bytes,
    spawn,
    stop,
    wait_for_port,
    write_port_file,
)

pytestmark = pytest.mark.slow

LISTENER = """
import pathlib, signal, sys, time
from validator.processes import write_port_file
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "fail" in sys.argv:
    raise SystemExit("no such model")
print("hello from", sys.argv[1:], __name__, flush=True)
write_port_file(pathlib.Path(sys.argv[1]), 4242)
time.sleep(60)
"""

PARENT = """
import os, pathlib, signal, sys, time
from validator.processes import spawn, wait_for_port
# Whoever runs the tests in the background may have had Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
base = pathlib.Path(sys.argv[1])
children = []
for name in ("one", "two"):
    children.append(spawn(name, sys.argv[2], [str(base / name), *sys.argv[3:]],
        log_path=base / f"{name}.log", environment=dict(os.environ)))
    wait_for_port(base / name, children[-1], 20)
if "quit" not in sys.argv:
    print("ready", flush=True)
    time.sleep(60)
"""

MIDDLE = """
import os, pathlib, sys, time
from validator.processes import spawn, wait_for_port, write_port_file
base = pathlib.Path(sys.argv[1])
child = spawn("leaf", "listener", [f"{base}-leaf"], log_path=base.with_name(base.name + ".leaf.log"),
    environment=dict(os.environ))
wait_for_port(base.with_name(base.name + "-leaf"), child, 20)
write_port_file(base, 1)
time.sleep(60)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the test's modules can be found beside the installed packages."""
    modules = tmp_path / "modules"
    modules.mkdir()
    for name, source in (("listener", LISTENER), ("parent", PARENT), ("middle", MIDDLE)):
        (modules / f"{name}.py").write_text(source)
    return dict(os.environ) | {"PYTHONPATH": str(modules)}


def start(tmp_path: Path, environment: dict[str, str], *arguments: str) -> tuple[Child, Path]:
    port_file = tmp_path / "port"
    child = spawn(
        "listener",
        "listener",
        [str(port_file), *arguments],
        log_path=tmp_path / "logs" / "listener.log",
        environment=environment,
    )
    return child, port_file


def wait_until_gone(pids: list[int]) -> bool:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_child_runs_the_module_as_main_and_writes_its_log(tmp_path: Path, environment: dict[str, str]) -> None:
    child, port_file = start(tmp_path, environment, "--x")
    try:
        assert wait_for_port(port_file, child, 20) == 4242
        assert child.is_alive()
        assert child.read_log_tail() == f"hello from ['{port_file}', '--x'] __main__\n"
    finally:
        stop([child])
    assert not child.is_alive() and child.process.returncode == -signal.SIGTERM


def test_a_child_that_ends_early_is_reported_with_its_output(tmp_path: Path, environment: dict[str, str]) -> None:
    child, port_file = start(tmp_path, environment, "fail")
    with pytest.raises(Unavailable, match=r"(?s)status 1 before it listened.*no such model"):
        wait_for_port(port_file, child, 20)


def test_a_child_that_never_listens_is_given_up(tmp_path: Path, environment: dict[str, str]) -> None:
    child, _ = start(tmp_path, environment)
    try:
        with pytest.raises(Unavailable, match="did not listen within"):
            wait_for_port(tmp_path / "elsewhere", child, 0.2)
    finally:
        stop([child])


def test_a_child_that_ignores_its_end_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    child, port_file = start(tmp_path, environment, "stubborn")
    wait_for_port(port_file, child, 20)
    stop([child], grace_s=0.3)
    assert child.process.returncode == -signal.SIGKILL


def test_stopping_twice_does_no_harm(tmp_path: Path, environment: dict[str, str]) -> None:
    child, _ = start(tmp_path, environment)
    stop([child])
    stop([child])


def test_says_what_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot start x"):
        spawn("x", "y", [], log_path=tmp_path / "file" / "log", environment={})


def test_measures_memory_and_counts_the_dead_as_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    child, port_file = start(tmp_path, environment)
    wait_for_port(port_file, child, 20)
    size = measure_pss_bytes([child.pid])
    assert 1_000_000 < size < 200_000_000
    assert measure_pss_bytes([child.pid, os.getpid()]) > size
    stop([child])
    assert measure_pss_bytes([child.pid]) == 0
    assert list_descendants(child.pid) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread watches, once a second")
@pytest.mark.parametrize("how", ["killed", "interrupted", "quit"])
@pytest.mark.parametrize("module", ["listener", "middle"])
def test_nothing_is_left_when_the_parent_is(tmp_path: Path, environment: dict[str, str], how: str, module: str) -> None:
    arguments = [sys.executable, "-m", "parent", str(tmp_path), module]
    parent = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    pids = list_descendants(parent.pid)
    assert len(pids) == (2 if module == "listener" else 4)
    if how == "quit":
        parent.terminate()
    else:
        os.kill(parent.pid, signal.SIGKILL if how == "killed" else signal.SIGINT)
    parent.communicate()
    assert wait_until_gone(pids)


def test_a_port_file_appears_whole(tmp_path: Path) -> None:
    write_port_file(tmp_path / "port", 8080)
    assert (tmp_path / "port").read_text() == "8080\n"
    assert [path.name for path in tmp_path.iterdir()] == ["port"]
