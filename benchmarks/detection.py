"""How many requests it takes to prove each cheat: `python -m benchmarks.detection` (or `make bench-detection`).

Honest answers calibrate (the shipped profile, or `--profile`), fresh answers of each cheat are re-run, and a thousand
lives of a provider are resampled from them against alpha = 1e-6. What was gathered is kept (`--collection`), so that a
second run only does what is missing. `--report` makes the table from what is there.
"""

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.cheat_rows import ROWS, CheatRow, draw_trial
from benchmarks.detection_data import BENCHMARK_SET, gather_honest, gather_rows, get_group
from benchmarks.detection_peers import OwnResult, format_peers, read_peer_columns
from benchmarks.detection_pools import (
    ALTERNATIVE_IDS,
    Pool,
    build_honest_pool,
    build_pool,
    join_pools,
    read_honest_answers,
    read_honest_row,
    read_row_answers,
)
from benchmarks.document import write_section
from benchmarks.honest_rows import HONEST_ROWS, MAIN_GROUPS, gather_honest_rows
from benchmarks.named_models import NAMED_ROWS, find_named, gather_named_rows
from benchmarks.pass_costs import list_bet_on, list_passes, measure_passes
from benchmarks.peers import RequestColumns
from benchmarks.resample import Lives, compute_gain_table, follow_lives
from models.calibrate_audit import (
    get_collection_folder,
)
from models.collection import Answered, Collection
from models.load import load_outline
from models.profiles import find_profile
from scoring.evidence.audit_plan import AuditPlan, build_audit_plan
from scoring.evidence.channel_ids import (
    CHANNEL_STATISTIC_IDS,
    CHANNELS,
    GREEDY,
    SEEDED,
    TEXT,
    get_channel,
    list_text_ids,
)
from scoring.evidence.profile import ENGINE_TRANSFORMERS, ToleranceProfile
from scoring.records import PPM

LOG_THRESHOLD = math.log(1e6)
LONGEST = 600
MIXED_ROWS = {"int4-diluted-20": "int4", "int4-diluted-5": "int4", "int4-sleeper-500": "int4"}
"""Rows whose lives mix the answers of another row with honest ones."""
IN_MIXTURE = {
    "int8": "int8", "int6": "int6", "int5": "int5", "int4": "int4",
    "temperature-0.9": "t91-p100", "temperature-1.1": "t111-p100", "top-p-0.9": "t100-p90",
    "wrong-template": "template-role-lines",
}  # fmt: skip
"""The alternative that is (nearly) what a row does: its Wald bound can be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table and one channel. `wald` is None where the alternative is not in the mixture.

    `cost` is what verifying takes of what generating does, where it was measured.
    """

    row: str
    channel: str
    answers: int
    lives: Lives
    tokens: float
    wald: float | None
    cost: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather what is missing and print the table."""
    options = _parse(arguments)
    collection = Collection(options.collection)
    profile = load_bundled_profile(options.profile)
    channels = tuple(name for name in CHANNELS if not options.channels or name in options.channels)
    rows = [
        row
        for row in ROWS
        if row.name not in MIXED_ROWS
        and row.name not in NAMED_ROWS
        and options.cheats
        and (not options.rows or row.name in options.rows)
        and any((channel == GREEDY) == row.asks_greedy for channel in channels)
    ]
    named = find_named(profile, [row.name for row in rows]) if TEXT in channels else {}
    if not options.report:
        known = list_bet_alternatives(profile)
        gather_honest(collection, options.honest, report_progress, channels, known)
        if options.honest_rows:
            gather_honest_rows(collection, report_progress, channels, known)
        gather_rows(collection, rows, options.requests, report_progress, channels, known)
        gather_named_rows(collection, named, options.requests, report_progress)
    answers = {row.name: read_row_answers(collection, row, options.requests) for row in rows}
    pools = {
        row.name: build_pool(collection, get_group(row), answers[row.name], named=tuple(named.values())) for row in rows
    }
    honest = join_pools([build_honest_pool(collection, group) for group in MAIN_GROUPS])
    if not honest.units:
        raise SystemExit("no honest hold-out answers: run without --report")
    results = measure_rows(channels, profile, pools, honest, options.trials, named)
    if results:
        costs = measure_costs(profile, channels, read_honest_answers(collection, MAIN_GROUPS[0]))
        results = [replace(result, cost=costs.get(result.channel)) for result in results]
    parts = [
        describe_run(profile, options.trials),
        *([format_table(results)] if results else []),
        format_honest(collection, profile, channels),
    ]
    if SEEDED in channels and results:
        parts.append(_build_peers(collection, profile, results, answers, honest, options.trials))
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        write_section("detection", text)
    return 0


def measure_rows(
    channels: Sequence[str],
    profile: ToleranceProfile,
    pools: dict[str, Pool],
    honest: Pool,
    trials: int,
    named: Mapping[str, str] = MappingProxyType({}),
) -> list[Result]:
    """Return the results of every row and channel that can be measured, in the order of the table."""
    cases = [(row, channel) for row in ROWS for channel in channels]
    # Nearly all of it is numpy's work on large arrays, which other threads need not wait for.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda case: measure_row(*case, profile, pools, honest, trials, named), cases)
        return [result for result in results if result is not None]


def measure_costs(profile: ToleranceProfile, channels: Sequence[str], answers: Sequence[Answered]) -> dict[str, float]:
    """Return what all passes of an audit take beside generating the answers, by channel whose passes were measured."""
    passes = {
        channel: list_passes(plan, ALTERNATIVE_IDS)
        for channel in channels
        if (plan := build_plan(profile, channel)) is not None
    }
    taken = measure_passes(answers, {name for names in passes.values() for name in names})
    return {
        channel: sum(taken[name] for name in names)
        for channel, names in passes.items()
        if all(name in taken for name in names)
    }


def list_bet_alternatives(profile: ToleranceProfile) -> tuple[str, ...]:
    """Return the alternatives that a profile has bounds for: no other is bet on, and its pass would be for nothing."""
    bet = {name for name, mu in profile.compute_mu_ppm().items() if mu < PPM}
    return list_bet_on(ALTERNATIVE_IDS, bet)


def describe_run(profile: ToleranceProfile, trials: int) -> str:
    """Return what the numbers below were made from."""
    cells = ", ".join(f"{cell.name} ({cell.describe_requests()})" for cell in profile.cells)
    return (
        f"Profile 0x{profile.compute_digest().hex()[:16]}{' (development)' if profile.development else ''}: {cells}. "
        f"Threshold 10^6, null of weights and sampling, {trials} resampled lives of each row, answers of up to "
        f"{profile.max_tokens} tokens."
    )


def measure_row(
    row: CheatRow,
    channel: str,
    profile: ToleranceProfile,
    pools: dict[str, Pool],
    honest: Pool,
    trials: int,
    named: Mapping[str, str] = MappingProxyType({}),
) -> Result | None:
    """Resample lives of one row in one channel; None when its answers were not gathered.

    `named` holds the ids of models that an auditor names, by the row that serves them.
    """
    sources = {**MIXED_ROWS, **NAMED_ROWS}
    pool = pools.get(sources.get(row.name, row.name))
    if pool is None or not pool.units or row.asks_greedy != (channel == GREEDY):
        return None
    sibling = named.get(NAMED_ROWS.get(row.name, ""))
    if row.name in NAMED_ROWS and (sibling is None or channel != TEXT):
        return None
    # llama.cpp draws its noise from generators of its own.
    if row.gguf is not None and channel == SEEDED:
        return None
    plan = build_plan(profile, channel, [sibling] if sibling else [])
    if plan is None or not is_told(plan, pool):
        return None
    gains = compute_gain_table(plan, [*pool.units, *(honest.units if row.name in MIXED_ROWS else [])])
    generator = np.random.default_rng(20261125)
    length = LONGEST + row.honest_requests
    order = np.array(
        [_draw_life(row, len(pool.units), len(honest.units), length, generator) for _ in range(trials)], dtype=np.int64
    )
    return Result(
        row=row.name,
        channel=channel,
        answers=len(pool.units),
        lives=follow_lives(plan, gains, order, LOG_THRESHOLD),
        tokens=pool.tokens,
        wald=_compute_wald(sibling or IN_MIXTURE.get(row.name), pool) if channel == TEXT else None,
    )


def _draw_life(row: CheatRow, cheated: int, honest: int, length: int, generator: np.random.Generator) -> Any:
    if row.name not in MIXED_ROWS:
        return generator.integers(0, cheated, length)
    cheats, places = draw_trial(row, honest, cheated, length, generator)
    return np.where(cheats, places, places + cheated)


def _compute_wald(alternative: str | None, pool: Pool) -> float | None:
    """Return Wald's bound log(1/alpha) / KL in requests, KL the mean log ratio of the row's own alternative."""
    values = [ratio[alternative] for ratio in pool.ratios if alternative in ratio] if alternative else []
    mean = sum(values) / len(values) if values else 0.0
    return LOG_THRESHOLD / mean if mean > 0 else None


def build_plan(profile: ToleranceProfile, channel: str, named: Sequence[str] = ()) -> AuditPlan | None:
    """Return the plan of an audit that has one channel, for the null of weights and sampling; None without bounds.

    `named` are the ids of other models that the auditor names.
    """
    wanted = {*CHANNEL_STATISTIC_IDS, *list_text_ids(named)}
    bounds = {
        name: tolerance
        for name, tolerance in profile.compute_tolerances().items()
        if name in wanted and tolerance[-1].mu_ppm < PPM
    }
    if not any(get_channel(name) == channel for name in bounds):
        return None
    return build_audit_plan(bounds, (channel,), covers_all_settings=False)


def is_told(plan: AuditPlan, pool: Pool) -> bool:
    """Return whether answers have what a plan bets on: not all came with log-probabilities."""
    planned = {statistic.id for statistic in plan.statistics}
    return any(planned & unit.statistics_ppm.keys() for unit in pool.units)


def _build_peers(
    collection: Collection,
    profile: ToleranceProfile,
    results: Sequence[Result],
    answers: dict[str, list[Answered]],
    honest_pool: Pool,
    trials: int,
) -> str:
    medians = {
        result.row: result
        for result in results
        if result.channel == SEEDED and result.row in answers and math.isfinite(result.lives.get_quantile(0.5))
    }
    own = {name: _measure_own(result, profile, honest_pool, trials) for name, result in medians.items()}
    pools = {name: read_peer_columns(collection, f"{BENCHMARK_SET}-{name}", answers[name]) for name in own}
    known = [_read_honest_columns(collection, group) for group in MAIN_GROUPS]
    # Every other honest answer sets the peers' thresholds, the rest are judged.
    calibration = [columns for group in known for columns in group[::2]]
    honest = [columns for group in known for columns in group[1::2]]
    return format_peers(own, pools, calibration, honest, trials)


def _measure_own(result: Result, profile: ToleranceProfile, honest: Pool, trials: int) -> OwnResult:
    requests = int(result.lives.get_quantile(0.5))
    plan = build_plan(profile, result.channel)
    if plan is None:
        raise RuntimeError("a result has a plan")
    order = np.random.default_rng(20261126).integers(0, len(honest.units), (trials, requests))
    lives = follow_lives(plan, compute_gain_table(plan, honest.units), order, LOG_THRESHOLD)
    return OwnResult(
        requests=requests,
        power=float((result.lives.reached <= requests).mean()),
        false_alarms=float(np.isfinite(lives.reached).mean()),
    )


def _read_honest_columns(collection: Collection, group: str) -> list[RequestColumns]:
    return read_peer_columns(collection, group, read_honest_answers(collection, group))


def format_table(results: Sequence[Result]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| cheat | channel | answers | requests: median, 99th percentile | tokens: median | median / Wald "
        "| verifying / generating |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in results:
        median, late = item.lives.get_quantile(0.5), item.lives.get_quantile(0.99)
        tokens = f"{median * item.tokens:.0f}" if math.isfinite(median) else "-"
        wald = f"{median / item.wald:.1f}" if item.wald and math.isfinite(median) else "-"
        cost = f"{item.cost:.2f}" if item.cost is not None else "-"
        longest = LONGEST
        lines.append(
            f"| {item.row} | {item.channel} | {item.answers} | {_show(median, longest)}, {_show(late, longest)} "
            f"| {tokens} | {wald} | {cost} |"
        )
    return "\n".join(lines)


def format_honest(collection: Collection, profile: ToleranceProfile, channels: Sequence[str] = CHANNELS) -> str:
    """Return the table of honest answers: the largest e-value that an audit of each row ever reached."""
    heads = " | ".join(f"largest e-value, {channel}" for channel in channels)
    lines = [f"| honest answers | requests | {heads} |", "|---" * (2 + len(channels)) + "|"]
    for row in HONEST_ROWS:
        pool = read_honest_row(collection, row)
        if pool.units:
            cells = [find_largest(profile, channel, pool) if channel in row.channels else "-" for channel in channels]
            if any(cell != "-" for cell in cells):
                lines.append(f"| {row.name} | {len(pool.units)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def find_largest(profile: ToleranceProfile, channel: str, pool: Pool) -> str:
    """Return the largest e-value that an audit over a pool's answers ever reaches, `-` where it bets on nothing."""
    plan = build_plan(profile, channel)
    if plan is None or not is_told(plan, pool):
        return "-"
    order = np.arange(len(pool.units), dtype=np.int64)[None, :]
    largest = follow_lives(plan, compute_gain_table(plan, pool.units), order, math.inf).largest[0]
    return f"10^{largest / math.log(10):.2f}"


def _show(requests: float, longest: int) -> str:
    return f"{requests:.0f}" if math.isfinite(requests) else f"> {longest}"


def load_bundled_profile(path: Path | None = None, engine: str = ENGINE_TRANSFORMERS) -> ToleranceProfile:
    """Return the profile of a file, or the shipped one of an engine; raises SystemExit where there is none."""
    if path is not None:
        return ToleranceProfile.decode(path.read_bytes())
    profile = find_profile(load_outline("bundled").manifest.compute_digest(), engine)
    if profile is None:
        raise SystemExit("no profile of the bundled model is shipped: quiver model calibrate makes one")
    return profile


def report_progress(done: int, total: int, what: str) -> None:
    """Say how far the gathering is."""
    print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", type=Path, default=get_collection_folder("bundled"))
    parser.add_argument("--profile", type=Path, help="another tolerance profile than the shipped one")
    parser.add_argument("--requests", type=int, default=200, help="fresh requests of each cheat")
    parser.add_argument("--trials", type=int, default=1000, help="resampled lives")
    parser.add_argument("--rows", nargs="*", default=[], help="only these rows")
    parser.add_argument("--no-cheats", dest="cheats", action="store_false", help="honest rows only")
    parser.add_argument(
        "--channels", nargs="*", default=[], choices=CHANNELS, help="only these, and no pass for others"
    )
    parser.add_argument(
        "--no-honest-rows", dest="honest_rows", action="store_false", help="main cells' honest rows only"
    )
    parser.add_argument("--honest", type=int, default=1300, help="hold-out requests of each honest cell")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--report", action="store_true", help="gather nothing, report what is there")
    options = parser.parse_args(arguments)
    if options.write and (options.rows or options.channels or not options.cheats or not options.honest_rows):
        parser.error("--write is of the whole table: leave away what makes it shorter")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
