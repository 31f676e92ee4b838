"""Calibration of an audit's statistics: honest answers in every cell at hand, re-run, measured, bounded.

Steps, each kept on disk beside the output (`models.collection`), so that a killed run goes on where it stopped and a
longer one starts from what is there: prompts of the sealed generator; answers of the claimed weights in each cell; the
reference pass and one pass for each alternative; bounds by stratum and cell. Prompts of the hold-out are others, and
no choice was made on them. The sampling that mu is for is the envelope of the task.
"""

import gc
from collections.abc import Callable, Container, Iterator, Sequence
from collections.abc import Collection as Names
from dataclasses import dataclass, field, replace
from itertools import count as count_up
from itertools import islice
from pathlib import Path
from typing import Any

from models.alternatives import (
    KIND_HIDDEN_PROMPT,
    KIND_SIBLING,
    KIND_SKIPPED_LAYER,
    KIND_WEIGHTS,
    KIND_WRONG_TEMPLATE,
    SECOND_RUN,
    Alternative,
    list_alternatives,
)
from models.collection import SERVER_REFERENCE, SHARD, Answered, Collection, Progress, Question
from models.convert import get_cache_dir
from models.gather import (
    build_honest_answerer,
    gather_activations,
    gather_alternative,
    gather_answers,
    gather_columns,
    gather_reference,
)
from models.journal import Row, open_journal, read_journal
from models.load import ATTENTIONS, LoadedModel, render_prompt
from models.manifest import DTYPES
from models.packing import load_packed
from models.passes import is_server, open_passes
from models.requests import ChatMessage
from models.siblings import find_siblings
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import (
    ACTIVATIONS_IDS,
    GREEDY,
    OWN_NOISE_ID,
    PROMPT_ALTERNATIVES,
    WEIGHTS_ALTERNATIVES,
    list_mixed_ids,
    list_statistics_of,
)
from scoring.evidence.other_weights import SKIPPED_LAYER
from scoring.hashing import tagged_digest
from scoring.probe_outlines import GENERATOR_ID_V2, STRATA_V2, ProbeOutline, build_outline
from scoring.probes import PointEnvelope
from scoring.records import PPM

DEVELOPMENT_SET, HOLD_OUT_SET = "development", "hold-out"
VERIFIER_DTYPE = "bf16"
WRITER_DTYPE = "bf16"
"""What is calibrated is the distribution of prompts; that a prompt follows from its seed to the bit needs fp32."""
WRITER_CHUNK = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCell:
    """One way to run the claimed weights honestly: `bf16/64` is bf16, up to 64 requests at a time."""

    dtype: str
    batch: int
    attention: str = "sdpa"

    @classmethod
    def parse(cls, text: str) -> "ProviderCell":
        """Read `DTYPE/BATCH[/ATTENTION]`; raises InvalidInput."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3 or not parts[1].isdigit() or not 0 < int(parts[1]) <= 512:
            raise InvalidInput(f"expected DTYPE/BATCH[/ATTENTION], as in bf16/64, got {text[:40]!r}", "cells")
        cell = cls(dtype=parts[0], batch=int(parts[1]), attention=parts[2] if len(parts) == 3 else "sdpa")
        for value, choices in ((cell.dtype, DTYPES), (cell.attention, ATTENTIONS)):
            if value not in choices:
                raise InvalidInput(f"{value[:20]!r} is none of {', '.join(choices)}", "cells")
        return cell

    @property
    def name(self) -> str:
        """Return the name of the cell in a collection."""
        return f"{self.dtype}-{self.batch}" + ("" if self.attention == "sdpa" else f"-{self.attention}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCalibration:
    """What to measure: `requests` for each main cell, `wide_requests` for each wide one, `hold_out` for a main cell.

    `greedy_requests` are asked again at temperature 0 in each main cell (of the hold-out: as many as it has at most).
    With the URL of a vLLM server as `reference` that server is the verifier, and there are no alternatives' passes.
    Passes of alternatives cost most: `alternatives` are those to run (None: all), on `alternative_requests` of a main
    cell and on the same share of every other group (None: on all answers). `siblings` are other models by name, each an
    alternative besides.
    """

    model: str = "bundled"
    device: str = "auto"
    reference: str = "auto"
    reference_key: str | None = field(default=None, repr=False)
    cells: tuple[ProviderCell, ...] = (ProviderCell(dtype="bf16", batch=64), ProviderCell(dtype="fp32", batch=64))
    wide_cells: tuple[ProviderCell, ...] = ()
    requests: int = 5_000
    wide_requests: int = 300
    hold_out: int = 1_000
    greedy_requests: int = 1_000
    alternatives: tuple[str, ...] | None = None
    alternative_requests: int | None = None
    siblings: tuple[str, ...] = ()
    max_tokens: int = 64
    temperature_ppm: int = PPM
    top_p_ppm: int = PPM

    def __post_init__(self) -> None:
        if not self.cells:
            raise InvalidInput("needs at least one main cell", "cells")
        known = {*WEIGHTS_ALTERNATIVES, SKIPPED_LAYER, *PROMPT_ALTERNATIVES}
        for name in self.alternatives or ():
            if name not in known:
                raise InvalidInput(f"{name[:40]!r} is none of {', '.join(sorted(known))}", "alternatives")
        if self.siblings and self.is_server:
            raise InvalidInput("with a server as the verifier there are no passes of other models", "siblings")
        if self.requests < 16 or self.hold_out < 8 or self.wide_requests < 8:
            raise InvalidInput("too few: 16 requests for a main cell, 8 for a wide one and the hold-out", "requests")

    @property
    def is_server(self) -> bool:
        """Whether the verifier is a server."""
        return is_server(self.reference)

    @property
    def envelope(self) -> PointEnvelope:
        """Return the envelope that questions are drawn in."""
        return PointEnvelope(
            strata=STRATA_V2,
            max_tokens=self.max_tokens,
            temperature_ppm=self.temperature_ppm,
            top_p_ppm=self.top_p_ppm,
        )


def is_development_set(set_name: str) -> bool:
    """Return whether bounds are made from a set's answers: the first set, or one that a profile is deepened with."""
    return set_name.startswith(DEVELOPMENT_SET)


def compute_question_seed(set_name: str, index: int) -> bytes:
    """Return the seed of one question of a public set: apart from every seed of an epoch or an audit."""
    return tagged_digest("quiver-calibration-v2", set_name.encode(), index.to_bytes(8, "big"))


def write_questions(
    collection: Collection,
    task: AuditCalibration,
    set_name: str,
    count: int,
    open_writer: Callable[[], LoadedModel],
    progress: Progress,
    keeps: Callable[[ProbeOutline], bool] = lambda outline: True,
) -> list[Question]:
    """Return the first `count` questions of a set that `keeps` names, writing those that are not there yet."""
    from models.probe_writer import write_probes

    writer: LoadedModel | None = None
    with open_journal(collection.folder / f"questions-{set_name}.jsonl", _build_header(task, set_name)) as journal:
        while len(journal.rows) < count:
            writer = writer or open_writer()
            last: Any = journal.rows[-1]["index"] if journal.rows else -1
            missing = min(WRITER_CHUNK, count - len(journal.rows))
            outlines = dict(islice(_draw_outlines(task, set_name, last + 1, keeps), missing))
            rows: list[Any] = []
            for index, probe in zip(outlines, write_probes(writer, list(outlines.values()), max_rows=64), strict=True):
                rows.append(
                    {
                        "index": index,
                        "stratum": probe.stratum,
                        "messages": [[message.role, message.content] for message in probe.messages],
                        "prompt_ids": list(render_prompt(writer, probe.messages)),
                        "sampler_seed": probe.sampler_seed,
                        "max_tokens": probe.max_tokens,
                    }
                )
            journal.append(rows)
            progress(len(journal.rows), count, f"prompts {set_name}")
        found: list[Any] = journal.rows[:count]
    return [_read_question(row, task) for row in found]


def _draw_outlines(
    task: AuditCalibration, set_name: str, start: int, keeps: Callable[[ProbeOutline], bool]
) -> Iterator[tuple[int, ProbeOutline]]:
    for index in count_up(start):
        outline = build_outline(compute_question_seed(set_name, index), task.envelope)
        if keeps(outline):
            yield index, outline


def _read_question(row: Any, task: AuditCalibration) -> Question:
    return Question(
        index=row["index"],
        stratum=row["stratum"],
        messages=tuple(ChatMessage(role=role, content=content) for role, content in row["messages"]),
        prompt_ids=tuple(row["prompt_ids"]),
        sampler_seed=row["sampler_seed"],
        temperature_ppm=task.temperature_ppm,
        top_p_ppm=task.top_p_ppm,
        max_tokens=row["max_tokens"],
    )


def list_calibrated_alternatives(loaded: LoadedModel, siblings: Sequence[str] = ()) -> list[Alternative]:
    """Return the alternatives that a profile has bounds for, the most telling first, other models last."""
    kinds = (KIND_WEIGHTS, KIND_SKIPPED_LAYER, KIND_HIDDEN_PROMPT, KIND_WRONG_TEMPLATE)
    order = {"int4": 0, "int6": 1, "int5": 2, "int8": 3}
    known = [item for item in list_alternatives(loaded) if item.kind in kinds]
    known.sort(key=lambda item: (kinds.index(item.kind), order.get(item.id, 9)))
    return [*known, *find_siblings(loaded, siblings)]


def get_collection_folder(model: str) -> Path:
    """Return the folder in the user cache for a model's answers; other names of models are hashed into it."""
    name = model if model.isidentifier() else tagged_digest("quiver-collection", model.encode()).hex()[:16]
    return get_cache_dir() / "collections" / name


def gather(
    task: AuditCalibration,
    collection: Collection,
    progress: Progress,
    known: Container[str] = frozenset(),
    sets: Sequence[str] = (DEVELOPMENT_SET, HOLD_OUT_SET),
) -> None:
    """Do every step that is not done yet: prompts, answers, and the passes for statistics that are not `known`."""
    if task.is_server:
        gather_from_server(task, collection, progress)
        return
    from models.variant_weights import WeightsShelf

    groups = answer_cells(task, collection, progress, sets)
    verifier = _open(task, VERIFIER_DTYPE, "sdpa")
    for group, answers in groups.items():
        gather_reference(collection, group, answers, verifier, progress)
    drawn = {group: answers for group, answers in groups.items() if not is_greedy(group)}
    if any(name not in known for name in ACTIVATIONS_IDS):
        for group, answers in drawn.items():
            gather_activations(collection, group, answers, verifier, progress)
    shelf = WeightsShelf(verifier)
    if OWN_NOISE_ID not in known:
        for group, answers in drawn.items():
            gather_alternative(collection, group, answers, verifier, SECOND_RUN, shelf, progress)
    alternatives = [
        item
        for item in list_calibrated_alternatives(verifier, task.siblings)
        if item.kind == KIND_SIBLING or task.alternatives is None or item.id in task.alternatives
    ]
    run = [item.id for item in alternatives]
    for alternative in alternatives:
        for group, answers in groups.items():
            if not needs_pass(alternative.id, run, known, is_greedy(group)):
                continue
            part = answers[: count_alternative_answers(task, len(answers))]
            gather_alternative(collection, group, part, verifier, alternative, shelf, progress)


def needs_pass(alternative: str, run: Names[str], known: Container[str], is_greedy: bool) -> bool:
    """Return whether an alternative has a statistic that is not `known`, or a part of one that the `run` ones give."""
    mixed = () if is_greedy else list_mixed_ids(alternative, run)
    return any(name not in known for name in (*list_statistics_of(alternative, is_greedy), *mixed))


def gather_from_server(task: AuditCalibration, collection: Collection, progress: Progress) -> None:
    """Have the answers that local cells give run again by the reference server: a pass of its own beside the local."""
    # Before hours of answering: a server that is not there is told at once.
    passes = open_passes(task.model, task.reference, task.reference_key)
    try:
        groups = answer_cells(task, collection, progress)
        for group, answers in groups.items():
            gather_columns(collection, group, answers, SERVER_REFERENCE, passes.score, progress)
    finally:
        passes.close()


def count_alternative_answers(task: AuditCalibration, count: int) -> int:
    """Return how many of a group's `count` answers the alternatives are run on: whole shards of them."""
    if task.alternative_requests is None:
        return count
    share = -(-task.alternative_requests * count // task.requests)
    return min(-(-share // SHARD) * SHARD, count)


def answer_cells(
    task: AuditCalibration,
    collection: Collection,
    progress: Progress,
    sets: Sequence[str] = (DEVELOPMENT_SET, HOLD_OUT_SET),
) -> dict[str, list[Answered]]:
    """Return the answers of every cell in some sets by group, generating those that are missing."""

    def open_writer() -> LoadedModel:
        return _open(task, WRITER_DTYPE, "sdpa")

    groups: dict[str, list[Answered]] = {}
    for set_name in sets:
        count = task.requests if is_development_set(set_name) else task.hold_out
        questions = write_questions(collection, task, set_name, count, open_writer, progress)
        for group, cell, wanted in list_groups(task, set_name, questions):
            found = collection.read_answers(group, wanted)
            if len(found) < len(wanted):
                loaded = _open(task, cell.dtype, cell.attention)
                answerer = build_honest_answerer(loaded, cell.batch)
                found = gather_answers(collection, group, wanted, answerer, max(2 * cell.batch, 16), progress)
                del loaded, answerer
                gc.collect()
            groups[group] = found
    return groups


def is_greedy(group: str) -> bool:
    """Return whether a group's questions were asked at temperature 0."""
    return f"-{GREEDY}-" in group


def list_groups(
    task: AuditCalibration, set_name: str, questions: Sequence[Question]
) -> list[tuple[str, ProviderCell, Sequence[Question]]]:
    """Return the groups of a set with their cells and questions: those at temperature 0 after all others."""
    wide = task.wide_cells if is_development_set(set_name) else ()
    greedy = [replace(question, temperature_ppm=0) for question in questions[: task.greedy_requests]]
    return [
        *((f"{set_name}-{cell.name}", cell, questions) for cell in task.cells),
        *((f"{set_name}-{cell.name}", cell, questions[: task.wide_requests]) for cell in wide),
        *((f"{set_name}-{GREEDY}-{cell.name}", cell, greedy) for cell in task.cells),
    ]


def _open(task: AuditCalibration, dtype: str, attention: str) -> LoadedModel:
    return load_packed(task.model, dtype=dtype, device=task.device, attn=attention)


def read_questions(collection: Collection, task: AuditCalibration, set_name: str) -> list[Question]:
    """Return the questions of a set that were written so far."""
    path = collection.folder / f"questions-{set_name}.jsonl"
    return [_read_question(row, task) for row in read_journal(path, _build_header(task, set_name))]


def _build_header(task: AuditCalibration, set_name: str) -> Row:
    return {"set": set_name, "generator": GENERATOR_ID_V2, "max_tokens": task.max_tokens}
