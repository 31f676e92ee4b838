"""The demo end to end: real processes, the real model, and strangers who check what it leaves behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

DEVNET_TIMEOUT_S = 900
END_TIMEOUT_S = 60
MARKER = "QUIVER_TEST_DEVNET"
LIARS = {"int4", "hidden-prompt", "drop-layer"}
MAX_MEMORY_BYTES = 8 * 1024**3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DEVNET_TIMEOUT_S + 200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A devnet that has ended: its exit code, what it printed, its result for machines, the files that it kept."""

    code: int
    output: str
    result: dict[str, Any]
    folder: Path
    left_over: list[str]


def start_devnet(folder: Path, mark: str, *more: str) -> "subprocess.Popen[str]":
    """Start a devnet whose every process carries `mark` in its environment, and that minds Ctrl-C."""
    command = [sys.executable, "-P", "-m", "quiver_oracle", "devnet", "--dir", str(folder / "net"), *more]
    # A shell in the background hands down an ignored SIGINT; what is started here must not inherit it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, MARKER: mark, "COLUMNS": "200"},
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def find_marked(mark: str) -> list[str]:
    """Return the command lines of the processes that still carry the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def find_left_over(mark: str, patience_s: float = 5.0) -> list[str]:
    deadline_s = time.monotonic() + patience_s
    while (found := find_marked(mark)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return found


def end(process: "subprocess.Popen[str]", mark: str) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()
    for marked in psutil.process_iter():
        try:
            if marked.environ().get(MARKER) == mark:
                marked.kill()
        except psutil.Error:
            continue


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    mark = f"{os.getpid()}-{folder.name}"
    process = start_devnet(folder, mark, "--epochs", "6", "--json", str(folder / "demo.json"))
    try:
        output, _ = process.communicate(timeout=DEVNET_TIMEOUT_S)
        left_over = find_left_over(mark)
        path = folder / "demo.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        yield Demo(code=process.returncode, output=output, result=result, folder=folder, left_over=left_over)
    finally:
        end(process, mark)


def test_it_ends_as_it_must(demo: Demo) -> None:
    failed = [check for check in demo.result.get("checks", [{"name": "no result"}]) if not check.get("passed")]
    assert failed == [], demo.output[-6000:]
    assert demo.code == 0, demo.output[-6000:]
    assert demo.result["passed"] is True


def test_nothing_of_it_is_left_running(demo: Demo) -> None:
    assert demo.left_over == []


def test_the_result_for_machines_holds_the_story(demo: Demo) -> None:
    result = demo.result
    providers = {item["name"]: item for item in result["providers"]}
    slashed = {item["provider"] for item in result["slashes"]}
    assert slashed == {providers[name]["address"] for name in LIARS}
    for slash in result["slashes"]:
        assert 10 ** (slash["log10_e_milli"] / 1000) >= 0.99 * slash["threshold"]
        assert slash["signers"] >= 3 and slash["is_verified_by_stranger"]
    for name, item in providers.items():
        limit = int(item["stake_before_wei"]) * item["slash_cap_bps"] // 10_000
        assert (0 < int(item["slashed_wei"]) <= limit) == (name in LIARS)
    assert int(result["burned_wei"]) >= sum(int(item["slashed_wei"]) for item in providers.values())
    assert {item["name"]: item["verdict"] for item in result["challenges"]} == {"right": "upheld", "wrong": "rejected"}


def test_it_stays_within_its_memory(demo: Demo) -> None:
    assert 0 < demo.result["peak_memory_bytes"] < MAX_MEMORY_BYTES


def test_it_says_what_the_judge_is_worth(demo: Demo) -> None:
    assert demo.result["judge"] and demo.result["judge"] != "not measured"
    assert "Judge" in demo.output


def test_it_prints_the_commands_that_a_stranger_runs(demo: Demo) -> None:
    unwrapped = " ".join(demo.output.split())
    for name in ("feed", "evidence"):
        assert " ".join(demo.result["commands"][name].split()) in unwrapped


def test_no_process_fell_over(demo: Demo) -> None:
    logs = sorted((demo.folder / "net" / "logs").glob("*.log"))
    assert len(logs) >= 12
    assert [path.name for path in logs if count_accidents(path.read_text(errors="replace"))] == []


def count_accidents(log: str) -> int:
    # A validator that is stopped within an epoch logs that its job was cancelled: no accident.
    return log.count("Traceback (most recent call last)") - log.count("asyncio.exceptions.CancelledError")


def run_as_stranger(words: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "quiver_oracle", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def get_words(demo: Demo, name: str) -> list[str]:
    program, *words = shlex.split(demo.result["commands"][name])
    assert Path(program).name == "quiver"
    return words


def test_a_stranger_verifies_the_feed(demo: Demo) -> None:
    words = get_words(demo, "feed")
    assert run_as_stranger(words).returncode == 0
    age = words.index("--max-age") + 1
    # Since then at least a second has passed, and the item is dated at the start of its epoch.
    stale = run_as_stranger([*words[:age], "0", *words[age + 1 :]])
    assert stale.returncode == 1 and "stale: " in stale.stderr


def get_set_path(demo: Demo) -> str:
    words = get_words(demo, "feed")
    return words[words.index("--validator-set") + 1]


def test_a_stranger_verifies_every_piece_of_evidence(demo: Demo) -> None:
    for slash in demo.result["slashes"]:
        done = run_as_stranger(
            ["evidence", "verify", slash["evidence_file"], "--validator-set", get_set_path(demo), "--json"]
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["log10_e_milli"] == slash["log10_e_milli"]


def test_a_stranger_runs_the_model_again_and_agrees(demo: Demo) -> None:
    words = get_words(demo, "evidence")
    assert "--rerun" in words
    done = run_as_stranger([*words, "--json"])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rerun_log10_e_milli"] == pytest.approx(document["log10_e_milli"], abs=1000)


def flip(share: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        # Evidence ends with the witness's own numbers, which are checked by --rerun and not by a signature.
        place = int(share * data.find(b'"witness"')) if b'"witness"' in data else int(share * len(data))
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


@pytest.mark.parametrize("share", [0.05, 0.35, 0.65, 0.95])
@pytest.mark.parametrize("name", ["feed", "evidence"])
def test_a_stranger_refuses_what_was_tampered_with(demo: Demo, tmp_path: Path, name: str, share: float) -> None:
    words = [word for word in get_words(demo, name) if word != "--rerun"]
    good = Path(words[2])
    spoiled = tmp_path / good.name
    spoiled.write_bytes(flip(share)(good.read_bytes()))
    done = run_as_stranger([*words[:2], str(spoiled), *words[3:]])
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("quiver: ") and "Traceback" not in done.stderr


def test_a_stranger_refuses_a_set_that_was_tampered_with(demo: Demo, tmp_path: Path) -> None:
    good = Path(get_set_path(demo))
    spoiled = tmp_path / good.name
    spoiled.write_bytes(flip(0.5)(good.read_bytes()))
    for name in ("feed", "evidence"):
        words = [str(spoiled) if word == str(good) else word for word in get_words(demo, name) if word != "--rerun"]
        assert run_as_stranger(words).returncode in (1, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_during_the_start_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    mark = f"{os.getpid()}-{number.name}"
    process = start_devnet(tmp_path, mark, "--epochs", "1")
    try:
        wait_for_providers(process, tmp_path / "net" / "logs")
        assert len(find_marked(mark)) > 3
        process.send_signal(number)
        output, _ = process.communicate(timeout=END_TIMEOUT_S)
        assert process.returncode == 130, output[-3000:]
        assert "quiver: interrupted" in output and "Traceback" not in output
        assert find_left_over(mark) == []
    finally:
        end(process, mark)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the children watch, once a second")
def test_a_devnet_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    mark = f"{os.getpid()}-killed"
    process = start_devnet(tmp_path, mark, "--epochs", "1")
    try:
        wait_for_providers(process, tmp_path / "net" / "logs")
        process.kill()
        process.communicate(timeout=END_TIMEOUT_S)
        assert find_left_over(mark) == []
    finally:
        end(process, mark)


def wait_for_providers(process: "subprocess.Popen[str]", logs: Path) -> None:
    deadline_s = time.monotonic() + 300
    while time.monotonic() < deadline_s and process.poll() is None:
        if (logs / "flaky.log").exists():
            return
        time.sleep(0.1)
    pytest.fail(f"the devnet started no providers: {process.communicate(timeout=10)[0] if process.poll() else ''}")
