"""An audit of a live endpoint, from the first look to the last request."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from models.bundled import BUNDLED_NAME
from models.requests import SAMPLER_NONE
from scoring.errors import OracleError
from scoring.evidence.channel_ids import GREEDY
from validator.audit.advice import explain_failure, is_fatal
from validator.audit.asker import Asker, may_pass
from validator.audit.discovery import Discovered, Discovery, choose_served_model, find_declared
from validator.audit.endpoint import MODELS_PATH, OFFER_PATH, Endpoint, Failure
from validator.audit.facts import EndpointFacts, SamplerSource
from validator.audit.http_exchange import Reply
from validator.audit.journal import Journal
from validator.audit.loop import AuditLoop, LoopLimits
from validator.audit.needles import can_afford
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import DrawnProbe, ProbeSource
from validator.audit.prober import DRAW_AHEAD, Prober
from validator.audit.progress import Ended, Progress
from validator.audit.records import Examiner, ExaminerSettings
from validator.audit.screen import Screen
from validator.audit.worker import Worker
from validator.fetch import FailureReason

DISCOVERY_PROBES = 3
MAX_LISTED = 10_000
OpenExaminer = Callable[[ExaminerSettings], AbstractContextManager[Examiner]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineJob:
    """What to audit and how. `key_variable` is the name of the environment variable, for advice only."""

    base_url: str
    api_key: str | None
    key_variable: str | None
    served_model: str | None
    settings: ExaminerSettings
    source: ProbeSource
    limits: LoopLimits


async def audit_endpoint(
    job: OnlineJob, progress: Progress, journal: Journal, screen: Screen, open_examiner: OpenExaminer
) -> None:
    """Audit an endpoint; everything that is known at any time is in `progress`, and every answer in `journal`.

    Raises InvalidInput or Unavailable, with advice, when the endpoint cannot be audited at all.
    """
    for index in sorted(journal.kept.entries):
        progress.add(journal.kept.entries[index])
    worker = Worker()
    context: AbstractContextManager[Examiner] = nullcontext()  # type: ignore[assignment]  # until there is one
    try:
        async with Endpoint(job.base_url, api_key=job.api_key) as endpoint:
            asker = Asker(endpoint, screen.note)
            listed = await _look_around(job, endpoint, asker) if journal.kept.facts is None else None
            screen.note(f"loading the reference, {job.settings.model}")
            # Even opening imports torch: in the worker, and not before the endpoint is known to be there.
            context = await worker.run(lambda: open_examiner(job.settings))
            examiner = await worker.run(context.__enter__)
            drawn = _FirstProbes() if listed is None else await _draw_first(job, progress.plan, worker, screen)
            found = None if listed is None else await _discover(job, listed, asker, drawn, screen)
            facts = await _settle_facts(found, journal, examiner, worker)
            progress.facts, progress.reference = facts, examiner.facts
            progress.spent_tokens += journal.kept.discovery_tokens
            for name, value in facts.describe().items():
                screen.note(f"  {name:<20} {value}")
            progress.evidence = evidence = examiner.begin(facts.channels)
            asks_greedy = GREEDY in evidence.log10_by_channel
            loop = AuditLoop(
                progress,
                job.limits,
                endpoint=endpoint,
                prober=_build_prober(job, progress, facts, worker, asker, drawn, asks_greedy),
                examiner=examiner,
                worker=worker,
                journal=journal,
                report=screen.show,
            )
            ended = await loop.run()
            # Who was told to come back later has not finished.
            if ended is not Ended.THROTTLED:
                journal.append_finished(ended.value)
    except OracleError:
        await worker.finish()
        raise
    finally:
        worker.close(lambda: context.__exit__(None, None, None))


def _build_prober(
    job: OnlineJob,
    progress: Progress,
    facts: EndpointFacts,
    worker: Worker,
    asker: Asker,
    drawn: "_FirstProbes",
    asks_greedy: bool,
) -> Prober:
    return Prober(
        progress.plan,
        facts,
        job.source,
        worker,
        asker,
        drawn=drawn.of_requests,
        asks_greedy=asks_greedy,
        asks_needles=can_afford(job.limits.budget_tokens),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    served_model: str
    declared: SamplerSource | None


async def _look_around(job: OnlineJob, endpoint: Endpoint, asker: Asker) -> _Listed:
    """Read the list of models and the signed offer, neither of which an endpoint must have."""
    models = await asker.get(MODELS_PATH)
    if isinstance(models, Failure) and _is_no_api(models, needs_list=job.served_model is None):
        raise explain_failure(models, job.base_url, job.key_variable)
    entries = _read_entries(models)
    aliases = (BUNDLED_NAME,) if job.settings.model == "bundled" else ()
    served = choose_served_model(job.settings.model, aliases, list(entries), job.served_model)
    offer = await endpoint.get(OFFER_PATH)
    signed = offer.document.get("offer") if isinstance(offer, Reply) else None
    is_for_model = isinstance(signed, dict) and signed.get("model") == served
    return _Listed(served_model=served, declared=find_declared(entries.get(served), signed if is_for_model else None))


def _is_no_api(failure: Failure, *, needs_list: bool) -> bool:
    """Say whether a list of models that did not come means that nothing can be asked there, now or ever.

    Refused with 404, 405 or 501, slow or in another form it is only missing: whether the endpoint answers is seen when
    it is asked. So is one that fails with any 5xx, where somebody has said what the model is called.
    """
    if not needs_list and (failure.status or 0) >= 500 and not failure.is_long_wait:
        return False
    if failure.reason is FailureReason.CONTENT_TYPE:
        return "html" in failure.detail
    is_refused = is_fatal(failure) and failure.status != 404
    return is_refused or may_pass(failure) or failure.reason is FailureReason.PROTOCOL


def _read_entries(reply: Reply | Failure) -> dict[str, Mapping[str, Any]]:
    data = reply.document.get("data") if isinstance(reply, Reply) else None
    rows = data[:MAX_LISTED] if isinstance(data, list) else []
    return {row["id"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _FirstProbes:
    """The probes that the first look is made with, and those of the first requests by number."""

    of_discovery: Sequence[DrawnProbe] = ()
    of_requests: Mapping[int, DrawnProbe] = field(default_factory=dict)


async def _draw_first(job: OnlineJob, plan: ProbingPlan, worker: Worker, screen: Screen) -> _FirstProbes:
    """Draw all of them together: a batch takes a model as long as its longest prompt, and two take that twice."""
    screen.note("drawing prompts")
    seeds = [plan.compute_discovery_seed(index) for index in range(DISCOVERY_PROBES)]
    first = range(min(DRAW_AHEAD, plan.requests))
    seeds += [plan.compute_probe_seed(index) for index in first]
    drawn = await worker.run(lambda: job.source.draw(seeds))
    return _FirstProbes(
        of_discovery=drawn[:DISCOVERY_PROBES],
        of_requests=dict(zip(first, drawn[DISCOVERY_PROBES:], strict=True)),
    )


async def _discover(job: OnlineJob, listed: _Listed, asker: Asker, drawn: _FirstProbes, screen: Screen) -> Discovered:
    discovery = Discovery(
        asker,
        base_url=job.base_url,
        key_variable=job.key_variable,
        probes=[probe.build_asked() for probe in drawn.of_discovery],
    )
    return await discovery.run(listed.served_model, listed.declared, screen.note)


async def _settle_facts(
    found: Discovered | None, journal: Journal, examiner: Examiner, worker: Worker
) -> EndpointFacts:
    """Return what the endpoint offers, an undeclared sampler found by trying, and keep it in the journal."""
    if found is None:
        if journal.kept.facts is None:
            raise RuntimeError("neither discovered now nor before")
        return journal.kept.facts
    facts = found.facts
    if facts.repeats_seed and facts.declared_sampler is None:
        sampler = await worker.run(lambda: examiner.identify_sampler(found.exchanges))
        if sampler is not None and sampler != SAMPLER_NONE:
            facts = replace(facts, sampler=sampler, sampler_source="found by trying")
    journal.append_discovered(facts, found.spent_tokens)
    return facts
