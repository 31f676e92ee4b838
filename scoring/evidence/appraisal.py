"""Appraisals of an audit's answers and the verdict that they add up to: a pure fold over `scoring.evidence.audit`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from scoring.evidence.algebra import add_logs
from scoring.evidence.audit import Amendment, Unit, Wealth, build_wealth
from scoring.evidence.audit_plan import AuditPlan
from scoring.evidence.channel_ids import (
    CHANNELS,
    GRID_IDS,
    GRID_POWERS,
    GRID_TOP_PS_PPM,
    PROMPT_ALTERNATIVES,
    WEIGHTS_ALTERNATIVES,
    get_channel,
)
from scoring.evidence.contract_alarm import ContractAlarm, ContractCount, build_contract_alarm
from scoring.evidence.contracts import PROMPT_TOKENS, ContractOutcome
from scoring.evidence.other_weights import OTHER_WEIGHTS_IDS
from scoring.evidence.verdict import Decision, EvidenceSummary, Verdict, decide_verdict
from scoring.records import PPM

LOG_ALARM = math.log(1_000)
PROMPT_TOKENS_TOLERANCE = 4
"""Honest servers count begin-of-text tokens or none; a hidden prompt is longer than that."""
UNNAMED = frozenset({*GRID_IDS, *OTHER_WEIGHTS_IDS})
"""Alternatives that consistency does not wait for: near the claim they cannot be told from it in any number."""
UNHURRIED = frozenset({"int8"})
"""An audit does not wait until these are excluded: it would take several times as many requests as all the others."""
CLAIM_NAME = "the claim"
UNKNOWN_NAME = "other weights or another prompt than the named alternatives"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedExplanation:
    """A named alternative and its share of the belief, when all that are named were equally likely before."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAppraisal:
    """What one outcome says: its units, the log likelihood ratios of the alternatives (nats), and what was noted.

    `extra_prompt_tokens` is what the provider counts beyond the claimed template, None when it counts nothing.
    `contracts` are those of this answer, each once.
    """

    index: int
    units: tuple[Unit, ...]
    log_ratios: Mapping[str, float]
    amendments: tuple[Amendment, ...] = ()
    extra_prompt_tokens: int | None = None
    verified_tokens: int = 0
    is_missing: bool = False
    note: str = ""
    log10_by_channel: Mapping[str, float] = field(default_factory=dict)
    contracts: tuple[ContractOutcome, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuditEvidence:
    """The running verdict over appraisals. Logarithms are natural unless the name says log10."""

    wealth: Wealth
    log_threshold: float
    is_calibrated: bool
    informative_requests: int = 0
    requests: int = 0
    missing: int = 0
    log_ratios: Mapping[str, float] = field(default_factory=dict)
    extra_prompt_tokens: tuple[int, ...] = ()
    contract_alarm: ContractAlarm = field(default_factory=build_contract_alarm)
    labels: Mapping[str, str] = field(default_factory=dict)
    """The name of the model that an alternative is, where it is one."""

    def add(self, appraisal: AuditAppraisal) -> Self:
        """Return the evidence with one more appraisal."""
        wealth = self.wealth
        for unit in appraisal.units:
            wealth = wealth.add(unit)
        for amendment in appraisal.amendments:
            wealth = wealth.amend(amendment)
        ratios = {
            name: self.log_ratios.get(name, 0.0) + appraisal.log_ratios.get(name, 0.0)
            for name in {**self.log_ratios, **appraisal.log_ratios}  # in order: a set has another in every process
        }
        extra = () if appraisal.extra_prompt_tokens is None else (appraisal.extra_prompt_tokens,)
        return replace(
            self,
            wealth=wealth,
            requests=self.requests + 1,
            missing=self.missing + appraisal.is_missing,
            informative_requests=self.informative_requests + (appraisal.verified_tokens > 0),
            log_ratios=ratios,
            extra_prompt_tokens=(*self.extra_prompt_tokens, *extra),
            contract_alarm=self.contract_alarm.add(appraisal.contracts),
        )

    @property
    def decision(self) -> Decision:
        """Return verdict, reason and the alternatives that are excluded."""
        alarm = self.wealth.compute_log()
        if self.has_hidden_tokens or self.contract_alarm.raised:
            # What a provider says of its answers raises an alarm and proves nothing.
            alarm = max(alarm, LOG_ALARM)
        return decide_verdict(
            EvidenceSummary(
                log_e=self.wealth.log_e,
                log_alarm_e=alarm,
                log_threshold=self.log_threshold,
                log_alarm_threshold=min(LOG_ALARM, self.log_threshold),
                informative_requests=self.informative_requests,
                floors={name: -value for name, value in self.log_ratios.items() if name not in UNNAMED},
                missing_share=self.missing / max(self.requests, 1),
                log_change_e=0.0,
                is_calibrated=self.is_calibrated,
            )
        )

    @property
    def verdict(self) -> str:
        """Return the verdict's word."""
        return str(self.decision.verdict)

    @property
    def log10_e(self) -> float:
        """Return log10 of the e-value against the whole null."""
        return self.wealth.log_e / math.log(10)

    @property
    def log10_slash_e(self) -> float | None:
        """Return log10 of the e-value from slash-grade bounds alone, None where the plan has none."""
        log_e = self.wealth.log_slash_e
        return None if log_e is None else log_e / math.log(10)

    @property
    def log10_by_channel(self) -> Mapping[str, float]:
        """Return log10 of the e-value of each channel, as if it had been the only one, against the claimed sampling."""
        used = {get_channel(statistic.id) for statistic in self.wealth.plan.statistics}
        return {name: self.wealth.compute_log(channel=name) / math.log(10) for name in CHANNELS if name in used}

    @property
    def log10_threshold(self) -> float:
        """Return -log10 of alpha."""
        return self.log_threshold / math.log(10)

    @property
    def log10_alarm(self) -> float:
        """Return log10 of the wealth that makes an endpoint suspect."""
        return min(LOG_ALARM, self.log_threshold) / math.log(10)

    @property
    def can_prove(self) -> bool:
        """Whether any bet could prove the claim wrong: of other weights under any sampling, text alone cannot."""
        return bool(self.wealth.plan.proving)

    @property
    def has_hidden_tokens(self) -> bool:
        """Whether the provider itself counts more prompt tokens than the claimed template has, every time."""
        return len(self.extra_prompt_tokens) >= 3 and min(self.extra_prompt_tokens) > PROMPT_TOKENS_TOLERANCE

    @property
    def contracts(self) -> tuple[ContractCount, ...]:
        """Return how often each contract could be checked and was broken."""
        extra = self.extra_prompt_tokens
        if not extra:
            return self.contract_alarm.list_counts()
        hidden = [count for count in extra if count > PROMPT_TOKENS_TOLERANCE]
        example = None
        if hidden:
            found = f"{hidden[0]} tokens more"
            example = ContractOutcome(id=PROMPT_TOKENS, is_kept=False, expected="the claimed template", found=found)
        prompt = ContractCount(
            id=PROMPT_TOKENS,
            checked=len(extra),
            broken=len(hidden),
            example=example,
            is_alarm=self.has_hidden_tokens,
        )
        return (prompt, *self.contract_alarm.list_counts())

    @property
    def explanations(self) -> tuple[NamedExplanation, ...]:
        """Return the named alternatives, likeliest first; those below one in a thousand are left out."""
        names = {CLAIM_NAME: 0.0}
        for alternative, ratio in self.log_ratios.items():
            if ratio == 0.0:  # the claim itself, as a point of the grid, or an alternative that never applied
                continue
            name = describe_alternative(alternative, self.extra_prompt_tokens, self.labels.get(alternative))
            names[name] = max(names.get(name, -math.inf), ratio)
        if self.wealth.compute_log() >= LOG_ALARM and max(names.values()) <= 0.0:
            names[UNKNOWN_NAME] = self.wealth.compute_log()
        total = add_logs(list(names.values()))
        found = [NamedExplanation(name=name, weight=math.exp(value - total)) for name, value in names.items()]
        named = self._name_alarms()
        if named:
            others = [item for item in found if item.name not in (CLAIM_NAME, *named)]
            found = [*(NamedExplanation(name=name, weight=1.0) for name in named), *others]
        return tuple(sorted((item for item in found if item.weight >= 1e-3), key=lambda item: -item.weight))

    def _name_alarms(self) -> tuple[str, ...]:
        """Return what the provider's own words give away; contracts only where the text itself says nothing."""
        hidden = describe_alternative(PROMPT_ALTERNATIVES[0], self.extra_prompt_tokens)
        broken = () if self.wealth.compute_log() >= LOG_ALARM else self.contract_alarm.describe()
        return (*((hidden,) if self.has_hidden_tokens else ()), *broken)

    @property
    def is_settled(self) -> bool:
        """Whether more requests are not worth their price: proven, or consistent with the alternatives excluded.

        Where nothing can prove, as suspect as can be is enough: no sampling of the grid explains it.
        """
        decision = self.decision
        if decision.verdict is Verdict.PROVEN:
            return True
        if decision.verdict is Verdict.SUSPECT and not self.can_prove:
            return self.wealth.log_grid_e >= self.log_threshold
        named = self.log_ratios.keys() - UNNAMED - UNHURRIED
        return decision.verdict is Verdict.CONSISTENT and named <= set(decision.excluded)


def build_evidence(
    plan: AuditPlan, alpha: float, is_calibrated: bool, labels: Mapping[str, str] | None = None
) -> AuditEvidence:
    """Return the evidence before the first answer."""
    return AuditEvidence(
        wealth=build_wealth(plan),
        log_threshold=-math.log(alpha),
        is_calibrated=is_calibrated,
        labels=labels or {},
    )


def describe_alternative(alternative: str, extra_prompt_tokens: tuple[int, ...] = (), label: str | None = None) -> str:
    """Return an alternative in words for people; `label` is the name of the model that it is, if it is one."""
    if alternative in GRID_IDS:
        return _describe_settings(GRID_IDS.index(alternative))
    if alternative in OTHER_WEIGHTS_IDS:
        return UNKNOWN_NAME
    if alternative in WEIGHTS_ALTERNATIVES:
        return f"{alternative} weights"
    if alternative.startswith("hidden-prompt"):
        extra = sorted(extra_prompt_tokens)[len(extra_prompt_tokens) // 2] if extra_prompt_tokens else 0
        return "hidden system prompt" + (f" of about {extra} tokens" if extra > PROMPT_TOKENS_TOLERANCE else "")
    if alternative.startswith("template-"):
        return "another chat template"
    if alternative.startswith("last-"):
        return f"context cut to its {alternative.replace('-', ' ')}"
    return f"another model ({label or alternative})"


def _describe_settings(index: int) -> str:
    power, top_p = GRID_POWERS[index // len(GRID_TOP_PS_PPM)], GRID_TOP_PS_PPM[index % len(GRID_TOP_PS_PPM)]
    words = [f"temperature near {20 / power:.2g}"] if power != 20 or top_p == PPM else []
    if top_p < PPM:
        words.append(f"top-p near {top_p / PPM:g}")
    return ", ".join(words)
