"""The wealth of an audit: starts, members of the null, missing answers, amendments."""

import math

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.audit import MISSING, Amendment, Unit, build_wealth, compute_gains
from scoring.evidence.audit_plan import FITTED, FOREIGN_FACTOR, GROUPS, SHARES, build_audit_plan
from scoring.evidence.channel_ids import (
    CHANNEL_STATISTIC_IDS,
    GRID_IDS,
    LOGPROBS,
    SEEDED,
    TEXT,
    TEXT_ANY_ID,
    find_ratio_cap,
    get_channel,
)

FINE, ANY, RATIO = "seeded-margin-fine-v1", "text-any-v1", "text-int4-c100-v1"
MU_PPM = {FINE: 50_000, ANY: 20_000, RATIO: 12_000}


def build(channels=(SEEDED, TEXT), covers_all_settings=False, mu_ppm=None):
    return build_wealth(build_audit_plan(mu_ppm or MU_PPM, channels, covers_all_settings))


def add(wealth, count, is_drawn=True, **values):
    for _ in range(count):
        wealth = wealth.add(Unit(statistics_ppm={**dict.fromkeys(MU_PPM, 0), **values}, is_drawn=is_drawn))
    return wealth


def test_it_starts_at_one():
    assert build().compute_log() == pytest.approx(0.0)


def test_the_parts_of_the_wealth_sum_to_one():
    plan = build_audit_plan(dict.fromkeys(CHANNEL_STATISTIC_IDS, 50_000), (SEEDED, TEXT), False)
    assert sum(statistic.part for statistic in plan.statistics) == pytest.approx(1.0)


def test_a_group_gets_its_weight_of_its_channel_and_shares_it_equally():
    groups = [(weight, names) for weight, names in GROUPS if get_channel(names[0]) == TEXT and TEXT_ANY_ID not in names]
    plan = build_audit_plan({name: 20_000 for _, names in groups for name in names}, (TEXT,), False)
    parts = {statistic.id: statistic.part for statistic in plan.statistics}
    whole = sum(weight for weight, _ in groups)
    for weight, names in groups:
        assert [parts[name] for name in names] == pytest.approx([weight / whole / len(names)] * len(names))


def test_channels_share_the_wealth_equally_whatever_their_groups_weigh():
    plan = build_audit_plan(dict.fromkeys(CHANNEL_STATISTIC_IDS, 50_000), (SEEDED, TEXT, LOGPROBS), False)
    parts = dict.fromkeys((SEEDED, TEXT, LOGPROBS), 0.0)
    for statistic in plan.statistics:
        parts[get_channel(statistic.id)] += statistic.part
    assert list(parts.values()) == pytest.approx([1 / 3] * 3)


def test_answers_at_their_bounds_leave_it_where_it_is():
    wealth = build()
    for _ in range(20):
        wealth = wealth.add(Unit(statistics_ppm=MU_PPM))
    assert wealth.compute_log() == pytest.approx(0.0, abs=1e-9)


def test_a_gross_cheat_is_proven_in_a_few_requests():
    assert add(build(), 5, **dict.fromkeys(MU_PPM, 1_000_000)).log_e > math.log(1e6)


def test_a_missing_answer_bets_the_smallest_factor():
    plan = build().plan
    assert compute_gains(plan, MISSING) == pytest.approx([math.log(1 - share) for _ in MU_PPM for share in SHARES])


def test_an_answer_without_information_never_gains_however_small_the_bounds_are():
    plan = build_audit_plan(dict.fromkeys(CHANNEL_STATISTIC_IDS, 1_000), (SEEDED, TEXT), False)
    caps = {statistic.id: find_ratio_cap(statistic.id) for statistic in plan.statistics}
    empty = {name: 0 if cap is None else 1_000_000 // cap for name, cap in caps.items()}
    assert max(compute_gains(plan, Unit(statistics_ppm=empty))) <= 0.0


def test_a_statistic_that_does_not_apply_is_no_bet():
    assert set(compute_gains(build().plan, Unit(statistics_ppm={}))) == {0.0}


def test_a_foreign_prompt_has_wider_bounds_for_means_and_the_same_for_ratios():
    plan = build().plan
    foreign = compute_gains(plan, Unit(statistics_ppm=dict.fromkeys(MU_PPM, 30000), is_drawn=False))
    wider = {**MU_PPM, FINE: FOREIGN_FACTOR * MU_PPM[FINE], ANY: FOREIGN_FACTOR * MU_PPM[ANY]}
    expected = compute_gains(build(mu_ppm=wider).plan, Unit(statistics_ppm=dict.fromkeys(MU_PPM, 30000)))
    assert foreign == pytest.approx(expected)


def test_a_sleeper_is_found_after_it_wakes():
    wealth = add(build(), 200)
    woken = add(wealth, 12, **dict.fromkeys(MU_PPM, 1_000_000))
    assert wealth.compute_log() < 0.0
    assert woken.compute_log() > math.log(1e6)


def test_one_channel_alone_is_counted_as_if_all_had_been_staked_on_it():
    alone = add(build((SEEDED,)), 3, **{FINE: 1_000_000}).compute_log()
    both = add(build(), 3, **{FINE: 1_000_000})
    assert both.compute_log(channel=SEEDED) == pytest.approx(alone)
    assert both.compute_log(channel=TEXT) < 0.0


def test_the_e_value_of_a_wide_null_is_that_of_its_kindest_member():
    wealth = build((TEXT,), covers_all_settings=True)
    kind = GRID_IDS.index("t91-p100")
    for _ in range(6):
        against = {place: dict.fromkeys((ANY, RATIO), 1_000_000) for place in range(len(GRID_IDS)) if place != kind}
        wealth = wealth.add(
            Unit(
                statistics_ppm=dict.fromkeys(MU_PPM, 1_000_000),
                by_settings={**against, kind: dict.fromkeys((ANY, RATIO), 10_000)},
            )
        )
    assert wealth.compute_log() > math.log(1e6)
    assert wealth.log_grid_e == wealth.compute_log(kind) < 1.0


def test_text_proves_nothing_where_any_sampling_is_allowed_whatever_the_grid_says():
    """Within some hundred honest requests a temperature between two points of the grid fits neither."""
    wealth, both = build((TEXT,), covers_all_settings=True), build(covers_all_settings=True)
    told = dict.fromkeys((ANY, RATIO), 1_000_000)
    unit = Unit(statistics_ppm=told, by_settings=dict.fromkeys(range(len(GRID_IDS)), told))
    for _ in range(8):
        wealth, both = wealth.add(unit), both.add(unit)
    assert wealth.log_grid_e > math.log(1e6)
    assert wealth.log_e == 0.0 >= both.log_e
    assert both.plan.proving and not wealth.plan.proving


def test_a_seeded_statistic_that_was_not_computed_for_a_member_counts_against_the_evidence():
    wealth = build((SEEDED,), covers_all_settings=True)
    wealth = add(wealth, 5, **{FINE: 1_000_000})
    assert wealth.compute_log(0) < 0.0 < wealth.compute_log()


def test_with_seeds_the_fitted_sampling_must_fall_too():
    wealth = build((SEEDED,), covers_all_settings=True)
    for _ in range(6):
        wealth = add(wealth, 1, **{FINE: 1_000_000})
        for settings in range(len(GRID_IDS)):
            wealth = wealth.amend(Amendment(settings=settings, statistics_ppm={FINE: 1_000_000}, is_drawn=True))
    assert wealth.log_e == wealth.compute_log(FITTED) < 0.0


def test_the_fitted_sampling_does_not_matter_while_no_seed_was_looked_at():
    wealth = build(covers_all_settings=True)
    for _ in range(8):
        told = dict.fromkeys((ANY, RATIO), 1_000_000)
        against = dict.fromkeys(range(len(GRID_IDS)), told)
        wealth = wealth.add(Unit(statistics_ppm=told, by_settings=against))
    assert wealth.log_grid_e > math.log(1e6)


def test_without_seeds_there_is_nothing_finer_than_the_grid():
    assert FITTED not in build((TEXT,), covers_all_settings=True).plan.settings


def test_a_shortfall_of_logprobs_counts_against_every_member_of_the_null():
    name = "logprobs-short-fine-v1"
    wealth = build((SEEDED, LOGPROBS), covers_all_settings=True, mu_ppm={FINE: 50_000, name: 50_000})
    wealth = wealth.add(Unit(statistics_ppm={FINE: 50_000, name: 1_000_000}))
    logs = {wealth.compute_log(settings, LOGPROBS) for settings in wealth.plan.settings if settings is not None}
    assert len(logs) == 1 and min(logs) > math.log(5)


def test_an_amendment_replaces_what_was_not_computed():
    wealth = build((SEEDED,), covers_all_settings=True)
    for _ in range(6):
        wealth = add(wealth, 1, **{FINE: 1_000_000})
        wealth = wealth.amend(Amendment(settings=0, statistics_ppm={FINE: 1_000_000}, is_drawn=True))
    assert wealth.compute_log(0) > math.log(1e6)


def test_other_settings_are_taken_at_the_widest_bound_of_the_grid():
    mu_ppm = {"text-t91-p100-c100-v1": 15_000, "text-t111-p100-c100-v1": 40_000}
    plan = build_audit_plan(mu_ppm, (TEXT,), True)
    unit = Unit(statistics_ppm=mu_ppm, by_settings={0: dict.fromkeys(mu_ppm, 40_000)})
    assert compute_gains(plan, unit, 0) == pytest.approx([0.0] * 2 * len(SHARES))


REFUSED = {
    "an unknown statistic": ({"nonsense": 1000}, (TEXT,), "unknown"),
    "no statistic of the channel": ({FINE: 1000}, (TEXT,), "no statistic"),
    "a bound of nothing": ({FINE: 0}, (SEEDED,), "mu_ppm"),
    "a bound of everything": ({FINE: 1_000_000}, (SEEDED,), "mu_ppm"),
}


@pytest.mark.parametrize(("mu_ppm", "channels", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_plan_of(mu_ppm, channels, reason):
    with pytest.raises(InvalidInput, match=reason):
        build_audit_plan(mu_ppm, channels, False)


def test_a_part_of_the_bets_holds_what_it_started_with_times_what_it_gained():
    plan = build_audit_plan(MU_PPM, (SEEDED,), False, slash_grade=(FINE,))
    whole = add(build_wealth(build_audit_plan({FINE: MU_PPM[FINE]}, (SEEDED,), False)), 5, **{FINE: 600_000})
    part = next(statistic.part for statistic in plan.statistics if statistic.id == FINE)
    assert add(build_wealth(plan), 5, **{FINE: 600_000}).log_slash_e == pytest.approx(whole.log_e + math.log(part))


def test_what_other_bets_win_is_not_of_slash_grade():
    plan = build_audit_plan(MU_PPM, (SEEDED, TEXT), False, slash_grade=(FINE,))
    wealth = add(build_wealth(plan), 8, **{RATIO: 1_000_000})
    assert wealth.log_e > 10.0
    assert wealth.log_slash_e < 0.0


def test_slash_grade_evidence_is_that_against_the_member_of_the_null_that_explains_most():
    plan = build_audit_plan(MU_PPM, (SEEDED, TEXT), True, slash_grade=MU_PPM)
    unit = Unit(statistics_ppm=dict.fromkeys(MU_PPM, 900_000), by_settings={3: dict.fromkeys(MU_PPM, 0)})
    wealth = build_wealth(plan).add(unit)
    assert wealth.log_slash_e == pytest.approx(wealth.log_e)
    assert wealth.log_slash_e < 0.0 < wealth.compute_log()


def test_without_slash_grade_bounds_there_is_no_slash_grade_evidence():
    assert add(build(), 5, **{FINE: 900_000}).log_slash_e is None


def test_a_single_prompt_that_was_not_drawn_ends_slash_grade_evidence():
    plan = build_audit_plan(MU_PPM, (SEEDED,), False, slash_grade=MU_PPM)
    drawn = add(build_wealth(plan), 3, **{FINE: 900_000})
    assert drawn.log_slash_e > 0.0
    assert add(drawn, 1, is_drawn=False, **{FINE: 900_000}).log_slash_e is None
