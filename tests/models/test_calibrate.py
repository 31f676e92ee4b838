"""Calibration: journals that survive a kill, measurements by hand, and a small real run."""

import json
import math

import pytest

from models.calibrate import CalibrationTask, build_measurement, compute_calibration_seed, run
from models.journal import open_journal
from scoring.errors import InvalidInput
from scoring.evidence.plan import build_plan
from scoring.evidence.profile import ToleranceProfile
from scoring.evidence.statistics import STATISTIC_IDS

HEADER = {"model": "bundled", "max_tokens": 48}


def test_a_journal_remembers_its_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    with open_journal(path, HEADER) as journal:
        journal.append([{"index": 0}, {"index": 1}])
    with open_journal(path, HEADER) as journal:
        assert journal.rows == [{"index": 0}, {"index": 1}]
        journal.append([{"index": 2}])
    with open_journal(path, HEADER) as journal:
        assert [row["index"] for row in journal.rows] == [0, 1, 2]


@pytest.mark.parametrize("torn", [b'{"index":', b'{"index":7}', b"\xff"], ids=["half a row", "no newline", "not UTF-8"])
def test_a_journal_drops_a_half_written_last_line(tmp_path, torn):
    path = tmp_path / "rows.jsonl"
    with open_journal(path, HEADER) as journal:
        journal.append([{"index": 0}])
    path.write_bytes(path.read_bytes() + torn)
    with open_journal(path, HEADER) as journal:
        journal.append([{"index": 1}])
    with open_journal(path, HEADER) as journal:
        assert journal.rows == [{"index": 0}, {"index": 1}]


def test_a_journal_killed_before_its_header_was_written_starts_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"max_tok')
    with open_journal(path, HEADER) as journal:
        journal.append([{"index": 0}])
    with open_journal(path, HEADER) as journal:
        assert journal.rows == [{"index": 0}]


def test_a_journal_of_other_settings_is_refused_by_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    with open_journal(path, HEADER):
        pass
    with pytest.raises(InvalidInput, match="max_tokens"), open_journal(path, {**HEADER, "max_tokens": 64}):
        pass


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[1]", b'{"a":1.5}', b'{"b":1,"a":1}'],
    ids=["text", "a list", "a float", "keys out of order"],
)
def test_a_damaged_journal_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    with open_journal(path, HEADER):
        pass
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(InvalidInput, match="line 2"), open_journal(path, HEADER):
        pass


def test_a_measurement_by_hand():
    measurement = build_measurement("ask", STATISTIC_IDS[0], [0, 0, 0, 100_000], math.log(1e7))
    assert (measurement.n, measurement.mean_ppm, measurement.max_ppm) == (4, 25_000, 100_000)
    assert measurement.variance_ppm == pytest.approx(1875, abs=1)
    assert measurement.mu_ppm > 900_000, "four requests bound nothing"


def test_no_request_of_a_stratum_is_no_measurement():
    with pytest.raises(InvalidInput, match="ask"):
        build_measurement("ask", STATISTIC_IDS[0], [], 16.0)


def test_every_calibration_request_has_its_own_seed():
    task = CalibrationTask()
    keys = [
        (dtype, part, index)
        for dtype in ("bf16", "fp32")
        for part in ("development", "hold-out")
        for index in range(50)
    ]
    assert len({compute_calibration_seed(task, *key) for key in keys}) == len(keys)


REFUSED_TASKS = {
    "no provider": {"provider_dtypes": ()},
    "no verifier": {"verifier_dtypes": ()},
    "fewer requests than strata": {"requests": 3},
    "hardly any hold-out": {"hold_out": 7},
    "an empty batch": {"provider_batch": 0},
}


@pytest.mark.parametrize("fields", REFUSED_TASKS.values(), ids=REFUSED_TASKS.keys())
def test_refuses_a_task(fields):
    with pytest.raises(InvalidInput):
        CalibrationTask(**fields)


@pytest.mark.slow
def test_a_small_calibration_runs_resumes_and_makes_a_plan(tmp_path):
    task = CalibrationTask(provider_dtypes=("bf16",), provider_batch=8, requests=16, hold_out=8, max_tokens=6)
    out, heard = tmp_path / "profile.json", []
    profile = run(task, out, lambda done, total, what: heard.append((done, total, what)))
    assert profile.development and profile.cells[0].requests == 16 and profile.cells[0].hold_out.n == 8
    assert heard[-1][:2] == (24, 24)
    assert ToleranceProfile.decode(out.read_bytes()) == profile
    plan = build_plan(profile)
    assert plan.max_tokens == 6 and plan.profile_digest == profile.compute_digest()

    answers = tmp_path / "profile.answers.jsonl"
    lines = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    again = run(task, out)
    assert len(answers.read_bytes().splitlines()) == len(lines)
    assert again.compute_mu_ppm() == profile.compute_mu_ppm()
    assert json.loads(lines[0])["max_tokens"] == 6
