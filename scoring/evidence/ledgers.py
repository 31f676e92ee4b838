"""The two ledgers of evidence against one provider: alarms, which cost attention, and slashes, which cost stake.

They are kept apart because their guarantees differ. The *alarm ledger* restarts after every alarm and never ends: it
bounds how often an honest provider is audited for nothing, by an average run length. The *slash ledger* spends one
error budget alpha over the provider's whole life: case j of the calendar may slash at `3 j (j+1) / alpha` and so spends
`alpha / (j (j+1))`, and the cases together at most alpha. Nothing moves from the first to the second: an alarm opens no
case, and a case opened after an alarm that counts the past would spend the same data twice.

Both are folds over records in order of time. Alarms are private and in floats; a slash is decided on in integers.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from scoring.errors import InvalidInput
from scoring.evidence.algebra import CusumDetector, fold_cusum
from scoring.evidence.wealth import ONE


class AlarmEvent(StrEnum):
    """What happened to the alarm: it was raised, and the detector reset; or audits found enough, and it was closed."""

    RAISED = "raised"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEntry:
    """One line of the alarm ledger: the epoch, what happened, and the detector's statistic in nats at that time."""

    epoch: int
    event: AlarmEvent
    log_statistic: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmLedger:
    """The alarms of one provider: a threshold in nats, the running detector, the last epoch folded, and the entries."""

    log_threshold: float
    detector: CusumDetector = field(default_factory=CusumDetector)
    epoch: int = -1
    entries: tuple[AlarmEntry, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.log_threshold < math.inf:
            raise InvalidInput("expected the logarithm of a number above 1", "log_threshold")

    @property
    def is_open(self) -> bool:
        """Whether an alarm was raised and not closed: audits are due."""
        return bool(self.entries) and self.entries[-1].event is AlarmEvent.RAISED

    @property
    def raised(self) -> int:
        """Return how many alarms were raised so far."""
        return sum(entry.event is AlarmEvent.RAISED for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEntry:
    """One case of the slash ledger: its largest wealth (fixed point), its threshold (plain), and the offence.

    `offence` is the digest of what was slashed, None when nothing was.
    """

    case_index: int
    threshold: int
    peak_wealth: int
    offence: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashLedger:
    """The cases of one provider, over all its offers: 1/alpha, the calendar, and what came of each case so far."""

    one_over_alpha: int
    case_length_epochs: int
    cases: tuple[CaseEntry, ...] = ()

    def __post_init__(self) -> None:
        if self.one_over_alpha < 2:
            raise InvalidInput("must be at least 2", "one_over_alpha")
        if self.case_length_epochs < 1:
            raise InvalidInput("must be at least 1", "case_length_epochs")

    @property
    def spent_alpha(self) -> Fraction:
        """Return the error probability that the recorded cases have spent: the sum of `alpha / (j (j+1))`, exactly."""
        return sum((compute_case_alpha(self.one_over_alpha, case.case_index) for case in self.cases), Fraction(0))

    @property
    def offences(self) -> frozenset[bytes]:
        """Return the digests of the offences that were slashed."""
        return frozenset(case.offence for case in self.cases if case.offence is not None)


def fold_alarm(ledger: AlarmLedger, epoch: int, log_factor: float) -> AlarmLedger:
    """Return the alarm ledger after one more epoch, whose evidence multiplies by a factor (in nats).

    Condition: the factor is an e-value given everything before (`algebra.fold_cusum`; Shin, Ramdas, Rinaldo 2024). Then
    an honest provider waits `exp(log_threshold)` epochs or more for its next alarm, on average. Raising one resets the
    detector, so that every wait obeys that bound; while one is open no other is raised. Epochs come in order, each
    once.
    """
    if epoch <= ledger.epoch:
        raise InvalidInput(f"expected an epoch after {ledger.epoch}", "epoch")
    detector = fold_cusum(ledger.detector, log_factor)
    if ledger.is_open or detector.log_statistic < ledger.log_threshold:
        return replace(ledger, detector=detector, epoch=epoch)
    entry = AlarmEntry(epoch=epoch, event=AlarmEvent.RAISED, log_statistic=detector.log_statistic)
    return replace(ledger, detector=CusumDetector(), epoch=epoch, entries=(*ledger.entries, entry))


def close_alarm(ledger: AlarmLedger, epoch: int) -> AlarmLedger:
    """Return the ledger with the open alarm closed: the audits that it asked for were made. The detector starts anew.

    Raises InvalidInput when no alarm is open or the epoch lies before the last one folded.
    """
    if not ledger.is_open:
        raise InvalidInput("no alarm is open", "entries")
    if epoch < ledger.epoch:
        raise InvalidInput(f"before epoch {ledger.epoch}", "epoch")
    entry = AlarmEntry(epoch=epoch, event=AlarmEvent.CLOSED, log_statistic=ledger.detector.log_statistic)
    return replace(ledger, detector=CusumDetector(), epoch=epoch, entries=(*ledger.entries, entry))


def compute_case_alpha(one_over_alpha: int, case_index: int) -> Fraction:
    """Return `alpha / (j (j+1))`, the error that case j may spend; over all j these sum to alpha.

    A third of what its threshold `3 j (j+1) / alpha` would spend on one validator: the stake-weighted mean of honest
    e-processes needs only a third of it for a certificate (`scoring.evidence.cases`).
    """
    return Fraction(1, one_over_alpha * _check_case(case_index) * (case_index + 1))


def compute_case_threshold(one_over_alpha: int, case_index: int) -> int:
    """Return `3 j (j+1) / alpha`, a plain integer, not fixed point."""
    return 3 * _check_case(case_index) * (case_index + 1) * one_over_alpha


def record_case(
    ledger: SlashLedger, case_index: int, first_epoch: int, peak_wealth: int, offence: bytes | None
) -> SlashLedger:
    """Return the slash ledger after a case: the offence is entered when the largest wealth reached the threshold.

    Condition: the wealth is *one* e-process for all offers of the provider (with several, their average with weights
    fixed at the start), and was 1 in `first_epoch`, in which the calendar opens the case: `(j-1) L`. A case that was
    opened later, or comes twice or out of order, is refused, and so is an offence that the ledger holds already: an
    offence slashes once. `offence` names what is accused and is kept only when it is slashed; without one (None)
    nothing is. Wealth is fixed point.
    """
    threshold = compute_case_threshold(ledger.one_over_alpha, case_index)
    if ledger.cases and case_index <= ledger.cases[-1].case_index:
        raise InvalidInput(f"case {case_index} does not follow case {ledger.cases[-1].case_index}", "case_index")
    if first_epoch != (case_index - 1) * ledger.case_length_epochs:
        raise InvalidInput(f"the calendar does not open case {case_index} in epoch {first_epoch}", "first_epoch")
    if peak_wealth < 0:
        raise InvalidInput("must not be negative", "peak_wealth")
    is_slashed = offence is not None and peak_wealth >= threshold * ONE
    if is_slashed and offence in ledger.offences:
        raise InvalidInput("is slashed already", "offence")
    entry = CaseEntry(
        case_index=case_index, threshold=threshold, peak_wealth=peak_wealth, offence=offence if is_slashed else None
    )
    return replace(ledger, cases=(*ledger.cases, entry))


def _check_case(case_index: int) -> int:
    if case_index < 1:
        raise InvalidInput("cases are numbered from 1", "case_index")
    return case_index
