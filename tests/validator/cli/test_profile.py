"""`quiver model` on profiles: who signed one, and whether it holds on this machine."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import models.audit_profile
import models.deepen
import models.profile_check
from models import profiles
from models.calibrate_audit import ProviderCell
from models.profile_check import CellCheck, Reading
from scoring.ecdsa import address_of
from scoring.evidence.profile import NO_HOLD_OUT, ToleranceProfile
from scoring.evidence.profile_signature import sign_profile
from validator.cli import main

SHIPPED = Path(profiles.__file__).parent / "bundled_audit.json"
KEY = bytes(31) + b"\x07"
FINE = Reading(statistic="seeded-margin-fine-v1", n=100, mean_ppm=58_000, error_ppm=5_000, mu_ppm=78_000)
HOLD_OUT = replace(NO_HOLD_OUT, n=100, max_product_milli_log10=440)
HOLDS = CellCheck(cell="bf16-64", hold_out=HOLD_OUT, readings=(FINE,))
BROKEN = replace(HOLDS, cell="fp32-64", readings=(replace(FINE, mean_ppm=99_000),), unread=("text-any-v1",))


@pytest.fixture
def found(monkeypatch):
    """What the check finds, in place of an hour's work; `asked` is what it was asked for."""

    found = SimpleNamespace(checks=[HOLDS], asked=None)

    def check(*given):
        found.asked = given
        return found.checks

    monkeypatch.setattr(models.profile_check, "check_profile", check)
    return found


def test_a_profile_that_holds_is_told_with_what_came_nearest(found, capsys):
    assert main(["model", "check-profile", "--requests", "100", "--greedy", "8", "--cells", "bf16/8"]) == 0
    said = capsys.readouterr().out
    assert "bf16-64, 100 honest requests" in said
    assert "10^0.44 (seeded 10^0.00, text 10^0.00)" in said
    assert "seeded-margin-fine-v1 0.0580 of 0.0780" in said
    assert "holds here" in said
    profile, requests, greedy, cells, *_ = found.asked
    assert profile == ToleranceProfile.decode(SHIPPED.read_bytes())
    assert (requests, greedy, cells) == (100, 8, (ProviderCell(dtype="bf16", batch=8),))


def test_one_cell_that_does_not_hold_decides_the_exit_code_and_names_the_bound(found, capsys):
    found.checks = [HOLDS, BROKEN]
    assert main(["model", "check-profile"]) == 3
    said = capsys.readouterr().out
    assert "seeded-margin-fine-v1 0.0990 of 0.0780" in said
    assert "does NOT hold here" in said
    assert re.search(r"not looked at +text-any-v1", said)


def test_machines_read_what_the_check_found(found, capsys):
    found.checks = [HOLDS, BROKEN]
    assert main(["model", "check-profile", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert [cell["holds"] for cell in document["cells"]] == [True, False]
    assert document["cells"][0]["readings"][0]["statistic"] == FINE.statistic
    assert document["processor"]


@pytest.fixture
def signature(tmp_path):
    path = tmp_path / "p.sig"
    path.write_bytes(sign_profile(ToleranceProfile.decode(SHIPPED.read_bytes()), KEY).encode())
    return path


def test_a_signed_profile_says_who_vouches_for_it(signature, capsys):
    assert main(["model", "verify-profile", str(SHIPPED), "--signature", str(signature)]) == 0
    said = capsys.readouterr().out
    assert address_of(KEY).hex() in said
    assert re.search(r"may slash +yes", said)


def test_a_signed_profile_of_few_requests_says_that_it_may_not_slash(tmp_path, capsys):
    path = SHIPPED.parent / "bundled_vllm.json"
    signature = tmp_path / "vllm.sig"
    signature.write_bytes(sign_profile(ToleranceProfile.decode(path.read_bytes()), KEY).encode())
    assert main(["model", "verify-profile", str(path), "--signature", str(signature)]) == 0
    assert "no: development" in capsys.readouterr().out


def test_a_signature_is_of_one_profile(signature, tmp_path, capsys):
    profile = ToleranceProfile.decode(SHIPPED.read_bytes())
    other = tmp_path / "other.json"
    other.write_bytes(replace(profile, model="another").encode())
    assert main(["model", "verify-profile", str(other), "--signature", str(signature)]) == 1
    assert "quiver:" in capsys.readouterr().err


def test_a_deepened_profile_is_told_by_its_digest(monkeypatch, tmp_path, capsys):
    asked = []

    def deepen_profile(*given):
        asked.append(given)
        return given[1]

    monkeypatch.setattr(models.deepen, "deepen_profile", deepen_profile)
    shallow = ToleranceProfile.decode(SHIPPED.read_bytes())
    out = tmp_path / "deeper.json"
    arguments = ["--deepen", str(SHIPPED), "--until", "7000", "--requests", "640", "--out", str(out)]
    arguments += ["--statistics", "seeded-,logprobs-"]
    assert main(["model", "calibrate", *arguments]) == 0
    assert shallow.compute_digest().hex() in capsys.readouterr().out
    ((task, base, path, _, _, until, chosen),) = asked
    assert (task.requests, base, path, until, chosen) == (640, shallow, out, 7_000, ["seeded-", "logprobs-"])


def test_a_profile_is_extended_or_deepened_and_not_both(tmp_path, capsys):
    both = ["--extend", str(SHIPPED), "--deepen", str(SHIPPED), "--out", str(tmp_path / "never.json")]
    assert main(["model", "calibrate", *both]) == 2
    assert "one at a time" in capsys.readouterr().err
    assert not (tmp_path / "never.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--until", "3"], "say what --deepen measures"),
        (["--statistics", "seeded-"], "say what --deepen measures"),
        (["--cells", "bf8/64"], "'bf8' is none of bf16, fp16, fp32"),
        (["--wide", "bf16/1/flash"], "'flash' is none of sdpa, eager"),
        (["--out", "no-such-folder/p.json"], "there is no folder no-such-folder"),
        (["--deepen", "no-such-file.json"], "cannot read no-such-file.json: No such file"),
        (["--extend", "pyproject.toml"], "pyproject.toml: "),
    ],
)
def test_what_cannot_end_well_is_refused_before_hours_of_work(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(SHIPPED.parents[2])
    monkeypatch.setattr(models.audit_profile, "run", None)
    assert main(["model", "calibrate", "--out", str(tmp_path / "never.json"), *arguments]) == 2
    assert said in capsys.readouterr().err
