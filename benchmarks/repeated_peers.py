"""The two peers that need many answers to a prompt, beside this audit: `python -m benchmarks.repeated_peers`.

Model equality testing asks each prompt 10 times, rank uniformity asks it once and needs many local answers to it; both
are asked once, after 10, 40 or 160 answers of the endpoint. This audit reads the same endpoint's answers by their text
alone and may stop at any of them. Answers are kept (`--collection`), a second run gathers only what is missing, and
`--report` makes the tables from what is there.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cheat_rows import find_row
from benchmarks.detection import LOG_THRESHOLD, build_plan
from benchmarks.detection_data import TASK
from benchmarks.document import write_section
from benchmarks.peer_mmd import (
    PERMUTATIONS,
    SAMPLES_PER_PROMPT,
    PromptKernels,
    build_kernels,
    build_mmd_judge,
    draw_prompt_trials,
)
from benchmarks.peers import Integers, Judge, build_uniformity_judge
from benchmarks.repeated_answers import LOCAL_CELL, Sizes, gather_repeated
from benchmarks.repeated_endpoints import SEED, Endpoint, Local, read_endpoints
from benchmarks.repeated_mmd import build_within_judge
from benchmarks.resample import compute_gain_table, follow_lives
from models.calibrate_audit import get_collection_folder
from models.collection import Collection
from models.load import decode_tokens, load_model
from models.profiles import find_profile
from scoring.evidence.audit_plan import AuditPlan
from scoring.evidence.channel_ids import TEXT
from scoring.evidence.profile import ToleranceProfile

ROWS = (
    "int8", "int6", "int5", "int4", "drop-layer", "temperature-0.9", "temperature-1.1", "top-p-0.9", "hidden-prompt",
    "truncated-context", "wrong-template", "canned",
)  # fmt: skip
"""Those of the detection benchmark that change the text; other-model can be named where its package is installed."""
ANSWERS = (10, 40, 160)
MMD_TRIALS = 200
_HEADS = "MMD, permuted as published | MMD, permuted within prompts | rank uniformity | this audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Shares of trials that each test rejected after so many answers; None where a test cannot use that many."""

    name: str
    answers: int
    tokens: float
    mmd: float | None
    mmd_within: float | None
    ranks: float | None
    audit: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather what is missing and print the tables."""
    options = _parse(arguments)
    collection, sizes = Collection(options.collection), Sizes()
    if not options.report:
        gather_repeated(collection, [find_row(name) for name in options.rows], sizes, _report_progress)
    loaded = load_model(TASK.model)
    profile = find_profile(loaded.manifest.compute_digest())
    plan = build_plan(profile, TEXT) if profile is not None else None
    if profile is None or plan is None:
        raise SystemExit("no profile of the bundled model is shipped: quiver model calibrate makes one")

    def decode(token_ids: Sequence[int]) -> str:
        return decode_tokens(loaded, token_ids)

    local, honest, cheats = read_endpoints(collection, options.rows, sizes, decode)
    shares = {
        endpoint.name: measure_endpoint(endpoint, local, plan, options.trials, options.mmd_trials)
        for endpoint in (*honest, *cheats)
    }
    honest_shares = [item for endpoint in honest for item in shares[endpoint.name]]
    cheat_shares = [item for endpoint in cheats for item in shares[endpoint.name]]
    heading = describe_run(profile, local, sizes, options.trials, options.mmd_trials)
    text = "\n\n".join((heading, format_cheats(cheat_shares, honest_shares), format_honest(honest_shares)))
    print(text)
    if options.write:
        write_section("repeated", text)
    return 0


def describe_run(profile: ToleranceProfile, local: Local, sizes: Sizes, trials: int, mmd_trials: int) -> str:
    """Return what the numbers below were made from."""
    return (
        f"Profile 0x{profile.compute_digest().hex()[:16]}{' (development)' if profile.development else ''}. "
        f"{sizes.prompts} prompts with {local.scores.shape[1]} local answers each ({LOCAL_CELL.name}; the paper of "
        f"rank uniformity has about 100), {sizes.repeated} of them asked {sizes.copies} times. "
        f"{trials} resampled trials of rank uniformity and of this audit, {mmd_trials} of model equality testing with "
        f"{PERMUTATIONS} permutations each. Peers at alpha 0.05, this audit at 10^6; in a cell: power, false alarms "
        "on the worse of two honest endpoints."
    )


def measure_endpoint(
    endpoint: Endpoint, local: Local, plan: AuditPlan, trials: int, mmd_trials: int = MMD_TRIALS
) -> list[Shares]:
    """Return what every test says of one endpoint after each of ANSWERS."""
    order = np.random.default_rng(SEED).integers(0, len(endpoint.pool.units), (trials, max(ANSWERS)))
    lives = follow_lives(plan, compute_gain_table(plan, endpoint.pool.units), order, LOG_THRESHOLD)
    return [
        Shares(
            name=endpoint.name,
            answers=answers,
            tokens=answers * endpoint.pool.tokens,
            mmd=measure_mmd(build_mmd_judge, endpoint, local, answers, mmd_trials),
            mmd_within=measure_mmd(build_within_judge, endpoint, local, answers, mmd_trials),
            ranks=measure_ranks(endpoint, answers, trials),
            audit=float((lives.reached <= answers).mean()),
        )
        for answers in ANSWERS
    ]


def measure_mmd(
    build_judge: Callable[[PromptKernels], Judge], endpoint: Endpoint, local: Local, answers: int, trials: int
) -> float | None:
    """Return the share of trials that model equality testing rejects, no prompt twice in a trial."""
    prompts = answers // SAMPLES_PER_PROMPT
    if prompts > len(endpoint.texts):
        return None
    judge = build_judge(build_kernels(local.texts[: len(endpoint.texts)], endpoint.texts))
    return float(judge(draw_prompt_trials(len(endpoint.texts), prompts, trials, SEED)).mean())


def measure_ranks(endpoint: Endpoint, answers: int, trials: int) -> float | None:
    """Return the share of trials that rank uniformity rejects, one answer to a prompt in a trial."""
    if answers > len(set(endpoint.prompts.tolist())):
        return None
    judge = build_uniformity_judge(endpoint.places)
    return float(judge(draw_answer_trials(endpoint.prompts, answers, trials, SEED)).mean())


def draw_answer_trials(prompts: Integers, answers: int, trials: int, seed: int) -> Integers:
    """Return answer numbers [trials, answers], no prompt twice in a trial; `prompts` are those of the answers."""
    generator = np.random.default_rng(seed)
    found = np.empty((trials, answers), dtype=np.int64)
    for trial in found:
        # The first answer of each prompt in a random order of all answers is a random answer to it.
        shuffled = generator.permutation(len(prompts))
        _, first = np.unique(prompts[shuffled], return_index=True)
        trial[:] = generator.permutation(shuffled[first])[:answers]
    return found


def format_cheats(cheats: Sequence[Shares], honest: Sequence[Shares]) -> str:
    """Return the table of power and false alarms, those of the honest endpoint that a test rejects more often."""
    lines = [
        f"| cheat | answers, tokens | {_HEADS}, text, at 10^6 |",
        "|---|---|---|---|---|---|",
    ]
    for item in cheats:
        alike = [other for other in honest if other.answers == item.answers]
        cells = [
            _show_pair(item.mmd, [other.mmd for other in alike]),
            _show_pair(item.mmd_within, [other.mmd_within for other in alike]),
            _show_pair(item.ranks, [other.ranks for other in alike]),
            _show_pair(item.audit, [other.audit for other in alike]),
        ]
        lines.append(f"| {item.name} | {item.answers}, {item.tokens:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_honest(honest: Sequence[Shares]) -> str:
    """Return the table of false alarms of each honest endpoint."""
    lines = [
        f"| honest answers | answers, tokens | {_HEADS} |",
        "|---|---|---|---|---|---|",
    ]
    for item in honest:
        cells = " | ".join(_show(value) for value in (item.mmd, item.mmd_within, item.ranks, item.audit))
        lines.append(f"| {item.name} | {item.answers}, {item.tokens:.0f} | {cells} |")
    return "\n".join(lines)


def _show(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _show_pair(power: float | None, false_alarms: Sequence[float | None]) -> str:
    known = [share for share in false_alarms if share is not None]
    return "-" if power is None or not known else f"{power:.2f}, {max(known):.2f}"


def _report_progress(done: int, total: int, what: str) -> None:
    print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", type=Path, default=get_collection_folder("bundled") / "repeated")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="only these rows of benchmarks.cheat_rows")
    parser.add_argument("--trials", type=int, default=1000, help="resampled trials of each test but one")
    parser.add_argument("--mmd-trials", type=int, default=MMD_TRIALS, help="trials of model equality testing")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--report", action="store_true", help="gather nothing, report what is there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
