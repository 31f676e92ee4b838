"""Calendar cases: the e-process that a slash is decided on, as a pure fold over epochs.

Case j of a provider covers the epochs `[(j-1) L, j L)` of the sealed calendar, whatever was seen before: opening one
after an alarm and counting the past is double use of data. A validator's case wealth is
`E_i = (wealth on its own probes + wealth on all accounted probes) / 2`, both in its own scoring: an average of
e-processes is an e-process. It signs slashing evidence when `E_i >= 3 j (j+1) / alpha`.

Why 3 j (j+1): with liars below a third of stake, a certificate needs honest stake above a third with `E_i` at the
threshold, so the stake-weighted mean of honest e-processes (an e-process, whatever their dependence) reaches a third
of it: probability at most `alpha / (j (j+1))`, and these sum to alpha over all cases of the provider's life.

The alarm is the pooled wealth without the epoch cap. It schedules audits and lowers the score; it never slashes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scoring.eip712 import Record, Uint64
from scoring.errors import InvalidInput
from scoring.evidence.plan import Plan
from scoring.evidence.wealth import ONE, Portfolio, build_portfolio, compute_log10_milli, compute_mixture, fold_epoch
from scoring.records import PPM

MAX_CHALLENGE_RECEIPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountedProbe:
    """One drawn probe of an epoch. `statistics_ppm` is None when it was not asked, not answered or not scored."""

    is_own: bool
    statistics_ppm: tuple[int, ...] | None

    def __post_init__(self) -> None:
        check_statistics(self.statistics_ppm)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseState(Record):
    """The open case of one provider as one validator sees it. A record: it is stored and sent as JSON."""

    case_index: Uint64
    accounted_probes: Uint64
    missing_probes: Uint64
    own: Portfolio
    pooled: Portfolio
    alarm: Portfolio

    @property
    def epochs(self) -> int:
        """Return how many epochs were folded in."""
        return self.pooled.epochs

    @property
    def own_wealth(self) -> int:
        """Return the fixed-point wealth on the validator's own probes."""
        return self.own.wealth

    @property
    def pooled_wealth(self) -> int:
        """Return the fixed-point wealth on all accounted probes."""
        return self.pooled.wealth

    @property
    def case_wealth(self) -> int:
        """Return E_i, the average of both."""
        return (self.own.wealth + self.pooled.wealth) // 2

    @property
    def alarm_wealth(self) -> int:
        """Return the pooled wealth without the epoch cap."""
        return self.alarm.wealth

    @property
    def case_log10_milli(self) -> int:
        """Return 1000 log10 of E_i, for display."""
        return compute_log10_milli(self.case_wealth)


def compute_case_index(plan: Plan, epoch: int) -> int:
    """Return j >= 1 of the case that the epoch belongs to."""
    if epoch < 0:
        raise InvalidInput("before epoch 0", "epoch")
    return epoch // plan.case_length_epochs + 1


def compute_first_epoch(plan: Plan, case_index: int) -> int:
    """Return the first epoch of case j."""
    if case_index < 1:
        raise InvalidInput("cases are numbered from 1", "case_index")
    return (case_index - 1) * plan.case_length_epochs


def compute_threshold(plan: Plan, case_index: int) -> int:
    """Return `3 j (j+1) / alpha`, a plain integer (not fixed point)."""
    if case_index < 1:
        raise InvalidInput("cases are numbered from 1", "case_index")
    return 3 * case_index * (case_index + 1) * plan.one_over_alpha


def is_proven(plan: Plan, state: CaseState) -> bool:
    """Tell whether the validator's own e-process of the case has reached the threshold."""
    return state.case_wealth >= compute_threshold(plan, state.case_index) * ONE


def build_case(plan: Plan, case_index: int) -> CaseState:
    """Return the state of case j before its first epoch: wealth 1."""
    compute_first_epoch(plan, case_index)
    empty = build_portfolio(plan.bets)
    return CaseState(case_index=case_index, accounted_probes=0, missing_probes=0, own=empty, pooled=empty, alarm=empty)


def fold_case_epoch(plan: Plan, state: CaseState, probes: Iterable[AccountedProbe]) -> CaseState:
    """Return the state after one more epoch.

    `probes` are all probes drawn in the epoch, in canonical order (validator seat, probe index), each once, the missing
    ones included: leaving one out is what the rule of the smallest factor exists against. Raises InvalidInput when the
    case is full or a probe has another number of statistics than the plan.
    """
    if state.epochs >= plan.case_length_epochs:
        raise InvalidInput(f"case {state.case_index} has had its {plan.case_length_epochs} epochs", "epochs")
    accounted = tuple(probes)
    for probe in accounted:
        check_statistics(probe.statistics_ppm, len(plan.statistics))
    pooled = [probe.statistics_ppm for probe in accounted]
    own = [probe.statistics_ppm for probe in accounted if probe.is_own]
    return CaseState(
        case_index=state.case_index,
        accounted_probes=state.accounted_probes + len(accounted),
        missing_probes=state.missing_probes + sum(statistics is None for statistics in pooled),
        own=fold_epoch(state.own, plan.bets, own, plan.request_cap, plan.epoch_cap),
        pooled=fold_epoch(state.pooled, plan.bets, pooled, plan.request_cap, plan.epoch_cap),
        alarm=fold_epoch(state.alarm, plan.bets, pooled, plan.request_cap, None),
    )


def compute_case_wealth(plan: Plan, case_index: int, epochs: Iterable[Iterable[AccountedProbe]]) -> CaseState:
    """Return the state of a case from all its epochs: what a stranger recomputes from an evidence bundle."""
    state = build_case(plan, case_index)
    for probes in epochs:
        state = fold_case_epoch(plan, state, probes)
    return state


def compute_challenge_e_value(plan: Plan, receipts: Sequence[Sequence[int] | None]) -> int:
    """Return the fixed-point e-value of up to eight receipts (g in ppm in plan order, None when unscored).

    The mean over bets of their products, no start mixture: the receipts are the whole experiment. The consumer chose
    the prompts, so the mean mu may not bind: it decides bonds, never stake. Raises InvalidInput on none or over eight.
    """
    if not 1 <= len(receipts) <= MAX_CHALLENGE_RECEIPTS:
        raise InvalidInput(f"1 to {MAX_CHALLENGE_RECEIPTS} receipts make a challenge", "receipts")
    for statistics_ppm in receipts:
        check_statistics(statistics_ppm, len(plan.statistics))
    return compute_mixture(plan.bets, receipts, plan.request_cap)


def check_statistics(statistics_ppm: Sequence[int] | None, count: int | None = None) -> None:
    """Raise InvalidInput unless it is None or `count` integers from 0 to 1,000,000."""
    if statistics_ppm is None:
        return
    if count is not None and len(statistics_ppm) != count:
        raise InvalidInput(f"expected {count} statistics, got {len(statistics_ppm)}", "statistics_ppm")
    if any(type(value) is not int or not 0 <= value <= PPM for value in statistics_ppm):
        raise InvalidInput("expected integers from 0 to 1,000,000", "statistics_ppm")
