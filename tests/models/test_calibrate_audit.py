"""Calibration of audits: cells are parsed, a small real run gives a profile, and a second run finds everything done."""

import pytest

from models.audit_profile import run
from models.calibrate_audit import AuditCalibration, ProviderCell, count_alternative_answers
from scoring.errors import InvalidInput
from scoring.evidence.audit import build_audit_plan
from scoring.evidence.channel_ids import GREEDY_IDS, LOGPROBS_IDS, TEXT_ANY_ID, list_greedy_ids
from scoring.evidence.profile import ALL, ToleranceProfile

CELLS = {"bf16/64": ("bf16", 64, "sdpa"), "fp32/1": ("fp32", 1, "sdpa"), "bf16/8/eager": ("bf16", 8, "eager")}


@pytest.mark.parametrize(("text", "expected"), CELLS.items(), ids=CELLS.keys())
def test_a_cell_is_read(text, expected):
    cell = ProviderCell.parse(text)
    assert (cell.dtype, cell.batch, cell.attention) == expected


REFUSED = {"nothing": "", "no batch": "bf16", "a word": "bf16/many", "batch 0": "bf16/0", "too much": "bf16/1/sdpa/x"}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_cell_of(text):
    with pytest.raises(InvalidInput, match="DTYPE/BATCH"):
        ProviderCell.parse(text)


@pytest.mark.parametrize("changes", [{"cells": ()}, {"requests": 1}, {"hold_out": 1}], ids=["cells", "few", "hold-out"])
def test_refuses_to_measure_nothing(changes):
    with pytest.raises(InvalidInput):
        AuditCalibration(**changes)


def test_refuses_an_alternative_that_it_does_not_know():
    with pytest.raises(InvalidInput, match="int3"):
        AuditCalibration(alternatives=("int4", "int3"))


def test_alternatives_are_run_on_the_same_share_of_every_group_in_whole_shards():
    task = AuditCalibration(requests=5000, alternative_requests=1408)
    assert [count_alternative_answers(task, count) for count in (5000, 1000, 300, 40)] == [1408, 320, 128, 40]


@pytest.mark.slow
def test_a_small_run_gives_a_profile_and_a_second_run_finds_it_done(tmp_path):
    task = AuditCalibration(
        cells=(ProviderCell.parse("bf16/8"),),
        requests=16,
        hold_out=8,
        greedy_requests=16,
        max_tokens=16,
        alternatives=("int6", "int4"),
    )
    heard = []
    profile = run(task, tmp_path / "p.json", tmp_path / "work", lambda done, total, what: heard.append(what))
    assert {item.stratum for item in profile.cells[0].measurements} >= {ALL, "prose"}
    assert profile.development
    assert TEXT_ANY_ID in profile.compute_mu_ppm()
    assert {GREEDY_IDS[0], LOGPROBS_IDS[0], *list_greedy_ids(("int4",))} <= profile.compute_mu_ppm().keys()
    assert profile.cells[0].hold_out.n == 8 + 8
    build_audit_plan({name: mu for name, mu in profile.compute_mu_ppm().items() if mu < 10**6}, ("seeded",), False)
    heard.clear()
    again = run(task, tmp_path / "q.json", tmp_path / "work", lambda done, total, what: heard.append(what))
    assert heard == []
    assert again == profile == ToleranceProfile.decode((tmp_path / "q.json").read_bytes())
