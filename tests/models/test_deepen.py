"""Deepened profiles: more honest requests behind the same bounds, none of them twice, nothing else changed."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import deepen, profiles
from models.audit_profile import check_base
from models.calibrate_audit import AuditCalibration, is_development_set
from models.deepen import choose, deepen_cell, deepen_profile, get_fresh_set, list_wanted
from models.tolerances import build_measurement, describe_runtime, join_measurements
from scoring.errors import InvalidInput
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.evidence.channel_ids import ACTIVATIONS_IDS, GREEDY_IDS, LOGPROBS_IDS, OWN_NOISE_ID, is_sibling
from scoring.evidence.profile import ALL, ToleranceProfile
from scoring.evidence.tolerance import Moments, compute_calibration_log_e, compute_moments_bound_ppm

SHIPPED = ToleranceProfile.decode((Path(profiles.__file__).parent / "bundled_audit.json").read_bytes())
FINE = "seeded-margin-fine-v1"
LOG = 22.0


def is_shallow(name):
    return name in {*ACTIVATIONS_IDS, OWN_NOISE_ID, *GREEDY_IDS} or is_sibling(name)


SHALLOW = replace(
    SHIPPED,
    development=True,
    cells=tuple(
        replace(
            cell,
            requests=192,
            measurements=tuple(
                replace(item, n=192) if is_shallow(item.statistic) else item for item in cell.measurements
            ),
        )
        for cell in SHIPPED.cells
    ),
)
"""As the shipped profile was once: few requests behind some of its bounds."""


def measure(values_ppm, stratum=ALL):
    return build_measurement(stratum, FINE, values_ppm, LOG)


def describe(item):
    return Moments(n=item.n, mean_ppm=item.mean_ppm, variance_ppm=item.variance_ppm, max_ppm=item.max_ppm)


samples = st.lists(st.one_of(st.integers(0, 10**6), st.sampled_from([0, 10**6])), min_size=1, max_size=40)


@given(st.lists(samples, min_size=2, max_size=5), st.integers(1, 999_999))
def test_samples_that_are_put_together_never_claim_more_evidence_than_all_of_their_values(parts, mu_ppm):
    joined = measure(parts[0])
    for part in parts[1:]:
        joined = join_measurements(joined, measure(part), LOG)
    whole = measure([value for part in parts for value in part])
    assert (joined.n, joined.max_ppm) == (whole.n, whole.max_ppm)
    assert whole.mean_ppm <= joined.mean_ppm <= whole.mean_ppm + len(parts)
    assert whole.variance_ppm <= joined.variance_ppm <= whole.variance_ppm + 4 * len(parts)
    assert compute_calibration_log_e(describe(joined), mu_ppm) <= compute_calibration_log_e(describe(whole), mu_ppm)
    assert joined.mu_ppm >= whole.mu_ppm


def test_a_bound_of_moments_costs_little_beside_that_of_the_values():
    values = [58_000 + 75_000 * (index % 3 - 1) * (index % 2) for index in range(4_000)]
    joined = join_measurements(measure([max(value, 0) for value in values]), measure([10_000] * 1_000), LOG)
    whole = measure([*(max(value, 0) for value in values), *[10_000] * 1_000])
    assert whole.mu_ppm <= joined.mu_ppm < whole.mu_ppm * 1.05
    zeros = Moments(n=5_000, mean_ppm=0, variance_ppm=0, max_ppm=0)
    assert compute_moments_bound_ppm(zeros, LOG) == pytest.approx(compute_upper_bound_ppm([0] * 5_000, LOG), rel=0.01)


def test_refuses_to_put_together_what_is_of_two_strata():
    with pytest.raises(InvalidInput, match="two statistics or strata"):
        join_measurements(measure([1]), measure([1], "code"), LOG)


def test_bounds_with_enough_requests_behind_them_are_not_measured_again():
    counts = SHALLOW.cells[0].count_requests()
    wanted = list_wanted(SHALLOW, AuditCalibration(), 5_000)
    assert {ACTIVATIONS_IDS[0], OWN_NOISE_ID, GREEDY_IDS[0]} <= wanted
    assert not {*LOGPROBS_IDS, FINE} & wanted
    assert wanted == {name for name, count in counts.items() if count < 5_000 and not is_sibling(name)}
    named = list_wanted(SHALLOW, AuditCalibration(siblings=("a-model",)), 5_000)
    assert named - wanted == {name for name in counts if is_sibling(name)}
    assert GREEDY_IDS[0] not in list_wanted(SHALLOW, AuditCalibration(greedy_requests=0), 5_000)
    assert list_wanted(SHALLOW, AuditCalibration(siblings=("a-model",)), 10**6) == counts.keys()


def test_what_is_deepened_can_be_chosen_by_how_names_begin():
    wanted = list_wanted(SHALLOW, AuditCalibration(), 5_000)
    assert choose(wanted, SHALLOW, []) == wanted
    assert choose(wanted, SHALLOW, ["activations-", OWN_NOISE_ID]) == {*ACTIVATIONS_IDS, OWN_NOISE_ID}
    with pytest.raises(InvalidInput, match="begins with 'sedeed-'"):
        choose(wanted, SHALLOW, ["activations-", "sedeed-"])


def test_a_main_cell_that_is_short_alone_has_the_statistic_measured_in_all():
    first, second, *rest = SHIPPED.cells
    short = replace(
        second,
        measurements=tuple(replace(item, n=9) if item.statistic == FINE else item for item in second.measurements),
    )
    assert FINE in list_wanted(replace(SHIPPED, cells=(first, short, *rest)), AuditCalibration(), 5_000)


def test_every_deepened_profile_draws_questions_of_its_own():
    other = replace(SHIPPED, cells=(replace(SHIPPED.cells[0], seconds=1), *SHIPPED.cells[1:]))
    assert get_fresh_set(SHIPPED) != get_fresh_set(other)
    assert is_development_set(get_fresh_set(SHIPPED)) and not is_development_set("hold-out")


def test_a_deeper_cell_counts_both_samples_and_keeps_the_rest_to_the_digit():
    cell = SHIPPED.cells[0]
    more = replace(cell, seconds=60, measurements=tuple(replace(item, n=100) for item in cell.measurements))
    wanted = {LOGPROBS_IDS[0], *GREEDY_IDS}
    deeper = deepen_cell(cell, more, wanted, 2)
    old, new = cell.count_requests(), deeper.count_requests()
    assert {name: new[name] - old[name] for name in new if new[name] != old[name]} == dict.fromkeys(wanted, 100)
    assert [item for item in deeper.measurements if item.statistic not in wanted] == [
        item for item in cell.measurements if item.statistic not in wanted
    ]
    assert [item.statistic for item in deeper.measurements] == [item.statistic for item in cell.measurements]
    assert (deeper.seconds, deeper.requests) == (cell.seconds + 60, min(new.values()))


def test_a_cell_without_new_answers_stays_as_it_is():
    assert deepen_cell(SHIPPED.cells[2], None, {FINE}, 2) == SHIPPED.cells[2]


def test_refuses_requests_of_another_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(deepen, "check_base", lambda base, task: None)
    here = describe_runtime("cpu", "sdpa")
    cells = tuple(
        replace(cell, **{name: here[name] for name in ("device", "processor", "torch_version", "transformers_version")})
        for cell in SHIPPED.cells
    )
    foreign = replace(cells[-1], processor="riscv64 RVV")
    with pytest.raises(InvalidInput, match="measured with processor riscv64 RVV"):
        deepen_profile(AuditCalibration(device="cpu"), replace(SHIPPED, cells=(*cells[:-1], foreign)), tmp_path / "p")
    with pytest.raises(InvalidInput, match="rests on 1 requests already"):
        deepen_profile(AuditCalibration(device="cpu"), replace(SHIPPED, cells=cells), tmp_path / "p", until=1)
    assert not (tmp_path / "p").exists()


def test_an_empty_deepening_is_no_success(monkeypatch, tmp_path):
    monkeypatch.setattr(deepen, "check_base", lambda base, task: None)
    monkeypatch.setattr(deepen, "_check_runtime", lambda base, task: None)
    monkeypatch.setattr(deepen, "gather", lambda *given, **more: None)
    monkeypatch.setattr(deepen, "measure_cells_of", lambda *given: {})
    with pytest.raises(InvalidInput, match="nothing was measured"):
        deepen_profile(AuditCalibration(), SHALLOW, tmp_path / "p", tmp_path / "work")
    assert not (tmp_path / "p").exists()


def test_refuses_a_profile_that_a_server_made():
    with pytest.raises(InvalidInput, match="calibrate it anew"):
        check_base(
            ToleranceProfile.decode((Path(profiles.__file__).parent / "bundled_vllm.json").read_bytes()),
            AuditCalibration(),
        )
