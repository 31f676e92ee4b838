"""`quiver model`: what a model is (manifest), and its tolerance profile."""

from pathlib import Path

import click

from validator.cli.output import print_json


@click.group()
def model() -> None:
    """Prepare and calibrate models."""


@model.command("show")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
def show(name: str) -> None:
    """Print a model's manifest and digest, preparing the bundled model if need be."""
    from models.load import load_model

    manifest = load_model(name).manifest
    print_json({"manifest": manifest.to_json(), "digest": f"0x{manifest.compute_digest().hex()}"})


@model.command("calibrate")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
@click.option("--cells", default="bf16,fp32", show_default=True, help="Provider dtypes, comma-separated.")
@click.option(
    "--requests", default=1000, show_default=True, type=click.IntRange(min=16), help="Honest requests a cell."
)
@click.option("--hold-out", default=300, show_default=True, type=click.IntRange(min=8), help="Fresh ones a cell.")
@click.option(
    "--out", "out_path", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Write the profile here."
)
def calibrate(name: str, cells: str, requests: int, hold_out: int, out_path: Path) -> None:
    """Measure how far honest runs differ and write a tolerance profile; resumes where it was stopped."""
    from rich.progress import Progress

    from models.calibrate import CalibrationTask, run

    task = CalibrationTask(model=name, provider_dtypes=tuple(cells.split(",")), requests=requests, hold_out=hold_out)
    with Progress() as progress:
        bars = {}

        def report(done: int, total: int, what: str) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        profile = run(task, out_path, report)
    click.echo(f"wrote {out_path}: digest 0x{profile.compute_digest().hex()}")


@model.command("judge")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def judge(name: str, as_json: bool) -> None:
    """Measure a local judge on items with known answers, and say what weight it has earned."""
    from dataclasses import asdict

    from models.judge import TransformersJudge
    from models.judge_reliability import load_known_items, measure_reliability
    from models.load import load_model

    reliability = measure_reliability(TransformersJudge(loaded=load_model(name)), load_known_items())
    if as_json:
        print_json({**asdict(reliability), "description": reliability.describe()})
    else:
        click.echo(reliability.describe())
