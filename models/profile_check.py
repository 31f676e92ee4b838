"""Does a tolerance profile hold on this machine? Fresh honest answers, given and re-run here, against its bounds.

A profile speaks of the processors, kernels and versions that it was measured on. Whoever uses or vouches for it on
another machine asks this first: honest answers of this machine must neither win an audit's bets nor have a mean that
contradicts a bound. The prompts are of a set of their own, on which nothing was chosen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.audit_profile import compute_hold_out, read_cell
from models.calibrate_audit import (
    AuditCalibration,
    ProviderCell,
    gather,
    get_collection_folder,
    list_calibrated_alternatives,
)
from models.collection import Collection, Progress
from models.load import load_outline
from models.tolerances import HonestRequest
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import CHANNEL_STATISTIC_IDS
from scoring.evidence.profile import ENGINE_TRANSFORMERS, MAIN, HoldOut, ToleranceProfile
from scoring.probe_outlines import GENERATOR_ID_V2
from scoring.records import PPM

CHECK_SET = "check"
ALARM_MILLI_LOG10 = 3_000
ERRORS = 3
"""A mean that lies so many standard errors above a bound contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The honest mean of one statistic here, and its bound. In ppm."""

    statistic: str
    n: int
    mean_ppm: int
    error_ppm: int
    mu_ppm: int

    @property
    def contradicts(self) -> bool:
        """Whether the mean is above the bound by more than chance explains."""
        return self.mean_ppm - ERRORS * self.error_ppm > self.mu_ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCheck:
    """What honest answers of one cell did here: largest e-values, and every statistic, nearest to its bound first.

    `unread` are statistics with a bound that no answer had: nothing is said of these.
    """

    cell: str
    hold_out: HoldOut
    readings: tuple[Reading, ...]
    unread: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the profile may be used for this cell on this machine."""
        is_quiet = self.hold_out.max_product_milli_log10 < ALARM_MILLI_LOG10
        return is_quiet and not any(reading.contradicts for reading in self.readings)


def check_profile(
    profile: ToleranceProfile,
    requests: int,
    greedy_requests: int,
    cells: Sequence[ProviderCell] = (),
    work: Path | None = None,
    progress: Progress = lambda done, total, what: None,
) -> list[CellCheck]:
    """Answer and re-run `requests` prompts in each cell (none: the profile's main ones) and hold them to the bounds.

    `greedy_requests` of them are asked again at temperature 0. Goes on from what `work` holds. Raises InvalidInput for
    a profile of another model than its name loads here, of a server, or of prompts that are not an audit's.
    """
    if profile.engine != ENGINE_TRANSFORMERS:
        raise InvalidInput("bounds of a server are checked by calibrating anew against it", "profile")
    if profile.generator != GENERATOR_ID_V2:
        raise InvalidInput(
            f"is of {profile.generator}'s prompts, and no audit's: those are {GENERATOR_ID_V2}'s", "profile"
        )
    outline = load_outline(profile.model)
    if outline.manifest.compute_digest() != profile.manifest_digest:
        raise InvalidInput(f"is of another model than {profile.model!r} is here", "profile")
    task = AuditCalibration(
        model=profile.model,
        cells=tuple(cells) or list_main_cells(profile),
        hold_out=requests,
        greedy_requests=min(greedy_requests, requests),
        max_tokens=profile.max_tokens,
        temperature_ppm=profile.temperature_ppm,
        top_p_ppm=profile.top_p_ppm,
    )
    collection = Collection(work or get_collection_folder(task.model))
    mu_ppm = profile.compute_mu_ppm()
    gather(task, collection, progress, {*CHANNEL_STATISTIC_IDS} - mu_ppm.keys(), (CHECK_SET,))
    names = [item.id for item in list_calibrated_alternatives(outline)]
    checks = []
    for cell in task.cells:
        found = read_cell(task, collection, CHECK_SET, cell, names)
        readings = read_means(mu_ppm, found)
        read = {item.statistic for item in readings}
        checks.append(
            CellCheck(
                cell=cell.name,
                hold_out=compute_hold_out(profile, found),
                readings=readings,
                unread=tuple(name for name in mu_ppm if name not in read),
            )
        )
    return checks


def list_main_cells(profile: ToleranceProfile) -> tuple[ProviderCell, ...]:
    """Return the provider's side of a profile's main cells."""
    return tuple(
        ProviderCell(dtype=cell.provider_dtype, batch=cell.provider_batch, attention=cell.attention)
        for cell in profile.cells
        if cell.role == MAIN
    )


def read_means(mu_ppm: Mapping[str, int], requests: Sequence[HonestRequest]) -> tuple[Reading, ...]:
    """Return the honest mean of each statistic that some request has, nearest to its bound or farthest above first."""
    readings = []
    for name, mu in mu_ppm.items():
        values = [request.statistics_ppm[name] for request in requests if name in request.statistics_ppm]
        if values:
            n, mean = len(values), sum(values) // len(values)
            error = math.isqrt(sum((value - mean) ** 2 for value in values)) // n
            readings.append(Reading(statistic=name, n=n, mean_ppm=mean, error_ppm=error, mu_ppm=mu))
    return tuple(sorted(readings, key=lambda item: -item.mean_ppm * PPM // item.mu_ppm))
