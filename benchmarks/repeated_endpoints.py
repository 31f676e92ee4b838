"""What the tests of `benchmarks.repeated_peers` read of repeated answers: local samples, and endpoints."""

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.cheat_rows import find_row
from benchmarks.detection_data import read_benchmark_questions
from benchmarks.detection_pools import Pool, build_pool
from benchmarks.peer_mmd import SAMPLES_PER_PROMPT, Texts
from benchmarks.peers import Floats, Integers, RequestColumns, compute_log_rank, compute_places
from benchmarks.repeated_answers import (
    ALTERNATIVES,
    HONEST_CELLS,
    LOCAL_GROUP,
    Sizes,
    get_honest_group,
    get_prompt,
    get_repeated_group,
    list_groups,
    read_repeated,
)
from models.collection import REFERENCE, Answered, Collection, Question

SEED = 20261126

Decode = Callable[[Sequence[int]], str]
"""Returns the text of token ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The reference's own answers by prompt: texts [prompts][m] and mean log ranks [prompts, m]."""

    texts: Texts
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one endpoint gave, each test its own view of the same answers.

    `texts` [repeated prompts][10] are for model equality testing; `places` [answers] among local answers, with the
    prompt of each, for rank uniformity; `pool` for this audit.
    """

    name: str
    texts: Texts
    places: Floats
    prompts: Integers
    pool: Pool


def read_endpoints(
    collection: Collection, rows: Sequence[str], sizes: Sizes, decode: Decode
) -> tuple[Local, list[Endpoint], list[Endpoint]]:
    """Return the local answers, the honest endpoints and the cheats; those that are not gathered yet are left out.

    Raises SystemExit when there are no local answers or no honest endpoint.
    """
    chosen = [find_row(name) for name in rows]
    groups = list_groups(read_benchmark_questions(collection)[: sizes.prompts], chosen, sizes)
    local = read_local(collection, groups[LOCAL_GROUP][0], sizes, decode)

    def read(names: Mapping[str, str]) -> list[Endpoint]:
        found = [
            read_endpoint(collection, name, group, groups[group], local, sizes, decode) for name, group in names.items()
        ]
        return [endpoint for endpoint in found if endpoint is not None]

    honest = read({cell.name: get_honest_group(cell) for cell in HONEST_CELLS})
    if not honest:
        raise SystemExit("no honest endpoint: run without --report")
    return local, honest, read({row.name: get_repeated_group(row) for row in chosen})


def read_local(collection: Collection, questions: Sequence[Question], sizes: Sizes, decode: Decode) -> Local:
    """Return the local answers of all copies that are whole; raises SystemExit when they are too few for any test."""
    answers = read_repeated(collection, LOCAL_GROUP, questions)
    scores = read_log_ranks(collection, LOCAL_GROUP, answers)
    copies = len(scores) // sizes.prompts
    if copies < SAMPLES_PER_PROMPT:
        raise SystemExit("too few local answers: run without --report")
    whole = copies * sizes.prompts
    return Local(
        texts=list(group_texts(answers[:whole], decode).values()),
        scores=np.reshape(scores[:whole], (copies, sizes.prompts)).T,
    )


def read_endpoint(
    collection: Collection,
    name: str,
    group: str,
    asked: tuple[list[Question], int],
    local: Local,
    sizes: Sizes,
    decode: Decode,
) -> Endpoint | None:
    """Return what an endpoint gave, None unless everything is there."""
    questions, scored = asked
    answers = read_repeated(collection, group, questions)
    pool = build_pool(collection, group, answers[: sizes.scored])
    scores = read_log_ranks(collection, group, answers[:scored])
    missing = [name for name in ALTERNATIVES if collection.find_missing_shards(group, name, sizes.scored)]
    if len(answers) < len(questions) or len(scores) < scored or len(pool.units) < sizes.scored or missing:
        print(f"{name}: not gathered yet, left out", file=sys.stderr)
        return None
    order = {get_prompt(question): place for place, question in enumerate(questions[: sizes.prompts])}
    prompts = np.array([order[get_prompt(answer.question)] for answer in answers[:scored]], dtype=np.int64)
    return Endpoint(
        name=name,
        texts=[texts[: sizes.copies] for texts in list(group_texts(answers, decode).values())[: sizes.repeated]],
        places=compute_places(scores, local.scores[prompts], SEED),
        prompts=prompts,
        pool=pool,
    )


def group_texts(answers: Sequence[Answered], decode: Decode) -> dict[int, list[str]]:
    """Return the texts of answers by prompt, prompts in the order in which they were first asked."""
    found: dict[int, list[str]] = defaultdict(list)
    for answer in answers:
        found[get_prompt(answer.question)].append(decode(answer.output_ids))
    return found


def read_log_ranks(collection: Collection, group: str, answers: Sequence[Answered]) -> Floats:
    """Return the mean log rank of each answer, as far as the reference pass has come."""
    found = []
    for answer, columns in zip(answers, collection.read_columns(group, REFERENCE, len(answers)), strict=False):
        if columns is None:
            break
        logprob, low, high = (np.asarray(columns[name], np.float64) for name in ("logprob", "pit_low", "pit_high"))
        ids, rank = np.asarray(answer.output_ids, np.int64), np.asarray(columns["rank"], np.int64)
        found.append(compute_log_rank(RequestColumns(ids=ids, rank=rank, logprob=logprob, pit_low=low, pit_high=high)))
    return np.array(found, dtype=np.float64)
