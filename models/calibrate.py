"""Calibration: run the claimed weights honestly in every cell at hand and bound what honest answers look like.

For each cell (verifier dtype x provider dtype and batch): draw prompts from the sealed generator, answer them with the
claimed weights, run the answers again through the verifier's reference, turn each into its request statistics, and
bound their means by stratum. Fresh prompts that no choice is made on are the hold-out. Answers and statistics are
kept in two journals beside the output, so that a killed run goes on where it stopped; new statistics need only the
second file removed.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.journal import Journal, Row, open_journal
from models.load import LoadedModel, render_prompt
from models.packing import load_packed
from models.requests import SAMPLER_GUMBEL, ChatMessage, GenerationRequest, ReferenceRequest
from models.tolerances import build_measurement, describe_runtime
from scoring.errors import InvalidInput
from scoring.evidence.hold_out import compute_hold_out
from scoring.evidence.plan import build_plan
from scoring.evidence.profile import (
    ENGINE_TRANSFORMERS,
    MAIN,
    NO_HOLD_OUT,
    Cell,
    Measurement,
    ToleranceProfile,
    is_development,
)
from scoring.evidence.statistics import STATISTIC_IDS, compute_statistics
from scoring.hashing import tagged_digest
from scoring.probes import GENERATOR_ID, STRATA, PointEnvelope, Probe, build_probe
from scoring.records import PPM

ONE_OVER_DELTA = 10_000_000
"""All bounds of a profile hold together with probability 1 - 1e-7."""
DEVELOPMENT_SET, HOLD_OUT_SET = "development", "hold-out"
VERIFIER_BATCH = 16
ROUNDS_PER_WRITE = 4

Progress = Callable[[int, int, str], None]
"""Hears (done, total, what) after every write; the numbers are requests of the running step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTask:
    """What to measure. `requests` and `hold_out` are per provider cell; every verifier re-runs the same answers.

    `max_tokens`, `temperature_ppm` and `top_p_ppm` are the envelope that the profile holds for.
    """

    model: str = "bundled"
    device: str = "auto"
    provider_dtypes: tuple[str, ...] = ("bf16", "fp32")
    provider_batch: int = 32
    verifier_dtypes: tuple[str, ...] = ("bf16",)
    requests: int = 1000
    hold_out: int = 300
    strata: tuple[str, ...] = STRATA
    max_tokens: int = 48
    temperature_ppm: int = PPM
    top_p_ppm: int = PPM

    def __post_init__(self) -> None:
        if not self.provider_dtypes or not self.verifier_dtypes:
            raise InvalidInput("needs at least one provider dtype and one verifier dtype", "cells")
        if self.requests < len(self.strata) or self.hold_out < 8 or self.provider_batch < 1:
            raise InvalidInput("too few: every stratum needs a request, the hold-out eight", "requests")

    @property
    def envelope(self) -> PointEnvelope:
        """Return the envelope that probes are drawn in."""
        return PointEnvelope(
            strata=self.strata,
            max_tokens=self.max_tokens,
            temperature_ppm=self.temperature_ppm,
            top_p_ppm=self.top_p_ppm,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One honest request: which set and number it is, its probe and its rendered prompt."""

    set: str
    index: int
    probe: Probe
    prompt_ids: tuple[int, ...]


def run(task: CalibrationTask, out: Path, progress: Progress = lambda done, total, what: None) -> ToleranceProfile:
    """Measure, write the profile to `out` as canonical JSON, and return it. Resumes from the journals beside `out`.

    Raises InvalidInput when a journal belongs to other settings, and what loading and running a model raise.
    """
    manifest_digest = b""
    with open_journal(out.with_suffix(".answers.jsonl"), _build_header(task)) as answers:
        for dtype in task.provider_dtypes:
            loaded = load_packed(task.model, dtype=dtype, device=task.device)
            manifest_digest = loaded.manifest.compute_digest()
            _answer_all(task, loaded, answers, progress)
            del loaded
            gc.collect()
        header: Row = {**_build_header(task), "statistics": list(STATISTIC_IDS)}
        with open_journal(out.with_suffix(".scores.jsonl"), header) as scores:
            cells = []
            for verifier_dtype in task.verifier_dtypes:
                loaded = load_packed(task.model, dtype=verifier_dtype, device=task.device)
                for dtype in task.provider_dtypes:
                    _score_all(task, loaded, dtype, answers, scores, progress)
                    cells.append(_build_cell(task, loaded, dtype, answers, scores))
                del loaded
                gc.collect()
            profile = _add_hold_outs(task, _build_profile(task, manifest_digest, cells), scores)
    out.write_bytes(profile.encode())
    return profile


def compute_calibration_seed(task: CalibrationTask, dtype: str, set_name: str, index: int) -> bytes:
    """Return the probe seed of one calibration request: public, and apart from every seed of an epoch."""
    cell = f"{dtype}/{task.provider_batch}"
    return tagged_digest("quiver-calibration", cell.encode(), set_name.encode(), index.to_bytes(8, "big"))


def _build_header(task: CalibrationTask) -> Row:
    # How many requests, and in which dtypes, may change between runs: the rows say which they are.
    return {
        "model": task.model,
        "generator": GENERATOR_ID,
        "sampler": SAMPLER_GUMBEL,
        "strata": list(task.strata),
        "provider_batch": task.provider_batch,
        "max_tokens": task.max_tokens,
        "temperature_ppm": task.temperature_ppm,
        "top_p_ppm": task.top_p_ppm,
    }


def _build_items(task: CalibrationTask, loaded: LoadedModel, dtype: str) -> list[_Item]:
    items = []
    for set_name, count in ((DEVELOPMENT_SET, task.requests), (HOLD_OUT_SET, task.hold_out)):
        for index in range(count):
            probe = build_probe(compute_calibration_seed(task, dtype, set_name, index), task.envelope)
            messages = [ChatMessage(role=message.role, content=message.content) for message in probe.messages]
            prompt_ids = tuple(render_prompt(loaded, messages))
            items.append(_Item(set=set_name, index=index, probe=probe, prompt_ids=prompt_ids))
    return items


def _answer_all(task: CalibrationTask, loaded: LoadedModel, answers: Journal, progress: Progress) -> None:
    """Generate every answer of one provider cell that the journal does not hold yet."""
    from models.generate import generate

    items = _build_items(task, loaded, loaded.dtype)
    done = {(row["set"], row["index"]) for row in answers.rows if row["provider_dtype"] == loaded.dtype}
    missing = [item for item in items if (item.set, item.index) not in done]
    for chunk in _split(missing, task.provider_batch * ROUNDS_PER_WRITE):
        started = time.monotonic()
        requests = [_build_generation_request(item) for item in chunk]
        generations = generate(loaded, requests, max_rows=task.provider_batch)
        spent_ms = int((time.monotonic() - started) * 1000) // len(chunk)
        answers.append(
            {
                "provider_dtype": loaded.dtype,
                "set": item.set,
                "index": item.index,
                "output_ids": list(generation.token_ids),
                "spent_ms": spent_ms,
            }
            for item, generation in zip(chunk, generations, strict=True)
        )
        done |= {(item.set, item.index) for item in chunk}
        progress(len(done), len(items), f"answering in {loaded.dtype}")


def _score_all(
    task: CalibrationTask, loaded: LoadedModel, dtype: str, answers: Journal, scores: Journal, progress: Progress
) -> None:
    """Re-run every answer of a provider cell through one verifier, unless the journal has it."""
    from models.reference import score_batch

    cell = _name_cell(task, loaded.dtype, dtype)
    output_ids = {
        (row["set"], row["index"]): row["output_ids"] for row in answers.rows if row["provider_dtype"] == dtype
    }
    done = {(row["set"], row["index"]) for row in scores.rows if row["cell"] == cell}
    items = _build_items(task, loaded, dtype)
    missing = [item for item in items if (item.set, item.index) not in done]
    for chunk in _split(missing, VERIFIER_BATCH * ROUNDS_PER_WRITE):
        started = time.monotonic()
        requests = [_build_reference_request(item, output_ids[item.set, item.index]) for item in chunk]
        results = score_batch(loaded, requests)
        spent_ms = int((time.monotonic() - started) * 1000) // len(chunk)
        scores.append(
            {
                "cell": cell,
                "set": item.set,
                "index": item.index,
                "stratum": item.probe.stratum,
                "statistics_ppm": list(compute_statistics(result, task.max_tokens)),
                "spent_ms": spent_ms,
            }
            for item, result in zip(chunk, results, strict=True)
        )
        done |= {(item.set, item.index) for item in chunk}
        progress(len(done), len(items), f"re-running {cell}")


def _build_generation_request(item: _Item) -> GenerationRequest:
    probe = item.probe
    return GenerationRequest(
        prompt_ids=item.prompt_ids,
        max_tokens=probe.max_tokens,
        temperature=probe.temperature_ppm / PPM,
        top_p=probe.top_p_ppm / PPM,
        seed=probe.sampler_seed,
    )


def _build_reference_request(item: _Item, output_ids: Any) -> ReferenceRequest:
    probe = item.probe
    return ReferenceRequest(
        prompt_ids=item.prompt_ids,
        output_ids=tuple(output_ids),
        temperature=probe.temperature_ppm / PPM,
        top_p=probe.top_p_ppm / PPM,
        seed=probe.sampler_seed,
        sampler=SAMPLER_GUMBEL,
    )


def _name_cell(task: CalibrationTask, verifier_dtype: str, provider_dtype: str) -> str:
    return f"{verifier_dtype}<-{provider_dtype}/{task.provider_batch}"


def _find_rows(scores: Journal, cell: str, set_name: str) -> list[Any]:
    rows: list[Any] = [row for row in scores.rows if row["cell"] == cell and row["set"] == set_name]
    return sorted(rows, key=lambda row: row["index"])


def _build_cell(task: CalibrationTask, loaded: LoadedModel, dtype: str, answers: Journal, scores: Journal) -> Cell:
    name = _name_cell(task, loaded.dtype, dtype)
    rows = _find_rows(scores, name, DEVELOPMENT_SET)[: task.requests]
    spent: list[Any] = [row["spent_ms"] for row in answers.rows if row["provider_dtype"] == dtype]
    spent += [row["spent_ms"] for row in scores.rows if row["cell"] == name]
    return Cell(
        name=name,
        role=MAIN,
        verifier_dtype=loaded.dtype,
        verifier_batch=VERIFIER_BATCH,
        provider_dtype=dtype,
        provider_batch=task.provider_batch,
        requests=len(rows),
        seconds=sum(spent) // 1000,
        measurements=_measure(task, rows),
        hold_out=NO_HOLD_OUT,
        **describe_runtime(loaded.device, loaded.attention),
    )


def _measure(task: CalibrationTask, rows: Sequence[Any]) -> tuple[Measurement, ...]:
    """Bound every statistic in every stratum; the error is shared equally over cells, strata and statistics."""
    cells = len(task.provider_dtypes) * len(task.verifier_dtypes)
    log_one_over_delta = math.log(ONE_OVER_DELTA * cells * len(task.strata) * len(STATISTIC_IDS))
    return tuple(
        build_measurement(
            stratum,
            statistic,
            [row["statistics_ppm"][index] for row in rows if row["stratum"] == stratum],
            log_one_over_delta,
        )
        for index, statistic in enumerate(STATISTIC_IDS)
        for stratum in task.strata
    )


def _build_profile(task: CalibrationTask, manifest_digest: bytes, cells: Sequence[Cell]) -> ToleranceProfile:
    return ToleranceProfile(
        model=task.model,
        manifest_digest=manifest_digest,
        sampler=SAMPLER_GUMBEL,
        generator=GENERATOR_ID,
        engine=ENGINE_TRANSFORMERS,
        max_tokens=task.max_tokens,
        temperature_ppm=task.temperature_ppm,
        top_p_ppm=task.top_p_ppm,
        strata=task.strata,
        one_over_delta=ONE_OVER_DELTA,
        development=is_development(cell.requests for cell in cells),
        cells=tuple(cells),
    )


def _add_hold_outs(task: CalibrationTask, profile: ToleranceProfile, scores: Journal) -> ToleranceProfile:
    """Return the profile with its hold-out results: what the plan made from it does to fresh honest answers."""
    plan = build_plan(profile)
    cells = []
    for cell in profile.cells:
        rows = _find_rows(scores, cell.name, HOLD_OUT_SET)[: task.hold_out]
        cells.append(replace(cell, hold_out=compute_hold_out(plan, [row["statistics_ppm"] for row in rows])))
    return replace(profile, cells=tuple(cells))


def _split(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
