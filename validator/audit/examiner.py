"""The judge of an audit: outcomes in, appraisals out, by re-running the claimed model here or on a server.

An answer is cut into windows of at most the calibrated length; each is one unit of evidence. Whatever is not calibrated
(another prompt than the generator's, temperatures outside the envelope) is bounded more widely or bets nothing.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from models.alternatives import SECOND_RUN
from models.answer_pass import Claim as ClaimedAnswer
from models.answer_pass import ReferenceModel, cut_columns
from models.passes import Passes, open_passes
from models.requests import GRID, SEEDED_SAMPLERS
from models.siblings import get_labels
from scoring.errors import Unavailable
from scoring.evidence.appraisal import AuditAppraisal, AuditEvidence, build_evidence
from scoring.evidence.audit import MISSING, Amendment, Unit, build_wealth
from scoring.evidence.audit_plan import FITTED, AuditPlan, build_audit_plan
from scoring.evidence.channel_ids import (
    ACTIVATIONS_IDS,
    CHANNELS,
    GREEDY,
    GRID_IDS,
    LOGPROBS_IDS,
    OWN_NOISE_ID,
    SEEDED_IDS,
    TEXT,
    get_channel,
    list_statistics_of,
)
from scoring.evidence.channels import AnswerColumns, compute_channel_statistics, compute_log_ratios
from scoring.records import PPM
from validator.audit.calibration import Verifier, choose_calibration
from validator.audit.claims import NO_EVIDENCE, ClaimReader
from validator.audit.contract_checks import ContractChecker
from validator.audit.records import (
    Claim,
    ExaminerSettings,
    Exchange,
    Missing,
    Outcome,
    ReferenceFacts,
)

MAX_WINDOWS = 8
FIT_ANSWERS = 8
EXPLAINED_ANSWERS = 6
"""Alternatives without a bound are run on so many answers: enough to name a hidden prompt, and no more waiting."""
SURE_SHARE, SURE_TOKENS = 0.9, 24


class ModelExaminer:
    """Examines with what runs the claimed model again."""

    def __init__(self, settings: ExaminerSettings, passes: Passes) -> None:
        self._settings = settings
        self._model = ReferenceModel(passes, alternatives=settings.alternatives)
        self._labels = get_labels(self._model.alternatives)
        manifest = passes.loaded.manifest
        self._digest = manifest.compute_digest()
        self._calibration = choose_calibration(settings.profile, self._digest, Verifier.describe(passes))
        profile = self._calibration.profile
        self._reader = ClaimReader(self._model, profile.sampler if profile else None)
        self._window = profile.max_tokens if profile else 64
        # Bounds are of the prompts that they were measured on.
        generators = (None, profile.generator) if profile else (settings.generator,)
        self._knows_prompts = settings.generator in generators
        self._contracts = ContractChecker(self._model)
        self._evidence: AuditEvidence | None = None
        self._examined: list[tuple[ClaimedAnswer, int, bool]] = []
        self._amended: dict[int, int] = {}
        self._fitted: tuple[float, float] | None = None
        self.facts = ReferenceFacts(
            model=manifest.name,
            manifest_digest=self._digest,
            profile_digest=profile.compute_digest() if profile else None,
            cell=passes.cell,
            calibration=self._calibration.describe(),
            alternatives=tuple(self._labels.get(item.id, item.id) for item in self._model.alternatives),
        )

    def begin(self, channels: Sequence[str]) -> AuditEvidence:
        """Return the evidence before the first appraisal."""
        plan = build_audit_plan(
            self._calibration.find_bounds(tuple(self._labels)),
            [channel for channel in channels if channel in CHANNELS],
            self._settings.claim is Claim.WEIGHTS,
            self._calibration.slash_grade,
        )
        self._reader.reads_greedy = any(get_channel(statistic.id) == GREEDY for statistic in plan.statistics)
        self._examined, self._amended, self._fitted = [], {}, None
        self._contracts = ContractChecker(self._model)
        is_calibrated = self._calibration.profile is not None
        self._evidence = build_evidence(plan, self._settings.alpha, is_calibrated, self._labels)
        return self._evidence

    def identify_sampler(self, exchanges: Sequence[Exchange]) -> str | None:
        """Return the sampler whose seeded winners nearly all tokens are, None when there is none or too few tokens."""
        claims = [self._reader.read(exchange)[0] for exchange in exchanges if exchange.token_ids]
        seeded = [claim for claim in claims if claim is not None and claim.request.seed is not None]
        for sampler in SEEDED_SAMPLERS:
            counts = [self._model.count_winners(claim, sampler) for claim in seeded]
            tokens = sum(total for _, total in counts)
            if tokens >= SURE_TOKENS and sum(won for won, _ in counts) >= SURE_SHARE * tokens:
                return sampler
        return None

    def examine(self, outcomes: Sequence[Outcome]) -> list[AuditAppraisal]:
        """Return one appraisal for each outcome; raises Unavailable when the reference model fails."""
        if self._evidence is None:
            raise RuntimeError("begin first")
        with _telling_failures():
            appraisals = [
                replace(appraisal, contracts=self._contracts.check(outcome))
                for appraisal, outcome in zip(self._appraise(outcomes), outcomes, strict=True)
            ]
        evidence = self._evidence
        for appraisal in appraisals:
            evidence = evidence.add(appraisal)
        with _telling_failures():
            amendments = self._amend(evidence)
        if amendments:
            appraisals[-1] = replace(appraisals[-1], amendments=amendments)
            evidence = self._evidence
            for appraisal in appraisals:
                evidence = evidence.add(appraisal)
        self._evidence = evidence
        return appraisals

    def _appraise(self, outcomes: Sequence[Outcome]) -> list[AuditAppraisal]:
        read = [(None, "") if isinstance(outcome, Missing) else self._reader.read(outcome) for outcome in outcomes]
        claims, notes = [claim for claim, _ in read], [note for _, note in read]
        known = [claim for claim in claims if claim is not None]
        explained = max(EXPLAINED_ANSWERS - len(self._examined), 0)
        columns = iter(self._model.examine(known, self._find_bounded(), explained))
        return [
            self._appraise_one(outcome, claim, next(columns)) if claim is not None else self._explain(outcome, note)
            for outcome, claim, note in zip(outcomes, claims, notes, strict=True)
        ]

    def _find_bounded(self) -> set[str]:
        """Return the alternatives that the plan bets on; all of them when there is no profile."""
        if self._calibration.profile is None:
            return {item.id for item in self._model.alternatives}
        planned = {statistic.id for statistic in self._get_plan().statistics}
        named = {
            item.id
            for item in self._model.alternatives
            if planned.intersection((*list_statistics_of(item.id, False), *list_statistics_of(item.id, True)))
        }
        return named | ({SECOND_RUN.id} if OWN_NOISE_ID in planned else set())

    def _explain(self, outcome: Outcome, note: str) -> AuditAppraisal:
        """Return the appraisal of an outcome that cannot be re-run: the smallest factor when the provider caused it."""
        if isinstance(outcome, Exchange):
            units = () if note in NO_EVIDENCE else (MISSING,)
            return self._finish(AuditAppraisal(index=outcome.index, units=units, log_ratios={}, note=note))
        units = (MISSING,) if outcome.is_provider_fault else ()
        return self._finish(
            AuditAppraisal(index=outcome.index, units=units, log_ratios={}, is_missing=True, note=outcome.reason)
        )

    def _appraise_one(self, outcome: Outcome, claim: ClaimedAnswer, columns: AnswerColumns) -> AuditAppraisal:
        if not isinstance(outcome, Exchange):
            raise RuntimeError("only exchanges are re-run")
        length = len(claim.request.output_ids)
        starts = range(0, max(length, 1), self._window)[:MAX_WINDOWS]
        # The divisor of the statistics is what was asked for, as in the calibration, but never more than a window.
        size = min(outcome.max_tokens, self._window)
        windows = [cut_columns(columns, start, self._window, size) for start in starts]
        is_drawn = outcome.is_drawn and self._knows_prompts and self._is_calibrated_for(outcome)
        channels = [name for name in CHANNELS if name != TEXT or self._reader.bets_on_text(outcome, claim)]
        units = tuple(
            self._build_unit(window, is_drawn and place == 0, place == 0, channels)
            for place, window in zip(count(), windows, strict=False)
        )
        self._examined.append((_cut_claim(claim, self._window), size, is_drawn))
        extra = None if outcome.prompt_tokens is None else outcome.prompt_tokens - len(claim.request.prompt_ids)
        return self._finish(
            AuditAppraisal(
                index=outcome.index,
                units=units,
                log_ratios=_sum_ratios(windows),
                extra_prompt_tokens=extra,
                verified_tokens=length,
                note="; ".join(claim.found.doubts) if claim.found else "",
            )
        )

    def _is_calibrated_for(self, outcome: Exchange) -> bool:
        """Return whether the honest means are of requests like this one: of its sampling, and of answers as long."""
        profile = self._calibration.profile
        if outcome.max_tokens > self._window:
            return False
        if profile is None:
            return True
        temperatures = (profile.temperature_ppm / PPM, 0.0)
        return outcome.temperature in temperatures and outcome.top_p == profile.top_p_ppm / PPM and not outcome.top_k

    def _build_unit(self, window: AnswerColumns, is_drawn: bool, is_first: bool, channels: Collection[str]) -> Unit:
        settings = range(len(GRID_IDS)) if self._settings.claim is Claim.WEIGHTS else ()
        # Log-probabilities and proofs that are left out, or that belong to other tokens, bet the smallest factor.
        planned = {item.id for item in self._get_plan().statistics}
        owed = (*LOGPROBS_IDS, *(ACTIVATIONS_IDS if is_first else ()))
        left_out = {} if window.is_greedy else dict.fromkeys(planned.intersection(owed), 0)
        return Unit(
            statistics_ppm=_keep({**left_out, **compute_channel_statistics(window)}, channels),
            by_settings={
                place: _keep(compute_channel_statistics(replace(window, settings=place)), channels)
                for place in settings
            },
            is_drawn=is_drawn,
        )

    def _finish(self, appraisal: AuditAppraisal) -> AuditAppraisal:
        """Return the appraisal with what it says alone, by channel."""
        plan = replace(self._get_plan(), covers_all_settings=False)
        wealth = build_wealth(plan)
        for unit in appraisal.units:
            wealth = wealth.add(unit)
        used = {get_channel(statistic.id) for statistic in plan.statistics}
        alone = {channel: wealth.compute_log(channel=channel) / _LOG_10 for channel in used}
        return replace(appraisal, log10_by_channel=alone if appraisal.units else {})

    def _get_plan(self) -> AuditPlan:
        if self._evidence is None:
            raise RuntimeError("begin first")
        return self._evidence.wealth.plan

    def _amend(self, evidence: AuditEvidence) -> tuple[Amendment, ...]:
        """Return seeded statistics under the members of the null that still stand, once the claimed one has fallen.

        A member that fits the text best is tried first; as soon as one stands after all, no other is needed. Last comes
        the sampling that fits these answers best, which no grid holds.
        """
        if evidence.wealth.compute_log() < evidence.log_threshold or not evidence.wealth.plan.covers_all_settings:
            return ()
        found: list[Amendment] = []
        ranked = sorted(range(len(GRID_IDS)), key=lambda place: -evidence.log_ratios.get(GRID_IDS[place], 0.0))
        for settings in ranked:
            if evidence.wealth.compute_log(settings) >= evidence.log_threshold:
                continue
            fresh = self._examine_settings(settings)
            found += fresh
            for amendment in fresh:
                evidence = replace(evidence, wealth=evidence.wealth.amend(amendment))
            if evidence.wealth.compute_log(settings) < evidence.log_threshold:
                return tuple(found)
        if FITTED in evidence.wealth.plan.settings:
            found += self._examine_settings(FITTED, near=GRID[ranked[0]][0])
        return tuple(found)

    def _examine_settings(self, settings: int, near: float = 1.0) -> list[Amendment]:
        done = self._amended.get(settings, 0)
        claims = [item for item in self._examined[done:] if item[0].request.sampler in SEEDED_SAMPLERS]
        self._amended[settings] = len(self._examined)
        if not claims:
            return []
        if settings == FITTED and self._fitted is None:
            self._fitted = self._model.fit_settings([claim for claim, _, _ in claims[-FIT_ANSWERS:]], near)
        temperature, top_p = (self._fitted or (1.0, 1.0)) if settings == FITTED else GRID[settings]
        columns = self._model.examine_settings([claim for claim, _, _ in claims], temperature, top_p)
        amendments = []
        for (_, size, is_drawn), tokens in zip(claims, columns, strict=True):
            answer = AnswerColumns(tokens=tokens, alternatives={}, max_tokens=size)
            statistics = {name: g for name, g in compute_channel_statistics(answer).items() if name in SEEDED_IDS}
            amendments.append(Amendment(settings=settings, statistics_ppm=statistics, is_drawn=is_drawn))
        return amendments


@contextmanager
def _telling_failures() -> Iterator[None]:
    """Raise Unavailable where the reference model fails: out of memory, for one, and torch has no class for all."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise Unavailable(f"the reference model failed: {error}") from error


@contextmanager
def open_examiner(settings: ExaminerSettings) -> Iterator[ModelExaminer]:
    """Open the reference for an audit; raises InvalidInput for one that is neither a device nor a URL."""
    passes = open_passes(settings.model, settings.reference, settings.reference_key, settings.siblings)
    try:
        yield ModelExaminer(settings, passes)
    finally:
        passes.close()


_LOG_10 = math.log(10)


def _keep(found: Mapping[str, int], channels: Collection[str]) -> dict[str, int]:
    return {name: g_ppm for name, g_ppm in found.items() if get_channel(name) in channels}


def _cut_claim(claim: ClaimedAnswer, size: int) -> ClaimedAnswer:
    return replace(claim, request=replace(claim.request, output_ids=claim.request.output_ids[:size]))


def _sum_ratios(windows: Sequence[AnswerColumns]) -> dict[str, float]:
    total: dict[str, float] = {}
    for window in windows:
        for name, ratio in compute_log_ratios(window).items():
            total[name] = total.get(name, 0.0) + ratio
    return total
