"""A foreign package under one of our names is found without running it, and named in one sentence."""

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import quiver_oracle
from quiver_oracle import collision
from quiver_oracle.collision import ALL_PACKAGES, Collision, find_collision

TRAP = "raise SystemExit('executed')\n"
OURS = Path(quiver_oracle.__file__).parent.parent


def run(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with `path` first on the import path."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env={"PYTHONPATH": f"{path}:{OURS}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_our_own_packages_are_all_well() -> None:
    assert find_collision() is None


@pytest.mark.parametrize("package", ALL_PACKAGES)
def test_a_foreign_package_first_on_the_path_is_refused(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(TRAP)
    result = run("-m", "quiver_oracle", path=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        f"quiver: another distribution named `{package}` is installed ({tmp_path.resolve() / package}): "
        "use pipx or a virtual environment\n"
    )


def test_a_foreign_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "validator.py").write_text(TRAP)
    result = run("-m", "quiver_oracle", path=tmp_path)
    assert (result.returncode, "another distribution named `validator`" in result.stderr) == (2, True)


def test_a_foreign_library_package_turns_use_into_an_import_error_with_the_sentence(tmp_path: Path) -> None:
    (tmp_path / "scoring").mkdir()
    (tmp_path / "scoring" / "__init__.py").write_text(TRAP)
    result = run("-c", "from quiver_oracle import verify_feed_proof", path=tmp_path)
    assert result.returncode == 1
    assert "ImportError: another distribution named `scoring` is installed" in result.stderr
    assert "executed" not in result.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collision, "find_spec", lambda name: None)
    assert find_collision() == Collision(package="scoring", path=None)
    assert "`scoring` of quiver-oracle is missing or not whole" in Collision(package="scoring", path=None).message


def build_installation(folder: Path, extra: str = "validator/cli.py") -> None:
    """Lay out quiver_oracle and a `validator`, with the file list that pip would have written."""
    lines = []
    sources = {"quiver_oracle/collision.py": Path(collision.__file__).read_text(), "quiver_oracle/__init__.py": ""}
    sources[extra] = ""
    for name in ALL_PACKAGES:
        sources[f"{name}/__init__.py"] = f'"""{name}"""\n'
    for file, source in sources.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(source)
        digest = base64.urlsafe_b64encode(hashlib.sha256(source.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(source)}\n")
    information = folder / "quiver_oracle-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: quiver-oracle\nVersion: 0.1.0\n")
    (information / "RECORD").write_text("".join(lines))


def ask(folder: Path) -> str:
    program = "from quiver_oracle.collision import find_collision as f; c = f(); print(c.message if c else 'well')"
    result = subprocess.run(
        [sys.executable, "-P", "-S", "-c", program],
        env={"PYTHONPATH": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


def test_files_of_ours_that_another_installation_wrote_over_are_found(tmp_path: Path) -> None:
    build_installation(tmp_path)
    assert ask(tmp_path) == "well\n"
    (tmp_path / "validator" / "__init__.py").write_text("def email(): ...\n")
    assert "another distribution named `validator` is installed" in ask(tmp_path)


def test_the_distribution_that_wrote_over_our_files_is_named(tmp_path: Path) -> None:
    build_installation(tmp_path)
    (tmp_path / "validator" / "__init__.py").write_text("def email(): ...\n")
    information = tmp_path / "validator_of_forms-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: validator-of-forms\nVersion: 1.0\n")
    (information / "RECORD").write_text("validator/__init__.py,,\n")
    assert ", of validator-of-forms): use pipx or a virtual environment" in ask(tmp_path)


@pytest.mark.parametrize("file", ["__init__.py", "state.py"])
def test_files_of_ours_that_another_uninstallation_took_along_are_found(file: str, tmp_path: Path) -> None:
    build_installation(tmp_path, extra="ledger/state.py")
    assert ask(tmp_path) == "well\n"
    (tmp_path / "ledger" / file).unlink()
    assert ask(tmp_path) == (
        "the package `ledger` of quiver-oracle is missing or not whole: install quiver-oracle again\n"
    )
