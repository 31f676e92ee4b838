"""What counts as drawn in a transcript: the plan's own requests, at temperature 0 in its turns, in all or in none."""

from dataclasses import replace

import pytest

from scoring.probes import GENERATOR_ID, STRATA
from validator.audit.drawn import mark_drawn
from validator.audit.facts import EndpointFacts
from validator.audit.outcomes import Entry, Origin
from validator.audit.plan import GREEDY_EVERY, ProbingPlan
from validator.audit.probe_source import TemplateProbes
from validator.audit.prober import Prober
from validator.audit.records import Missing

PLAN = ProbingPlan(seed=b"\x07" * 32, requests=8, generator=GENERATOR_ID, strata=STRATA)
SOURCE = TemplateProbes(PLAN)


def build_entries(greedy_turns):
    """Return the plan's eight requests as a transcript holds them, some at temperature 0."""
    seeds = [PLAN.compute_probe_seed(index) for index in range(PLAN.requests)]
    return [
        Entry(
            origin=Origin(index=index, sampler="none", probe_seed=seed),
            asked=probe.build_asked(is_greedy=index in greedy_turns),
            outcome=Missing(index=index, reason="timeout"),
        )
        for index, (seed, probe) in enumerate(zip(seeds, SOURCE.draw(seeds), strict=True))
    ]


def find_drawn(entries):
    return [entry.origin.index for entry in mark_drawn(entries, PLAN, SOURCE) if entry.origin.is_drawn]


def test_the_requests_of_the_plan_are_drawn():
    assert find_drawn(build_entries(())) == list(range(8))


def test_an_endpoint_that_refuses_to_be_told_of_filters_was_asked_the_same():
    entries = [replace(entry, asked=replace(entry.asked, plain=())) for entry in build_entries(())]
    assert find_drawn(entries) == list(range(8))


def test_from_a_request_on_that_was_changed_none_is_drawn():
    entries = build_entries(())
    entries[2] = replace(entries[2], asked=replace(entries[2].asked, max_tokens=1))
    assert find_drawn(entries) == [0, 1]


@pytest.mark.parametrize(("left_out", "drawn"), [(0, []), (3, [0, 1, 2]), (7, list(range(7)))])
def test_whoever_leaves_a_request_out_has_none_drawn_from_there_on(left_out, drawn):
    entries = build_entries(())
    assert find_drawn([*entries[:left_out], *entries[left_out + 1 :]]) == drawn


def test_another_order_is_not_the_plans():
    entries = build_entries(())
    assert find_drawn([entries[0], entries[2], entries[1], *entries[3:]]) == [0]


def test_a_seed_counts_once():
    entries = build_entries(())
    assert find_drawn([*entries, replace(entries[0], origin=replace(entries[0].origin, index=8))]) == list(range(8))


def test_temperature_0_is_drawn_in_its_turns():
    assert find_drawn(build_entries((3, 7))) == list(range(8))


@pytest.mark.parametrize(("turns", "left"), [((3,), [0, 1, 2, 3, 4, 5, 6]), ((2,), [0, 1]), ((2, 3, 7), [0, 1])])
def test_nobody_picks_which_requests_are_at_temperature_0(turns, left):
    assert find_drawn(build_entries(turns)) == left


@pytest.mark.parametrize("asks_greedy", [True, False])
async def test_an_audit_asks_at_temperature_0_in_its_turns_or_not_at_all(asks_greedy, monkeypatch):
    prober = Prober(PLAN, EndpointFacts(served_model="m"), SOURCE, None, None, drawn={}, asks_greedy=asks_greedy)
    seeds = [PLAN.compute_probe_seed(index) for index in range(PLAN.requests)]
    monkeypatch.setattr(prober, "_probes", dict(enumerate(SOURCE.draw(seeds))))
    zero = [index for index in range(PLAN.requests) if prober.build(index)[1].temperature == 0.0]
    assert zero == ([GREEDY_EVERY - 1, 2 * GREEDY_EVERY - 1] if asks_greedy else [])
