"""What groups of gathered answers gave, ready to be resampled: read from a collection, nothing is run here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.cheat_rows import CheatRow
from benchmarks.detection_data import (
    TEXT_PREFIX,
    ask_row,
    get_group,
    read_benchmark_questions,
    read_text_answers,
)
from benchmarks.honest_rows import FOREIGN_SET, HonestRow
from models.calibrate_audit import HOLD_OUT_SET, AuditCalibration, is_greedy, read_questions
from models.collection import REFERENCE, Answered, Collection
from models.tolerances import read_answer_columns
from scoring.evidence.audit import Unit
from scoring.evidence.channel_ids import PROMPT_ALTERNATIVES, WEIGHTS_ALTERNATIVES
from scoring.evidence.channels import compute_channel_statistics, compute_log_ratios
from scoring.evidence.other_weights import SKIPPED_LAYER

ALTERNATIVE_IDS = (*WEIGHTS_ALTERNATIVES, SKIPPED_LAYER, *PROMPT_ALTERNATIVES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What one group of answers gave: units for the audit, log ratios by alternative, tokens a request."""

    units: list[Unit]
    ratios: list[dict[str, float]]
    tokens: float


def build_pool(
    collection: Collection,
    group: str,
    answers: Sequence[Answered],
    reference: str = REFERENCE,
    named: Sequence[str] = (),
) -> Pool:
    """Return the units and ratios of some answers; `named` are the ids of other models that were run on them."""
    columns = list(read_answer_columns(collection, group, answers, (*ALTERNATIVE_IDS, *named), reference))
    lengths = [len(answer.output_ids) for answer in answers[: len(columns)]]
    return Pool(
        units=[Unit(statistics_ppm=compute_channel_statistics(item)) for item in columns],
        ratios=[compute_log_ratios(item) for item in columns],
        tokens=sum(lengths) / max(len(lengths), 1),
    )


def join_pools(pools: Sequence[Pool]) -> Pool:
    """Return several groups' answers as one pool; `tokens` is the mean over the pools that have answers."""
    known = [pool for pool in pools if pool.units]
    return Pool(
        units=[unit for pool in known for unit in pool.units],
        ratios=[ratio for pool in known for ratio in pool.ratios],
        tokens=sum(pool.tokens for pool in known) / max(len(known), 1),
    )


def read_row_answers(collection: Collection, row: CheatRow, count: int) -> list[Answered]:
    """Return the answers that a row has given so far; nothing is written or generated."""
    questions = ask_row(row, read_benchmark_questions(collection)[:count])
    return collection.read_answers(get_group(row), questions)


def build_honest_pool(collection: Collection, group: str, named: Sequence[str] = ()) -> Pool:
    """Return what a hold-out group gave."""
    return build_pool(collection, group, read_honest_answers(collection, group), named=named)


def read_honest_answers(collection: Collection, group: str) -> list[Answered]:
    """Return the answers of a hold-out group."""
    sets = (FOREIGN_SET, HOLD_OUT_SET)
    set_name = next(name for name in sets if group.startswith(name))
    questions = read_questions(collection, AuditCalibration(), set_name)
    if is_greedy(group):
        questions = [replace(question, temperature_ppm=0) for question in questions]
    return collection.read_answers(group, questions)


def read_honest_row(collection: Collection, row: HonestRow) -> Pool:
    """Return what an honest row's answers gave, as far as they were gathered."""
    pools = []
    for group in row.groups:
        is_text = group.startswith(TEXT_PREFIX)
        answers = (
            read_text_answers(collection, group.removeprefix(TEXT_PREFIX))
            if is_text
            else read_honest_answers(collection, group)
        )
        pool = build_pool(collection, group, answers)
        kept = [place for place in range(len(pool.units)) if row.keeps(answers[place].question)]
        pools.append(
            Pool(
                units=[pool.units[place] for place in kept],
                ratios=[pool.ratios[place] for place in kept],
                tokens=pool.tokens,
            )
        )
    return join_pools(pools)
