"""Putting a profile's bounds on more honest requests than they rest on, some at a time, as there is time for it.

The new requests are put together with those that are there (`tolerances.join_measurements`). A bound by betting holds
at all times at once, so deepening a profile whenever one likes, having looked at it, costs nothing. The questions are a
set of their own that is named after the profile's digest: whoever deepens a profile draws none that it rests on.
"""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from models.audit_profile import check_base, compute_log_share_of, measure_cells_of
from models.calibrate_audit import DEVELOPMENT_SET, AuditCalibration, gather, get_collection_folder
from models.collection import Collection, Progress
from models.load import choose_device
from models.tolerances import describe_runtime, join_measurements
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import CHANNEL_STATISTIC_IDS, GREEDY, get_channel, is_sibling
from scoring.evidence.profile import MAIN, MIN_REQUESTS, Cell, ToleranceProfile, is_development

_SAME_MACHINE = ("device", "processor", "torch_version", "transformers_version")


def deepen_profile(
    task: AuditCalibration,
    base: ToleranceProfile,
    out: Path,
    work: Path | None = None,
    progress: Progress = lambda done, total, what: None,
    until: int = MIN_REQUESTS,
    chosen: Sequence[str] = (),
) -> ToleranceProfile:
    """Measure `task.requests` more in each main cell for bounds that rest on fewer than `until`, and write the profile.

    `chosen` are statistics, or how their names begin (none: all). All else stays to the digit: what rests on `until`
    requests in every main cell, and what the task measures nothing of. Goes on from what `work` holds. Raises
    InvalidInput for a profile of another model, envelope, engine or runtime, and when there is nothing to measure.
    """
    check_base(base, task)
    _check_runtime(base, task)
    wanted = choose(list_wanted(base, task, until), base, chosen)
    if not wanted:
        raise InvalidInput(f"every bound that is measured here rests on {until} requests already", "deepen")
    collection = Collection(work or get_collection_folder(task.model))
    set_name = get_fresh_set(base)
    others = {*CHANNEL_STATISTIC_IDS, *base.cells[0].count_requests()} - wanted
    gather(task, collection, progress, known=others, sets=(set_name,))
    measured = measure_cells_of(base, task, collection, set_name)
    main_cells = sum(cell.role == MAIN for cell in base.cells)
    cells = tuple(deepen_cell(cell, measured.get(cell.name), wanted, main_cells) for cell in base.cells)
    if all(deeper.measurements == cell.measurements for deeper, cell in zip(cells, base.cells, strict=True)):
        raise InvalidInput("nothing was measured that rests on fewer requests: see --alternatives", "deepen")
    is_short = is_development(cell.requests for cell in cells if cell.role == MAIN)
    profile = replace(base, cells=cells, development=is_short)
    out.write_bytes(profile.encode())
    return profile


def get_fresh_set(base: ToleranceProfile) -> str:
    """Return the name of the set whose questions deepen a profile: nobody could draw them before it was made."""
    return f"{DEVELOPMENT_SET}-{base.compute_digest().hex()[:16]}"


def list_wanted(base: ToleranceProfile, task: AuditCalibration, until: int) -> frozenset[str]:
    """Return the statistics that rest on fewer than `until` requests in some main cell and that a task may measure."""
    counts = [cell.count_requests() for cell in base.cells if cell.role == MAIN]
    return frozenset(
        name
        for name in counts[0]
        if min(count[name] for count in counts) < until
        and (task.greedy_requests > 0 or get_channel(name) != GREEDY)
        and (task.siblings or not is_sibling(name))
    )


def choose(wanted: frozenset[str], base: ToleranceProfile, chosen: Sequence[str]) -> frozenset[str]:
    """Return those of the statistics whose names begin with one of `chosen`, all where none is chosen.

    Raises InvalidInput for a beginning that no statistic of the profile has.
    """
    known = base.cells[0].count_requests()
    for start in chosen:
        if not any(name.startswith(start) for name in known):
            raise InvalidInput(f"no statistic of the profile begins with {start[:40]!r}", "statistics")
    return frozenset(name for name in wanted if name.startswith(tuple(chosen) or ""))


def deepen_cell(cell: Cell, measured: Cell | None, wanted: Container[str], main_cells: int) -> Cell:
    """Return a cell whose `wanted` statistics rest on what was measured as well."""
    fresh = {(item.statistic, item.stratum): item for item in measured.measurements} if measured else {}
    joined = tuple(
        join_measurements(item, other, compute_log_share_of(item.statistic, main_cells))
        if item.statistic in wanted and (other := fresh.get((item.statistic, item.stratum))) is not None
        else item
        for item in cell.measurements
    )
    deeper = replace(cell, measurements=joined, seconds=cell.seconds + (measured.seconds if measured else 0))
    return replace(deeper, requests=min(deeper.count_requests().values()))


def _check_runtime(base: ToleranceProfile, task: AuditCalibration) -> None:
    """Raise InvalidInput where requests of this machine would be put together with those of another."""
    here = describe_runtime(choose_device(task.device), "")
    for cell in base.cells:
        other = [name for name in _SAME_MACHINE if getattr(cell, name) != here[name]]
        if other:
            raise InvalidInput(
                f"was measured with {other[0]} {getattr(cell, other[0])}, and here it is {here[other[0]]}:"
                " calibrate this machine anew",
                "deepen",
            )
