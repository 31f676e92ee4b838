"""The evidence of an audit: a pure fold over appraised answers, one wealth for each member of the null.

One unit of wealth is spread over statistics and stakes in fixed parts; each part is multiplied by
`1 + share (g / mu - 1)` with every unit (`scoring.evidence.wealth` has the condition: `E[g | past] <= mu`), for every
mu that the honest mean may have, and is worth the least of these products with the calibration's own evidence against
such a mean (`scoring.evidence.tolerance`). A *unit* is a window of an answer, at most as long as the answers that mu
was calibrated on.

* Claim `weights+sampling`: the null is the claimed sampling. EARLY_PART of the wealth is staked at the start, the rest
  over later starts (weights 1/(s(s+1)) for blocks of START_BLOCK units): a provider that starts to cheat is found.
* Claim `weights`: the null is every sampling of the grid (`channel_ids.GRID_IDS`), the claimed one, and, with seeds,
  the one that fits the answers best (FITTED: the seed sees differences far below the steps of the grid). The e-value of
  a composite null is the minimum over its members: whichever is true, that member's wealth bounds the minimum. Bets on
  the text count for none of it: between the points of any grid, and beside it (top-k, penalties), there is sampling
  that no member gives a text as much probability as. A deviation that sampling explains is reported and never proven.

What lowers evidence: a missing answer bets the smallest factor; the mean on prompts that the generator did not draw is
taken as FOREIGN_FACTOR times the bound (ratios hold for every prompt and are not touched); a seeded statistic that was
not computed for another member of the null counts as g = 0 there. A statistic that does not apply is no bet (factor 1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from scoring.evidence.algebra import add_logs, minimise_logs
from scoring.evidence.audit_plan import (
    EARLY_PART,
    FITTED,
    START_BLOCK,
    AuditPlan,
)
from scoring.evidence.channel_ids import SEEDED, get_channel, holds_for_all


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
    """The wealth of an audit after `units` units, as natural logarithms by member of the null and line of the plan."""

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
        found = amendment.statistics_ppm
        seeded = {name: g_ppm for name, g_ppm in found.items() if get_channel(name) == SEEDED}
        gains = _gain_lines(self.plan, amendment.settings, seeded, amendment.is_drawn)
        before = _gain_lines(self.plan, amendment.settings, dict.fromkeys(seeded, 0), amendment.is_drawn)
        values = zip(self.early[amendment.settings], gains, before, strict=True)
        return replace(
            self, early={**self.early, amendment.settings: tuple(value + new - old for value, new, old in values)}
        )

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
        parts, lines = self.plan.log_parts, self.plan.get_lines(settings)
        least = lines.find_least(self.early[settings])
        early = add_logs([parts[place] + least[place] for place in places])
        if settings is not None:
            return early
        blocks = self.units // START_BLOCK
        least = lines.find_least(self.late)
        late = add_logs([parts[place] + least[place] for place in places])
        cash = add_logs([parts[place] for place in places]) - math.log(blocks + 1)
        return add_logs([early + math.log(EARLY_PART), add_logs([late, cash]) + math.log(1 - EARLY_PART)])

    @property
    def log_e(self) -> float:
        """Return the log e-value against the whole null, of the bets that can prove: the minimum over its members.

        A part of the wealth that started at 1 or below and bets as fairly as the whole.
        """
        if not self.plan.proving:
            return 0.0
        return minimise_logs([self._compute_log_of(self.plan.proving, settings) for settings in self._members])

    @property
    def log_grid_e(self) -> float:
        """Return the minimum over the grid of all wealth, text included: that no sampling of the grid explains it.

        Not an e-value against every sampling, and so no proof.
        """
        return minimise_logs([self.compute_log(settings) for settings in self._members])

    @property
    def log_slash_e(self) -> float | None:
        """Return the log of what the slash-grade bets alone hold, against the whole null; None when there are none.

        A part of the wealth that started below 1 and bets as fairly as the whole: an e-value too, if a smaller one.
        Whoever picks the prompts could pick those that honest machines fail on: with any that was not drawn, None.
        """
        places = [place for place in self.plan.proving if self.plan.bets[place][0].is_slash_grade]
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
    """Return the wealth before the first answer: 1 at most against every member of the null."""
    return Wealth(
        plan=plan,
        units=0,
        seeded_units=0,
        foreign_units=0,
        early={settings: (0.0,) * len(plan.get_lines(settings).log_e) for settings in plan.settings},
        late=(-math.inf,) * len(plan.get_lines().log_e),
    )


def compute_gains(plan: AuditPlan, unit: Unit, settings: int | None = None) -> list[float]:
    """Return the log factor of each line from one unit, against one member of the null."""
    if unit.is_missing:
        found: Mapping[str, int] = {statistic.id: 0 for statistic in plan.statistics}
    elif settings is None:
        found = unit.statistics_ppm
    else:
        # What is the same number against every sampling, then what was computed for this one; a statistic that was
        # computed for the claimed sampling alone counts as 0.
        shared = {name: g_ppm if holds_for_all(name) else 0 for name, g_ppm in unit.statistics_ppm.items()}
        found = {**shared, **unit.by_settings.get(settings, {})}
    return _gain_lines(plan, settings, found, unit.is_drawn)


def _gain_lines(plan: AuditPlan, settings: int | None, found: Mapping[str, int], is_drawn: bool) -> list[float]:
    """Return the log factor of each line; a statistic that was not found is no bet."""
    lines = plan.get_lines(settings)
    factors = lines.drawn if is_drawn else lines.foreign
    gains: list[float] = []
    for statistic, own in zip(plan.statistics, factors, strict=True):
        g_ppm = found.get(statistic.id)
        # 1 + share (g / mu - 1)
        gains += [0.0] * len(own) if g_ppm is None else [math.log(kept + g_ppm * stake) for kept, stake in own]
    return gains
