"""Needles follow from the plan's seed, cost what was said, and are found again in transcripts."""

from dataclasses import replace

import pytest
from audit_fakes import FakeSource

from validator.audit.drawn import mark_drawn
from validator.audit.estimate import estimate
from validator.audit.needles import (
    MAX_NEEDLES,
    MIN_BUDGET_TOKENS,
    build_needle,
    can_afford,
    compute_needle_seed,
    estimate_tokens,
    find_code,
    find_depth,
    list_needles,
    parse_stratum,
)
from validator.audit.outcomes import Entry, Origin
from validator.audit.plan import ProbingPlan
from validator.audit.records import Missing

PLAN = ProbingPlan(seed=bytes(32), requests=200)
SEED = compute_needle_seed(PLAN, 9)


def build_entry(seed=SEED, **change):
    asked = replace(build_needle(SEED, 10).build_asked(), **change)
    return Entry(origin=Origin(index=0, probe_seed=seed), asked=asked, outcome=Missing(index=0, reason="timeout"))


def test_needles_are_few_and_spread_over_the_depths():
    depths = [depth for index in range(1000) if (depth := find_depth(index)) is not None]
    assert depths == [10, 50, 90] * (MAX_NEEDLES // 3)
    assert [depth for _, depth in list_needles(PLAN)] == depths
    assert len(list(list_needles(replace(PLAN, requests=10)))) == 1


@pytest.mark.parametrize("depth", [10, 50, 90])
def test_the_fact_is_where_it_should_be_and_nowhere_else(depth):
    text = build_needle(SEED, depth).messages[-1].content
    assert text.count(find_code(SEED)) == 1
    assert abs(text.index(find_code(SEED)) / len(text) - depth / 100) < 0.1


def test_a_needle_follows_from_its_seed():
    assert build_needle(SEED, 50) == build_needle(SEED, 50)
    assert build_needle(SEED, 50) != build_needle(compute_needle_seed(PLAN, 25), 50)
    assert PLAN.compute_probe_seed(9) != SEED


def test_strata_of_needles_are_known_again():
    assert [parse_stratum(name) for name in ("needle-10", "needle-11", "prose", None)] == [10, None, None, None]


def mark_last(*entries):
    """Return the entries as they are marked behind the nine requests that come before the first needle."""
    source = FakeSource(plan=PLAN)
    seeds = [PLAN.compute_probe_seed(index) for index in range(9)]
    before = [
        Entry(
            origin=Origin(index=index, probe_seed=seed),
            asked=probe.build_asked(),
            outcome=Missing(index=index, reason="timeout"),
        )
        for index, (seed, probe) in enumerate(zip(seeds, source.draw(seeds), strict=True))
    ]
    marked = mark_drawn([*before, *entries], PLAN, source)
    assert all(entry.origin.is_drawn for entry in marked[:9])
    return marked[9:]


def test_a_needle_of_the_plan_is_drawn_in_its_turn():
    (entry,) = mark_last(build_entry())
    assert (entry.origin.is_drawn, entry.origin.stratum) == (True, "needle-10")


NOT_DRAWN = {
    "another seed": {"seed": bytes(32)},
    "another prompt": {"messages": build_needle(SEED, 50).messages},
    "another temperature": {"temperature": 1.0},
    "a longer answer": {"max_tokens": 64},
}


@pytest.mark.parametrize("change", NOT_DRAWN.values(), ids=NOT_DRAWN.keys())
def test_what_only_looks_like_a_needle_is_not_drawn(change):
    (entry,) = mark_last(build_entry(**change))
    assert not entry.origin.is_drawn


def test_a_needle_counts_once():
    first, second = mark_last(build_entry(), build_entry())
    assert (first.origin.is_drawn, second.origin.is_drawn) == (True, False)


def test_an_estimate_holds_the_needles():
    with_needles, without = estimate(PLAN, 4, None), estimate(PLAN, 4, MIN_BUDGET_TOKENS - 1)
    cost = sum(estimate_tokens(PLAN, index) or 0 for index in range(PLAN.requests))
    assert 300 * MAX_NEEDLES < cost < 600 * MAX_NEEDLES
    assert with_needles.prompt_tokens > cost - 16 * MAX_NEEDLES
    assert with_needles.answer_tokens == 64 * (200 - MAX_NEEDLES) + 16 * MAX_NEEDLES
    assert with_needles.requests == 200
    assert without.answer_tokens == 64 * without.requests
    assert without.prompt_tokens + without.answer_tokens < MIN_BUDGET_TOKENS
    assert (can_afford(None), can_afford(MIN_BUDGET_TOKENS), can_afford(800)) == (True, True, False)
