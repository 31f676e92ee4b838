"""The result of an audit as a JSON document; docs/audit.md holds its schema, and a test compares the two."""

import math
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from validator.audit.measured import Quantiles, compute_tokens_per_s, measure
from validator.audit.outcomes import Entry
from validator.audit.progress import Point, Progress, count_answer_tokens
from validator.audit.records import Appraisal, Exchange, Missing
from validator.audit.verdict import build_sentence, describe_end, find_explanation, find_verdict

FORMAT = "quiver-audit-result-v1"
PACKAGES = ("quiver-oracle", "torch", "transformers", "httpx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was audited: an endpoint by URL or a transcript by path, the claimed model, and the command to do it again.

    `finished_s` is unix time in seconds.
    """

    model: str
    endpoint: str | None
    transcript: str | None
    command: str
    finished_s: int


def build_result(progress: Progress, subject: Subject) -> dict[str, Any]:
    """Return the result's document; every number in it is finite or null."""
    evidence, reference = progress.evidence, progress.reference
    examined = [progress.entries[index].outcome for index in range(progress.examined)]
    answers = [outcome for outcome in examined if isinstance(outcome, Exchange)]
    measured = measure(entry.outcome for entry in progress.entries.values())
    by_channel = {} if evidence is None else evidence.log10_by_channel
    return {
        "format": FORMAT,
        "verdict": find_verdict(progress),
        "sentence": build_sentence(progress, subject.model),
        "explanation": find_explanation(progress),
        "explanations": _build_explanations(progress),
        "log10_e": 0.0 if evidence is None else _finite(evidence.log10_e),
        "log10_e_slash_grade": None if evidence is None else _finite(evidence.log10_slash_e),
        "log10_threshold": math.log10(progress.plan.one_over_alpha),
        "log10_alarm": None if evidence is None else _finite(evidence.log10_alarm),
        "alpha": progress.plan.alpha,
        "claim": progress.plan.claim.value,
        "channels": {name: {"log10_e": _finite(value)} for name, value in sorted(by_channel.items())},
        "contracts": _build_contracts(progress),
        "requests": progress.examined,
        "requests_asked": len(progress.entries),
        "requests_missing": sum(isinstance(outcome, Missing) for outcome in examined),
        "requests_informative": 0 if evidence is None else evidence.informative_requests,
        "decided_after": progress.decided_after,
        "tokens": sum(map(count_answer_tokens, answers)),
        "tokens_spent": progress.spent_tokens,
        "ended": None if progress.ended is None else progress.ended.value,
        "ended_because": describe_end(progress),
        "seconds": round(progress.seconds, 3),
        "finished_s": subject.finished_s,
        "model": subject.model,
        "endpoint": subject.endpoint,
        "transcript": subject.transcript,
        "command": subject.command,
        "manifest_digest": None if reference is None else "0x" + reference.manifest_digest.hex(),
        "profile_digest": _hex(None if reference is None else reference.profile_digest),
        "reference_cell": None if reference is None else reference.cell,
        "calibration": None if reference is None else reference.calibration,
        "alternatives": [] if reference is None else list(reference.alternatives),
        "discovered": None if progress.facts is None else progress.facts.to_json(),
        "plan": progress.plan.to_json(),
        "plan_digest": "0x" + progress.plan.compute_digest().hex(),
        "latency_ms": {
            "first_token": _quantiles(measured.first_token_ms),
            "total": _quantiles(measured.total_ms),
        },
        "tokens_per_s": _quantiles(measured.tokens_per_s),
        "versions": find_versions(),
        "rows": _build_rows(progress),
    }


def find_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Return the versions of Python and of installed packages, None for those that are not."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _build_explanations(progress: Progress) -> list[dict[str, object]]:
    found = () if progress.evidence is None else progress.evidence.explanations
    return [{"name": item.name, "weight": _finite(item.weight)} for item in found]


def _build_contracts(progress: Progress) -> list[dict[str, object]]:
    found = () if progress.evidence is None else progress.evidence.contracts
    return [
        {
            "id": count.id,
            "checked": count.checked,
            "broken": count.broken,
            "is_alarm": count.is_alarm,
            "example": None
            if count.example is None
            else {"expected": count.example.expected, "found": count.example.found},
        }
        for count in found
    ]


def _build_rows(progress: Progress) -> list[dict[str, object]]:
    rows = []
    for index in sorted(progress.entries):
        is_examined = index < progress.examined
        appraisal = progress.appraisals[index] if is_examined else None
        rows.append(_build_row(progress.entries[index], appraisal, progress.points[index] if is_examined else None))
    return rows


def _build_row(entry: Entry, appraisal: Appraisal | None, point: Point | None) -> dict[str, object]:
    outcome = entry.outcome
    row: dict[str, object] = {
        "index": entry.origin.index,
        "stratum": entry.origin.stratum,
        "is_drawn": entry.origin.is_drawn,
        "is_streamed": entry.asked.is_streamed,
        "repeat_of": entry.origin.repeat_of,
        "first_token_ms": _finite(outcome.timing.first_token_ms),
        "total_ms": _finite(outcome.timing.total_ms),
        "missing": outcome.reason if isinstance(outcome, Missing) else None,
        "finish_reason": None,
        "prompt_tokens": None,
        "answer_tokens": None,
        "tokens_per_s": None,
        "log10_by_channel": {},
        "note": outcome.detail if isinstance(outcome, Missing) else "not examined: the verdict was there before",
        "log10_e": None if point is None else _finite(point.log10_e),
    }
    if isinstance(outcome, Exchange):
        row["finish_reason"] = outcome.finish_reason
        row["prompt_tokens"] = outcome.prompt_tokens
        row["answer_tokens"] = count_answer_tokens(outcome)
        row["tokens_per_s"] = _finite(compute_tokens_per_s(outcome))
    if appraisal is not None:
        row["log10_by_channel"] = {name: _finite(value) for name, value in appraisal.log10_by_channel.items()}
        row["note"] = appraisal.note or (outcome.detail if isinstance(outcome, Missing) else "")
    return row


def _quantiles(found: Quantiles | None) -> dict[str, object] | None:
    return None if found is None else {name: _finite(value) for name, value in asdict(found).items()}


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else "0x" + digest.hex()


def _finite(value: float | None) -> float | None:
    """Return a number for JSON: six decimals, None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else round(value, 6)
