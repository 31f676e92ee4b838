"""`quiver audit`: does an endpoint serve the model that it names? No network of validators needed."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from validator.audit.records import Examiner, ExaminerSettings

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible endpoint, with or without /v1.")
@click.option("--transcript", type=FILE, help="Judge these answers instead of asking: JSON Lines, see docs/audit.md.")
@click.option("--model", required=True, help="The claimed model: `bundled`, a folder, a GGUF file, or a hub id.")
@click.option("--served-model", metavar="NAME", help="What the endpoint calls it; found in its model list by default.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that holds the API key.")
@click.option(
    "--claim",
    type=click.Choice(["weights", "weights+sampling"]),
    help="What is to be proven wrong. With `weights` (default) other sampling settings are reported, not proven.",
)
@click.option(
    "--reference",
    default="auto",
    show_default=True,
    help="Where the claimed model runs: auto, cpu, cuda, or the URL of a vLLM server that you trust.",
)
@click.option("--reference-key-env", metavar="NAME", help="The environment variable with that server's API key.")
@click.option("--profile", "profile_path", type=FILE, help="A tolerance profile that `quiver model calibrate` made.")
@click.option(
    "--sibling",
    "siblings",
    metavar="MODEL",
    multiple=True,
    help="Another model that may be served instead: it is found sooner when it is named. Up to four times.",
)
@click.option("--max-requests", type=click.IntRange(1, 10_000), help="Ask at most so many.  [default: 200]")
@click.option("--budget-tokens", type=click.IntRange(1), help="Spend at most so many tokens, prompts included.")
@click.option("--alpha", type=float, help="The chance that an honest endpoint is called proven.  [default: 1e-6]")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Requests at once.  [default: 4]")
@click.option("--plan", "plan_path", type=FILE, help="The plan to follow; written first when there is none.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Say what would be asked and what it would cost.")
@click.option("--resume", "is_resumed", is_flag=True, help="Go on with an audit that was interrupted.")
@click.option("--json", "json_path", type=FILE, help="Write the result here.")
@click.option("--html", "html_path", type=FILE, help="Write a report for people here.")
@click.option("--save-transcript", "transcript_path", type=FILE, help="Write all requests and answers here.")
def audit(claim: str | None, **rest: object) -> int:
    """Tell whether an endpoint serves the model that it names, from its answers.

    Asks drawn prompts, runs the answers again through the claimed model, and stops as soon as it knows. Exits with 0
    when nothing speaks against the model, 1 when another one is proven, 3 when it is not decided, 130 on Ctrl-C.
    """
    from validator.audit.options import AuditOptions
    from validator.audit.records import Claim

    options = AuditOptions(claim=None if claim is None else Claim(claim), **rest)  # type: ignore[arg-type]
    if options.is_dry_run:
        from validator.audit.dry_run import dry_run

        return dry_run(options)
    from validator.audit.command import Instruments, run_audit

    return _leave(run_audit(options, Instruments(open_examiner=_open_examiner)))


def _leave(code: int) -> int:
    """Return the exit code, or end the process with it at once while a model is still at work in the background."""
    from validator.audit.worker import is_any_busy

    if is_any_busy():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _open_examiner(settings: "ExaminerSettings") -> "AbstractContextManager[Examiner]":
    # Not before it is needed: what is asked wrongly is told without waiting for torch.
    from validator.audit.examiner import open_examiner

    return open_examiner(settings)
