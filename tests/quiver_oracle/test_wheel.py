"""The wheel in an empty environment: a feed is verified with the base install alone, and a collision is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from quiver_oracle import build_mock_item, build_mock_network

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
PACKAGES = ("quiver_oracle", "scoring", "challenges", "models", "ledger", "validator")
HEAVY = {"torch", "transformers", "numpy", "aiohttp", "apscheduler", "sqlite-utils", "py-ecc", "eth-account"}
VERIFY = """
import sys
from pathlib import Path
from quiver_oracle import parse_feed_proof, parse_validator_set_file, verify_feed_proof

folder = Path(sys.argv[1])
trusted = parse_validator_set_file((folder / "validator_set.json").read_bytes())
proof = parse_feed_proof((folder / "feed_proof.json").read_bytes())
item = verify_feed_proof(proof, trusted, max_age_s=3600, now_s=proof.checkpoint.time_s + 60)
print(item.trust, "torch" in sys.modules)
"""
pytestmark = pytest.mark.slow


class Environment:
    """An environment of its own, with nothing in it that was not installed here."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"

    def run(self, *command: str | Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment, away from the source folder."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [str(self.bin / command[0]), *map(str, command[1:])],
            cwd=self.bin.parent,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=check,
        )

    def install(self, *arguments: str | Path) -> None:
        """Install with the pip options that the project was installed with."""
        extra = os.environ.get("PIP_ARGS", "").split()
        done = self.run("python", "-m", "pip", "install", "-q", *extra, *arguments, check=False)
        assert done.returncode == 0, done.stderr


def build_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel from a copy of the source, so that nothing is left behind in the tree."""
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return build_wheel(source, folder / "built")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install("-c", ROOT / "constraints.txt", wheel)
    return environment


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert [name for name in PACKAGES if f"{name}/py.typed" not in names] == []
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_a_feed_is_verified_with_the_base_install_alone(environment: Environment) -> None:
    done = environment.run("python", "-I", "-c", VERIFY, VECTORS)
    assert done.stdout == "710 False\n"


def test_the_command_line_verifies_a_feed_with_the_base_install_alone(environment: Environment, tmp_path: Path) -> None:
    network = build_mock_network()
    proof = network.publish([build_mock_item(b"\x0a" * 20, epoch=7, time_s=int(time.time()) - 60)])[0]
    (tmp_path / "proof.json").write_bytes(proof.encode())
    (tmp_path / "set.json").write_bytes(network.validator_set_file.encode())
    files = (tmp_path / "proof.json", "--validator-set", tmp_path / "set.json")
    good = environment.run("quiver", "feed", "verify", *files, "--max-age", "3600", "--json")
    assert json.loads(good.stdout)["item"]["trust"] == 900
    stale = environment.run("quiver", "feed", "verify", *files, "--max-age", "30", check=False)
    assert stale.returncode == 1
    assert "stale: " in stale.stderr
    no_age = environment.run("quiver", "feed", "verify", *files, check=False)
    assert no_age.returncode == 2
    assert "--max-age" in no_age.stderr


def test_the_base_install_brings_nothing_heavy(environment: Environment) -> None:
    program = "from importlib.metadata import distributions as d; print(*{x.metadata['Name'].lower() for x in d()})"
    installed = {name.replace("_", "-") for name in environment.run("python", "-I", "-c", program).stdout.split()}
    assert "quiver-oracle" in installed
    assert installed & HEAVY == set()


def test_a_package_first_on_the_path_is_refused(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "validator").mkdir()
    (tmp_path / "validator" / "__init__.py").write_text("raise SystemExit('executed')\n")
    done = environment.run("quiver", "--help", check=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"quiver: another distribution named `validator` is installed ({tmp_path.resolve() / 'validator'}): "
        "use pipx or a virtual environment\n"
    )


@pytest.fixture
def foreign_wheel(tmp_path: Path) -> Path:
    source = tmp_path / "tiny-forms"
    (source / "validator").mkdir(parents=True)
    (source / "validator" / "__init__.py").write_text("def is_email(text): return '@' in text\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny-forms"\nversion = "1.0"\n[tool.setuptools]\npackages = ["validator"]\n'
    )
    return build_wheel(source, tmp_path / "built")


@pytest.fixture
def overwritten(environment: Environment, wheel: Path, foreign_wheel: Path) -> Iterator[Environment]:
    environment.install("--no-deps", "--no-index", foreign_wheel)
    yield environment
    environment.install("--no-deps", "--no-index", "--force-reinstall", wheel)


def test_a_distribution_that_wrote_over_our_validator_is_refused_by_name(overwritten: Environment) -> None:
    done = overwritten.run("quiver", "--help", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("quiver: another distribution named `validator` is installed (")
    assert done.stderr.endswith("validator/__init__.py, of tiny-forms): use pipx or a virtual environment\n")
    assert overwritten.run("python", "-I", "-c", VERIFY, VECTORS).stdout == "710 False\n"


def test_what_its_removal_leaves_behind_is_refused_too(overwritten: Environment) -> None:
    overwritten.run("python", "-m", "pip", "uninstall", "-q", "-y", "tiny-forms")
    done = overwritten.run("quiver", "--help", check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "quiver: the package `validator` of quiver-oracle is missing or not whole: install quiver-oracle again\n",
    )


def test_our_own_installation_is_accepted(environment: Environment) -> None:
    program = "from quiver_oracle.collision import find_collision; print(find_collision())"
    assert environment.run("python", "-I", "-c", program).stdout == "None\n"
