"""`quiver model`: what a model is (manifest), and its tolerance profile."""

import click

from validator.cli.output import print_json
from validator.cli.profile import calibrate, calibrate_network, check_profile, verify_profile


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


@model.command("judge")
@click.option("--model", "name", default="bundled", show_default=True, help="`bundled`, a folder, or a hub id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def judge(name: str, as_json: bool) -> None:
    """Measure a local judge on items with known answers, and say what weight it has earned."""
    from dataclasses import asdict

    from models.judge import TransformersJudge
    from models.judge_reliability import load_known_items, measure_reliability
    from models.packing import load_packed

    reliability = measure_reliability(TransformersJudge(loaded=load_packed(name)), load_known_items())
    if as_json:
        print_json({**asdict(reliability), "description": reliability.describe()})
    else:
        click.echo(reliability.describe())


for command in (calibrate, check_profile, verify_profile, calibrate_network):
    model.add_command(command)
