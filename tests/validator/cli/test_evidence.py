"""`quiver evidence verify`: a stranger with the file, and the validator set that it trusts or not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from challenges.evidence import EvidenceFile
from validator.cli import main

Trial = Any  # the class lives in tests/conftest.py


class Files:
    """Evidence and the validator set as files."""

    def __init__(self, folder: Path, trial: Trial, evidence: EvidenceFile) -> None:
        self.evidence = folder / "evidence.json"
        self.validator_set = folder / "set.json"
        self.evidence.write_bytes(evidence.encode())
        self.validator_set.write_bytes(trial.validator_set_file.encode())

    def verify(self, *more: str) -> int:
        return main(["evidence", "verify", str(self.evidence), "--validator-set", str(self.validator_set), *more])


@pytest.fixture
def files(tmp_path: Path, trial: Trial, evidence_file: EvidenceFile) -> Files:
    return Files(tmp_path, trial, evidence_file)


def test_good_evidence_is_told_in_words(files: Files, trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify() == 0
    output = capsys.readouterr()
    assert output.err == ""
    for part in (
        f"0x{trial.offer().offer.provider.hex()}",
        "false-capability, case 1, epochs 0 to 1",
        "16 drawn, 0 missing",
        "10^3.74, threshold 600",
        "more than two thirds of stake",
    ):
        assert part in output.out


def test_the_same_for_machines(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "verified": True,
        "provider": document["provider"],
        "rule": "false-capability",
        "case": 1,
        "epochs": [0, 1],
        "probes": 16,
        "missing_probes": 0,
        "log10_e_milli": 3736,
        "threshold": 600,
        "rerun_log10_e_milli": None,
    }


def test_without_a_trusted_set_it_says_what_that_is_worth(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "verify", str(files.evidence)]) == 0
    assert "the file is checked against its own validator set" in capsys.readouterr().err


def cut(files: Files, trial: Trial) -> None:
    files.evidence.write_bytes(files.evidence.read_bytes()[:-2])


def alter(files: Files, trial: Trial) -> None:
    files.evidence.write_bytes(files.evidence.read_bytes().replace(b"answer 1", b"answer 2", 1))


def forge(files: Files, trial: Trial) -> None:
    good = trial.file()
    certificate = replace(good.certificate, signature=trial.certify(good.evidence, (0, 1, 2)).signature)
    files.evidence.write_bytes(replace(good, certificate=certificate).encode())


def weaken(files: Files, trial: Trial) -> None:
    good = trial.file()
    files.evidence.write_bytes(replace(good, statistics=dict.fromkeys(good.statistics, (50_000,))).encode())


def use_foreign_set(files: Files, trial: Trial) -> None:
    files.validator_set.write_bytes(replace(trial, name="foreign").validator_set_file.encode())


def use_set_of_other_stakes(files: Files, trial: Trial) -> None:
    entries = trial.validator_set.validators
    changed = replace(trial.validator_set, validators=(replace(entries[0], stake_wei=1), *entries[1:]))
    files.validator_set.write_bytes(replace(trial.validator_set_file, validator_set=changed).encode())


REFUSED: list[tuple[str, Callable[[Files, Trial], object], int, str]] = [
    ("a foreign network's set", use_foreign_set, 1, "foreign network: chain id or genesis differ"),
    ("a set of other stakes", use_set_of_other_stakes, 1, "another validator set than the trusted one"),
    ("a forged certificate", forge, 1, "does not match its signers: forged or damaged"),
    ("an altered answer", alter, 1, "the bundle is not the one that was certified"),
    ("weak statistics", weaken, 1, "do not reach the threshold"),
    ("truncated", cut, 2, "not JSON"),
    ("nothing", lambda files, _: files.evidence.write_bytes(b""), 2, "not JSON"),
    (
        "a feed proof",
        lambda files, _: files.evidence.write_bytes(b'{"kind":"quiver-feed-proof-v1"}'),
        2,
        "kind: expected",
    ),
    ("a truncated set", lambda files, _: files.validator_set.write_bytes(b"{"), 2, "not JSON"),
    ("no file", lambda files, _: files.evidence.unlink(), 2, "No such file or directory"),
]


@pytest.mark.parametrize(("name", "spoil", "code", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses(
    files: Files,
    trial: Trial,
    name: str,
    spoil: Callable[[Files, Trial], object],
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(files, trial)
    assert files.verify() == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("quiver: ") and output.err.count("\n") == 1
    assert sentence in output.err


def test_a_dtype_that_is_none_is_a_usage_error(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.verify("--dtype", "int3") == 2
    assert "'--dtype'" in capsys.readouterr().err
