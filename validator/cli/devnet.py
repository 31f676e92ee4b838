"""`quiver devnet`: a whole network as real processes on this machine."""

from pathlib import Path

import click


@click.command()
@click.option("--validators", default=4, show_default=True, type=click.IntRange(4, 16), help="Honest validators.")
@click.option("--epochs", default=6, show_default=True, type=click.IntRange(1, 100), help="Epochs with probes.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the result here.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="A new folder for everything: logs, keys, databases."
)
@click.option("--keep", is_flag=True, help="Leave the network running at the end, until Ctrl-C.")
def devnet(validators: int, epochs: int, json_path: Path | None, directory: Path | None, keep: bool) -> int:
    """Run ledger, validators and six providers on loopback with the real model, and check how it ends.

    Exits with 0 only when honest providers are unharmed and score highest, the three liars are proven and slashed, and
    the right challenge wins and the wrong one loses. Feed item and evidence stay in ./devnet-<chain id> (or in --dir).
    """
    from validator.devnet.run import run_devnet

    return run_devnet(validators=validators, epochs=epochs, json_path=json_path, directory=directory, keep=keep)
