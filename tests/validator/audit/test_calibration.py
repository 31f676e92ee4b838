"""Which bounds an audit bets with, and when a proof from them is good for taking stake."""

from dataclasses import replace

import pytest

from models.profiles import load_profile
from scoring.evidence.channel_ids import build_sibling_name, list_text_ids
from scoring.evidence.profile import ENGINE_TRANSFORMERS, MIN_REQUESTS
from scoring.evidence.tolerance import build_bound
from validator.audit.calibration import UNCALIBRATED_MU_PPM, Calibration, Verifier, choose_calibration

SHIPPED = load_profile("bundled_audit")
OWN = Verifier(engine=ENGINE_TRANSFORMERS, device="cpu", processor=SHIPPED.cells[0].processor)
OTHER = replace(OWN, processor="aarch64 DEFAULT")


def calibrate(verifier=OWN, profile=SHIPPED):
    return Calibration(profile=profile, verifier=verifier)


def test_bounds_with_enough_requests_behind_them_are_of_slash_grade_and_others_are_not() -> None:
    few = {"seeded-own-noise-v1", "greedy-margin-fine-v1", "activations-error-fine-v1"}
    cells = tuple(
        replace(
            cell,
            measurements=tuple(
                replace(item, n=MIN_REQUESTS - 1) if item.statistic in few else item for item in cell.measurements
            ),
        )
        for cell in SHIPPED.cells
    )
    found = calibrate(profile=replace(SHIPPED, cells=cells)).slash_grade
    assert {"seeded-margin-fine-v1", "seeded-int8-c100-v1", "text-int4-c20-v1", "logprobs-short-fine-v1"} <= found
    assert not found & few


@pytest.mark.parametrize(("verifier", "own"), [(OTHER, "aarch64 DEFAULT"), (replace(OTHER, device="cuda"), "cuda")])
def test_on_another_machine_than_the_profile_s_nothing_is_of_slash_grade_and_it_says_so(verifier, own) -> None:
    found = calibrate(verifier)
    assert found.slash_grade == frozenset()
    assert f"not for taking stake, measured on {OWN.processor} and not on {own}: bf16<-bf16-64" in found.describe()
    assert found.find_bounds() == calibrate().find_bounds()


def test_a_profile_without_any_slash_grade_bound_is_called_a_development_one() -> None:
    few = MIN_REQUESTS - 1
    cells = tuple(
        replace(cell, requests=few, measurements=tuple(replace(item, n=few) for item in cell.measurements))
        for cell in SHIPPED.cells
    )
    found = calibrate(profile=replace(SHIPPED, cells=cells, development=True))
    assert found.describe().startswith("DEVELOPMENT, good for showing and not for taking stake: ")
    assert found.describe().endswith(f"asked for are {MIN_REQUESTS} each")


def test_other_models_have_bounds_where_the_profile_has_them_and_they_are_run() -> None:
    known, unknown = (build_sibling_name(bytes([number]) * 32) for number in (1, 2))
    names = list_text_ids((known,))
    cells = tuple(
        replace(
            cell,
            measurements=(
                *cell.measurements,
                *(
                    replace(item, statistic=name)
                    for item in cell.measurements
                    if item.statistic == "text-int4-c20-v1"
                    for name in names
                ),
            ),
        )
        for cell in SHIPPED.cells
    )
    found = calibrate(profile=replace(SHIPPED, cells=cells))
    assert found.find_bounds((known, unknown)).keys() - found.find_bounds().keys() == {*names}
    assert found.find_bounds((unknown,)) == calibrate().find_bounds()


def test_without_a_profile_other_models_have_the_wide_bounds() -> None:
    name = build_sibling_name(bytes(32))
    assert {*list_text_ids((name,))} <= calibrate(profile=None).find_bounds((name,)).keys()


def test_the_shipped_profile_says_how_many_requests_are_behind_it() -> None:
    assert calibrate().describe().startswith("bf16<-bf16-64 (9544 honest requests, 5000 behind some bounds)")


def test_without_a_profile_bounds_are_wide_and_nothing_is_of_slash_grade() -> None:
    found = choose_calibration(None, bytes(32), OWN)
    assert found.profile is None
    assert found.slash_grade == frozenset()
    assert set(found.find_bounds().values()) == {build_bound(UNCALIBRATED_MU_PPM)}
    assert "only suspected" in found.describe()
