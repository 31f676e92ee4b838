"""From a collection of honest answers to the profile of an audit: cells, bounds, and what the hold-out reaches."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models.calibrate_audit import (
    DEVELOPMENT_SET,
    HOLD_OUT_SET,
    VERIFIER_DTYPE,
    AuditCalibration,
    ProviderCell,
    count_alternative_answers,
    gather,
    get_collection_folder,
    list_calibrated_alternatives,
    list_groups,
    read_questions,
)
from models.collection import REFERENCE, SERVER_REFERENCE, Collection, Progress
from models.load import LoadedModel, load_model, load_outline
from models.requests import SAMPLER_GUMBEL
from models.tolerances import HonestRequest, compute_log_share, describe_runtime, measure, read_requests
from scoring.errors import InvalidInput
from scoring.evidence.audit import Unit, build_wealth
from scoring.evidence.audit_plan import build_audit_plan
from scoring.evidence.channel_ids import (
    CHANNELS,
    GREEDY,
    PROMPT_ALTERNATIVES,
    SEEDED,
    TEXT,
    WEIGHTS_ALTERNATIVES,
    get_channel,
    is_audited,
    is_sibling,
    list_statistics_of,
)
from scoring.evidence.other_weights import SKIPPED_LAYER
from scoring.evidence.profile import (
    ALL,
    ENGINE_TRANSFORMERS,
    ENGINE_VLLM,
    MAIN,
    NO_HOLD_OUT,
    SERVER,
    WIDE,
    Cell,
    HoldOut,
    Measurement,
    ToleranceProfile,
    is_development,
)
from scoring.evidence.tolerance import Tolerance
from scoring.probe_outlines import GENERATOR_ID_V2, STRATA_V2
from scoring.records import PPM

ONE_OVER_DELTA = 10_000_000
BOUND_PLACES = 160
"""Shares of delta in a main cell, one a statistic. More than there are statistics: a profile that was made when 110
shared it, with 83 of them, leaves room for what extensions add (83 / 110 + 39 / 160 < 1)."""
SIBLING_PLACES = 4_800
"""The same of models that somebody names, whose number is not known beforehand: MAX_SIBLINGS of them fit as well."""
VERIFIER_BATCH = 16


def run(
    task: AuditCalibration,
    out: Path,
    work: Path | None = None,
    progress: Progress = lambda done, total, what: None,
    base: ToleranceProfile | None = None,
) -> ToleranceProfile:
    """Measure, write the profile to `out` as canonical JSON, and return it; goes on from what `work` holds.

    With `base` only what that profile has no bounds for, or has from fewer requests, is measured and put into it
    (`extend_profile`); raises InvalidInput, before anything is measured, where they may not stand in it.
    """
    collection = Collection(work or get_collection_folder(task.model))
    if base is None:
        gather(task, collection, progress)
        profile = build_profile(task, collection)
    else:
        check_base(base, task)
        gather(task, collection, progress, known=list_settled(base, task))
        profile = extend_profile(base, task, collection)
    out.write_bytes(profile.encode())
    return profile


def extend_profile(base: ToleranceProfile, task: AuditCalibration, collection: Collection) -> ToleranceProfile:
    """Return a profile with the bounds that it lacks, from the honest answers of a collection in each of its cells.

    Bounds that rest on fewer requests than the collection has in every main cell are replaced: the count decides, never
    what was measured. All else stays as it is, the reading of its hold-out included: that is of the statistics which it
    had then. A wide cell without answers keeps what it has and is not covered by what is added. Raises InvalidInput
    when the collection has no answers of a main cell.
    """
    measured = measure_cells_of(base, task, collection)
    main = [(cell, measured[cell.name]) for cell in base.cells if cell.role == MAIN]
    counts = [(cell.count_requests(), fresh.count_requests()) for cell, fresh in main]
    better = {name for name in counts[0][1] if all(new.get(name, 0) > old.get(name, 0) for old, new in counts)}
    cells = tuple(extend_cell(cell, measured.get(cell.name), better) for cell in base.cells)
    is_short = is_development(cell.requests for cell in cells if cell.role == MAIN)
    return replace(base, cells=cells, development=is_short)


def check_base(base: ToleranceProfile, task: AuditCalibration) -> None:
    """Raise InvalidInput unless what a task measures may stand in a profile: same model, envelope and engine."""
    if task.is_server or base.engine != ENGINE_TRANSFORMERS:
        raise InvalidInput("of a server there is one pass: calibrate it anew", "profile")
    if base.manifest_digest != load_outline(task.model, needs_weights=True).manifest.compute_digest():
        raise InvalidInput("the profile is of another model", "profile")
    envelope = (task.max_tokens, task.temperature_ppm, task.top_p_ppm)
    if (base.max_tokens, base.temperature_ppm, base.top_p_ppm) != envelope or base.strata != STRATA_V2:
        raise InvalidInput("the profile was made in another envelope", "profile")


def measure_cells_of(
    base: ToleranceProfile, task: AuditCalibration, collection: Collection, set_name: str = DEVELOPMENT_SET
) -> dict[str, Cell]:
    """Return what a set's answers give, by the cell's name; raises InvalidInput without answers of a main cell."""
    verifier = _load(task)
    names = [item.id for item in list_calibrated_alternatives(verifier, task.siblings)]
    cells = _build_cells(task, collection, names, verifier.device, set_name)
    measured = {cell.name: cell for cell in cells.values()}
    missing = [cell.name for cell in base.cells if cell.role == MAIN and cell.name not in measured]
    if missing:
        raise InvalidInput(f"no honest answers of {missing[0]}", "cells")
    return measured


def list_settled(base: ToleranceProfile, task: AuditCalibration) -> frozenset[str]:
    """Return the statistics that a task would measure on no more requests than a profile did in every main cell."""
    alternatives = task.alternatives or (*WEIGHTS_ALTERNATIVES, SKIPPED_LAYER, *PROMPT_ALTERNATIVES)
    of_alternatives = {name for item in alternatives for name in list_statistics_of(item, is_greedy=False)}

    def count_planned(name: str) -> int:
        if get_channel(name) == GREEDY:
            return min(task.greedy_requests, task.requests)
        return (
            count_alternative_answers(task, task.requests)
            if name in of_alternatives or is_sibling(name)
            else task.requests
        )

    counts = [cell.count_requests() for cell in base.cells if cell.role == MAIN]
    return frozenset(name for name in counts[0] if all(count[name] >= count_planned(name) for count in counts))


def extend_cell(cell: Cell, measured: Cell | None, better: Container[str]) -> Cell:
    """Return a cell with what was measured of the `better` statistics, where more requests stand behind that."""
    if measured is None:
        return cell
    old, new = cell.count_requests(), measured.count_requests()
    replaced = {name for name, count in new.items() if name in better and count > old.get(name, 0)}
    kept = tuple(item for item in cell.measurements if item.statistic not in replaced)
    added = tuple(item for item in measured.measurements if item.statistic in replaced)
    extended = replace(cell, measurements=(*kept, *added))
    return replace(extended, requests=min(extended.count_requests().values()))


def build_profile(task: AuditCalibration, collection: Collection) -> ToleranceProfile:
    """Return the profile of what a collection holds; raises InvalidInput when some cell has no answers."""
    verifier = load_outline(task.model) if task.is_server else _load(task)
    names = [item.id for item in list_calibrated_alternatives(verifier, task.siblings)]
    cells = _build_cells(task, collection, names, SERVER if task.is_server else verifier.device)
    profile = ToleranceProfile(
        model=task.model,
        manifest_digest=verifier.manifest.compute_digest(),
        sampler=SAMPLER_GUMBEL,
        generator=GENERATOR_ID_V2,
        engine=ENGINE_VLLM if task.is_server else ENGINE_TRANSFORMERS,
        max_tokens=task.max_tokens,
        temperature_ppm=task.temperature_ppm,
        top_p_ppm=task.top_p_ppm,
        strata=STRATA_V2,
        one_over_delta=ONE_OVER_DELTA,
        development=is_development(cell.requests for cell in cells.values() if cell.role == MAIN),
        cells=tuple(cells.values()),
    )
    held = {
        cells[cell].name: compute_hold_out(profile, read_cell(task, collection, HOLD_OUT_SET, cell, names))
        for cell in task.cells
    }
    return replace(
        profile,
        cells=tuple(replace(cell, hold_out=held.get(cell.name, cell.hold_out)) for cell in profile.cells),
    )


def _load(task: AuditCalibration) -> LoadedModel:
    return load_model(task.model, dtype=VERIFIER_DTYPE, device=task.device)


def compute_log_share_of(statistic: str, main_cells: int) -> float:
    """Return log(1/delta) of a statistic's bound in one of the main cells: one for each place, the rest is covered."""
    places = SIBLING_PLACES if is_sibling(statistic) else BOUND_PLACES
    return compute_log_share(ONE_OVER_DELTA, main_cells * places)


def _build_cells(
    task: AuditCalibration,
    collection: Collection,
    names: Sequence[str],
    device: str,
    set_name: str = DEVELOPMENT_SET,
) -> dict[ProviderCell, Cell]:
    """Return the measured cells, with the statistics that every main cell has in every stratum."""

    def find_log(statistic: str) -> float:
        return compute_log_share_of(statistic, len(task.cells))

    measured = {
        cell: measure(read_cell(task, collection, set_name, cell, names), STRATA_V2, find_log)
        for cell in (*task.cells, *task.wide_cells)
    }
    empty = [cell.name for cell, items in measured.items() if not items]
    if empty:
        raise InvalidInput(f"no honest answers of {empty[0]}", "cells")
    shared = set.intersection(*({(item.statistic, item.stratum) for item in measured[cell]} for cell in task.cells))
    whole = {name for name, _ in shared if all((name, stratum) in shared for stratum in (ALL, *STRATA_V2))}
    kept = {cell: tuple(item for item in items if item.statistic in whole) for cell, items in measured.items()}
    seconds = {cell: _sum_seconds(collection, f"{set_name}-{cell.name}") for cell in kept}
    return {cell: _build_cell(task, cell, items, device, seconds[cell]) for cell, items in kept.items()}


def _build_cell(
    task: AuditCalibration, cell: ProviderCell, measurements: tuple[Measurement, ...], device: str, seconds: int
) -> Cell:
    # What a server computes in is not told: whoever calibrates it knows how it was started.
    verifier_dtype = SERVER if task.is_server else VERIFIER_DTYPE
    return Cell(
        name=f"{verifier_dtype}<-{cell.name}",
        role=MAIN if cell in task.cells else WIDE,
        verifier_dtype=verifier_dtype,
        verifier_batch=VERIFIER_BATCH,
        provider_dtype=cell.dtype,
        provider_batch=cell.batch,
        requests=min(item.n for item in measurements if item.stratum == ALL),
        seconds=seconds,
        measurements=measurements,
        hold_out=NO_HOLD_OUT,
        **describe_runtime(device, cell.attention),
    )


def compute_hold_out(profile: ToleranceProfile, requests: Sequence[HonestRequest]) -> HoldOut:
    """Return the largest e-value that an audit of these honest requests ever reaches, in their order.

    Raises InvalidInput when there are none: a hold-out of nothing says nothing.
    """
    if not requests:
        raise InvalidInput("no hold-out answers were gathered", "hold_out")
    mu_ppm = profile.compute_mu_ppm()
    known = {get_channel(name) for name in mu_ppm}
    whole = tuple(channel for channel in CHANNELS if channel in known)
    bounds = {
        name: tolerance
        for name, tolerance in profile.compute_tolerances().items()
        if is_audited(name) and tolerance[-1].mu_ppm < PPM
    }
    peaks = [_compute_peak(bounds, channels, requests) for channels in (whole, (SEEDED,), (TEXT,))]
    shares = []
    for name, mu in mu_ppm.items():
        values = [request.statistics_ppm[name] for request in requests if name in request.statistics_ppm]
        if values:
            shares.append(sum(values) * PPM // (len(values) * mu))
    return replace(
        NO_HOLD_OUT,
        n=len(requests),
        max_product_milli_log10=peaks[0],
        max_seeded_milli_log10=peaks[1],
        max_text_milli_log10=peaks[2],
        max_mean_over_mu_ppm=max(shares),
    )


def _compute_peak(bounds: Mapping[str, Tolerance], channels: Sequence[str], requests: Sequence[HonestRequest]) -> int:
    wealth = build_wealth(build_audit_plan(bounds, channels, covers_all_settings=False))
    peak = 0.0
    for request in requests:
        wealth = wealth.add(Unit(statistics_ppm=request.statistics_ppm))
        peak = max(peak, wealth.compute_log())
    return math.floor(1000 * peak / math.log(10))


def read_cell(
    task: AuditCalibration, collection: Collection, set_name: str, cell: ProviderCell, names: Sequence[str]
) -> list[HonestRequest]:
    """Return the requests of a cell in one set, those at temperature 0 last."""
    groups = list_groups(task, set_name, read_questions(collection, task, set_name))
    reference = SERVER_REFERENCE if task.is_server else REFERENCE
    return [
        request
        for group, own, questions in groups
        if own == cell
        for request in read_requests(collection, group, collection.read_answers(group, questions), names, reference)
    ]


def _sum_seconds(collection: Collection, group: str) -> int:
    return sum(row["spent_ms"] for row in collection.read_answer_rows(group)) // 1000
