"""Imports point down, pure packages stay pure, and what the base install needs imports with the base install alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("quiver_oracle", "scoring", "challenges", "models", "ledger", "validator")
BASE_PACKAGES = ("quiver_oracle", "scoring", "challenges", "ledger.state")
PURE_PACKAGES = ("scoring", "challenges", "ledger.state")
OPTIONAL_MODULES = {"scoring._bls_py_ecc"}
"""Modules below these packages that need an extra, and are imported only when it is there."""

IMPORT_ALL = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
EXTRAS = (
    "accelerate", "aiohttp", "apscheduler", "gguf", "numpy", "prometheus_client", "psutil", "py_ecc", "rich",
    "safetensors", "sentence_transformers", "sqlite_utils", "structlog", "torch", "transformers",
)  # fmt: skip
IMPURE = ("httpx", "aiohttp", "sqlite3", "torch", "asyncio", "web3")


def find_modules(package: str) -> Iterator[str]:
    folder = ROOT.joinpath(*package.split("."))
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_without(blocked: tuple[str, ...], modules: list[str]) -> "subprocess.CompletedProcess[str]":
    program = IMPORT_ALL.replace("BLOCKED", repr(blocked))
    command = [sys.executable, "-P", "-c", program, *modules]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("package", BASE_PACKAGES)
def test_the_base_install_imports_every_module_of(package: str) -> None:
    modules = [name for name in find_modules(package) if name not in OPTIONAL_MODULES]
    modules = [name for name in modules if not name.endswith("__main__")]
    assert len(modules) > 3
    done = import_without(EXTRAS, modules)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", PURE_PACKAGES)
def test_nothing_that_reaches_outside_is_needed_by(package: str) -> None:
    modules = [name for name in find_modules(package) if name not in OPTIONAL_MODULES]
    done = import_without((*EXTRAS, *IMPURE), modules)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_public_face_imports_no_layer_that_the_base_install_does_not_need() -> None:
    program = "import sys, quiver_oracle; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert {"models", "ledger", "validator"} & set(done.stdout.split()) == set()


def test_every_package_is_in_the_contracts_and_in_the_wheel() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert tuple(project["tool"]["importlinter"]["root_packages"]) == PACKAGES
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(included) == sorted(f"{name}*" for name in PACKAGES)
    assert {path.parent.name for path in ROOT.glob("*/py.typed")} == set(PACKAGES)


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_there_is_no_room_for_things_without_a_name(name: str) -> None:
    assert [path for package in PACKAGES for path in (ROOT / package).rglob(f"{name}*")] == []
