"""The honest rows of the detection benchmark: other batches, attention and engines, code, other languages, plain text.

All of them answer hold-out questions, which no calibration has seen; the first ROW_REQUESTS of them where a row has a
cell of its own.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from benchmarks.detection_data import ROW_REQUESTS, TASK, TEXT_PREFIX, gather_honest_texts, open_verifier, score_groups
from benchmarks.third_party_answers import gather_server_answers
from models.calibrate_audit import (
    HOLD_OUT_SET,
    ProviderCell,
    answer_cells,
    read_questions,
    write_questions,
)
from models.collection import Answered, Collection, Progress, Question
from models.gather import build_honest_answerer, gather_answers
from scoring.evidence.channel_ids import ACTIVATIONS, CHANNELS, GREEDY, LOGPROBS, SEEDED, TEXT, WEIGHTS_ALTERNATIVES
from scoring.probe_outlines import CODE, ENGLISH, ProbeOutline

MAIN_GROUPS = tuple(f"{HOLD_OUT_SET}-{cell.name}" for cell in TASK.cells)
OTHER_CELLS = (
    ProviderCell(dtype="bf16", batch=1),
    ProviderCell(dtype="bf16", batch=8),
    ProviderCell(dtype="bf16", batch=32),
    ProviderCell(dtype="bf16", batch=64, attention="eager"),
)
OTHER_GROUPS = tuple(f"{HOLD_OUT_SET}-{cell.name}" for cell in OTHER_CELLS)
FOREIGN_SET = f"{HOLD_OUT_SET}-foreign"
FOREIGN = f"{FOREIGN_SET}-{TASK.cells[0].name}"
THIRD_PARTY = f"{HOLD_OUT_SET}-third-party"


@dataclass(frozen=True, slots=True, kw_only=True)
class HonestRow:
    """One row: answers of some groups to the questions that `keeps` names, and the channels that can be looked at."""

    name: str
    groups: tuple[str, ...]
    channels: tuple[str, ...] = (SEEDED, TEXT, LOGPROBS, ACTIVATIONS)
    keeps: Callable[[Question], bool] = lambda question: True


def is_code(question: Question) -> bool:
    """Return whether a hold-out question is of the generator's stratum for code."""
    return question.stratum == CODE


def is_foreign(outline: ProbeOutline) -> bool:
    """Return whether a question is not in English."""
    return outline.language != ENGLISH


HONEST_ROWS = (
    *(HonestRow(name=group.removeprefix(f"{HOLD_OUT_SET}-"), groups=(group,)) for group in MAIN_GROUPS),
    *(HonestRow(name=group.removeprefix(f"{HOLD_OUT_SET}-"), groups=(group,)) for group in OTHER_GROUPS),
    HonestRow(name="third-party server (llama.cpp, F16)", groups=(THIRD_PARTY,), channels=(TEXT, LOGPROBS)),
    HonestRow(
        name="text without token ids", groups=tuple(TEXT_PREFIX + group for group in MAIN_GROUPS), channels=(TEXT,)
    ),
    HonestRow(name="code, of all cells above", groups=(*MAIN_GROUPS, *OTHER_GROUPS), keeps=is_code),
    HonestRow(name="not English", groups=(FOREIGN,)),
    *(
        HonestRow(
            name=f"{cell.name} at temperature 0", groups=(f"{HOLD_OUT_SET}-{GREEDY}-{cell.name}",), channels=(GREEDY,)
        )
        for cell in TASK.cells
    ),
)


def gather_honest_rows(
    collection: Collection,
    progress: Progress,
    channels: Sequence[str] = CHANNELS,
    known: Container[str] = WEIGHTS_ALTERNATIVES,
) -> None:
    """Have the rows' questions answered and re-run by `known` alternatives; the main cells' answers must be there."""
    task = replace(TASK, cells=OTHER_CELLS, hold_out=ROW_REQUESTS)
    groups = answer_cells(task, collection, progress, (HOLD_OUT_SET,))
    questions = read_questions(collection, TASK, HOLD_OUT_SET)[:ROW_REQUESTS]
    groups[FOREIGN] = answer_foreign(collection, progress)
    if {TEXT, LOGPROBS}.intersection(channels):
        groups[THIRD_PARTY] = gather_server_answers(collection, THIRD_PARTY, questions, progress)
    score_groups(collection, groups, progress, channels, known)
    if TEXT in channels:
        gather_honest_texts(collection, MAIN_GROUPS, progress, known)


def answer_foreign(collection: Collection, progress: Progress) -> list[Answered]:
    """Return honest answers of the first main cell to questions that are not in English."""
    questions = write_questions(collection, TASK, FOREIGN_SET, ROW_REQUESTS, open_verifier, progress, is_foreign)
    answerer = build_honest_answerer(open_verifier(), TASK.cells[0].batch)
    return gather_answers(collection, FOREIGN, questions, answerer, 2 * TASK.cells[0].batch, progress)
