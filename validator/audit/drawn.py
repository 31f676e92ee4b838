"""Which requests of a transcript are a plan's own: drawn again from its seed and compared, never taken on trust."""

from collections.abc import Iterable
from dataclasses import replace

from validator.audit.asked import Asked
from validator.audit.outcomes import Entry
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import ProbeSource
from validator.audit.records import Exchange


def mark_drawn(entries: Iterable[Entry], plan: ProbingPlan, source: ProbeSource) -> list[Entry]:
    """Return the entries; those whose request follows from a seed of the plan are drawn, each seed counting once."""
    entries = list(entries)
    seeds = {plan.compute_probe_seed(index) for index in range(plan.requests)}
    named = [entry.origin.probe_seed for entry in entries]
    wanted = list(dict.fromkeys(seed for seed in named if seed is not None and seed in seeds))
    probes = dict(zip(wanted, source.draw(wanted), strict=True))
    marked: list[Entry] = []
    for entry in entries:
        is_repeat = entry.origin.repeat_of is not None
        probe = None
        if entry.origin.probe_seed is not None:
            get = probes.get if is_repeat else probes.pop
            probe = get(entry.origin.probe_seed, None)
        if probe is None or not _is_same(probe.build_asked(), entry.asked):
            marked.append(entry)
            continue
        marked.append(_mark(entry, probe.stratum))
    return marked


def _mark(entry: Entry, stratum: str) -> Entry:
    origin = replace(entry.origin, is_drawn=True, stratum=stratum)
    outcome = entry.outcome
    if isinstance(outcome, Exchange):
        outcome = replace(outcome, is_drawn=True, stratum=stratum)
    return replace(entry, origin=origin, outcome=outcome)


def _is_same(drawn: Asked, asked: Asked) -> bool:
    # An endpoint that refuses seeds is asked without.
    seed = drawn.seed if asked.seed is not None else None
    return replace(drawn, seed=seed).to_json() == asked.to_json()
