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
@click.option("--requests", type=click.IntRange(min=1), default=2000, show_default=True, help="Honest requests a cell.")
@click.option("--out", "out_path", type=click.Path(dir_okay=False, path_type=Path), required=True)
def calibrate(name: str, cells: str, requests: int, out_path: Path) -> None:
    """Measure how far honest runs differ and write a tolerance profile; resumes where it was stopped."""
    from models.calibrate import run

    with click.progressbar(length=1000, label="calibrating", file=click.get_text_stream("stderr")) as bar:

        def report(done: int, total: int) -> None:
            bar.update(1000 * done // max(1, total) - bar.pos)

        run(name, tuple(cells.split(",")), requests, out_path, report)
    click.echo(f"wrote {out_path}")
