"""What an audit bets on, fixed before the first answer: statistics with their tolerances, stakes, parts of the wealth.

A statistic's honest mean is bounded, and below the bound the calibration is evidence against every higher mean
(`scoring.evidence.tolerance`): a bet is held once for each step of that, as a *line*, and is worth the least of its
lines.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import (
    ACTIVATIONS_IDS,
    GREEDY_IDS,
    GRID_IDS,
    LOGPROBS_IDS,
    MARGIN_IDS,
    NOISE_ID,
    OWN_NOISE_ID,
    PIT_IDS,
    PROMPT_ALTERNATIVES,
    SEEDED,
    TEXT,
    TEXT_ANY_ID,
    WEIGHTS_ALTERNATIVES,
    build_seeded_id,
    find_ratio_cap,
    get_channel,
    holds_for_all,
    is_audited,
    is_sibling,
    list_greedy_ids,
    list_text_ids,
)
from scoring.evidence.other_weights import OTHER_WEIGHTS_IDS, WEAKER
from scoring.evidence.tolerance import Tolerance, build_bound, join_tolerances, raise_tolerance, scale_tolerance
from scoring.records import PPM

SHARES = (0.03, 0.1, 0.35, 0.7, 0.97)
"""Stakes as shares of 1/mu. At 0.97 a ratio is nearly the capped likelihood ratio itself; 0.03 is for a provider that
cheats in one request of twenty to forty (Kelly: the stake is about that share)."""
SHARE_WEIGHTS = (0.2, 0.1, 0.1, 0.15, 0.45)
"""The part of a statistic's wealth at each stake: most for the one that ends gross cheats, in the fewest requests."""
START_BLOCK = 8
EARLY_PART = 0.8
FITTED = -1
"""The member of a wide null whose sampling was fitted to the answers themselves."""
FOREIGN_FACTOR = 3
"""Honest answers to code had three times the mean of a likelihood statistic calibrated on general instructions."""


MEMBER_FACTOR = 2
"""How much larger the honest mean of a seeded statistic may be under another sampling than under the claimed one,
within the same bound: noise of logits counts 1/T times, what it costs grows with its square, and the grid begins at
T = 0.71."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStatistic:
    """One statistic of an audit: how large its honest mean may be, and its part of the wealth (all parts sum to 1).

    `is_slash_grade`: as many honest requests stand behind the bound as a proof needs that stake is taken for.
    """

    id: str
    tolerance: Tolerance
    part: float
    is_slash_grade: bool = False

    def __post_init__(self) -> None:
        if not self.tolerance or not all(0 < step.mu_ppm < PPM for step in self.tolerance):
            raise InvalidInput("must be above 0 and below 1,000,000", "mu_ppm")
        if not 0.0 < self.part <= 1.0:
            raise InvalidInput("must be above 0 and at most 1", "part")

    @property
    def mu_ppm(self) -> int:
        """The bound of the honest mean."""
        return self.tolerance[-1].mu_ppm

    @property
    def is_ratio(self) -> bool:
        """Whether it is a capped likelihood ratio, whose mean no choice of prompts moves (at temperature 0 it does)."""
        return find_ratio_cap(self.id) is not None and get_channel(self.id) == TEXT


Factors = tuple[tuple[float, float], ...]
"""Of each line of a statistic (1 - share, share / mu): its factor is the first, and g in ppm times the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The bets of a plan against one kind of member of the null, once for each step of the statistic's tolerance.

    Lines are ordered by statistic, stake, step. `steps` holds each statistic's tolerance, `drawn` and `foreign` the
    factors of its lines, for prompts of the generator and for others; `log_e` is the calibration's evidence of each
    line's step, and `starts` the place of each bet's first line.
    """

    steps: tuple[Tolerance, ...]
    drawn: tuple[Factors, ...]
    foreign: tuple[Factors, ...]
    log_e: tuple[float, ...]
    starts: tuple[int, ...]

    @classmethod
    def build(cls, statistics: Sequence[AuditStatistic], tolerances: Sequence[Tolerance]) -> "Lines":
        """Return the lines of every stake on statistics whose means have these tolerances."""
        log_e: list[float] = []
        starts: list[int] = []
        for tolerance in tolerances:
            for _ in SHARES:
                starts.append(len(log_e))
                log_e += [step.log_e for step in tolerance]
        pairs = list(zip(statistics, tolerances, strict=True))
        return cls(
            steps=tuple(tolerances),
            drawn=tuple(_list_factors(_list_means(statistic, steps, True)) for statistic, steps in pairs),
            foreign=tuple(_list_factors(_list_means(statistic, steps, False)) for statistic, steps in pairs),
            log_e=tuple(log_e),
            starts=tuple(starts),
        )

    def find_least(self, values: Sequence[float]) -> list[float]:
        """Return of each bet the least log wealth of its lines, the calibration's evidence included."""
        whole = [value + log_e for value, log_e in zip(values, self.log_e, strict=True)]
        return [min(whole[start:end]) for start, end in zip(self.starts, (*self.starts[1:], len(whole)), strict=True)]


def _list_means(statistic: AuditStatistic, tolerance: Tolerance, is_drawn: bool) -> list[int]:
    """Return the honest mean of each step, in ppm. Of prompts that nobody drew the calibration says less."""
    if is_drawn or statistic.is_ratio:
        return [step.mu_ppm for step in tolerance]
    return [min(tolerance[-1].mu_ppm * FOREIGN_FACTOR, PPM - 1)] * len(tolerance)


def _list_factors(means_ppm: Sequence[int]) -> Factors:
    return tuple((1.0 - share, share / mu_ppm) for share in SHARES for mu_ppm in means_ppm)


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """What an audit bets on; fixed before the first answer is asked for."""

    statistics: tuple[AuditStatistic, ...]
    covers_all_settings: bool

    @cached_property
    def bets(self) -> tuple[tuple[AuditStatistic, float], ...]:
        """Return the bets in order: each statistic with each of its stakes, as a share of 1/mu."""
        return tuple((statistic, share) for statistic in self.statistics for share in SHARES)

    @cached_property
    def proving(self) -> tuple[int, ...]:
        """Return the places of the bets that can prove: where any sampling is allowed, all but those on the text."""
        bets = enumerate(self.bets)
        return tuple(place for place, (item, _) in bets if not self.covers_all_settings or get_channel(item.id) != TEXT)

    @cached_property
    def log_parts(self) -> tuple[float, ...]:
        """Return the log of each bet's part of the initial wealth."""
        return tuple(math.log(statistic.part * weight) for statistic in self.statistics for weight in SHARE_WEIGHTS)

    def get_lines(self, settings: int | None = None) -> Lines:
        """Return the lines of the bets against one member of the null."""
        return self._claimed_lines if settings is None else self._member_lines

    @cached_property
    def _claimed_lines(self) -> Lines:
        return Lines.build(self.statistics, [statistic.tolerance for statistic in self.statistics])

    @cached_property
    def _member_lines(self) -> Lines:
        """Return the lines against another sampling, for which nothing was calibrated.

        A ratio's mean is at most that of the largest of the grid's ratios; another statistic's at most MEMBER_FACTOR
        times its own, unless it is the same number against every sampling.
        """
        grid: dict[int, list[Tolerance]] = {}
        for item in self.statistics:
            if item.id in _GRID_TEXT_IDS:
                grid.setdefault(find_ratio_cap(item.id) or 0, []).append(item.tolerance)
        largest = {cap: join_tolerances(tolerances) for cap, tolerances in grid.items()}
        found = []
        for item in self.statistics:
            if (ratios := largest.get(find_ratio_cap(item.id) or 0)) is not None:
                found.append(join_tolerances((item.tolerance, ratios)))
            else:
                found.append(scale_tolerance(item.tolerance, 1 if holds_for_all(item.id) else MEMBER_FACTOR))
        return Lines.build(self.statistics, found)

    @property
    def settings(self) -> tuple[int | None, ...]:
        """Return the members of the null: None is the claimed sampling, a number from 0 a place in GRID_IDS."""
        if not self.covers_all_settings:
            return (None,)
        is_seeded = any(get_channel(statistic.id) == SEEDED for statistic in self.statistics)
        return (None, *range(len(GRID_IDS)), *((FITTED,) if is_seeded else ()))


_GRID_TEXT_IDS = frozenset(list_text_ids(GRID_IDS))
GROUPS = (
    (3, (*MARGIN_IDS, OWN_NOISE_ID)),
    (3, (NOISE_ID,)),
    (4, tuple(map(build_seeded_id, WEIGHTS_ALTERNATIVES))),
    (1, LOGPROBS_IDS),
    (1, (TEXT_ANY_ID,)),
    (2, list_text_ids(GRID_IDS)),
    (3, list_text_ids([name for name in OTHER_WEIGHTS_IDS if name != WEAKER])),
    (2, list_text_ids((WEAKER,))),
    (1, list_text_ids(PIT_IDS)),
    (4, list_text_ids(WEIGHTS_ALTERNATIVES)),
    (2, list_text_ids(PROMPT_ALTERNATIVES)),
    (1, GREEDY_IDS),
    (1, list_greedy_ids(WEIGHTS_ALTERNATIVES)),
    (1, ACTIVATIONS_IDS),
)
"""Statistics that share a part of their channel's wealth equally, and that part in relation to those beside it."""
SIBLINGS_WEIGHT = 4
"""The part of the models that the auditor names, together."""


def build_audit_plan(
    bounds: Mapping[str, int | Tolerance],
    channels: Sequence[str],
    covers_all_settings: bool,
    slash_grade: Collection[str] = (),
) -> AuditPlan:
    """Return the plan over the statistics that have a bound: channels share the wealth equally, groups by weight.

    `bounds` holds tolerances, or the bound in ppm where that is all that is known. `slash_grade` names those whose
    bound is good enough to take stake for (`profile.list_slash_grade`). Raises InvalidInput for an unknown statistic or
    when nothing is left to bet on.
    """
    unknown = sorted(name for name in bounds if not is_audited(name))
    if unknown:
        raise InvalidInput(f"unknown statistic {unknown[0]!r}", "statistics")
    groups = [
        (weight, kept)
        for weight, group in (*GROUPS, (SIBLINGS_WEIGHT, tuple(filter(is_sibling, bounds))))
        if (kept := [name for name in group if name in bounds and get_channel(name) in channels])
    ]
    if not groups:
        raise InvalidInput(f"the profile has no statistic of {', '.join(channels)}", "statistics")
    whole: dict[str, int] = {}
    for weight, group in groups:
        whole[get_channel(group[0])] = whole.get(get_channel(group[0]), 0) + weight
    parts = []
    for weight, group in groups:
        part = weight / (len(whole) * whole[get_channel(group[0])] * len(group))
        parts += [
            AuditStatistic(
                id=name, tolerance=_raise_bound(name, bounds[name]), part=part, is_slash_grade=name in slash_grade
            )
            for name in group
        ]
    return AuditPlan(statistics=tuple(parts), covers_all_settings=covers_all_settings)


def _raise_bound(name: str, bound: int | Tolerance) -> Tolerance:
    # An answer without information has a ratio of 1, and may not gain: U is at least 1.
    tolerance = build_bound(bound) if isinstance(bound, int) else bound
    cap = find_ratio_cap(name)
    if cap is None:
        return tolerance
    return raise_tolerance(tolerance, PPM // cap)
