"""Resampled lives follow the same arithmetic as the audit itself."""

import math

import numpy as np
import pytest

from benchmarks.resample import compute_gain_table, follow_lives
from scoring.evidence.audit import Unit, build_wealth
from scoring.evidence.audit_plan import build_audit_plan

MU_PPM = {"seeded-margin-fine-v1": 50_000, "text-any-v1": 20_000}
PLAN = build_audit_plan(MU_PPM, ("seeded", "text"), False)
UNITS = [
    Unit(statistics_ppm={"seeded-margin-fine-v1": fine, "text-any-v1": text})
    for fine, text in ((0, 0), (400_000, 0), (50_000, 900_000), (0, 30_000))
]


def test_a_life_is_the_wealth_of_its_units():
    order = np.random.default_rng(1).integers(0, len(UNITS), (3, 40))
    lives = follow_lives(PLAN, compute_gain_table(PLAN, UNITS), order, math.inf)
    for life, largest in zip(order, lives.largest, strict=True):
        wealth = build_wealth(PLAN)
        peak = 0.0
        for place in life:
            wealth = wealth.add(UNITS[place])
            peak = max(peak, wealth.compute_log())
        assert largest == pytest.approx(peak)


def test_a_life_reaches_its_threshold_at_the_request_that_crosses_it():
    gains = compute_gain_table(PLAN, [Unit(statistics_ppm=dict.fromkeys(MU_PPM, 1_000_000))])
    reached = follow_lives(PLAN, gains, np.zeros((1, 20), np.int64), math.log(1e6)).reached[0]
    wealth = build_wealth(PLAN)
    for request in range(1, 21):
        wealth = wealth.add(Unit(statistics_ppm=dict.fromkeys(MU_PPM, 1_000_000)))
        assert (wealth.compute_log() >= math.log(1e6)) == (request >= reached)


def test_a_life_that_never_gets_there_is_said_to_need_forever():
    gains = compute_gain_table(PLAN, [Unit(statistics_ppm=dict.fromkeys(MU_PPM, 0))])
    lives = follow_lives(PLAN, gains, np.zeros((4, 30), np.int64), math.log(1e6))
    assert lives.get_quantile(0.5) == math.inf
