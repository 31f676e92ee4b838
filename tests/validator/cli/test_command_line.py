"""The command line as a whole: help everywhere, exit codes, and what the base install can do alone."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import validator.cli
from challenges.evidence import EvidenceFile
from quiver_oracle.mock import MockFeed, build_mock_item, build_mock_network
from scoring.errors import InvalidInput, MissingExtra, OracleError, RefusedToSign, Unavailable, VerificationFailed
from validator.cli import main, quiver

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ALICE = b"\x0a" * 20
NETWORK = build_mock_network()


def find_commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, found in command.commands.items():
            yield from find_commands(found, (*path, name))


COMMANDS = dict(find_commands(quiver))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert main([*path, flag]) == 0
        assert "Usage: quiver" in capsys.readouterr().out
    assert COMMANDS[path].help, "says what it does"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_that_has_no_plain_name_is_explained(path: tuple[str, ...]) -> None:
    plain = {"--host", "--port", "--device", "--dtype", "--config", "--data", "--help", "--version", "--json"}
    unexplained = {
        option.opts[0]
        for option in COMMANDS[path].params
        if isinstance(option, click.Option) and not option.help and option.opts[0] not in plain
    }
    assert unexplained == set()


def test_the_commands_of_the_design_are_there() -> None:
    wanted = (
        "validator init", "validator run", "validator guard export", "ledger serve", "provider serve", "provider proxy",
        "devnet", "feed get", "feed verify", "evidence verify", "challenge open", "challenge show", "model calibrate",
    )  # fmt: skip
    assert {tuple(command.split()) for command in wanted} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["feed", "nonsense"], "No such command 'nonsense'"),
        (["feed", "verify"], "Missing argument 'FILE'"),
        (["feed", "verify", "x", "--max-age", "1"], "Missing option '--validator-set'"),
        (["feed", "get", "--nonsense"], "No such option"),
        (["challenge", "show", "0x00"], "Missing option '--ledger'"),
        (["devnet", "--validators", "3"], "'--validators'"),
        (["devnet", "--epochs", "0"], "'--epochs'"),
        (["evidence", "verify", "."], "is a directory"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (VerificationFailed("forged"), 1, "quiver: forged\n"),
        (RefusedToSign("signed before"), 1, "quiver: signed before\n"),
        (OracleError("broken"), 1, "quiver: broken\n"),
        (InvalidInput("expected a number", "age"), 2, "quiver: age: expected a number\n"),
        (MissingExtra("install more"), 2, "quiver: install more\n"),
        (Unavailable("no answer"), 3, "quiver: no answer\n"),
        (KeyboardInterrupt(), 130, "quiver: interrupted\n"),
        (
            ModuleNotFoundError("No module named 'rich'", name="rich"),
            2,
            "pip install 'quiver-oracle[validator]' (rich)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException,
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command("fails")
    def fails() -> None:
        raise error

    monkeypatch.setitem(quiver.commands, "fails", fails)
    assert main(["fails"]) == code
    output = capsys.readouterr()
    assert sentence in output.err.lstrip("\n")
    assert "Traceback" not in output.err


def test_a_mistake_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("fails")
    def fails() -> None:
        raise ModuleNotFoundError("No module named 'scoring.typo'", name="scoring.typo")

    monkeypatch.setitem(quiver.commands, "fails", fails)
    with pytest.raises(ModuleNotFoundError):
        main(["fails"])


def test_a_result_of_a_command_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("three")
    def three() -> int:
        return 3

    monkeypatch.setitem(quiver.commands, "three", three)
    assert main(["three"]) == 3


LOADED = """
import sys
from quiver_oracle.__main__ import main
try:
    main()
finally:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY)), file=sys.stderr)
"""
# Not rich: httpx takes it along where it is installed.
HEAVY = ("torch", "transformers", "numpy", "aiohttp", "sentence_transformers", "sqlite_utils", "apscheduler")


@pytest.fixture
def files(tmp_path: Path, trial: Any, evidence_file: EvidenceFile) -> Path:
    item = build_mock_item(ALICE, epoch=7, time_s=int(time.time()))
    (tmp_path / "proof.json").write_bytes(NETWORK.publish([item])[0].encode())
    (tmp_path / "set.json").write_bytes(NETWORK.validator_set_file.encode())
    (tmp_path / "evidence.json").write_bytes(evidence_file.encode())
    return tmp_path


@pytest.mark.parametrize("command", ["--help", "devnet --help", "feed verify proof.json --validator-set set.json"])
def test_nothing_heavy_is_loaded_for(command: str, files: Path) -> None:
    arguments = [str(files / word) if word.endswith(".json") else word for word in command.split()]
    arguments += [] if "--help" in arguments else ["--max-age", "3600"]
    program = LOADED.replace("HEAVY", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "LOADED\n")


def test_the_base_install_verifies_feed_and_evidence(run_base: Run, files: Path) -> None:
    verified = run_base("feed", "verify", files / "proof.json", "--validator-set", files / "set.json", "--max-age", 60)
    assert (verified.returncode, verified.stderr) == (0, "")
    evidence = run_base("evidence", "verify", files / "evidence.json")
    assert evidence.returncode == 0 and "10^3.74" in evidence.stdout


def test_the_base_install_reads_a_feed(run_base: Run, relay: Any) -> None:
    feed = MockFeed(NETWORK)
    feed.publish([build_mock_item(ALICE, epoch=7, time_s=int(time.time()))])
    relay.files = {**feed.files, "/v1/validator-set": NETWORK.validator_set_file.encode()}
    done = run_base("feed", "get", "--url", relay.url, "--provider", f"0x{ALICE.hex()}", "--max-age", 60)
    assert done.returncode == 0 and "900 of 1000" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (("devnet",), "rich"),
        (("model", "show"), "torch"),
        (("evidence", "verify", "evidence.json", "--rerun"), "rich"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_the_base_install_says_which_extra_is_missing(
    run_base: Run, files: Path, arguments: tuple[str, ...], module: str
) -> None:
    done = run_base(*(files / word if word.endswith(".json") else word for word in arguments))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("quiver: ") and "pip install 'quiver-oracle[validator]'" in last and module in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_services_say_so_too(run_base: Run, tmp_path: Path) -> None:
    for command in (
        ("ledger", "serve", "--genesis", tmp_path / "g", "--data", tmp_path / "d"),
        ("provider", "serve", "--data", tmp_path / "d"),
        ("validator", "run", "--config", tmp_path / "c.toml"),
    ):
        done = run_base(*command)
        assert done.returncode == 2, command
        assert "pip install 'quiver-oracle[validator]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_every_module_that_may_be_missing_is_known_to_the_command_line() -> None:
    # Import names of the extra's distributions, so that a new dependency is not a traceback for a base install.
    import tomllib

    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    extra = {word.partition(">")[0].partition("=")[0] for word in project["optional-dependencies"]["validator"]}
    import_names = {name.replace("-", "_") for name in extra}
    assert import_names <= validator.cli.EXTRA_MODULES
