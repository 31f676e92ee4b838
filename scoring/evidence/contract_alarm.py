"""Broken contracts of one audit, counted and bet on: they raise an alarm and never prove anything.

No honest rates of failure are calibrated, so a generous one is assumed (`MU`). Condition: whatever came before, an
honest endpoint breaks each contract in at most this share of the answers in which it can be checked. Then the wealth
ever reaches `e^LOG_CONTRACT_ALARM` with a probability of at most 1/1000 (Ville). An answer in which a contract cannot
be checked is not bet on. One contract broken every time takes nine answers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from scoring.evidence.betting import compute_log_wealth
from scoring.evidence.contracts import (
    COMPLETION_TOKENS,
    FINISH_REASON,
    LOGPROBS,
    STREAMED,
    ContractOutcome,
    ContractRate,
    ContractWealth,
    build_contract_wealth,
    fold_contracts,
)

MU = 0.3
"""Assumed, not measured: proxies retry, servers count a stop token or do not, batches move the last digits."""
LOG_CONTRACT_ALARM = math.log(1_000)
REQUEST_CAP = 10.0
ALARM_IDS = (COMPLETION_TOKENS, FINISH_REASON, LOGPROBS, STREAMED)
"""The contracts that are bet on, fixed before the first answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractCount:
    """How often a contract could be checked and was broken; `example` is the first broken outcome.

    `is_alarm` says that it was broken so often that an honest endpoint hardly ever gets there.
    """

    id: str
    checked: int = 0
    broken: int = 0
    example: ContractOutcome | None = None
    is_alarm: bool = False

    def add(self, outcome: ContractOutcome) -> Self:
        """Return the count with one more outcome that could be checked."""
        is_broken = outcome.is_kept is False
        return replace(
            self,
            checked=self.checked + 1,
            broken=self.broken + is_broken,
            example=outcome if is_broken and self.example is None else self.example,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAlarm:
    """A pure fold over the contracts of answers. `raised` are the ids of those that reached the alarm, in that order.

    An alarm that was raised stays: its error probability is that of ever reaching it.
    """

    wealth: ContractWealth
    counts: Mapping[str, ContractCount] = field(default_factory=dict)
    raised: tuple[str, ...] = ()

    def add(self, outcomes: Sequence[ContractOutcome]) -> Self:
        """Return the alarm after an answer; raises InvalidInput on contracts without a bet or that come twice."""
        checked = [outcome for outcome in outcomes if outcome.is_kept is not None]
        wealth = fold_contracts(self.wealth, [outcome.id for outcome in checked], checked, REQUEST_CAP)
        counts = dict(self.counts)
        for outcome in checked:
            counts[outcome.id] = counts.get(outcome.id, ContractCount(id=outcome.id)).add(outcome)
        return replace(self, wealth=wealth, counts=counts, raised=(*self.raised, *_find_raised(wealth, self.raised)))

    def list_counts(self) -> tuple[ContractCount, ...]:
        """Return the counts of the contracts that could be checked at all, in the order of ALARM_IDS."""
        return tuple(
            replace(self.counts[contract_id], is_alarm=contract_id in self.raised)
            for contract_id in self.wealth.bettors
            if contract_id in self.counts
        )

    def describe(self) -> tuple[str, ...]:
        """Return in words what the contracts that raised the alarm say."""
        return tuple(describe_broken(self.counts[contract_id]) for contract_id in self.raised)


def build_contract_alarm() -> ContractAlarm:
    """Return the alarm before the first answer."""
    rates = [ContractRate(id=contract_id, requests=0, failures=0, mu=MU) for contract_id in ALARM_IDS]
    return ContractAlarm(wealth=build_contract_wealth(rates))


def describe_broken(count: ContractCount) -> str:
    """Return in words what a broken contract says."""
    if count.id == COMPLETION_TOKENS:
        example = count.example
        is_more = example is not None and int(example.found) > int(example.expected)
        return f"usage counts {'more' if is_more else 'fewer'} tokens than were returned"
    return {
        FINISH_REASON: "the reason to finish contradicts the length of the answer",
        LOGPROBS: "log-probabilities that cannot belong to the text",
        STREAMED: "streamed answers are others than whole ones",
    }[count.id]


def _find_raised(wealth: ContractWealth, known: Sequence[str]) -> list[str]:
    """Return the contracts whose bets carried the average over the alarm, and that are not known yet."""
    if wealth.log_wealth < LOG_CONTRACT_ALARM:
        return []
    return [
        contract_id
        for contract_id, bettors in wealth.bettors.items()
        if contract_id not in known and compute_log_wealth(bettors) >= LOG_CONTRACT_ALARM
    ]
