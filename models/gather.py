"""Filling a collection: questions are written, answered and re-run in steps that are each kept when they are done."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from models.activation_format import parse_proofs
from models.activation_proofs import score_activation_proofs
from models.alternatives import KIND_NUMERICS, KIND_WEIGHTS, Alternative
from models.collection import (
    ACTIVATIONS,
    REFERENCE,
    Answered,
    Collection,
    Progress,
    Question,
    build_generation_request,
    pack_activation_errors,
    pack_alternative_columns,
    pack_token_statistics,
    reseed,
)
from models.load import LoadedModel
from models.requests import SAMPLER_NONE, ReferenceRequest

Answerer = Callable[[Sequence[Question]], list[Answered]]
"""Answers questions whose seeds are the group's already: an honest cell, or a cheat of the benchmark."""


def build_honest_answerer(loaded: LoadedModel, batch: int) -> Answerer:
    """Return what the claimed weights answer in one cell: this dtype, `batch` requests at a time."""
    from models.generate import generate

    def answer(questions: Sequence[Question]) -> list[Answered]:
        requests = [build_generation_request(question) for question in questions]
        return [
            Answered(
                question=question,
                output_ids=generation.token_ids,
                prompt_tokens=len(question.prompt_ids),
                logprobs=tuple(item.logprob for item in generation.logprobs or ()),
                proofs=generation.activation_proofs,
            )
            for question, generation in zip(questions, generate(loaded, requests, max_rows=batch), strict=True)
        ]

    return answer


def gather_answers(
    collection: Collection,
    group: str,
    questions: Sequence[Question],
    answerer: Answerer,
    at_once: int,
    progress: Progress,
) -> list[Answered]:
    """Have all questions answered that the group has no answer for, `at_once` at a time; return all answers."""
    found = collection.read_answers(group, questions)
    while len(found) < len(questions):
        chunk = [reseed(question, group) for question in questions[len(found) : len(found) + at_once]]
        started = time.monotonic()
        fresh = answerer(chunk)
        collection.write_answers(group, fresh, int((time.monotonic() - started) * 1000) // len(chunk))
        found += fresh
        progress(len(found), len(questions), f"answers {group}")
    return found


def gather_reference(
    collection: Collection, group: str, answers: Sequence[Answered], loaded: LoadedModel, progress: Progress
) -> None:
    """Run the reference pass over all answers of a group that it has not seen."""
    from models.reference import score_batch

    gather_columns(collection, group, answers, REFERENCE, partial(score_batch, loaded), progress)


def gather_columns(
    collection: Collection,
    group: str,
    answers: Sequence[Answered],
    name: str,
    score: Callable[[Sequence[ReferenceRequest]], Sequence[Any]],
    progress: Progress,
) -> None:
    """Run a pass that gives token statistics over all answers of a group that it has not seen."""
    for shard in collection.find_missing_shards(group, name, len(answers)):
        requests = [answers[index].to_reference_request() for index in shard]
        collection.write_shard(group, name, shard, pack_token_statistics(score(requests)))
        progress(shard.stop, len(answers), f"{name} {group}")


def gather_activations(
    collection: Collection, group: str, answers: Sequence[Answered], loaded: LoadedModel, progress: Progress
) -> None:
    """Hold the activation proofs of all answers of a group against the reference's own run; without proofs nothing."""
    if not any(answer.proofs for answer in answers):
        return
    for shard in collection.find_missing_shards(group, ACTIVATIONS, len(answers)):
        errors = [_measure_proofs(loaded, answers[index]) for index in shard]
        collection.write_shard(group, ACTIVATIONS, shard, pack_activation_errors(errors))
        progress(shard.stop, len(answers), f"{ACTIVATIONS} {group}")


def _measure_proofs(loaded: LoadedModel, answer: Answered) -> float | None:
    if answer.proofs is None or not answer.output_ids:
        return None
    return score_activation_proofs(loaded, answer.to_reference_request(), parse_proofs(answer.proofs))


def gather_alternative(
    collection: Collection,
    group: str,
    answers: Sequence[Answered],
    loaded: LoadedModel,
    alternative: Alternative,
    shelf: Any,
    progress: Progress,
) -> None:
    """Run one alternative over all answers of a group that it has not seen; only other weights need the seed."""
    from models.alternative_pass import compute_alternative_columns

    for shard in collection.find_missing_shards(group, alternative.id, len(answers)):
        part = [answers[index] for index in shard]
        requests = [answer.to_reference_request() for answer in part]
        if alternative.kind not in (KIND_WEIGHTS, KIND_NUMERICS):
            requests = [replace(request, seed=None, sampler=SAMPLER_NONE) for request in requests]
        messages = [answer.question.messages for answer in part]
        rows = compute_alternative_columns(loaded, alternative, requests, messages, shelf=shelf)
        collection.write_shard(group, alternative.id, shard, pack_alternative_columns(rows))
        progress(shard.stop, len(answers), f"{alternative.id} {group}")
