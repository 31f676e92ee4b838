"""Calibration as evidence: what honest requests say against higher means, and that both draws together stay honest."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.audit import Unit, build_wealth
from scoring.evidence.audit_plan import MEMBER_FACTOR, SHARE_WEIGHTS, SHARES, build_audit_plan
from scoring.evidence.bounds import STAKES, compute_upper_bound_ppm
from scoring.evidence.channel_ids import build_text_id
from scoring.evidence.tolerance import (
    KEPT_PART,
    Moments,
    Step,
    build_bound,
    build_tolerance,
    compute_calibration_log_e,
    join_tolerances,
    raise_tolerance,
    scale_tolerance,
)

FINE, INT4 = "seeded-margin-fine-v1", "seeded-int4-c100-v1"


def describe(values_ppm):
    n, total = len(values_ppm), sum(values_ppm)
    return Moments(
        n=n,
        mean_ppm=-(-total // n),
        variance_ppm=sum((value - total // n) ** 2 for value in values_ppm) // (n * 10**6),
        max_ppm=max(values_ppm),
    )


def compute_capital(values_ppm, mu_ppm):
    """The exact log capital against a mean of mu or more: what the bounds are made of."""
    logs = []
    for stake in STAKES:
        share = stake / (1 - mu_ppm / 1e6)
        factors = [1 + share * (mu_ppm - value) / 1e6 for value in values_ppm]
        logs.append(sum(map(math.log, factors)) if min(factors) > 0 else -math.inf)
    return np.logaddexp.reduce(logs) - math.log(len(STAKES))


values = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 50_000, 10**6]))


@given(st.lists(values, min_size=1, max_size=60), st.integers(1, 999_999))
def test_moments_never_claim_more_evidence_than_the_values_themselves_are(values_ppm, mu_ppm):
    assert compute_calibration_log_e(describe(values_ppm), mu_ppm) <= compute_capital(values_ppm, mu_ppm) + 1e-9


def test_of_zeros_nothing_is_lost_by_knowing_the_moments_alone():
    exact = compute_capital([0] * 5_000, 4_000)
    assert compute_calibration_log_e(describe([0] * 5_000), 4_000) == pytest.approx(exact, abs=0.1)
    assert exact > 17


@given(st.lists(values, min_size=1, max_size=60), st.integers(1, 999_998))
def test_a_higher_mean_has_more_evidence_against_it_in_every_step(values_ppm, bound_ppm):
    tolerance = build_tolerance((describe(values_ppm),), 0, bound_ppm)
    for low, high in pairwise(tolerance):
        assert low.mu_ppm < high.mu_ppm and low.log_e < high.log_e
    assert tolerance[0].log_e == pytest.approx(math.log(KEPT_PART))
    assert tolerance[-1].mu_ppm == bound_ppm


def test_a_step_has_the_evidence_against_the_end_of_the_one_before():
    honest = describe([0] * 1_000)
    tolerance = build_tolerance((honest,), 0, 22_000)
    assert len(tolerance) > 4
    for low, high in pairwise(tolerance):
        staked = (1 - KEPT_PART) * math.exp(compute_calibration_log_e(honest, low.mu_ppm))
        assert high.log_e == pytest.approx(math.log(KEPT_PART + staked))


def test_what_is_covered_has_nothing_held_against_it():
    honest = describe([0] * 1_000)
    tolerance = build_tolerance((honest,), 9_000, 22_000)
    assert tolerance[0].mu_ppm >= 9_000
    assert build_tolerance((honest,), 22_000, 22_000) == build_bound(22_000)
    assert build_tolerance((honest,), 30_000, 22_000) == build_bound(30_000)


def test_of_several_cells_the_least_evidence_counts():
    low, high = describe([0] * 1_000), describe([0, 20_000] * 500)
    both = build_tolerance((low, high), 0, 40_000)
    assert both == build_tolerance((high, low), 0, 40_000)
    alone = build_tolerance((high,), 0, 40_000)
    assert [step.mu_ppm for step in both] == [step.mu_ppm for step in alone]
    assert all(step.log_e <= other.log_e + 1e-9 for step, other in zip(both, alone, strict=True))


def test_refuses_a_tolerance_of_no_cell():
    with pytest.raises(InvalidInput, match="cells"):
        build_tolerance((), 0, 22_000)


def step(mu_ppm, log_e):
    return Step(mu_ppm=mu_ppm, log_e=log_e)


JOINED = {
    "one": ([(step(10, 0.0), step(20, 3.0))], (step(10, 0.0), step(20, 3.0))),
    "the weaker where both reach": (
        [(step(10, 0.0), step(20, 3.0), step(30, 6.0)), (step(15, 0.0), step(30, 4.0))],
        (step(15, 0.0), step(20, 3.0), step(30, 4.0)),
    ),
    "the one that reaches further beyond": (
        [(step(10, 0.0), step(20, 3.0)), (step(12, 0.0), step(40, 2.0))],
        (step(12, 0.0), step(40, 2.0)),
    ),
    "bounds": ([build_bound(10), build_bound(30)], build_bound(30)),
}


@pytest.mark.parametrize(("tolerances", "expected"), JOINED.values(), ids=JOINED.keys())
def test_for_the_largest_of_several_means_holds(tolerances, expected):
    assert join_tolerances(tolerances) == expected
    assert join_tolerances(tolerances[::-1]) == expected


def test_a_mean_that_may_be_a_multiple_stays_within_the_bound():
    tolerance = (step(10, 0.0), step(20, 3.0), step(30, 6.0))
    assert scale_tolerance(tolerance, 2) == (step(20, 0.0), step(30, 3.0))


def test_steps_below_the_least_mean_are_one():
    tolerance = (step(10, 0.0), step(20, 3.0), step(30, 6.0))
    assert raise_tolerance(tolerance, 25) == (step(25, 0.0), step(30, 6.0))
    assert raise_tolerance(tolerance, 40) == (step(40, 0.0),)


# --- what it does to an audit


def follow(bounds, series, settings=None, covers_all_settings=False):
    wealth = build_wealth(build_audit_plan(bounds, ("seeded",), covers_all_settings))
    for statistics_ppm in series:
        wealth = wealth.add(Unit(statistics_ppm=statistics_ppm, by_settings={settings: statistics_ppm}))
    return wealth.compute_log(settings)


TOLERANCE = build_tolerance((describe([0] * 5_000),), 0, compute_upper_bound_ppm([0] * 5_000, 22.0))


def test_a_rare_cheat_is_told_in_half_the_requests_that_a_bound_alone_takes():
    # One request in twenty is wholly wrong, and honest ones never were.
    series = [{INT4: 10**6 if place % 20 == 0 else 0} for place in range(400)]

    def count(bounds):
        return next(n for n in range(10, 401, 10) if follow(bounds, series[:n]) > math.log(1e6))

    assert count({INT4: TOLERANCE}) < 0.6 * count({INT4: TOLERANCE[-1].mu_ppm})


@pytest.mark.parametrize("settings", [None, 3], ids=["the claimed sampling", "another one"])
def test_it_never_costs_more_than_the_part_that_is_staked_on_the_calibration(settings):
    rng = random.Random(4)
    for share in (0.0, 0.01, 0.1, 0.6):
        series = [{INT4: rng.choice([10**6, 3_000]) if rng.random() < share else 0} for _ in range(60)]
        used = follow({INT4: TOLERANCE}, series, settings, covers_all_settings=True)
        alone = follow({INT4: TOLERANCE[-1].mu_ppm}, series, settings, covers_all_settings=True)
        assert used >= alone + math.log(KEPT_PART) - 1e-9


def test_another_sampling_may_have_a_multiple_of_the_mean():
    plan = build_audit_plan({INT4: TOLERANCE}, ("seeded",), covers_all_settings=True)
    assert plan.get_lines(2).steps == (scale_tolerance(TOLERANCE, MEMBER_FACTOR),)
    assert plan.get_lines(None).steps == (TOLERANCE,)


def test_a_ratio_against_another_sampling_may_have_the_mean_of_the_grid_s_largest():
    names = [build_text_id(name, 100) for name in ("t71-p100", "int4")]
    wide, narrow = (step(12_000, 0.0), step(18_000, 3.0)), (step(11_000, 0.0), step(14_000, 5.0))
    plan = build_audit_plan(dict(zip(names, (wide, narrow), strict=True)), ("text",), covers_all_settings=True)
    assert plan.get_lines(2).steps == (wide, join_tolerances((wide, narrow)))


def test_of_prompts_that_nobody_drew_the_calibration_says_no_more_than_its_bound():
    bounds = {FINE: build_tolerance((describe([0] * 5_000),), 0, 5_000)}
    wealth = build_wealth(build_audit_plan(bounds, ("seeded",), covers_all_settings=False))
    alone = build_wealth(build_audit_plan({FINE: 5_000}, ("seeded",), covers_all_settings=False))
    unit = Unit(statistics_ppm={FINE: 700_000}, is_drawn=False)
    assert wealth.add(unit).compute_log() <= alone.add(unit).compute_log()


# --- validity of both draws together

CALIBRATED, REQUESTS, RUNS, DELTA_LOG = 60, 40, 20_000, 16.0
ALPHAS = (0.2, 0.05, 0.01)


def build_from(honest, bound_ppm):
    return build_tolerance((honest,), 0, bound_ppm)


def take_least(whole, log_e):
    return (whole + log_e).min(axis=2)


def simulate_peaks(mean, build=build_from, rule=take_least, runs=RUNS):
    """Return the largest wealth of each run: honest requests that are 0 or 1 calibrate it, and are audited then.

    `build` makes a tolerance of what they gave, `rule` the log wealth of each stake [runs, stakes] from those of its
    steps and the calibration's evidence [runs, stakes or 1, steps].
    """
    rng = np.random.default_rng(23)
    known = []
    for ones in range(CALIBRATED + 1):
        sample = [10**6] * ones + [0] * (CALIBRATED - ones)
        known.append(build(describe(sample), compute_upper_bound_ppm(sample, DELTA_LOG)))
    width = max(map(len, known))
    padded = [tolerance + (tolerance[-1],) * (width - len(tolerance)) for tolerance in known]
    counts = rng.binomial(CALIBRATED, mean, runs)
    mu = np.array([[item.mu_ppm / 1e6 for item in tolerance] for tolerance in padded])[counts][:, None, :]
    log_e = np.array([[item.log_e for item in tolerance] for tolerance in padded])[counts][:, None, :]
    shares, parts = np.array(SHARES)[None, :, None], np.log(np.array(SHARE_WEIGHTS))
    whole = np.zeros((runs, len(SHARES), width))
    peaks = np.zeros(runs)
    for _ in range(REQUESTS):
        g = (rng.random(runs) < mean)[:, None, None]
        whole += np.log1p(shares * (g / np.minimum(mu, 0.999999) - 1))
        peaks = np.maximum(peaks, np.exp(np.logaddexp.reduce(rule(whole, log_e) + parts, axis=1)))
    return peaks


def is_within_budget(peaks):
    return all(
        np.mean(peaks >= 1 / alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / len(peaks)) for alpha in ALPHAS
    )


MEANS = (0.004, 0.03, 0.1, 0.3, 0.6)


@pytest.mark.parametrize("mean", MEANS)
def test_an_honest_provider_stays_within_the_budget_over_both_draws(mean):
    assert is_within_budget(simulate_peaks(mean))


BROKEN = {
    "the measured mean is taken for the true one": (
        lambda honest, bound_ppm: build_bound(min(max(honest.mean_ppm, 1), 999_999)),
        take_least,
    ),
    "the best step is taken": (build_from, lambda whole, log_e: (whole + log_e).max(axis=2)),
}


@pytest.mark.parametrize(("build", "rule"), BROKEN.values(), ids=BROKEN.keys())
def test_of_the_test_it_exceeds_the_budget_when(build, rule):
    assert not all(is_within_budget(simulate_peaks(mean, build, rule)) for mean in MEANS)
