"""The sealed plan and the tolerance profile: derived numbers, strict documents, digests."""

import dataclasses

import pytest
from Crypto.Hash import keccak

from scoring.errors import InvalidInput
from scoring.evidence.plan import Plan, PlanStatistic, build_plan, compute_lambdas_ppm
from scoring.evidence.profile import ALL, MIN_REQUESTS, ToleranceProfile
from scoring.evidence.statistics import STATISTIC_IDS


def test_mu_is_the_maximum_over_cells_and_strata(profile, plan):
    assert [statistic.mu_ppm for statistic in plan.statistics] == [60_000, 70_000, 30_000, 90_000, 110_000]
    assert plan.statistic_ids == STATISTIC_IDS
    assert profile.compute_mu_ppm() == dict(zip(STATISTIC_IDS, (60_000, 70_000, 30_000, 90_000, 110_000), strict=True))


def test_every_statistic_gets_every_stake_and_none_can_go_bankrupt(plan):
    assert len(plan.bets) == 5 * len(plan.statistics[0].lambdas_ppm)
    assert all(bet.lambda_ppm * bet.mu_ppm < 10**12 for bet in plan.bets)
    assert compute_lambdas_ppm(100_000)[-1] == 9_200_000


def test_a_plan_names_the_profile_it_was_made_from(profile, plan):
    assert plan.profile_digest == profile.compute_digest()
    assert plan.manifest_digest == profile.manifest_digest
    assert plan.development


def test_the_digest_is_keccak_of_the_canonical_bytes(plan):
    assert plan.compute_digest() == keccak.new(digest_bits=256, data=plan.encode()).digest()


def test_any_change_changes_the_digest(plan):
    assert dataclasses.replace(plan, epoch_cap=99).compute_digest() != plan.compute_digest()


def test_documents_survive_json(plan, profile):
    assert Plan.decode(plan.encode()) == plan
    assert ToleranceProfile.decode(profile.encode()) == profile


def test_a_plan_cannot_drop_the_development_mark(profile):
    with pytest.raises(InvalidInput, match="development"):
        dataclasses.replace(profile, development=False)


def test_a_profile_of_enough_requests_is_no_development_profile(profile):
    cells = tuple(dataclasses.replace(cell, requests=MIN_REQUESTS) for cell in profile.cells)
    full = dataclasses.replace(profile, cells=cells, development=False)
    assert not build_plan(full).development


REFUSED_PLANS = {
    "a protocol rule of another version": {"rule": "mean-betting-v2"},
    "another generator": {"generator": "quiver-probes-v0"},
    "no strata": {"strata": ()},
    "a stratum that the generator does not draw": {"strata": ("ask", "sing")},
    "a stratum twice": {"strata": ("ask", "ask")},
    "no statistics": {"statistics": ()},
    "a cap that forbids gain": {"request_cap": 1},
    "an epoch cap beyond reason": {"epoch_cap": 1_000_000},
    "alpha of one": {"one_over_alpha": 1},
    "an empty case": {"case_length_epochs": 0},
    "no probes": {"probes_per_epoch": 0},
    "no tokens": {"max_tokens": 0},
    "a temperature envelope upside down": {"temperature_min_ppm": 1_000_001},
    "top-p of zero": {"top_p_min_ppm": 0},
    "top-p above one": {"top_p_max_ppm": 1_000_001},
    "an activation inside a case": {"activation_epoch": 3},
    "a short digest": {"manifest_digest": b"\x11" * 31},
    "a negative number": {"max_delay_ms": -1},
}


@pytest.mark.parametrize("changes", REFUSED_PLANS.values(), ids=REFUSED_PLANS.keys())
def test_refuses_a_plan(plan, changes):
    with pytest.raises(InvalidInput, match=next(iter(changes))):
        dataclasses.replace(plan, **changes)


def test_refuses_the_same_statistic_twice(plan):
    with pytest.raises(InvalidInput, match="statistics"):
        dataclasses.replace(plan, statistics=plan.statistics[:1] * 2)


REFUSED_STATISTICS = {
    "unknown": ("margin-v0", 50_000, (1_000_000,)),
    "no stake": (STATISTIC_IDS[0], 50_000, ()),
    "a stake twice": (STATISTIC_IDS[0], 50_000, (1_000_000, 1_000_000)),
    "a stake that can go bankrupt": (STATISTIC_IDS[0], 50_000, (20_000_000,)),
    "mu of zero": (STATISTIC_IDS[0], 0, (1_000_000,)),
    "mu of one": (STATISTIC_IDS[0], 1_000_000, (500_000,)),
}


@pytest.mark.parametrize("row", REFUSED_STATISTICS.values(), ids=REFUSED_STATISTICS.keys())
def test_refuses_a_statistic_of_a_plan(row):
    with pytest.raises(InvalidInput):
        PlanStatistic(statistic=row[0], mu_ppm=row[1], lambdas_ppm=row[2])


@pytest.mark.parametrize("kind", ["plan", "profile"])
def test_documents_refuse_unknown_and_missing_keys_by_name(kind, plan, profile):
    record = plan if kind == "plan" else profile
    document = record.to_json()
    for field in document:
        shorter = {key: value for key, value in document.items() if key != field}
        with pytest.raises(InvalidInput, match=field):
            type(record).from_json(shorter)
    with pytest.raises(InvalidInput, match="surprise"):
        type(record).from_json({**document, "surprise": 1})


def test_refuses_floats_in_a_document(plan):
    with pytest.raises(InvalidInput, match="epoch_cap"):
        Plan.from_json({**plan.to_json(), "epoch_cap": 100.0})


REFUSED_PROFILES = {
    "no cells": lambda profile: {"cells": ()},
    "a cell twice": lambda profile: {"cells": profile.cells[:1] * 2},
    "strata of its cells left out": lambda profile: {"strata": profile.strata[1:]},
    "a cell without a stratum": lambda profile: {
        "cells": (
            profile.cells[0],
            dataclasses.replace(profile.cells[1], measurements=profile.cells[1].measurements[1:]),
        )
    },
}


@pytest.mark.parametrize("changes", REFUSED_PROFILES.values(), ids=REFUSED_PROFILES.keys())
def test_refuses_a_profile(profile, changes):
    with pytest.raises(InvalidInput):
        dataclasses.replace(profile, **changes(profile))


def test_refuses_a_bound_below_its_mean(profile):
    with pytest.raises(InvalidInput, match="mu_ppm"):
        dataclasses.replace(profile.cells[0].measurements[0], mu_ppm=0)


def test_a_cell_says_what_its_bounds_rest_on(profile):
    cell = profile.cells[0]
    counts = dict(zip(STATISTIC_IDS, (5000, 1408), strict=False))
    items = tuple(
        dataclasses.replace(cell.measurements[0], statistic=name, stratum=ALL, n=n) for name, n in counts.items()
    )
    few = dataclasses.replace(cell, measurements=items, requests=1408)
    assert few.describe_requests() == "5000 honest requests, 1408 behind some bounds"
    assert cell.describe_requests() == "1000 honest requests"


def test_a_bound_is_of_slash_grade_when_every_main_cell_has_enough_requests_behind_it(profile):
    names = STATISTIC_IDS[:3]

    def count(cell, counts):
        items = tuple(
            dataclasses.replace(item, stratum=stratum, statistic=name, n=n)
            for item, stratum in zip(cell.measurements, (ALL, *profile.strata), strict=False)
            for name, n in zip(names, counts, strict=True)
        )
        return dataclasses.replace(cell, measurements=items, requests=min(counts))

    first, second = profile.cells[:2]
    cells = (count(first, (MIN_REQUESTS, MIN_REQUESTS, 10)), count(second, (MIN_REQUESTS, MIN_REQUESTS - 1, 10)))
    wide = dataclasses.replace(count(first, (9, 9, 9)), name="wide", role="wide")
    assert dataclasses.replace(profile, cells=(*cells, wide)).list_slash_grade() == {names[0]}


def test_a_profile_that_is_bounded_by_its_strata_counts_the_requests_of_its_cells(profile):
    assert profile.list_slash_grade() == frozenset()
    cells = tuple(dataclasses.replace(cell, requests=MIN_REQUESTS) for cell in profile.cells)
    assert dataclasses.replace(profile, cells=cells, development=False).list_slash_grade() == {*STATISTIC_IDS}


def test_a_profile_covers_verifiers_on_the_processor_or_device_that_it_was_measured_on(profile):
    assert profile.covers_verifier("cpu", "x86_64")
    assert not profile.covers_verifier("cpu", "aarch64")
    assert not profile.covers_verifier("cuda", "x86_64")
    on_cuda = dataclasses.replace(
        profile, cells=tuple(dataclasses.replace(cell, device="cuda") for cell in profile.cells)
    )
    assert on_cuda.covers_verifier("cuda", "aarch64")


WIDE = [
    ("seeded-margin-fine-v1", 95_000, 110_000),
    ("text-int4-c20-v1", 95_000, 100_000),
    ("text-int4-c20-v1", 120_000, 105_000),
]


@pytest.mark.parametrize(("statistic", "mean_ppm", "mu_ppm"), WIDE, ids=["a mean", "a ratio", "a ratio beyond"])
def test_a_wide_cell_covers_its_mean_and_raises_a_ratio_only_where_it_contradicts_the_bound(
    profile, statistic, mean_ppm, mu_ppm
):
    first = profile.cells[0]
    main = [dataclasses.replace(item, statistic=statistic, mu_ppm=100_000) for item in first.measurements[:4]]
    # A standard error of 0.005.
    few = [dataclasses.replace(item, mean_ppm=mean_ppm, variance_ppm=10_000, n=400, mu_ppm=900_000) for item in main]
    cells = (
        dataclasses.replace(first, measurements=tuple(main)),
        dataclasses.replace(first, name="batch 1", role="wide", measurements=tuple(few)),
    )
    assert dataclasses.replace(profile, cells=cells).compute_mu_ppm() == {statistic: mu_ppm}


@pytest.mark.parametrize(
    ("statistic", "mean_ppm", "expected"),
    [
        ("seeded-margin-fine-v1", 50_000, 100_000),
        ("seeded-margin-fine-v1", 90_000, 126_000),
        ("text-int4-c20-v1", 90_000, 100_000),
    ],
    ids=["within the bound", "beyond it", "of a ratio none"],
)
def test_cells_that_nobody_measured_are_covered_by_more_than_the_measured_mean(profile, statistic, mean_ppm, expected):
    first = profile.cells[0]
    few = dataclasses.replace(first.measurements[0], statistic=statistic, mean_ppm=10_000, variance_ppm=0)
    strata = [dataclasses.replace(few, stratum=name) for name in profile.strata]
    whole = dataclasses.replace(few, stratum="all", mean_ppm=mean_ppm, mu_ppm=100_000, max_ppm=900_000)
    found = dataclasses.replace(profile, cells=(dataclasses.replace(first, measurements=(whole, *strata)),))
    assert found.compute_mu_ppm() == {statistic: expected}
    assert found.compute_tolerances()[statistic][-1].mu_ppm == expected
