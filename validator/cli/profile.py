"""`quiver model`: making a tolerance profile, signing it, and asking whether it holds on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from validator.cli.output import check_writable, decode_file, print_facts, print_json, write_file

if TYPE_CHECKING:
    from models.profile_check import CellCheck
    from scoring.evidence.profile import ToleranceProfile

T = TypeVar("T")
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("calibrate")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
@click.option("--cells", default="bf16/64,fp32/64", show_default=True, help="Main cells, DTYPE/BATCH[/ATTENTION].")
@click.option("--wide", default="", help="Cells with few requests, whose means are covered: bf16/1,bf16/8,...")
@click.option("--requests", default=5000, show_default=True, type=click.IntRange(min=16), help="For each main cell.")
@click.option("--wide-requests", default=300, show_default=True, type=click.IntRange(min=8), help="For each wide cell.")
@click.option("--hold-out", default=1000, show_default=True, type=click.IntRange(min=8), help="For each main cell.")
@click.option("--alternatives", default="", help="Only these: int4,int6,... [default: all]")
@click.option(
    "--sibling", "siblings", metavar="MODEL", multiple=True, help="Another model to have bounds for. Up to four times."
)
@click.option("--alternative-requests", type=click.IntRange(min=16), help="Of a main cell. [default: all]")
@click.option("--greedy", default=1000, show_default=True, type=click.IntRange(min=0), help="Again at temperature 0.")
@click.option("--extend", type=FILE, help="Keep this profile's bounds and add those that it lacks.")
@click.option("--deepen", type=FILE, help="Put this profile's bounds on --requests more: fresh ones, again and again.")
@click.option("--until", type=click.IntRange(min=1), help="With --deepen: enough for a bound. [default: 5000]")
@click.option("--statistics", default="", help="With --deepen: only these, or how they begin: seeded-,logprobs-,...")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--reference", metavar="URL", help="A vLLM server that re-runs the answers: one for each --work.")
@click.option("--reference-key-env", metavar="NAME", help="The environment variable with that server's API key.")
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Answers and columns. [default: in the user cache]"
)
@click.option("--key-file", type=FILE, help="Sign the profile: an account's 0x and 64 hex digits, mode 0600.")
@click.option("--out", "out_path", type=FILE, required=True, help="Write the profile here.")
def calibrate(
    name: str,
    cells: str,
    wide: str,
    requests: int,
    wide_requests: int,
    hold_out: int,
    alternatives: str,
    siblings: tuple[str, ...],
    alternative_requests: int | None,
    greedy: int,
    extend: Path | None,
    deepen: Path | None,
    until: int | None,
    statistics: str,
    device: str,
    reference: str | None,
    reference_key_env: str | None,
    work: Path | None,
    key_file: Path | None,
    out_path: Path,
) -> None:
    """Measure how far honest runs differ and write the tolerance profile of audits (with a key: and a .sig beside it).

    Hours of work: everything is kept in the work folder, and the same command goes on where it was stopped.
    """
    from models.audit_profile import run
    from models.calibrate_audit import AuditCalibration, ProviderCell
    from models.deepen import deepen_profile
    from scoring.evidence.profile import MIN_REQUESTS
    from validator.audit.endpoint_url import parse_base_url
    from validator.audit.options import read_key
    from validator.provider.identity import load_key

    if extend is not None and deepen is not None:
        raise click.UsageError("--extend adds bounds and --deepen puts more requests behind them: one at a time")
    if deepen is None and (until is not None or statistics):
        raise click.UsageError("--until and --statistics say what --deepen measures")
    if reference is not None:
        parse_base_url(reference, "--reference")
    check_writable(out_path)
    task = AuditCalibration(
        model=name,
        device=device,
        reference=reference or "auto",
        reference_key=read_key(reference_key_env, "--reference-key-env"),
        cells=tuple(ProviderCell.parse(text) for text in cells.split(",")),
        wide_cells=tuple(ProviderCell.parse(text) for text in wide.split(",") if text),
        requests=requests,
        wide_requests=wide_requests,
        hold_out=hold_out,
        greedy_requests=greedy,
        alternatives=tuple(alternatives.split(",")) if alternatives else None,
        alternative_requests=alternative_requests,
        siblings=siblings,
    )
    key = None if key_file is None else load_key(key_file)
    if deepen is not None:
        shallow, chosen = _read_profile(deepen), [name for name in statistics.split(",") if name]
        profile = _show_progress(
            lambda report: deepen_profile(task, shallow, out_path, work, report, until or MIN_REQUESTS, chosen)
        )
    else:
        base = None if extend is None else _read_profile(extend)
        profile = _show_progress(lambda report: run(task, out_path, work, report, base))
    click.echo(f"wrote {out_path}: digest 0x{profile.compute_digest().hex()}")
    if key is not None:
        _sign(profile, key, out_path.with_suffix(".sig"))


def _sign(profile: "ToleranceProfile", key: bytes, path: Path) -> None:
    from scoring.evidence.profile_signature import sign_profile

    signed = sign_profile(profile, key)
    write_file(path, signed.encode())
    click.echo(f"signed by 0x{signed.account.hex()}: {path}")


@click.command("check-profile")
@click.option("--profile", "profile_path", type=FILE, help="A tolerance profile of audits. [default: the bundled one]")
@click.option("--cells", default="", help="DTYPE/BATCH[/ATTENTION],... [default: the profile's main cells]")
@click.option("--requests", default=128, show_default=True, type=click.IntRange(min=8), help="For each cell.")
@click.option("--greedy", default=32, show_default=True, type=click.IntRange(min=0), help="Again at temperature 0.")
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Answers and columns. [default: in the user cache]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_profile(
    profile_path: Path | None, cells: str, requests: int, greedy: int, work: Path | None, as_json: bool
) -> int:
    """Hold a profile's bounds to fresh honest answers of this machine; exits with 3 when they do not hold.

    Bounds speak of the machines that they were measured on. Minutes to an hour; goes on where it was stopped.
    """
    from dataclasses import asdict

    from models.calibrate_audit import ProviderCell
    from models.profile_check import check_profile
    from models.profiles import load_profile
    from models.tolerances import describe_processor

    profile = load_profile("bundled_audit") if profile_path is None else _read_profile(profile_path)
    chosen = tuple(ProviderCell.parse(text) for text in cells.split(",") if text)
    checks = _show_progress(lambda report: check_profile(profile, requests, greedy, chosen, work, report))
    if as_json:
        print_json(
            {"processor": describe_processor(), "cells": [{**asdict(item), "holds": item.holds} for item in checks]}
        )
    else:
        click.echo(f"processor: {describe_processor()}")
        for item in checks:
            click.echo()
            print_facts(_describe_check(item))
    return 0 if all(item.holds for item in checks) else 3


def _describe_check(check: "CellCheck") -> dict[str, str]:
    """Return what honest answers of one cell did to a profile's bounds, by name."""
    read = check.hold_out
    peaks = (read.max_product_milli_log10, read.max_seeded_milli_log10, read.max_text_milli_log10)
    above = [item for item in check.readings if item.contradicts]
    nearest = above or check.readings[:3]
    return {
        "cell": f"{check.cell}, {read.n} honest requests",
        "largest e-value": "{} (seeded {}, text {})".format(*(f"10^{peak / 1000:.2f}" for peak in peaks)),
        "above their bound" if above else "nearest to their bound": ", ".join(
            f"{item.statistic} {item.mean_ppm / 1e6:.4f} of {item.mu_ppm / 1e6:.4f}" for item in nearest
        ),
        **({"not looked at": ", ".join(check.unread)} if check.unread else {}),
        "the profile": "holds here"
        if check.holds
        else "does NOT hold here: calibrate this machine before you rely on it",
    }


@click.command("verify-profile")
@click.argument("profile_path", metavar="PROFILE", type=FILE)
@click.option("--signature", "signature_path", type=FILE, required=True, help="The .sig file of who vouches for it.")
def verify_profile(profile_path: Path, signature_path: Path) -> None:
    """Check that a tolerance profile is whole and who signed it; exits with 1 when the signature is not for it."""
    from scoring.evidence.profile_signature import (
        MAX_SIGNATURE_FILE_BYTES,
        ProfileSignature,
        verify_profile_signature,
    )

    profile = _read_profile(profile_path)
    signed = decode_file(signature_path, MAX_SIGNATURE_FILE_BYTES, ProfileSignature.decode)
    verify_profile_signature(profile, signed)
    print_facts(
        {
            "profile": f"0x{signed.profile_digest.hex()}",
            "signed by": f"0x{signed.account.hex()}",
            "model": profile.model,
            "cells": ", ".join(f"{cell.name} ({cell.requests} requests, {cell.role})" for cell in profile.cells),
            "may slash": "no: development" if profile.development else "yes",
        }
    )


@click.command("calibrate-network")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
@click.option("--cells", default="bf16,fp32", show_default=True, help="Provider dtypes, comma-separated.")
@click.option(
    "--requests", default=1000, show_default=True, type=click.IntRange(min=16), help="Honest requests a cell."
)
@click.option("--hold-out", default=300, show_default=True, type=click.IntRange(min=8), help="Fresh ones a cell.")
@click.option(
    "--out", "out_path", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Write the profile here."
)
def calibrate_network(name: str, cells: str, requests: int, hold_out: int, out_path: Path) -> None:
    """Measure the profile that a network's plan is made from (generator v1); resumes where it was stopped."""
    from models.calibrate import CalibrationTask, run

    check_writable(out_path)
    task = CalibrationTask(model=name, provider_dtypes=tuple(cells.split(",")), requests=requests, hold_out=hold_out)
    profile = _show_progress(lambda report: run(task, out_path, report))
    click.echo(f"wrote {out_path}: digest 0x{profile.compute_digest().hex()}")


def _read_profile(path: Path) -> "ToleranceProfile":
    from scoring.evidence.profile import MAX_PROFILE_BYTES, ToleranceProfile

    return decode_file(path, MAX_PROFILE_BYTES, ToleranceProfile.decode)


def _show_progress(work: Callable[[Callable[[int, int, str], None]], T]) -> T:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bars = {}

        def report(done: int, total: int, what: str) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        return work(report)
