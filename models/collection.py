"""Answers and what the reference says of them, gathered on disk so that a killed run goes on where it stopped.

A collection is a folder:

* `questions-SET.jsonl`: the drawn probes of a set, with the prompts as they were written;
* `answers-GROUP.jsonl`: one line for each answer of a group (a set, answered by one cell or one cheat);
* `columns/GROUP/PASS/START.npz`: numbers per token of SHARD answers, of the reference pass or of an alternative.

Statistics are made from the columns, so that a new statistic needs no new pass. Every file appears whole or not at all.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.alternatives import AlternativeColumns, SkippedAlternative
from models.journal import open_journal, read_journal
from models.requests import SAMPLER_GUMBEL, ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.records import PPM

SHARD = 64
REFERENCE, SERVER_REFERENCE, ACTIVATIONS = "reference", "server-reference", "activations"
_TOKEN_COLUMNS = ("logprob", "raw_logprob", "rank", "entropy", "pit_low", "pit_high", "grid_logprob", "margin", "gap")
_ALTERNATIVE_COLUMNS = ("logprob", "margin", "gap")
_LOGPROBS, _LOGPROB_STEPS, _PROOFS = "logprobs_e4", 10_000, "proofs"

Progress = Callable[[int, int, str], None]
"""Hears (done, total, what) after every write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One drawn probe: its conversation, the prompt ids of the claimed template, and its sampling."""

    index: int
    stratum: str
    messages: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    sampler_seed: int
    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question and the tokens that came back for it; `prompt_tokens` is what the provider says of the prompt.

    `logprobs` is what the provider says of each token (temperature 1, no filter), `proofs` its activation proofs in
    base64 (`models.activation_proofs`); None where nobody asked.
    """

    question: Question
    output_ids: tuple[int, ...]
    prompt_tokens: int
    is_cheated: bool = False
    logprobs: tuple[float, ...] | None = None
    proofs: tuple[str, ...] | None = None

    def to_reference_request(self) -> ReferenceRequest:
        """Return the claim that is tested: these tokens, from this prompt, with this seed."""
        question = self.question
        return ReferenceRequest(
            prompt_ids=question.prompt_ids,
            output_ids=self.output_ids,
            temperature=question.temperature_ppm / PPM,
            top_p=question.top_p_ppm / PPM,
            seed=question.sampler_seed,
            sampler=SAMPLER_GUMBEL,
        )


def build_generation_request(question: Question) -> GenerationRequest:
    """Return what an honest provider does with a question."""
    return GenerationRequest(
        prompt_ids=question.prompt_ids,
        max_tokens=question.max_tokens,
        temperature=question.temperature_ppm / PPM,
        top_p=question.top_p_ppm / PPM,
        seed=question.sampler_seed,
        logprobs=0,
        proves_activations=True,
    )


def reseed(question: Question, group: str) -> Question:
    """Return the question with the sampler seed that it has in one group: groups share prompts, never noise."""
    digest = tagged_digest("quiver-collection-seed", group.encode(), question.sampler_seed.to_bytes(8, "big"))
    return replace(question, sampler_seed=int.from_bytes(digest, "big") >> (256 - 53))


class Collection:
    """The files of one collection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read_answers(self, group: str, questions: Sequence[Question]) -> list[Answered]:
        """Return what has been answered so far, in the order of the questions; raises InvalidInput on damaged rows."""
        rows: dict[Any, Any] = {row["index"]: row for row in self.read_answer_rows(group)}
        found = []
        for question in questions:
            row = rows.get(question.index)
            if row is None:
                break
            found.append(
                Answered(
                    question=reseed(question, group),
                    output_ids=tuple(row["output_ids"]),
                    prompt_tokens=row["prompt_tokens"],
                    is_cheated=row["is_cheated"],
                    logprobs=_read_logprobs(row),
                    proofs=tuple(row[_PROOFS]) if _PROOFS in row else None,
                )
            )
        return found

    def read_answer_rows(self, group: str) -> list[Any]:
        """Return a group's lines as they were written."""
        return list(read_journal(self._answers_path(group), {"group": group}))

    def write_answers(self, group: str, answers: Sequence[Answered], spent_ms: int) -> None:
        """Append answers; `spent_ms` is the time that each of them took."""
        with open_journal(self._answers_path(group), {"group": group}) as journal:
            journal.append(
                {
                    "index": answer.question.index,
                    "output_ids": list(answer.output_ids),
                    "prompt_tokens": answer.prompt_tokens,
                    "is_cheated": answer.is_cheated,
                    **_write_logprobs(answer),
                    **({} if answer.proofs is None else {_PROOFS: list(answer.proofs)}),
                    "spent_ms": spent_ms,
                }
                for answer in answers
            )

    def find_missing_shards(self, group: str, name: str, count: int) -> list[range]:
        """Return the ranges of answers whose columns of a pass are not there yet; the last one may be short."""
        shards = (range(start, min(start + SHARD, count)) for start in range(0, count, SHARD))
        return [shard for shard in shards if not self._shard_path(group, name, shard).exists()]

    def write_shard(self, group: str, name: str, shard: range, columns: dict[str, NDArray[Any]]) -> None:
        """Write the columns of one shard whole or not at all."""
        path = self._shard_path(group, name, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        with part.open("wb") as file:
            np.savez_compressed(file, **columns)
        part.replace(path)

    def read_columns(self, group: str, name: str, count: int) -> Iterator[dict[str, list[Any]] | None]:
        """Yield the columns of each answer as lists, None where an alternative was skipped, as far as there are any."""
        for start in range(0, count, SHARD):
            path = self._shard_path(group, name, range(start, min(start + SHARD, count)))
            if not path.exists():
                return
            with np.load(path, allow_pickle=False) as arrays:
                yield from _split_rows({key: arrays[key] for key in arrays.files})

    def _answers_path(self, group: str) -> Path:
        return self.folder / f"answers-{group.replace('/', '-')}.jsonl"

    def _shard_path(self, group: str, name: str, shard: range) -> Path:
        # The length is in the name: a short last shard is written anew when more answers came.
        return self.folder / "columns" / group.replace("/", "-") / name / f"{shard.start:06d}-{len(shard):03d}.npz"


def _write_logprobs(answer: Answered) -> dict[str, Any]:
    # Canonical JSON has no floats: ten-thousandths of a nat.
    if answer.logprobs is None:
        return {}
    return {_LOGPROBS: [round(value * _LOGPROB_STEPS) for value in answer.logprobs]}


def _read_logprobs(row: dict[str, Any]) -> tuple[float, ...] | None:
    return tuple(value / _LOGPROB_STEPS for value in row[_LOGPROBS]) if _LOGPROBS in row else None


def pack_token_statistics(rows: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Return the `TokenStatistics` of some answers (or partial ones), joined, with their lengths."""
    return _pack(rows, _TOKEN_COLUMNS)


def pack_activation_errors(errors: Sequence[float | None]) -> dict[str, NDArray[Any]]:
    """Return the error of each answer's activation proofs as a column of one number; None has the length -1."""
    known = [value for value in errors if value is not None]
    lengths = [-1 if value is None else 1 for value in errors]
    return {"error": np.array(known, np.float32), "length": np.array(lengths, np.int32)}


def pack_alternative_columns(rows: Sequence[AlternativeColumns | SkippedAlternative]) -> dict[str, NDArray[Any]]:
    """Return the columns of some answers under an alternative; a skipped one has the length -1."""
    kept = [row for row in rows if isinstance(row, AlternativeColumns)]
    lengths = [len(row.logprob) if isinstance(row, AlternativeColumns) else -1 for row in rows]
    return {**_pack(kept, _ALTERNATIVE_COLUMNS), "length": np.array(lengths, np.int32)}


def _pack(rows: Sequence[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    packed: dict[str, NDArray[Any]] = {"length": np.array([len(row.logprob) for row in rows], np.int32)}
    for name in names:
        columns = [getattr(row, name) for row in rows]
        if any(column is None for column in columns):
            if not all(column is None for column in columns):
                raise InvalidInput("answers with and without seed in one shard", name)
            continue
        joined = [value for column in columns for value in column]
        packed[name] = np.array(joined, np.float32)
    return packed


def _split_rows(arrays: dict[str, NDArray[Any]]) -> Iterator[dict[str, list[Any]] | None]:
    start = 0
    for length in arrays["length"].tolist():
        if length < 0:
            yield None
            continue
        yield {name: values[start : start + length].tolist() for name, values in arrays.items() if name != "length"}
        start += length
