"""From evidence to a word: consistent, suspect, proven, uninformative or unstable. Only `proven` slashes.

An e-value that stayed small says nothing by itself: it is small for an honest provider and for a cheat that was asked
too little. So `consistent` needs power, a named cheat that would have been proven by now with at least 95 %, and names
the cheats that it excludes; without one the verdict is `uninformative`. `proven` needs a calibrated null: in a cell,
stratum or claim without calibration the same evidence is an alarm, `suspect`. An endpoint that differs from itself is
`unstable`, whether it passed or failed on average, until somebody has looked.

Source of the rule: section 1 of the verification plan. All logarithms are natural.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from scoring.errors import InvalidInput

MIN_INFORMATIVE_REQUESTS = 4
"""Fewer answers that say anything are no audit, whatever their power on paper."""
MAX_MISSING_SHARE = 0.2
"""Above this share of missing answers nobody is consistent: refusing to answer may not buy a good word."""
FLOOR_SHARE = 0.05


class Verdict(StrEnum):
    """What the evidence says about an endpoint."""

    CONSISTENT = "consistent"
    SUSPECT = "suspect"
    PROVEN = "proven"
    UNINFORMATIVE = "uninformative"
    UNSTABLE = "unstable"

    @property
    def is_slashable(self) -> bool:
        """Whether stake may be taken for it."""
        return self is Verdict.PROVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSummary:
    """What a verdict is decided on. Logarithms in nats.

    `log_e` is the e-process against the whole null, `log_alarm_e` the one without epoch caps (the same where there are
    none). `floors` gives, for each named cheat, the evidence that 95 % of its runs would have reached after as many
    informative requests. `missing_share` is over all requests that were drawn. `log_change_e` is the wealth against
    "the endpoint is the same as itself" (`change`), 0 when nobody looked. `is_calibrated`: bounds exist for the cell,
    the strata and the claim of these requests.
    """

    log_e: float
    log_alarm_e: float
    log_threshold: float
    log_alarm_threshold: float
    informative_requests: int
    floors: Mapping[str, float]
    missing_share: float
    log_change_e: float
    is_calibrated: bool

    def __post_init__(self) -> None:
        for field in ("log_e", "log_alarm_e", "log_change_e"):
            if math.isnan(getattr(self, field)):
                raise InvalidInput("is not a number", field)
        for field in ("log_threshold", "log_alarm_threshold"):
            if not 0.0 < getattr(self, field) < math.inf:
                raise InvalidInput("expected the logarithm of a number above 1", field)
        if self.log_alarm_threshold > self.log_threshold:
            raise InvalidInput("must not be above the threshold", "log_alarm_threshold")
        if self.informative_requests < 0:
            raise InvalidInput("must not be negative", "informative_requests")
        if not 0.0 <= self.missing_share <= 1.0:
            raise InvalidInput("must be from 0 to 1", "missing_share")
        if any(math.isnan(value) for value in self.floors.values()):
            raise InvalidInput("holds NaN", "floors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict, its reason in words with hyphens, and the cheats that it excludes, in order of name.

    A cheat is excluded when it would have been proven by now and nothing was. Beside `suspect` and `unstable` they say
    what the deviation is not.
    """

    verdict: Verdict
    reason: str
    excluded: tuple[str, ...]


def decide_verdict(summary: EvidenceSummary) -> Decision:
    """Return the verdict on the evidence so far.

    Condition: `log_e` and `log_alarm_e` are e-processes for the calibrated null. Then an honest provider is *ever*
    proven with probability at most 1/threshold (Ville) and suspect with at most 1/alarm threshold; without calibration
    `suspect` has no error probability. The first rule that is met decides: power is asked for before a good word, never
    before a bad one.
    """
    excluded = find_excluded(summary)
    for is_met, verdict, reason in (
        (_is_proven(summary), Verdict.PROVEN, "threshold-reached"),
        (summary.log_change_e >= summary.log_alarm_threshold, Verdict.UNSTABLE, "differs-from-itself"),
        (summary.log_e >= summary.log_threshold, Verdict.SUSPECT, "threshold-reached-uncalibrated"),
        (summary.log_alarm_e >= summary.log_alarm_threshold, Verdict.SUSPECT, "alarm-reached"),
        (not summary.is_calibrated, Verdict.UNINFORMATIVE, "uncalibrated"),
        (summary.missing_share > MAX_MISSING_SHARE, Verdict.UNINFORMATIVE, "answers-missing"),
        (summary.informative_requests < MIN_INFORMATIVE_REQUESTS, Verdict.UNINFORMATIVE, "too-few-requests"),
        (not excluded, Verdict.UNINFORMATIVE, "no-cheat-excluded"),
    ):
        if is_met:
            return Decision(verdict=verdict, reason=reason, excluded=excluded)
    return Decision(verdict=Verdict.CONSISTENT, reason="cheats-excluded", excluded=excluded)


def find_excluded(summary: EvidenceSummary) -> tuple[str, ...]:
    """Return the named cheats that would have been proven by now with at least 95 %, when nothing was proven.

    Condition: the floors belong to these requests: the same channels, token counts, caps and informative requests.
    """
    if summary.log_e >= summary.log_threshold:
        return ()
    return tuple(sorted(name for name, floor in summary.floors.items() if floor >= summary.log_threshold))


def compute_power_floor(mean_log_factor: float, variance_log_factor: float, requests: int) -> float:
    """Return evidence in nats that a cheat has reached after so many requests with probability at least 95 %.

    `n mean - sqrt(19 n variance)`: the one-sided inequality of Chebyshev and Cantelli (F. P. Cantelli 1928),
    P(X <= E X - t) <= v / (v + t^2), with v / (v + t^2) = 1/20. Condition: the log factors of the cheat's requests are
    uncorrelated with this mean and variance, and are those of one martingale; where it is one of several that are
    averaged, subtract the logarithm of its share. It asks for no distribution, so it is cautious: a 5 % quantile of
    resampled audits is higher and may stand in its place.
    """
    if not (math.isfinite(mean_log_factor) and math.isfinite(variance_log_factor)) or variance_log_factor < 0.0:
        raise InvalidInput("expected a finite mean and a finite variance that is not negative", "variance_log_factor")
    if requests < 0:
        raise InvalidInput("must not be negative", "requests")
    return requests * mean_log_factor - math.sqrt((1 / FLOOR_SHARE - 1) * requests * variance_log_factor)


def _is_proven(summary: EvidenceSummary) -> bool:
    return summary.is_calibrated and summary.log_e >= summary.log_threshold
