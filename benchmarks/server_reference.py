"""Requests until a cheat is proven where a vLLM server is the reference: `python -m benchmarks.server_reference URL`.

The server re-runs answers that `benchmarks.detection` has gathered; honest ones are the first of the hold-out.
"""

import argparse
from collections.abc import Sequence

from benchmarks.cheat_rows import find_row
from benchmarks.detection import (
    describe_run,
    find_largest,
    format_table,
    load_bundled_profile,
    measure_rows,
    report_progress,
)
from benchmarks.detection_data import TASK, get_group
from benchmarks.detection_pools import build_pool, join_pools, read_honest_answers, read_row_answers
from benchmarks.document import write_section
from benchmarks.honest_rows import MAIN_GROUPS
from models.calibrate_audit import HOLD_OUT_SET, get_collection_folder
from models.collection import SERVER_REFERENCE, Collection
from models.gather import gather_columns
from models.passes import open_passes
from scoring.evidence.channel_ids import GREEDY, LOGPROBS, SEEDED, TEXT
from scoring.evidence.profile import ENGINE_VLLM

ROWS = (
    "int8", "int6", "int5", "int4", "drop-layer", "temperature-0.9", "temperature-1.1", "top-p-0.9",
    "hidden-prompt-forged-usage", "truncated-context", "wrong-template", "int4-at-temperature-0",
)  # fmt: skip
CHANNELS = (SEEDED, TEXT, LOGPROBS, GREEDY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Have the server re-run what it has not, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="the vLLM server that runs the bundled model")
    parser.add_argument("--honest", type=int, default=300, help="hold-out requests of each main cell")
    parser.add_argument("--requests", type=int, default=200, help="answers of each cheat")
    parser.add_argument("--trials", type=int, default=1000, help="resampled lives")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    collection, profile = Collection(get_collection_folder(TASK.model)), load_bundled_profile(engine=ENGINE_VLLM)
    honest = {group: read_honest_answers(collection, group)[: options.honest] for group in MAIN_GROUPS}
    cheats = {name: read_row_answers(collection, find_row(name), options.requests) for name in ROWS}
    groups = {**honest, **{get_group(find_row(name)): answers for name, answers in cheats.items()}}
    if not all(groups.values()):
        raise SystemExit("answers are missing: python -m benchmarks.detection gathers them")
    passes = open_passes(TASK.model, options.url)
    try:
        for group, answers in groups.items():
            gather_columns(collection, group, answers, SERVER_REFERENCE, passes.score, report_progress)
    finally:
        passes.close()
    pools = {group: build_pool(collection, group, answers, SERVER_REFERENCE) for group, answers in groups.items()}
    cheated = {name: pools[get_group(find_row(name))] for name in ROWS}
    own = join_pools([pools[group] for group in honest])
    lines = [f"| honest answers | requests | {' | '.join(f'largest e-value, {name}' for name in CHANNELS[:3])} |"]
    lines.append("|---" * 5 + "|")
    for group in honest:
        peaks = " | ".join(find_largest(profile, channel, pools[group]) for channel in CHANNELS[:3])
        lines.append(f"| {group.removeprefix(f'{HOLD_OUT_SET}-')} | {len(pools[group].units)} | {peaks} |")
    results = measure_rows(CHANNELS, profile, cheated, own, options.trials)
    text = "\n\n".join((describe_run(profile, options.trials), format_table(results), "\n".join(lines)))
    print(text)
    if options.write:
        write_section("detection-server", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
