"""One `quiver audit`, from its options to its exit code: everything that is printed or written comes from here."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

from scoring.errors import InvalidInput, Unavailable
from scoring.evidence.profile import ToleranceProfile
from validator.audit.drawn import mark_drawn
from validator.audit.estimate import check_budget
from validator.audit.hostile_text import make_printable
from validator.audit.journal import Header, Journal, Kept, create_journal, resume_journal
from validator.audit.loop import LoopLimits
from validator.audit.offline import audit_transcript
from validator.audit.online import OnlineJob, OpenExaminer, audit_endpoint
from validator.audit.options import (
    DEFAULT_CONCURRENCY,
    AuditOptions,
    check_files,
    extend_plan,
    read_api_key,
    read_profile,
    read_reference_key,
    resolve_plan,
)
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import OpenSource, open_source
from validator.audit.progress import Ended, Progress
from validator.audit.records import ExaminerSettings
from validator.audit.report import build_report
from validator.audit.result import Subject, build_result
from validator.audit.screen import open_screen
from validator.audit.transcript import build_document, encode_document, load_transcript
from validator.audit.verdict import EXIT_UNDECIDED, describe_end, find_exit_code
from validator.cli.output import print_facts, write_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What needs a model: the examiner, and the source of prompts."""

    open_examiner: OpenExaminer
    open_source: OpenSource = open_source


def run_audit(options: AuditOptions, instruments: Instruments, stream: IO[str] = sys.stderr) -> int:
    """Run an audit and return its exit code; progress goes to `stream`, the verdict to standard output.

    Raises InvalidInput and Unavailable. Ctrl-C prints what was gathered and returns 130.
    """
    check_files(options)
    if options.transcript is not None:
        return _run_offline(options, instruments, stream)
    return _run_online(options, instruments, stream)


def _run_online(options: AuditOptions, instruments: Instruments, stream: IO[str]) -> int:
    # Whatever can be wrong with the command is found before the journal of an earlier audit makes room.
    api_key, inputs = read_api_key(options), _read_inputs(options)
    if options.sends_key_openly:
        print(f"note: the API key travels unencrypted to {options.base_url}", file=stream)
    journal = _open_journal(options)
    progress = Progress(plan=journal.kept.header.plan)
    try:
        if options.is_resumed:
            progress.plan = extend_plan(options, progress.plan)
            print(f"going on after {len(journal.kept.entries)} requests", file=stream)
        job = _build_job(options, instruments, progress.plan, inputs, api_key)
        with open_screen(stream) as screen:
            asyncio.run(audit_endpoint(job, progress, journal, screen, instruments.open_examiner))
    except KeyboardInterrupt:
        progress.ended = Ended.INTERRUPTED
    except Unavailable as error:
        # With an end there is a verdict: a full disk, where the journal's last line has no room, must not swallow it.
        if progress.ended is None:
            raise
        print(f"quiver: {error}", file=stream)
    finally:
        journal.close()
    # A journal in which nothing is kept is removed.
    if progress.ended in (Ended.INTERRUPTED, Ended.THROTTLED) and options.journal_path.exists():
        why = "interrupted" if progress.ended is Ended.INTERRUPTED else describe_end(progress)
        print(f"{why}; --resume goes on from {options.journal_path}", file=stream)
    return _finish(options, progress, stream)


def _run_offline(options: AuditOptions, instruments: Instruments, stream: IO[str]) -> int:
    if options.transcript is None:
        raise RuntimeError("there is no transcript")
    plan, inputs = resolve_plan(options), _read_inputs(options)
    entries = load_transcript(options.transcript)
    if options.plan_path is not None:
        entries = mark_drawn(entries, plan, instruments.open_source(plan, options.model))
    if options.max_requests is not None:
        entries = entries[: options.max_requests]
    progress = Progress(plan=plan)
    try:
        with open_screen(stream) as screen:
            settings = _build_settings(options, plan, inputs)
            audit_transcript(entries, settings, progress, screen, instruments.open_examiner)
    except KeyboardInterrupt:
        progress.ended = Ended.INTERRUPTED
    return _finish(options, progress, stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What options name and only reading finds: a file and a variable."""

    profile: ToleranceProfile | None
    reference_key: str | None = field(repr=False)


def _read_inputs(options: AuditOptions) -> _Inputs:
    return _Inputs(profile=read_profile(options), reference_key=read_reference_key(options))


def _build_job(
    options: AuditOptions, instruments: Instruments, plan: ProbingPlan, inputs: _Inputs, api_key: str | None
) -> OnlineJob:
    return OnlineJob(
        base_url=options.base_url,
        api_key=api_key,
        key_variable=options.api_key_env,
        served_model=options.served_model,
        settings=_build_settings(options, plan, inputs),
        source=instruments.open_source(plan, options.model),
        limits=LoopLimits(concurrency=options.concurrency or DEFAULT_CONCURRENCY, budget_tokens=options.budget_tokens),
    )


def _build_settings(options: AuditOptions, plan: ProbingPlan, inputs: _Inputs) -> ExaminerSettings:
    return ExaminerSettings(
        model=options.model,
        reference=options.reference,
        reference_key=inputs.reference_key,
        claim=plan.claim,
        alpha=plan.alpha,
        alternatives=plan.alternatives,
        siblings=plan.siblings,
        expected_requests=plan.requests,
        generator=plan.generator,
        profile=inputs.profile,
    )


def _open_journal(options: AuditOptions) -> Journal:
    if not options.is_resumed:
        plan = resolve_plan(options)
        check_budget(plan, options.budget_tokens)
        header = Header(endpoint=options.base_url, model=options.model, plan=plan)
        return create_journal(options.journal_path, header)
    journal = resume_journal(options.journal_path)
    try:
        _check_same_audit(options, journal.kept)
    except InvalidInput:
        journal.close()
        raise
    return journal


def _check_same_audit(options: AuditOptions, kept: Kept) -> None:
    """Raise InvalidInput when an option contradicts the audit that goes on."""
    header, facts = kept.header, kept.facts
    if (header.endpoint, header.model) != (options.base_url, options.model):
        raise InvalidInput(f"{options.journal_path} is of {header.model} at {header.endpoint}, not of this", "--resume")
    if facts is not None and options.served_model not in (None, facts.served_model):
        served = make_printable(facts.served_model, 60)
        raise InvalidInput(f"{options.journal_path} is of answers by {served}: leave the option out", "--served-model")
    done = max(kept.entries, default=-1) + 1
    if options.max_requests is not None and options.max_requests < done:
        raise InvalidInput(f"{done} are asked already: give as many or more, or leave the option out", "--max-requests")


def _finish(options: AuditOptions, progress: Progress, stream: IO[str]) -> int:
    """Print the verdict, then write what was asked for, and return the exit code."""
    subject = Subject(
        model=options.model,
        endpoint=options.endpoint and options.base_url,
        transcript=None if options.transcript is None else str(options.transcript),
        command=options.build_command(),
        finished_s=int(time.time()),
    )
    result = build_result(progress, subject)
    _print_result(result)
    is_all_written = _write_files(options, progress, result, stream)
    # `consistent` without the file that was to say so is no success; the other verdicts are none anyhow.
    return find_exit_code(progress) or (0 if is_all_written else EXIT_UNDECIDED)


def _write_files(options: AuditOptions, progress: Progress, result: Mapping[str, object], stream: IO[str]) -> bool:
    """Write every file that can be written, say which cannot, and return whether all were."""
    builders: Mapping[str, Callable[[], bytes]] = {
        "--json": lambda: json.dumps(result, indent=2, allow_nan=False).encode() + b"\n",
        "--html": lambda: build_report(progress, result),
        "--save-transcript": lambda: _build_transcript(options, progress),
    }
    problems = [_try_to_write(path, builders[option]()) for option, path in options.outputs.items()]
    for problem in problems:
        if problem is not None:
            print(f"quiver: {problem}", file=stream)
    return not any(problems)


def _try_to_write(path: Path, data: bytes) -> Unavailable | None:
    try:
        write_file(path, data)
    except Unavailable as error:
        return error
    return None


def _build_transcript(options: AuditOptions, progress: Progress) -> bytes:
    served = options.model if progress.facts is None else progress.facts.served_model
    ordered = [progress.entries[index] for index in sorted(progress.entries)]
    return b"".join(encode_document(build_document(entry, served)) for entry in ordered)


def _print_result(result: Mapping[str, object]) -> None:
    click.echo()
    verdict = str(result["verdict"])
    click.secho(verdict.upper(), bold=True, fg={"proven": "red", "consistent": "green"}.get(verdict, "yellow"))
    click.echo(result["sentence"])
    click.echo()
    print_facts(build_summary(result))


def build_summary(result: Mapping[str, object]) -> dict[str, str]:
    """Return the numbers of a result for people, by name."""
    explanations = result["explanations"]
    channels, latency = result["channels"], result["latency_ms"]
    if not isinstance(explanations, list) or not isinstance(channels, dict) or not isinstance(latency, dict):
        raise TypeError("not the result of build_result")
    facts = {"e-value": f"10^{_number(result['log10_e'])} (proven from 10^{_number(result['log10_threshold'])})"}
    if result["verdict"] == "proven":
        facts["good for taking stake"] = _describe_grade(result)
    if channels:
        facts["by channel"] = ", ".join(f"{name} 10^{_number(item['log10_e'])}" for name, item in channels.items())
    if explanations and result["explanation"] is not None:
        named = [f"{make_printable(item['name'], 60)} ({100 * (item['weight'] or 0):.0f} %)" for item in explanations]
        facts["explanations"] = ", ".join(named[:3])
    contracts = result["contracts"]
    if isinstance(contracts, list) and contracts:
        broken = [f"{item['id']} {item['broken']} of {item['checked']} times" for item in contracts if item["broken"]]
        facts["contracts"] = f"broken: {', '.join(broken)}" if broken else f"{len(contracts)} checked, none broken"
    facts["requests"] = f"{result['requests']} examined, {result['requests_missing']} of them missing"
    facts["tokens"] = f"{result['tokens']:,} in answers, {result['tokens_spent']:,} spent in all"
    for name, value in (("first token", latency["first_token"]), ("whole answer", latency["total"])):
        if value is not None:
            facts[name] = f"{value['median']:,.0f} ms (95 in 100 within {value['p95']:,.0f} ms)"
    speed = result["tokens_per_s"]
    if isinstance(speed, dict):
        facts["tokens a second"] = f"{speed['median']:.1f} (from {speed['low']:.1f} to {speed['high']:.1f})"
    facts["ended"] = str(result["ended_because"])
    if result["calibration"] is not None:
        facts["calibration"] = str(result["calibration"])
    return facts


def _describe_grade(result: Mapping[str, object]) -> str:
    """Return whether stake may be taken for what is proven, and from how much of the evidence."""
    value, threshold = result["log10_e_slash_grade"], result["log10_threshold"]
    if not isinstance(value, float) or not isinstance(threshold, float):
        return "no: the bounds are not of this machine, rest on too few requests, or prompts were not drawn"
    answer = "yes" if value >= threshold else "no"
    return f"{answer}: 10^{_number(value)} from bounds with enough honest requests behind them"


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "not finite"
