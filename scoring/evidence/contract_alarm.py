"""Broken contracts of one audit, counted and bet on: they raise an alarm and never prove anything.

No honest rates of failure are calibrated, so generous ones are assumed (`MU`, `NEEDLE_MU`). Condition: whatever came
before, an honest endpoint breaks each contract in at most this share of the answers in which it can be checked. Then
the wealth ever reaches `e^LOG_CONTRACT_ALARM` with a probability of at most 1/1000 (Ville). An answer in which a
contract cannot be checked is not bet on. One contract broken every time takes nine answers, needles five.
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
    build_needle_id,
    fold_contracts,
)

MU = 0.3
"""Assumed, not measured: proxies retry, servers count a stop token or do not, batches move the last digits."""
NEEDLE_MU = 0.1
"""Lower, because only needles count that the claimed model itself is sure to find."""
LOG_CONTRACT_ALARM = math.log(1_000)
REQUEST_CAP = 10.0
NEEDLE = "needle-v1"
NEEDLE_IDS = tuple(build_needle_id(depth_percent) for depth_percent in range(101))
ALARM_IDS = (COMPLETION_TOKENS, FINISH_REASON, LOGPROBS, STREAMED, NEEDLE)
"""What is bet on, fixed before the first answer: needles of all depths are counted apart and bet on as one."""


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
    """A pure fold over the contracts of answers. `raised` are those of ALARM_IDS that reached the alarm, in that order.

    An alarm that was raised stays: its error probability is that of ever reaching it.
    """

    wealth: ContractWealth
    counts: Mapping[str, ContractCount] = field(default_factory=dict)
    raised: tuple[str, ...] = ()

    def add(self, outcomes: Sequence[ContractOutcome]) -> Self:
        """Return the alarm after an answer; raises InvalidInput on contracts without a bet or that come twice."""
        checked = [outcome for outcome in outcomes if outcome.is_kept is not None]
        bets = [replace(outcome, id=_find_bet(outcome.id)) for outcome in checked]
        wealth = fold_contracts(self.wealth, [bet.id for bet in bets], bets, REQUEST_CAP)
        counts = dict(self.counts)
        for outcome in checked:
            counts[outcome.id] = counts.get(outcome.id, ContractCount(id=outcome.id)).add(outcome)
        return replace(self, wealth=wealth, counts=counts, raised=(*self.raised, *_find_raised(wealth, self.raised)))

    def list_counts(self) -> tuple[ContractCount, ...]:
        """Return the counts of the contracts that could be checked at all, needles last and by their depth."""
        return tuple(
            replace(count, is_alarm=count.broken > 0 and _find_bet(contract_id) in self.raised)
            for contract_id in (*ALARM_IDS, *NEEDLE_IDS)
            if (count := self.counts.get(contract_id)) is not None
        )

    def describe(self) -> tuple[str, ...]:
        """Return in words what the contracts that raised the alarm say."""
        return tuple(describe_broken(bet_id, self.counts.get(bet_id)) for bet_id in self.raised)


def build_contract_alarm() -> ContractAlarm:
    """Return the alarm before the first answer."""
    mus = {bet_id: NEEDLE_MU if bet_id == NEEDLE else MU for bet_id in ALARM_IDS}
    rates = [ContractRate(id=bet_id, requests=0, failures=0, mu=mu) for bet_id, mu in mus.items()]
    return ContractAlarm(wealth=build_contract_wealth(rates))


def describe_broken(bet_id: str, count: ContractCount | None) -> str:
    """Return in words what a broken contract of ALARM_IDS says; the count's example may tell more."""
    if bet_id == COMPLETION_TOKENS:
        example = None if count is None else count.example
        is_more = example is not None and int(example.found) > int(example.expected)
        return f"usage counts {'more' if is_more else 'fewer'} tokens than were returned"
    return {
        FINISH_REASON: "the reason to finish contradicts the length of the answer",
        LOGPROBS: "log-probabilities that cannot belong to the text",
        STREAMED: "streamed answers are others than whole ones",
        NEEDLE: "facts in a long prompt are not found: the context may be cut",
    }[bet_id]


def _find_bet(contract_id: str) -> str:
    return NEEDLE if contract_id in NEEDLE_IDS else contract_id


def _find_raised(wealth: ContractWealth, known: Sequence[str]) -> list[str]:
    """Return the contracts whose bets carried the average over the alarm, and that are not known yet."""
    if wealth.log_wealth < LOG_CONTRACT_ALARM:
        return []
    return [
        contract_id
        for contract_id, bettors in wealth.bettors.items()
        if contract_id not in known and compute_log_wealth(bettors) >= LOG_CONTRACT_ALARM
    ]
