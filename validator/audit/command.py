"""One `quiver audit`, from its options to its exit code: everything that is printed or written comes from here."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import click

from scoring.errors import InvalidInput
from validator.audit.drawn import mark_drawn
from validator.audit.hostile_text import make_printable
from validator.audit.journal import Header, Journal, create_journal, resume_journal
from validator.audit.loop import LoopLimits
from validator.audit.offline import audit_transcript
from validator.audit.online import OnlineJob, OpenExaminer, audit_endpoint
from validator.audit.options import (
    AuditOptions,
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
from validator.audit.verdict import find_exit_code
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
    if options.transcript is not None:
        return _run_offline(options, instruments, stream)
    return _run_online(options, instruments, stream)


def _run_online(options: AuditOptions, instruments: Instruments, stream: IO[str]) -> int:
    api_key = read_api_key(options)
    if options.sends_key_openly:
        print(f"note: the API key travels unencrypted to {options.base_url}", file=stream)
    journal = _open_journal(options)
    progress = Progress(plan=journal.kept.header.plan)
    if options.is_resumed:
        progress.plan = extend_plan(options, progress.plan)
        print(f"going on after {len(journal.kept.entries)} requests", file=stream)
    job = OnlineJob(
        base_url=options.base_url,
        api_key=api_key,
        key_variable=options.api_key_env,
        served_model=options.served_model,
        settings=_build_settings(options, progress.plan),
        source=instruments.open_source(progress.plan, options.model),
        limits=LoopLimits(concurrency=options.concurrency, budget_tokens=options.budget_tokens),
    )
    try:
        with open_screen(stream) as screen:
            asyncio.run(audit_endpoint(job, progress, journal, screen, instruments.open_examiner))
    except KeyboardInterrupt:
        progress.ended = Ended.INTERRUPTED
    finally:
        journal.close()
    if progress.ended is Ended.INTERRUPTED:
        print(f"interrupted; --resume goes on from {options.journal_path}", file=stream)
    return _finish(options, progress)


def _run_offline(options: AuditOptions, instruments: Instruments, stream: IO[str]) -> int:
    if options.transcript is None:
        raise RuntimeError("there is no transcript")
    plan = resolve_plan(options)
    entries = load_transcript(options.transcript)
    if options.plan_path is not None:
        entries = mark_drawn(entries, plan, instruments.open_source(plan, options.model))
    if options.max_requests is not None:
        entries = entries[: options.max_requests]
    progress = Progress(plan=plan)
    try:
        with open_screen(stream) as screen:
            settings = _build_settings(options, plan)
            audit_transcript(entries, settings, progress, screen, instruments.open_examiner)
    except KeyboardInterrupt:
        progress.ended = Ended.INTERRUPTED
    return _finish(options, progress)


def _build_settings(options: AuditOptions, plan: ProbingPlan) -> ExaminerSettings:
    return ExaminerSettings(
        model=options.model,
        reference=options.reference,
        reference_key=read_reference_key(options),
        claim=plan.claim,
        alpha=plan.alpha,
        alternatives=plan.alternatives,
        siblings=plan.siblings,
        expected_requests=plan.requests,
        generator=plan.generator,
        profile=read_profile(options),
    )


def _open_journal(options: AuditOptions) -> Journal:
    if not options.is_resumed:
        header = Header(endpoint=options.base_url, model=options.model, plan=resolve_plan(options))
        return create_journal(options.journal_path, header)
    journal = resume_journal(options.journal_path)
    header = journal.kept.header
    if (header.endpoint, header.model) != (options.base_url, options.model):
        journal.close()
        raise InvalidInput(f"{options.journal_path} is of {header.model} at {header.endpoint}, not of this", "--resume")
    return journal


def _finish(options: AuditOptions, progress: Progress) -> int:
    """Write what was asked for, print the verdict and return the exit code."""
    subject = Subject(
        model=options.model,
        endpoint=options.endpoint and options.base_url,
        transcript=None if options.transcript is None else str(options.transcript),
        command=options.build_command(),
        finished_s=int(time.time()),
    )
    result = build_result(progress, subject)
    _write_files(options, progress, result)
    _print_result(result)
    return find_exit_code(progress)


def _write_files(options: AuditOptions, progress: Progress, result: Mapping[str, object]) -> None:
    if options.json_path is not None:
        write_file(options.json_path, json.dumps(result, indent=2, allow_nan=False).encode() + b"\n")
    if options.html_path is not None:
        write_file(options.html_path, build_report(progress, result))
    if options.transcript_path is not None:
        served = options.model if progress.facts is None else progress.facts.served_model
        ordered = [progress.entries[index] for index in sorted(progress.entries)]
        lines = [encode_document(build_document(entry, served)) for entry in ordered]
        write_file(options.transcript_path, b"".join(lines))


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
