"""The tolerance profile: how far honest runs of one model differ, measured cell by cell.

A *cell* is a pair of runtimes: the verifier's and the provider's (dtype, batch size, threads, attention, versions).
A profile holds, for each cell, stratum of prompts and statistic, how many honest requests were seen, what they gave,
and the bound mu of their mean that holds with probability 1 - delta over the whole profile together.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scoring.eip712 import Bool, Bytes32, Record, Text, Uint64
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import find_ratio_cap, is_audited
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.evidence.tolerance import Moments, Tolerance, build_bound, build_tolerance
from scoring.hashing import keccak256
from scoring.records import PPM

MAIN, WIDE = "main", "wide"
"""A main cell is bounded by its own requests; a wide one (batch 1, other engines) has few, and its mean is covered."""
ALL = "all"
"""The stratum of all drawn prompts together, in the shares in which the generator draws them."""
CPU, SERVER = "cpu", "server"
"""Devices of a cell: of a CPU it matters which, of a server that is reached over HTTP no more is known."""
ENGINE_TRANSFORMERS, ENGINE_VLLM = "transformers", "vllm"
"""What runs the verifier of a profile: bounds of one engine say nothing of another's numerics."""
UNMEASURED_PERCENT = 140
"""Of the largest mean of a main cell: what covers honest cells that nobody measured (other batches, kernels, engines).
A text ratio needs none: its mean is at most 1 / cap with exact numerics, whosever they are."""
MAX_PROFILE_BYTES = 4_000_000
MIN_REQUESTS = 5_000
"""Honest requests that a cell needs before its plan may slash outside development (verification section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Record):
    """One statistic over the honest requests of one stratum of one cell. All but `n` in ppm of the range [0, 1]."""

    stratum: Text
    statistic: Text
    n: Uint64
    mean_ppm: Uint64
    variance_ppm: Uint64
    max_ppm: Uint64
    mu_ppm: Uint64

    def __post_init__(self) -> None:
        super(Measurement, self).__post_init__()
        if self.statistic not in STATISTIC_IDS and not is_audited(self.statistic):
            raise InvalidInput(f"unknown statistic {self.statistic!r}", "statistic")
        if self.n < 1:
            raise InvalidInput("measured on no request", "n")
        if not self.mean_ppm <= self.mu_ppm <= PPM or not self.mean_ppm <= self.max_ppm <= PPM:
            raise InvalidInput("expected mean <= mu <= 1,000,000 and mean <= max <= 1,000,000", "mu_ppm")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOut(Record):
    """Fresh honest requests of a cell that no choice was made on: the largest wealth they ever reached, 1000 log10.

    Readings of the same requests, each the largest value over time. For a network: one e-process over all of them
    without starts or caps (`product`), the pooled portfolio of a case at eight requests an epoch, and challenges of
    eight receipts. For an audit: the wealth of both channels together (`product`), and of each alone. What is not read
    is 0.
    """

    n: Uint64
    max_product_milli_log10: Uint64
    max_case_milli_log10: Uint64
    max_challenge_milli_log10: Uint64
    max_seeded_milli_log10: Uint64
    max_text_milli_log10: Uint64
    max_mean_over_mu_ppm: Uint64


NO_HOLD_OUT = HoldOut(
    n=0,
    max_product_milli_log10=0,
    max_case_milli_log10=0,
    max_challenge_milli_log10=0,
    max_seeded_milli_log10=0,
    max_text_milli_log10=0,
    max_mean_over_mu_ppm=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Record):
    """One pair of runtimes and what it gave. `provider_batch` is the number of requests generated together.

    `requests` are those behind every bound of the cell: a statistic may have been measured on more.
    """

    name: Text
    role: Text
    verifier_dtype: Text
    verifier_batch: Uint64
    provider_dtype: Text
    provider_batch: Uint64
    threads: Uint64
    attention: Text
    device: Text
    torch_version: Text
    transformers_version: Text
    python_version: Text
    processor: Text
    requests: Uint64
    seconds: Uint64
    measurements: tuple[Measurement, ...]
    hold_out: HoldOut

    def __post_init__(self) -> None:
        super(Cell, self).__post_init__()
        if self.role not in (MAIN, WIDE):
            raise InvalidInput(f"expected {MAIN} or {WIDE}", "role")
        keys = [(item.statistic, item.stratum) for item in self.measurements]
        if not keys or len(set(keys)) != len(keys):
            raise InvalidInput("needs at least one, each statistic and stratum once", "measurements")

    def count_requests(self) -> dict[str, int]:
        """Return how many honest requests each statistic was measured on."""
        whole = {item.statistic: item.n for item in self.measurements if item.stratum == ALL}
        # Without "all" a profile is bounded by its strata: what it was measured on is told by the cell alone.
        return whole or {item.statistic: self.requests for item in self.measurements}

    def describe_device(self) -> str:
        """Return what the verifier ran on, in a word or two."""
        return self.processor if self.device == CPU else self.device

    def describe_requests(self) -> str:
        """Return in words what the cell's bounds rest on."""
        largest = max((item.n for item in self.measurements if item.stratum == ALL), default=self.requests)
        fewer = f", {self.requests} behind some bounds" if self.requests < largest else ""
        return f"{largest} honest requests{fewer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToleranceProfile(Record):
    """The profile of one model: its cells, the envelope they were measured in, and the error that mu is allowed.

    `one_over_delta` is 1/delta of all bounds together. `development` says that some main cell has fewer than 5,000
    requests. Main cells have the same strata and statistics, a wide cell some of them.
    """

    model: Text
    manifest_digest: Bytes32
    sampler: Text
    generator: Text
    engine: Text
    max_tokens: Uint64
    temperature_ppm: Uint64
    top_p_ppm: Uint64
    strata: tuple[Text, ...]
    one_over_delta: Uint64
    development: Bool
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        super(ToleranceProfile, self).__post_init__()
        if not self.cells or len({cell.name for cell in self.cells}) != len(self.cells):
            raise InvalidInput("needs at least one, each name once", "cells")
        if self.cells[0].role != MAIN:
            raise InvalidInput("the first cell must be a main one", "cells")
        if self.development != is_development(cell.requests for cell in self.cells if cell.role == MAIN):
            raise InvalidInput(
                f"must be true when a main cell has fewer than {MIN_REQUESTS} requests, else false", "development"
            )
        self._check_measurements()

    def _check_measurements(self) -> None:
        expected = {(item.statistic, item.stratum) for item in self.cells[0].measurements}
        if {stratum for _, stratum in expected} - {ALL} != set(self.strata):
            raise InvalidInput("the cells' strata are others", "strata")
        for cell in self.cells:
            found = {(item.statistic, item.stratum) for item in cell.measurements}
            if not found <= expected or (cell.role == MAIN and found != expected):
                raise InvalidInput(f"cell {cell.name} has other strata or statistics than the first", "cells")

    def compute_mu_ppm(self) -> dict[str, int]:
        """Return mu of each statistic, in the order of the first cell: what holds in every cell.

        A main cell gives its bound: over all drawn prompts where it has that, since probes come from that mixture and
        from nothing else, otherwise the largest of its strata. What has few requests (a wide cell, a main cell's
        stratum beside "all") gives its mean and three standard errors: a bound would be the price of its size alone,
        and would blind the audit for every cell. A wide cell's strata beside its "all" give nothing: the mixture is
        what its mean is of. Cells that nobody measured are covered by UNMEASURED_PERCENT of the largest mean. The
        honest mean of a text ratio is the same for every prompt and moves with the numerics alone, so there it is the
        mean *less* three standard errors, and no more: what contradicts the bound raises it.
        """
        return {name: _find_limits(name, *self._split_measurements(name))[1] for name in self._statistics}

    def compute_tolerances(self) -> dict[str, Tolerance]:
        """Return each statistic's tolerance: its bound (`compute_mu_ppm`), and what the main cells say of lower means.

        Nothing is held against a mean up to what covers strata and wide cells. A ratio's mean is taken as 1 / cap at
        least: an answer without information has a ratio of 1, and may not gain.
        """
        found: dict[str, Tolerance] = {}
        for name in self._statistics:
            ratio_cap = find_ratio_cap(name)
            least_ppm = 0 if ratio_cap is None else PPM // ratio_cap
            bounding, covered = self._split_measurements(name)
            floor_ppm, bound_ppm = (max(limit, least_ppm) for limit in _find_limits(name, bounding, covered))
            moments = tuple(
                Moments(n=item.n, mean_ppm=item.mean_ppm, variance_ppm=item.variance_ppm, max_ppm=item.max_ppm)
                for item in bounding
            )
            is_whole = all(item.stratum == ALL for item in bounding)
            found[name] = build_tolerance(moments, floor_ppm, bound_ppm) if is_whole else build_bound(bound_ppm)
        return found

    @property
    def _statistics(self) -> list[str]:
        return list(dict.fromkeys(item.statistic for item in self.cells[0].measurements))

    def _split_measurements(self, statistic: str) -> tuple[list[Measurement], list[Measurement]]:
        """Return the measurements that bound a statistic, and those that are covered."""
        bounding, covered = [], []
        for cell in self.cells:
            own = [item for item in cell.measurements if item.statistic == statistic]
            has_whole = any(item.stratum == ALL for item in own)
            for item in own:
                if cell.role == MAIN and (item.stratum == ALL or not has_whole):
                    bounding.append(item)
                elif cell.role == MAIN or item.stratum == ALL or not has_whole:
                    covered.append(item)
        return bounding, covered

    def covers_verifier(self, device: str, processor: str) -> bool:
        """Return whether some cell was measured by a verifier on this device (on this processor, where it is one)."""
        return any(cell.device == device and (device != CPU or cell.processor == processor) for cell in self.cells)

    def list_slash_grade(self) -> frozenset[str]:
        """Return the statistics whose bound rests on MIN_REQUESTS honest requests in every main cell."""
        counts = [cell.count_requests() for cell in self.cells if cell.role == MAIN]
        return frozenset(name for name in counts[0] if min(count.get(name, 0) for count in counts) >= MIN_REQUESTS)

    def compute_digest(self) -> bytes:
        """Return keccak256 of the canonical JSON, 32 bytes."""
        return keccak256(self.encode())


def _find_limits(statistic: str, bounding: Sequence[Measurement], covered: Sequence[Measurement]) -> tuple[int, int]:
    """Return up to what mean nothing is held against a statistic, and its bound."""
    is_ratio = find_ratio_cap(statistic) is not None
    covers = [_cover_mean(item, -3 if is_ratio else 3) for item in covered]
    if not is_ratio:
        covers += [item.mean_ppm * UNMEASURED_PERCENT // 100 for item in bounding if item.stratum == ALL]
    floor_ppm = max(covers, default=0)
    return floor_ppm, max(floor_ppm, *(item.mu_ppm for item in bounding))


def _cover_mean(item: Measurement, errors: int) -> int:
    return min(item.mean_ppm + errors * math.isqrt(item.variance_ppm * PPM // item.n), item.mu_ppm)


def is_development(requests: Iterable[int]) -> bool:
    """Tell whether some cell has too few requests to slash on outside development."""
    return any(count < MIN_REQUESTS for count in requests)
