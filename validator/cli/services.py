"""Long-running services and an operator's tools: `quiver validator`, `quiver ledger`, `quiver provider`."""

import asyncio
from pathlib import Path
from typing import Any

import click

from models.requests import SEEDED_SAMPLERS
from validator.cli.output import decode_file, print_facts, write_file

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
MAX_HISTORY_BYTES = 256 * 1024 * 1024


@click.group()
def validator() -> None:
    """Run a validator and keep its keys."""


@validator.command("init")
@click.option("--keys", "keys_dir", required=True, type=FOLDER, help="A folder of its own; back it up.")
def init(keys_dir: Path) -> None:
    """Make the three keys of a validator and print what the registry needs."""
    from scoring import bls
    from validator.keys import create_keys

    keys = create_keys(keys_dir)
    print_facts(
        {
            "address": f"0x{keys.address.hex()}",
            "public key": f"0x{keys.public_key.hex()}",
            "transport key": f"0x{keys.transport_key.hex()}",
            "proof of possession": f"0x{bls.pop_prove(keys.bls_sk).hex()}",
        }
    )


@validator.command("run")
@click.option("--config", "config_path", required=True, type=FILE, help="A TOML or JSON file, see docs/validator.md.")
def run(config_path: Path) -> None:
    """Run the oracle daemon until it is told to stop."""
    from validator.config import load_config
    from validator.node import run_node

    asyncio.run(run_node(load_config(config_path)))


@validator.group("guard")
def guard() -> None:
    """The record of what this validator has signed."""


@guard.command("export")
@click.option("--config", "config_path", required=True, type=FILE)
@click.argument("file", type=FILE)
def export(config_path: Path, file: Path) -> None:
    """Write the signing history to FILE. Stop the validator first."""
    from validator.config import load_config
    from validator.sign_guard import SignGuard

    config = load_config(config_path)
    write_file(file, SignGuard.open(config.guard_path, config.keys_dir).export_history().encode())


@guard.command("import")
@click.option("--config", "config_path", required=True, type=FILE)
@click.argument("file", type=FILE)
def import_(config_path: Path, file: Path) -> None:
    """Add the signing history of FILE, from another machine, before signing here."""
    from validator.config import load_config
    from validator.sign_guard import SignGuard
    from validator.sign_history import History

    config = load_config(config_path)
    history = decode_file(file, MAX_HISTORY_BYTES, History.decode)
    count = SignGuard.open(config.guard_path, config.keys_dir).import_history(history)
    click.echo(f"{count} new entries")


@guard.command("recover")
@click.option("--config", "config_path", required=True, type=FILE)
@click.argument("file", type=FILE)
def recover(config_path: Path, file: Path) -> None:
    """Make a lost guard again from an exported FILE (entries, or a floor above every epoch that may be signed)."""
    from validator.config import load_config
    from validator.sign_guard import SignGuard
    from validator.sign_history import History

    config = load_config(config_path)
    SignGuard.recover(config.guard_path, config.keys_dir, decode_file(file, MAX_HISTORY_BYTES, History.decode))
    click.echo(f"made {config.guard_path}")


@click.group()
def ledger() -> None:
    """Run the embedded ledger."""


@ledger.command("serve")
@click.option("--genesis", "genesis_path", required=True, type=FILE, help="The network's genesis file.")
@click.option("--data", "data_dir", required=True, type=FOLDER, help="Where the log is kept.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65535))
def serve_ledger(genesis_path: Path, data_dir: Path, host: str, port: int) -> int:
    """Serve the ledger as a transparency log."""
    from ledger.embedded.server import main

    arguments = ["--genesis", str(genesis_path), "--data", str(data_dir), "--host", host, "--port", str(port)]
    return main(arguments)


@click.group()
def provider() -> None:
    """Serve a model, or put receipts in front of a server."""


@provider.command("serve")
@click.option("--model", default="bundled", show_default=True, help="`bundled`, a folder, a GGUF file, or a hub id.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--sampler",
    type=click.Choice(SEEDED_SAMPLERS),
    default=SEEDED_SAMPLERS[0],
    show_default=True,
    help="How tokens are drawn from the seed of a request; the offer names it.",
)
@click.option("--toploc", is_flag=True, help="Send activation proofs with every answer.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--data", "data_dir", default=Path("provider-data"), show_default=True, type=FOLDER)
@click.option("--genesis", "genesis_path", type=FILE, help="The network to sign receipts for.")
@click.option("--public-url", default="", help="What the offer says where to reach you.")
@click.option("--cheat", "cheats", multiple=True, metavar="NAME[=VALUE]", help="A test instrument; may be repeated.")
def serve_provider(
    model: str, dtype: str, device: str, cheats: tuple[str, ...], data_dir: Path, genesis_path: Path | None, **rest: Any
) -> None:
    """Serve a model with a signed receipt on every answer (OpenAI-compatible)."""
    from validator.provider.cheats import parse_cheats
    from validator.provider.config import ProviderConfig
    from validator.provider.server import run_provider

    network = _load_network(genesis_path)
    config = ProviderConfig(
        model=model, dtype=dtype, device=device, data_dir=data_dir, cheats=parse_cheats(cheats), **network, **rest
    )
    asyncio.run(run_provider(config))


@provider.command("proxy")
@click.option("--upstream", required=True, help="The OpenAI-compatible server to put receipts in front of.")
@click.option("--model", required=True, help="The model name that the offer sells.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8001, show_default=True, type=click.IntRange(0, 65535))
@click.option("--data", "data_dir", default=Path("proxy-data"), show_default=True, type=FOLDER)
@click.option("--genesis", "genesis_path", type=FILE, help="The network to sign receipts for.")
@click.option("--public-url", default="", help="What the offer says where to reach you.")
def proxy(upstream: str, model: str, data_dir: Path, genesis_path: Path | None, **rest: Any) -> None:
    """Add signed receipts to any OpenAI-compatible server, streamed answers included."""
    from validator.provider.config import ProxyConfig
    from validator.provider.proxy import run_proxy

    network = _load_network(genesis_path)
    asyncio.run(run_proxy(ProxyConfig(upstream=upstream, model=model, data_dir=data_dir, **network, **rest)))


def _load_network(genesis_path: Path | None) -> dict[str, Any]:
    if genesis_path is None:
        return {}
    from validator.node import load_genesis

    genesis = load_genesis(genesis_path)
    return {"network": genesis.network, "chain_id": genesis.chain_id}
