"""Child processes that never outlive their parent: the engine, and every process of a devnet.

A child is started as `python -P -m validator.processes <parent pid> <module> <arguments>`: this module ties the child
to its parent and then runs the module in its place. On Linux the kernel kills it when the parent dies, however that
happens (prctl PR_SET_PDEATHSIG: when the thread that started it ends, so start children from the main thread);
elsewhere a thread watches. Each child leads a process group, so Ctrl-C reaches only the parent, which then ends its
children in order.
"""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoring.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_LOG_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A running child: its name, its process, the file with its output."""

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        """The process id, also that of its group."""
        return self.process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def read_log_tail(self) -> str:
        """Return the end of its output, for an error message."""
        try:
            data = self.log_path.read_bytes()
        except OSError:
            return ""
        return data[-_LOG_TAIL_BYTES:].decode(errors="replace")


def spawn(name: str, module: str, arguments: Sequence[str], *, log_path: Path, environment: Mapping[str, str]) -> Child:
    """Start `python -P -m module arguments` as a child that dies with this process; output goes to `log_path`.

    `environment` is the whole of the child's. Raises Unavailable when it cannot be started.
    """
    command = [sys.executable, "-P", "-m", "validator.processes", str(os.getpid()), module, *arguments]
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                process_group=0,
            )
    except OSError as error:
        raise Unavailable(f"cannot start {name}: {error}") from error
    return Child(name=name, process=process, log_path=log_path)


def stop(children: Iterable[Child], grace_s: float = 5.0) -> None:
    """End children and their groups: SIGTERM to all, `grace_s` seconds for all together, then SIGKILL. Reaps them."""
    waiting = list(children)
    for child in waiting:
        _signal_group(child, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while any(child.is_alive() for child in waiting) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    for child in waiting:
        # Also when the leader has ended: members of its group may be left.
        _signal_group(child, signal.SIGKILL)
        child.process.wait()


def wait_for_port(port_file: Path, child: Child, timeout_s: float) -> int:
    """Wait until a child has written the port it listens on to a file, and return it.

    Raises Unavailable with the end of the child's output when it ends first or takes longer.
    """
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        port = _read_port(port_file)
        if port is not None:
            return port
        if not child.is_alive():
            raise Unavailable(
                f"{child.name} ended with status {child.process.returncode} before it listened:\n"
                f"{child.read_log_tail()}"
            )
        time.sleep(_POLL_S)
    raise Unavailable(f"{child.name} did not listen within {timeout_s} s:\n{child.read_log_tail()}")


def write_port_file(port_file: Path, port: int) -> None:
    """Tell the parent which port was taken; the file appears whole."""
    temporary = port_file.with_name(f".{port_file.name}.{os.getpid()}")
    temporary.write_text(f"{port}\n")
    temporary.replace(port_file)


def measure_pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes in bytes: shared pages are split among those that share them.

    Processes that have ended count nothing. Where the system does not know PSS, the resident size stands in.
    """
    return sum(_measure_one(pid) for pid in pids)


def list_descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one, children first."""
    import psutil  # here: a child that only runs `main` must not wait for it

    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal_group(child: Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        # Gone; or (macOS) nothing but zombies is left of the group.
        return


def _read_port(port_file: Path) -> int | None:
    try:
        text = port_file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else None


def _measure_one(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise Unavailable(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    else:
        threading.Thread(target=_watch, args=(parent_pid,), daemon=True).start()
    # The parent may have died before the kernel was told.
    if os.getppid() != parent_pid:
        os._exit(1)


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(1.0)
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Tie this process to its parent and become the module named in the arguments."""
    parent_pid, module, *rest = arguments
    _die_with(int(parent_pid))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
