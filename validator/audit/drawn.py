"""Which requests of a transcript are a plan's own: drawn again from its seed and compared, never taken on trust."""

from collections.abc import Iterable
from dataclasses import replace

from validator.audit.asked import Asked
from validator.audit.needles import build_needle, list_needles
from validator.audit.outcomes import Entry
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import ProbeSource
from validator.audit.records import Exchange


def mark_drawn(entries: Iterable[Entry], plan: ProbingPlan, source: ProbeSource) -> list[Entry]:
    """Return the entries; those whose request follows from a seed of the plan are drawn, each seed counting once.

    Temperature 0 is asked for in its turns, in all of them or in none: nobody picks the answer to be judged.
    """
    entries = list(entries)
    seeds = {plan.compute_probe_seed(index): index for index in range(plan.requests)}
    named = [entry.origin.probe_seed for entry in entries]
    wanted = list(dict.fromkeys(seed for seed in named if seed is not None and seed in seeds))
    asks_greedy = any(entry.asked.temperature == 0.0 for entry in entries if entry.origin.probe_seed in seeds)
    probes = {
        seed: (probe.stratum, probe.build_asked(is_greedy=asks_greedy and plan.is_greedy(seeds[seed])))
        for seed, probe in zip(wanted, source.draw(wanted), strict=True)
    }
    for seed, depth in list_needles(plan):
        needle = build_needle(seed, depth)
        probes[seed] = (needle.stratum, needle.build_asked())
    marked: list[Entry] = []
    for entry in entries:
        stratum = _find_stratum(entry, marked, probes)
        marked.append(entry if stratum is None else _mark(entry, stratum))
    return marked


def _find_stratum(entry: Entry, earlier: list[Entry], probes: dict[bytes, tuple[str, Asked]]) -> str | None:
    """Return the stratum of a drawn request, None for others; its probe is used up. A repeat is what it repeats."""
    if entry.origin.repeat_of is not None:
        first = earlier[entry.origin.repeat_of].origin
        return first.stratum if first.is_drawn else None
    probe = None if entry.origin.probe_seed is None else probes.pop(entry.origin.probe_seed, None)
    return probe[0] if probe is not None and _is_same(probe[1], entry.asked) else None


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
