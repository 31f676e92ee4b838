"""Other people's tests on the detection benchmark's own answers, at the number of requests that ours needs.

Token-DiFR's mean margin and the subnet's rank rule read the same columns. Model equality testing and rank uniformity
need many answers to each prompt from the reference: they are in `benchmarks.repeated_peers`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers import Judge, RequestColumns, build_difr_judge, build_rank_judge, draw_trials, measure
from models.collection import REFERENCE, Answered, Collection

SEED = 20261125
MAX_TOKENS = 64


def read_peer_columns(collection: Collection, group: str, answers: Sequence[Answered]) -> list[RequestColumns]:
    """Return what peers read of a group's answers; answers without tokens are left out."""
    found = []
    for answer, columns in zip(answers, collection.read_columns(group, REFERENCE, len(answers)), strict=False):
        if columns is None or not columns["logprob"]:
            continue
        found.append(
            RequestColumns(
                ids=np.asarray(answer.output_ids, dtype=np.int64),
                rank=np.asarray(columns["rank"], dtype=np.int64),
                logprob=np.asarray(columns["logprob"], dtype=np.float64),
                pit_low=np.asarray(columns["pit_low"], dtype=np.float64),
                pit_high=np.asarray(columns["pit_high"], dtype=np.float64),
                margin=np.asarray(columns["margin"], dtype=np.float64),
                is_ended=len(answer.output_ids) < answer.question.max_tokens,
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnResult:
    """What our audit did with a row after so many requests: shares of proven lives, cheated and honest."""

    requests: int
    power: float
    false_alarms: float


def format_peers(
    own: Mapping[str, OwnResult],
    pools: Mapping[str, Sequence[RequestColumns]],
    calibration: Sequence[RequestColumns],
    honest: Sequence[RequestColumns],
    trials: int,
) -> str:
    """Return the table of power and false alarms: peers are asked once, after as many requests as our median."""
    lines = [
        "| cheat | requests | this audit, at 10^6 | Token-DiFR mean margin | subnet rank rule |",
        "|---|---|---|---|---|",
    ]
    for name, ours in own.items():
        pool = pools[name]
        cheated = draw_trials(len(pool), ours.requests, trials, SEED)
        drawn = draw_trials(len(honest), ours.requests, trials, SEED + 1)
        lengths = np.array([len(columns.ids) for columns in pool], dtype=np.int64)
        cells = [f"{ours.power:.2f}, {ours.false_alarms:.2f}"]
        for build in (_build_difr(calibration, ours.requests), _build_rank_rule):
            result = measure(name, cheated=(build(pool), cheated), honest=(build(honest), drawn), lengths=lengths)
            cells.append(f"{result.power:.2f}, {result.false_alarms:.2f}")
        lines.append(f"| {name} | {ours.requests} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _build_difr(calibration: Sequence[RequestColumns], requests: int) -> Callable[[Sequence[RequestColumns]], Judge]:
    return lambda pool: build_difr_judge(calibration, pool, requests)


def _build_rank_rule(pool: Sequence[RequestColumns]) -> Judge:
    return build_rank_judge(pool, temperature=1.0, max_tokens=MAX_TOKENS)
