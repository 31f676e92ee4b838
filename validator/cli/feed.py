"""`quiver feed get` and `quiver feed verify`: trust scores for protocols. Needs the base install only."""

from pathlib import Path

import click

from quiver_oracle.client import FeedClient
from scoring.feed import (
    MAX_FEED_PROOF_BYTES,
    MAX_VALIDATOR_SET_BYTES,
    ValidatorSetFile,
    parse_feed_proof,
    parse_validator_set_file,
    verify_feed_proof,
)
from scoring.records import FeedItem, Flag
from validator.cli.output import decode_file, now_s, parse_digest, print_facts, print_json, write_file

PATH = click.Path(dir_okay=False, path_type=Path)


@click.group()
def feed() -> None:
    """Read and verify trust scores."""


@feed.command("get")
@click.option("--url", required=True, help="A validator or a relay: nobody who needs to be trusted.")
@click.option("--provider", required=True, help="The provider's account, 0x and 40 hex digits.")
@click.option("--offer", help="Which offer, 0x and 64 hex digits; needed when the provider has several.")
@click.option(
    "--max-age", "max_age_s", required=True, type=click.IntRange(min=0), help="Oldest score to take, seconds."
)
@click.option("--validator-set", "set_path", type=PATH, help="The validator set that you trust.")
@click.option("--save", "save_path", type=PATH, help="Keep the one-file proof.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def get(
    url: str,
    provider: str,
    offer: str | None,
    max_age_s: int,
    set_path: Path | None,
    save_path: Path | None,
    as_json: bool,
) -> None:
    """Fetch a provider's newest score and verify it."""
    offer_digest = None if offer is None else parse_digest(offer, "--offer")
    trusted = _load_set(set_path) if set_path else _fetch_set(url)
    with FeedClient(url, trusted) as client:
        proof = client.get_proof(provider, max_age_s=max_age_s, offer_digest=offer_digest)
    if save_path:
        write_file(save_path, proof.encode())
    _print_item(proof.item, as_json)


@feed.command("verify")
@click.argument("file", type=PATH)
@click.option("--validator-set", "set_path", required=True, type=PATH, help="The validator set that you trust.")
@click.option(
    "--max-age", "max_age_s", required=True, type=click.IntRange(min=0), help="Oldest score to take, seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(file: Path, set_path: Path, max_age_s: int, as_json: bool) -> None:
    """Verify a one-file proof offline."""
    proof = decode_file(file, MAX_FEED_PROOF_BYTES, parse_feed_proof)
    item = verify_feed_proof(proof, _load_set(set_path), max_age_s=max_age_s, now_s=now_s())
    _print_item(item, as_json)


def _load_set(path: Path) -> ValidatorSetFile:
    return decode_file(path, MAX_VALIDATOR_SET_BYTES, parse_validator_set_file)


def _fetch_set(url: str) -> ValidatorSetFile:
    from validator.cli.http import download

    click.echo(
        "note: taking the validator set from the same URL; pass --validator-set FILE to trust your own", err=True
    )
    return parse_validator_set_file(download(f"{url.rstrip('/')}/v1/validator-set", MAX_VALIDATOR_SET_BYTES))


def _print_item(item: FeedItem, as_json: bool) -> None:
    flags = [str(flag.name).lower().replace("_", "-") for flag in Flag if item.flags & flag]
    if as_json:
        print_json({"verified": True, "item": item.to_json(), "flags": flags})
        return
    print_facts(
        {
            "provider": f"0x{item.provider.hex()}",
            "offer": f"0x{item.offer_digest.hex()}",
            "trust": f"{item.trust} of 1000 (between {item.trust_low} and {item.trust_high})",
            "epoch": f"{item.epoch}, {now_s() - item.time_s} s old",
            "accuracy": f"{item.accuracy_ppm / 1e4:.2f} %",
            "uptime": f"{item.uptime_ppm / 1e4:.2f} %",
            "samples": item.samples,
            "flags": ", ".join(flags) or "none",
            "verified": "yes: certified by more than two thirds of the stake of the validator set given",
        }
    )
