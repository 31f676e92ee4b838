"""Which requests of a transcript are a plan's own: drawn again from its seed and compared, never taken on trust."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from validator.audit.asked import Asked
from validator.audit.needles import build_needle, compute_needle_seed, find_depth, list_needles
from validator.audit.outcomes import Entry
from validator.audit.plan import REPEAT_EVERY, ProbingPlan
from validator.audit.probe_source import ProbeSource
from validator.audit.records import Exchange


def mark_drawn(entries: Iterable[Entry], plan: ProbingPlan, source: ProbeSource) -> list[Entry]:
    """Return the entries; those whose request follows from a seed of the plan are drawn, while none is left out.

    Line k of a transcript is request k of the plan, as an audit writes it. From the first line on that is another, none
    is drawn: whoever leaves out what speaks for the endpoint chooses the evidence. Temperature 0, repeats and needles
    are asked for in their turns, in all of them or in none: nobody picks the answer to be judged.
    """
    entries = list(entries)
    seeds = [plan.compute_probe_seed(index) for index in range(min(plan.requests, len(entries)))]
    turns = _find_turns(entries, plan, {*seeds})
    wanted = [seed for seed, entry in zip(seeds, entries, strict=False) if entry.origin.probe_seed == seed]
    probes = {
        seed: (probe.stratum, probe.build_asked(is_greedy=turns.asks_greedy and plan.is_greedy(seeds.index(seed))))
        for seed, probe in zip(wanted, source.draw(wanted), strict=True)
    }
    if turns.asks_needles:
        for seed, depth in list_needles(plan):
            needle = build_needle(seed, depth)
            probes[seed] = (needle.stratum, needle.build_asked())
    marked: list[Entry] = []
    for index, entry in enumerate(entries[: plan.requests]):
        stratum = _find_stratum(index, entry, marked, plan, turns, probes)
        if stratum is None:
            break
        marked.append(_mark(entry, stratum))
    return [*marked, *entries[len(marked) :]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turns:
    """What an audit asked for in its turns; `repeats_at` is the place of repeats among REPEAT_EVERY, None without."""

    asks_greedy: bool
    asks_needles: bool
    repeats_at: int | None


def _find_turns(entries: Sequence[Entry], plan: ProbingPlan, seeds: Container[bytes]) -> _Turns:
    own = [entry for entry in entries if entry.origin.probe_seed in seeds]
    needles = {seed for seed, _ in list_needles(plan)}
    repeats = [index for index, entry in enumerate(entries) if entry.origin.repeat_of is not None]
    return _Turns(
        asks_greedy=any(entry.asked.temperature == 0.0 for entry in own),
        asks_needles=any(entry.origin.probe_seed in needles for entry in entries),
        repeats_at=repeats[0] % REPEAT_EVERY if repeats else None,
    )


def _find_stratum(
    index: int,
    entry: Entry,
    earlier: Sequence[Entry],
    plan: ProbingPlan,
    turns: _Turns,
    probes: Mapping[bytes, tuple[str, Asked]],
) -> str | None:
    """Return the stratum of line `index` when it is request `index` of the plan; a repeat's is that of the first."""
    is_needle = turns.asks_needles and find_depth(index) is not None
    is_repeat = not is_needle and index > 0 and index % REPEAT_EVERY == turns.repeats_at
    if is_repeat or entry.origin.repeat_of is not None:
        return earlier[-1].origin.stratum if is_repeat and entry.origin.repeat_of == index - 1 else None
    seed = compute_needle_seed(plan, index) if is_needle else plan.compute_probe_seed(index)
    probe = probes.get(seed)
    is_own = entry.origin.probe_seed == seed and probe is not None and _is_same(probe[1], entry.asked)
    return probe[0] if is_own and probe is not None else None


def _mark(entry: Entry, stratum: str) -> Entry:
    origin = replace(entry.origin, is_drawn=True, stratum=stratum)
    outcome = entry.outcome
    if isinstance(outcome, Exchange):
        outcome = replace(outcome, is_drawn=True, stratum=stratum)
    return replace(entry, origin=origin, outcome=outcome)


def _is_same(drawn: Asked, asked: Asked) -> bool:
    # An endpoint that refuses seeds, or to be told of filters, is asked without.
    seed = drawn.seed if asked.seed is not None else None
    return replace(drawn, seed=seed, plain=asked.plain).to_json() == asked.to_json()
