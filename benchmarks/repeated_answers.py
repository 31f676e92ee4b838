"""Many answers to each prompt, for the two peers that need them: local samples, honest endpoints and cheats.

All of them answer the first PROMPTS questions of the detection benchmark, again and again with seeds of their own. A
repeated question is a question with another index and sampler seed, so answers and columns lie in a collection like any
other; its groups begin with GROUP_PREFIX. Copies are asked for one after the other, each over all prompts: what a
killed run has gathered is fewer answers to every prompt, never no answer to some.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from benchmarks.cheat_answers import ask_again
from benchmarks.cheat_rows import CheatRow
from benchmarks.detection_data import TASK, build_row_answerer, open_verifier, write_benchmark_questions
from benchmarks.model_shelf import ModelShelf
from models.calibrate_audit import VERIFIER_DTYPE, ProviderCell, list_calibrated_alternatives
from models.collection import SHARD, Answered, Collection, Progress, Question
from models.gather import Answerer, build_honest_answerer, gather_alternative, gather_answers, gather_reference
from models.load import load_model
from models.packing import pack_linears
from models.requests import SAMPLER_NONE, ReferenceRequest

GROUP_PREFIX = "repeated"
ALTERNATIVES = ("int4", "int5", "int6", "int8")
"""Those that the shipped profile has bounds for."""
LOCAL_CELL = ProviderCell(dtype=VERIFIER_DTYPE, batch=64)
LOCAL_GROUP = f"{GROUP_PREFIX}-local-{LOCAL_CELL.name}"
HONEST_CELLS = (LOCAL_CELL, ProviderCell(dtype="fp32", batch=64))
COPY_STRIDE = 10_000
"""The index of a repeated question is `copy * COPY_STRIDE + index of the prompt`, whatever else is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many answers: `local` and `copies` are answers to a prompt, `honest_everywhere` those of an honest endpoint.

    A cheat answers every prompt once and the first `repeated` of them `copies` times. The reference pass sees the
    first `scored` answers of a cheat and all answers of an honest endpoint that are not for model equality testing
    alone; passes of alternatives see the first `scored` of both. Whole shards are never written twice.
    """

    prompts: int = 40
    local: int = 40
    repeated: int = 16
    copies: int = 10
    honest_everywhere: int = 4
    scored: int = SHARD


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswered(Answered):
    """An answer that is judged by its text alone: its passes leave out the seed's noise, which costs a sixth."""

    def to_reference_request(self) -> ReferenceRequest:
        """Return the claim that is tested: these tokens from this prompt, without seed."""
        # A class with slots is made twice: `super()` without arguments would name the first.
        return replace(Answered.to_reference_request(self), seed=None, sampler=SAMPLER_NONE)


def get_repeated_group(row: CheatRow) -> str:
    """Return the group of a cheat's repeated answers."""
    return f"{GROUP_PREFIX}-{row.name}"


def get_honest_group(cell: ProviderCell) -> str:
    """Return the group of an honest endpoint, apart from the local answers even where it runs in the same cell."""
    return f"{GROUP_PREFIX}-honest-{cell.name}"


def get_prompt(question: Question) -> int:
    """Return the index of the prompt that a repeated question asks."""
    return question.index % COPY_STRIDE


def repeat(questions: Sequence[Question], copies: range) -> list[Question]:
    """Return some copies of each question, all questions of one copy before the next; a copy's seed is its own."""
    again = ask_again(questions, copies.stop)
    return [
        replace(
            question,
            index=copy * COPY_STRIDE + question.index,
            sampler_seed=again[place * copies.stop + copy].sampler_seed,
        )
        for copy in copies
        for place, question in enumerate(questions)
    ]


def list_tested(questions: Sequence[Question], sizes: Sizes, everywhere: int = 1) -> list[Question]:
    """Return what an endpoint is asked: every prompt `everywhere` times, the first ones `copies` times."""
    return [
        *repeat(questions[: sizes.prompts], range(everywhere)),
        *repeat(questions[: sizes.repeated], range(everywhere, sizes.copies)),
    ]


def list_groups(
    questions: Sequence[Question], rows: Sequence[CheatRow], sizes: Sizes
) -> dict[str, tuple[list[Question], int]]:
    """Return the questions of every group and how many of its answers the reference pass sees."""
    honest = list_tested(questions, sizes, sizes.honest_everywhere)
    everywhere = sizes.prompts * sizes.honest_everywhere
    cheated = list_tested(questions, sizes)
    return {
        LOCAL_GROUP: (repeat(questions[: sizes.prompts], range(sizes.local)), sizes.prompts * sizes.local),
        **{get_honest_group(cell): (honest, _round_up(everywhere, len(honest))) for cell in HONEST_CELLS},
        **{get_repeated_group(row): (cheated, _round_up(sizes.scored, len(cheated))) for row in rows},
    }


def _round_up(count: int, limit: int) -> int:
    return min(-(-count // SHARD) * SHARD, limit)


def read_repeated(
    collection: Collection, group: str, questions: Sequence[Question], scored: int | None = None
) -> list[Answered]:
    """Return the answers of a group that are there, the first `scored` of them, as tests of text read them."""
    return [drop_seed(answer) for answer in collection.read_answers(group, questions[:scored])]


def drop_seed(answer: Answered) -> TextAnswered:
    """Return an answer without what tests of text do not look at."""
    values = {item.name: getattr(answer, item.name) for item in fields(Answered)}
    return TextAnswered(**{**values, "logprobs": None, "proofs": None})


def gather_repeated(collection: Collection, rows: Sequence[CheatRow], sizes: Sizes, progress: Progress) -> None:
    """Have everything answered and re-run that is not there yet."""
    questions = write_benchmark_questions(collection, sizes.prompts, progress)
    groups = list_groups(questions, rows, sizes)
    for group, cell in ((LOCAL_GROUP, LOCAL_CELL), *((get_honest_group(cell), cell) for cell in HONEST_CELLS)):
        gather_cell(collection, group, groups[group][0], cell, progress)
    shelf = ModelShelf()
    for row in rows:
        group = get_repeated_group(row)
        gather_answers(
            collection, group, groups[group][0], keep_text(build_row_answerer(row, shelf.open)), SHARD, progress
        )
    del shelf
    gc.collect()
    score_repeated(collection, groups, sizes, progress)


def gather_cell(
    collection: Collection, group: str, questions: Sequence[Question], cell: ProviderCell, progress: Progress
) -> None:
    """Have the questions of a group answered honestly in one cell; the model is opened only when some are missing."""
    if len(collection.read_answers(group, questions)) == len(questions):
        return
    loaded = load_model(TASK.model, dtype=cell.dtype)
    pack_linears(loaded)
    gather_answers(
        collection, group, questions, keep_text(build_honest_answerer(loaded, cell.batch)), cell.batch, progress
    )


def keep_text(answer: Answerer) -> Answerer:
    """Return an answerer whose answers are kept as tests of text need them."""
    return lambda questions: [replace(item, logprobs=None, proofs=None) for item in answer(questions)]


def score_repeated(
    collection: Collection, groups: dict[str, tuple[list[Question], int]], sizes: Sizes, progress: Progress
) -> None:
    """Run the reference pass over all groups and the alternatives over endpoints' first answers."""
    from models.variant_weights import WeightsShelf

    verifier = open_verifier()
    for group, (questions, scored) in groups.items():
        gather_reference(collection, group, read_repeated(collection, group, questions, scored), verifier, progress)
    weights = WeightsShelf(verifier)
    for alternative in list_calibrated_alternatives(verifier):
        if alternative.id not in ALTERNATIVES:
            continue
        for group, (questions, _) in groups.items():
            if group != LOCAL_GROUP:
                answers = read_repeated(collection, group, questions, sizes.scored)
                gather_alternative(collection, group, answers, verifier, alternative, weights, progress)
