"""The answers of the detection benchmark: each row of cheats on fresh prompts, gathered beside the calibration's."""

from collections.abc import Container, Sequence
from dataclasses import replace

from benchmarks.cheat_answers import OpenModel, answer_rows
from benchmarks.cheat_rows import CheatRow
from benchmarks.model_shelf import ModelShelf
from benchmarks.third_party_answers import gather_server_answers
from models.alternatives import KIND_WEIGHTS, SECOND_RUN
from models.calibrate_audit import (
    HOLD_OUT_SET,
    AuditCalibration,
    answer_cells,
    list_calibrated_alternatives,
    read_questions,
    write_questions,
)
from models.collection import Answered, Collection, Progress, Question
from models.gather import Answerer, gather_activations, gather_alternative, gather_answers, gather_reference
from models.load import LoadedModel, decode_tokens, load_model
from models.packing import pack_linears
from models.retokenise import FINISH_LENGTH, FINISH_STOP, TextAnswer, retokenise
from models.token_bytes import TokenBytes
from scoring.evidence.channel_ids import ACTIVATIONS, CHANNELS, GREEDY, SEEDED, TEXT, WEIGHTS_ALTERNATIVES

BENCHMARK_SET = "benchmark"
TEXT_PREFIX = "text-of-"
ROW_REQUESTS = 300
"""Requests of an honest row, where it has answers of its own."""
TASK = AuditCalibration(greedy_requests=0)


def get_group(row: CheatRow) -> str:
    """Return the group of a row's answers in the collection."""
    return f"{BENCHMARK_SET}-{row.name}"


def gather_rows(
    collection: Collection,
    rows: Sequence[CheatRow],
    count: int,
    progress: Progress,
    channels: Sequence[str] = CHANNELS,
    known: Container[str] = WEIGHTS_ALTERNATIVES,
) -> None:
    """Have `count` fresh questions answered by each row and re-run by the `known` alternatives."""
    written = write_benchmark_questions(collection, count, progress)
    shelf = ModelShelf()
    groups: dict[str, list[Answered]] = {}
    for row in rows:
        group, questions = get_group(row), ask_row(row, written)
        if row.gguf is not None:
            groups[group] = gather_server_answers(collection, group, questions, progress, row.gguf)
        else:
            groups[group] = gather_answers(
                collection, group, questions, build_row_answerer(row, shelf.open), 64, progress
            )
    score_groups(collection, groups, progress, channels, known)


def score_groups(
    collection: Collection,
    groups: dict[str, list[Answered]],
    progress: Progress,
    channels: Sequence[str] = CHANNELS,
    known: Container[str] = WEIGHTS_ALTERNATIVES,
) -> None:
    """Run over groups of answers the reference pass and what channels look at: `known` alternatives, for one."""
    from models.variant_weights import WeightsShelf

    verifier = open_verifier()
    for group, answers in groups.items():
        gather_reference(collection, group, answers, verifier, progress)
    drawn = {group: answers for group, answers in groups.items() if not _is_greedy(answers)}
    if ACTIVATIONS in channels:
        for group, answers in drawn.items():
            gather_activations(collection, group, answers, verifier, progress)
    weights = WeightsShelf(verifier)
    if SEEDED in channels:
        for group, answers in drawn.items():
            if not group.startswith(TEXT_PREFIX):
                gather_alternative(collection, group, answers, verifier, SECOND_RUN, weights, progress)
    for alternative in list_calibrated_alternatives(verifier):
        for group, answers in groups.items():
            is_told = GREEDY in channels if _is_greedy(answers) else bool({SEEDED, TEXT}.intersection(channels))
            applies = alternative.kind == KIND_WEIGHTS or not _is_greedy(answers)
            if is_told and applies and alternative.id in known:
                gather_alternative(collection, group, answers, verifier, alternative, weights, progress)


def _is_greedy(answers: Sequence[Answered]) -> bool:
    return bool(answers) and answers[0].question.temperature_ppm == 0


def ask_row(row: CheatRow, questions: Sequence[Question]) -> list[Question]:
    """Return the questions as a row is asked them."""
    return [replace(question, temperature_ppm=0) for question in questions] if row.asks_greedy else list(questions)


def gather_honest(
    collection: Collection,
    count: int,
    progress: Progress,
    channels: Sequence[str] = CHANNELS,
    known: Container[str] = WEIGHTS_ALTERNATIVES,
) -> None:
    """Have hold-out questions answered honestly in every main cell, and re-run as the rows are.

    At temperature 0 every cell is asked the first ROW_REQUESTS of them.
    """
    task = replace(TASK, hold_out=count, greedy_requests=min(count, ROW_REQUESTS) if GREEDY in channels else 0)
    groups = answer_cells(task, collection, progress, (HOLD_OUT_SET,))
    score_groups(collection, groups, progress, channels, known)


def gather_honest_texts(
    collection: Collection,
    groups: Sequence[str],
    progress: Progress,
    known: Container[str] = WEIGHTS_ALTERNATIVES,
) -> None:
    """Run the first honest answers again as an audit sees them that is given text and no token ids: cut canonically.

    ROW_REQUESTS in all groups together.
    """
    verifier = open_verifier()
    tokens = TokenBytes.build(verifier)
    found = {}
    for group in groups:
        questions = read_questions(collection, TASK, HOLD_OUT_SET)[: ROW_REQUESTS // len(groups)]
        answers = collection.read_answers(group, questions)
        kept = read_text_answers(collection, group)
        if len(kept) < len(answers):
            fresh = [_cut_canonically(answer, verifier, tokens) for answer in answers[len(kept) :]]
            collection.write_answers(TEXT_PREFIX + group, fresh, 0)
        found[TEXT_PREFIX + group] = read_text_answers(collection, group)
    score_groups(collection, found, progress, (TEXT,), known)


def read_text_answers(collection: Collection, group: str) -> list[Answered]:
    """Return a hold-out group's answers with the ids of their texts, with the seeds of the group itself."""
    answers = collection.read_answers(group, read_questions(collection, TASK, HOLD_OUT_SET))
    cut = collection.read_answers(TEXT_PREFIX + group, [answer.question for answer in answers])
    return [replace(answer, question=own.question) for answer, own in zip(cut, answers, strict=False)]


def _cut_canonically(answer: Answered, verifier: LoadedModel, tokens: TokenBytes) -> Answered:
    ends = answer.output_ids[-1:] and answer.output_ids[-1] in verifier.end_ids
    text = TextAnswer(
        text=decode_tokens(verifier, answer.output_ids),
        finish_reason=FINISH_STOP if ends else FINISH_LENGTH,
        completion_tokens=len(answer.output_ids),
    )
    return replace(answer, output_ids=retokenise(verifier, text, tokens).token_ids, logprobs=None)


def read_benchmark_questions(collection: Collection) -> list[Question]:
    """Return the benchmark's questions that were written so far."""
    questions = read_questions(collection, TASK, BENCHMARK_SET)
    return [replace(question, max_tokens=TASK.max_tokens) for question in questions]


def write_benchmark_questions(collection: Collection, count: int, progress: Progress) -> list[Question]:
    """Return the questions of the benchmark: other seeds than every calibration's, answers of 64 tokens."""
    write_questions(collection, TASK, BENCHMARK_SET, count, open_verifier, progress)
    return read_benchmark_questions(collection)[:count]


def open_verifier() -> LoadedModel:
    """Return the claimed model as a verifier runs it."""
    loaded = load_model(TASK.model)
    pack_linears(loaded)
    return loaded


def build_row_answerer(row: CheatRow, open_model: OpenModel) -> Answerer:
    """Return what a row answers to questions, with what it says of its tokens."""

    def answer(questions: Sequence[Question]) -> list[Answered]:
        # A mixture is drawn when lives are resampled: its pools are answers that were cheated throughout.
        found = answer_rows(row, open_model, questions, max_tokens=TASK.max_tokens)
        return [
            Answered(
                question=question,
                output_ids=item.token_ids,
                prompt_tokens=item.prompt_tokens,
                is_cheated=item.is_cheated,
                logprobs=item.logprobs,
                proofs=item.proofs,
            )
            for question, item in zip(questions, found, strict=True)
        ]

    return answer
