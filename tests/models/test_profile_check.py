"""Holding a profile's bounds to honest answers of this machine: what contradicts a bound, and what is refused."""

from dataclasses import replace

import pytest

from models.profile_check import CellCheck, Reading, check_profile, list_main_cells, read_means
from models.profiles import load_profile
from models.tolerances import HonestRequest
from scoring.errors import InvalidInput
from scoring.evidence.profile import NO_HOLD_OUT

FINE, COARSE = "seeded-margin-fine-v1", "seeded-margin-coarse-v1"
SHIPPED = load_profile("bundled_audit")


def read(values, mu):
    requests = [HonestRequest(stratum="prose", statistics_ppm={FINE: value}) for value in values]
    return read_means({FINE: mu}, requests)[0]


def test_a_mean_is_read_with_its_standard_error():
    assert read([0, 200_000] * 50, 70_000) == Reading(
        statistic=FINE, n=100, mean_ppm=100_000, error_ppm=10_000, mu_ppm=70_000
    )


@pytest.mark.parametrize(("mu", "contradicts"), [(71_000, False), (69_000, True), (200_000, False)])
def test_a_bound_is_contradicted_by_a_mean_that_chance_does_not_explain(mu, contradicts):
    assert read([0, 200_000] * 50, mu).contradicts == contradicts


def test_the_statistic_nearest_to_its_bound_comes_first_and_one_that_nobody_has_is_left_out():
    requests = [HonestRequest(stratum="prose", statistics_ppm={FINE: 10_000, COARSE: 90_000})] * 4
    found = read_means({FINE: 11_000, COARSE: 200_000, "text-any-v1": 5_000}, requests)
    assert [item.statistic for item in found] == [FINE, COARSE]


@pytest.mark.parametrize(("peak", "mu", "holds"), [(0, 200_000, True), (3_000, 200_000, False), (0, 50_000, False)])
def test_a_profile_holds_when_no_bet_wins_and_no_bound_is_contradicted(peak, mu, holds):
    hold_out = replace(NO_HOLD_OUT, n=100, max_product_milli_log10=peak)
    check = CellCheck(cell="bf16-64", hold_out=hold_out, readings=(read([0, 200_000] * 50, mu),))
    assert check.holds == holds


def test_the_cells_are_the_profile_s_main_ones():
    assert [cell.name for cell in list_main_cells(SHIPPED)] == ["bf16-64", "fp32-64"]


REFUSED = {
    "of another model": ({"manifest_digest": bytes(32)}, "another model"),
    "of a server": ({"engine": "vllm"}, "calibrating anew"),
    "of a network's prompts": ({"generator": "quiver-probes-v1"}, "no audit's"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_profile(change, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        check_profile(replace(SHIPPED, **change), 8, 0, work=tmp_path)
    assert list(tmp_path.iterdir()) == []
