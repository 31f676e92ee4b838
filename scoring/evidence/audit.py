"""The evidence of an audit: a pure fold over appraised answers, one wealth for each member of the null.

One unit of wealth is spread over statistics and stakes in fixed parts; each part is multiplied by
`1 + share (g / mu - 1)` with every unit (`scoring.evidence.wealth` has the condition: `E[g | past] <= mu`). A *unit* is
a window of an answer, at most as long as the answers that mu was calibrated on.

* Claim `weights+sampling`: the null is the claimed sampling. EARLY_PART of the wealth is staked at the start, the rest
  over later starts (weights 1/(s(s+1)) for blocks of START_BLOCK units): a provider that starts to cheat is found.
* Claim `weights`: the null is every sampling of the grid (`channel_ids.GRID_IDS`), the claimed one, and, with seeds,
  the one that fits the answers best (FITTED: the seed sees differences far below the steps of the grid; it is
  given no evidence from the text). The e-value of a composite null is the minimum over its members: whichever is true,
  that member's wealth bounds the minimum. A deviation that other sampling settings explain is therefore reported and
  never proven.

What lowers evidence: a missing answer bets the smallest factor; prompts that the generator did not draw have their mean
bounds multiplied by FOREIGN_FACTOR (ratios hold for every prompt and are not touched); a seeded statistic that was not
computed for another member of the null counts as g = 0 there. A statistic that does not apply is no bet (factor 1).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs, minimise_logs
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
from scoring.evidence.other_weights import OTHER_WEIGHTS_IDS
from scoring.records import PPM

SHARES = (0.04, 0.12, 0.4, 0.7, 0.97)
"""Stakes as shares of 1/mu. At 0.97 a ratio is nearly the capped likelihood ratio itself; 0.04 is for a provider that
cheats in one request of twenty (Kelly: the stake is about that share)."""
SHARE_WEIGHTS = (0.1, 0.1, 0.15, 0.15, 0.5)
"""The part of a statistic's wealth at each stake: most for the one that ends gross cheats, in the fewest requests."""
START_BLOCK = 8
EARLY_PART = 0.8
FITTED = -1
"""The member of a wide null whose sampling was fitted to the answers themselves."""
FOREIGN_FACTOR = 3
"""Honest answers to code had three times the mean of a likelihood statistic calibrated on general instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStatistic:
    """One statistic of an audit: its bound mu in ppm, and its part of the initial wealth (all parts sum to 1).

    `is_slash_grade`: as many honest requests stand behind the bound as a proof needs that stake is taken for.
    """

    id: str
    mu_ppm: int
    part: float
    is_slash_grade: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.mu_ppm < PPM:
            raise InvalidInput("must be above 0 and below 1,000,000", "mu_ppm")
        if not 0.0 < self.part <= 1.0:
            raise InvalidInput("must be above 0 and at most 1", "part")

    @property
    def is_ratio(self) -> bool:
        """Whether it is a capped likelihood ratio, whose mean no choice of prompts moves (at temperature 0 it does)."""
        return find_ratio_cap(self.id) is not None and get_channel(self.id) == TEXT


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
    def log_parts(self) -> tuple[float, ...]:
        """Return the log of each bet's part of the initial wealth."""
        return tuple(math.log(statistic.part * weight) for statistic in self.statistics for weight in SHARE_WEIGHTS)

    @cached_property
    def ratio_mu_ppm(self) -> dict[int, int]:
        """Return by cap the bound for ratios against another member of the null: the largest of the grid's."""
        found: dict[int, int] = {}
        for item in self.statistics:
            cap = find_ratio_cap(item.id)
            if cap is not None and item.id in _GRID_TEXT_IDS:
                found[cap] = max(found.get(cap, 0), item.mu_ppm)
        return found

    @property
    def settings(self) -> tuple[int | None, ...]:
        """Return the members of the null: None is the claimed sampling, a number from 0 a place in GRID_IDS."""
        if not self.covers_all_settings:
            return (None,)
        is_seeded = any(get_channel(statistic.id) == SEEDED for statistic in self.statistics)
        return (None, *range(len(GRID_IDS)), *((FITTED,) if is_seeded else ()))


_GRID_TEXT_IDS = frozenset(list_text_ids(GRID_IDS))
_GROUPS = (
    (3, (*MARGIN_IDS, OWN_NOISE_ID)),
    (3, (NOISE_ID,)),
    (4, tuple(map(build_seeded_id, WEIGHTS_ALTERNATIVES))),
    (1, LOGPROBS_IDS),
    (1, (TEXT_ANY_ID,)),
    (2, list_text_ids(GRID_IDS)),
    (3, list_text_ids(OTHER_WEIGHTS_IDS)),
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
    mu_ppm: Mapping[str, int],
    channels: Sequence[str],
    covers_all_settings: bool,
    slash_grade: Collection[str] = (),
) -> AuditPlan:
    """Return the plan over the statistics that have a bound: channels share the wealth equally, groups by weight.

    `slash_grade` names those whose bound is good enough to take stake for (`profile.list_slash_grade`). Raises
    InvalidInput for an unknown statistic or when nothing is left to bet on.
    """
    unknown = sorted(name for name in mu_ppm if not is_audited(name))
    if unknown:
        raise InvalidInput(f"unknown statistic {unknown[0]!r}", "statistics")
    groups = [
        (weight, kept)
        for weight, group in (*_GROUPS, (SIBLINGS_WEIGHT, tuple(filter(is_sibling, mu_ppm))))
        if (kept := [name for name in group if name in mu_ppm and get_channel(name) in channels])
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
                id=name, mu_ppm=_raise_bound(name, mu_ppm[name]), part=part, is_slash_grade=name in slash_grade
            )
            for name in group
        ]
    return AuditPlan(statistics=tuple(parts), covers_all_settings=covers_all_settings)


def _raise_bound(name: str, mu_ppm: int) -> int:
    # An answer without information has a ratio of 1, and may not gain: U is at least 1.
    cap = find_ratio_cap(name)
    return mu_ppm if cap is None or mu_ppm <= 0 else max(mu_ppm, PPM // cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One window of an answer: statistics in ppm by id, for the claimed sampling and for other members of the null.

    `is_drawn`: its prompt is a draw of the generator that the bounds were calibrated on. `is_missing`: the answer was
    asked for and did not come, and every statistic counts as 0.
    """

    statistics_ppm: Mapping[str, int]
    by_settings: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    is_drawn: bool = True
    is_missing: bool = False


MISSING = Unit(statistics_ppm={}, is_missing=True)
"""An answer that was asked for and did not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """Seeded statistics of an earlier unit under another member of the null, computed once they were needed."""

    settings: int
    statistics_ppm: Mapping[str, int]
    is_drawn: bool


@dataclass(frozen=True, kw_only=True)
class Wealth:
    """The wealth of an audit after `units` units, as natural logarithms by member of the null, statistic and stake."""

    plan: AuditPlan
    units: int
    seeded_units: int
    foreign_units: int
    early: Mapping[int | None, tuple[float, ...]]
    late: tuple[float, ...]
    """Later starts, for the claimed sampling: a member of a wider null is not given the benefit."""

    def add(self, unit: Unit) -> Self:
        """Return the wealth after one more unit."""
        early = {}
        for settings in self.plan.settings:
            gains = compute_gains(self.plan, unit, settings)
            early[settings] = tuple(map(sum, zip(self.early[settings], gains, strict=True)))
        late = self._add_late(compute_gains(self.plan, unit))
        is_seeded = unit.is_missing or any(get_channel(name) == SEEDED for name in unit.statistics_ppm)
        seeded_units = self.seeded_units + is_seeded
        return replace(
            self,
            units=self.units + 1,
            seeded_units=seeded_units,
            foreign_units=self.foreign_units + (not unit.is_drawn),
            early=early,
            late=late,
        )

    def amend(self, amendment: Amendment) -> Self:
        """Return the wealth with a seeded g = 0 under another member of the null replaced by what was found."""
        values = list(self.early[amendment.settings])
        for place, (statistic, share) in enumerate(self.plan.bets):
            g_ppm = amendment.statistics_ppm.get(statistic.id)
            if get_channel(statistic.id) == SEEDED and g_ppm is not None:
                mu = _bound(statistic, statistic.mu_ppm, amendment.is_drawn)
                values[place] += _compute_gain(g_ppm, mu, share) - _compute_gain(0, mu, share)
        return replace(self, early={**self.early, amendment.settings: tuple(values)})

    def compute_log(self, settings: int | None = None, channel: str | None = None) -> float:
        """Return the log wealth against one member of the null; with `channel`, as if all had been staked on it."""
        chosen = [
            place
            for place, (statistic, _) in enumerate(self.plan.bets)
            if channel is None or get_channel(statistic.id) == channel
        ]
        if not chosen:
            return 0.0
        return self._compute_log_of(chosen, settings) - add_logs([self.plan.log_parts[place] for place in chosen])

    def _compute_log_of(self, places: Sequence[int], settings: int | None) -> float:
        """Return the log of what some bets hold of the whole wealth, against one member of the null."""
        parts = self.plan.log_parts
        early = add_logs([parts[place] + self.early[settings][place] for place in places])
        if settings is not None:
            return early
        blocks = self.units // START_BLOCK
        late = add_logs([parts[place] + self.late[place] for place in places])
        cash = add_logs([parts[place] for place in places]) - math.log(blocks + 1)
        return add_logs([early + math.log(EARLY_PART), add_logs([late, cash]) + math.log(1 - EARLY_PART)])

    @property
    def log_e(self) -> float:
        """Return the log e-value against the whole null: the minimum over its members.

        While no seed was looked at, only the grid matters: text alone sees no finer steps.
        """
        return minimise_logs([self.compute_log(settings) for settings in self._members])

    @property
    def log_slash_e(self) -> float | None:
        """Return the log of what the slash-grade bets alone hold, against the whole null; None when there are none.

        A part of the wealth that started below 1 and bets as fairly as the whole: an e-value too, if a smaller one.
        Whoever picks the prompts could pick those that honest machines fail on: with any that was not drawn, None.
        """
        places = [place for place, (statistic, _) in enumerate(self.plan.bets) if statistic.is_slash_grade]
        if not places or self.foreign_units:
            return None
        return minimise_logs([self._compute_log_of(places, settings) for settings in self._members])

    @property
    def _members(self) -> list[int | None]:
        return [settings for settings in self.plan.settings if settings != FITTED or self.seeded_units]

    def _add_late(self, gains: Sequence[float]) -> tuple[float, ...]:
        """Return the later starts after one more unit; block s opens with 1/(s(s+1)) of the unit."""
        values = self.late
        block, place = divmod(self.units, START_BLOCK)
        if place == 0 and block > 0:
            stake = -math.log(block * (block + 1))
            values = tuple(add_logs([value, stake]) for value in values)
        return tuple(value + gain for value, gain in zip(values, gains, strict=True))


def build_wealth(plan: AuditPlan) -> Wealth:
    """Return the wealth before the first answer: 1 against every member of the null."""
    bets = len(plan.statistics) * len(SHARES)
    return Wealth(
        plan=plan,
        units=0,
        seeded_units=0,
        foreign_units=0,
        early=dict.fromkeys(plan.settings, (0.0,) * bets),
        late=(-math.inf,) * bets,
    )


def compute_gains(plan: AuditPlan, unit: Unit, settings: int | None = None) -> list[float]:
    """Return the log factor of each bet from one unit, against one member of the null."""
    found = unit.statistics_ppm if settings is None else unit.by_settings.get(settings, {})
    gains = []
    for statistic, share in plan.bets:
        g_ppm = 0 if unit.is_missing else found.get(statistic.id)
        mu_ppm = statistic.mu_ppm
        if settings is not None:
            if g_ppm is None and holds_for_all(statistic.id):
                g_ppm = unit.statistics_ppm.get(statistic.id)
            if g_ppm is None and statistic.id in unit.statistics_ppm:
                g_ppm = 0
            mu_ppm = max(mu_ppm, plan.ratio_mu_ppm.get(find_ratio_cap(statistic.id) or 0, 0))
        gains.append(0.0 if g_ppm is None else _compute_gain(g_ppm, _bound(statistic, mu_ppm, unit.is_drawn), share))
    return gains


def _bound(statistic: AuditStatistic, mu_ppm: int, is_drawn: bool) -> float:
    if is_drawn or statistic.is_ratio:
        return mu_ppm
    return min(mu_ppm * FOREIGN_FACTOR, PPM - 1)


def _compute_gain(g_ppm: int, mu_ppm: float, share: float) -> float:
    return math.log1p(share * (g_ppm / mu_ppm - 1.0))


__all__ = [
    "MISSING",
    "SEEDED",
    "TEXT",
    "Amendment",
    "AuditPlan",
    "AuditStatistic",
    "Unit",
    "Wealth",
    "build_audit_plan",
    "build_wealth",
    "compute_gains",
]
