"""The end of a devnet as a stranger sees it: files fetched from a validator, verified by separate processes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from challenges.evidence import EvidenceFile, parse_evidence_file
from ledger.embedded.sync_client import SyncLedgerClient
from scoring.certificate import parse_bitfield
from scoring.errors import OracleError
from scoring.evidence.wealth import compute_log10_milli
from scoring.feed import ValidatorSetFile
from validator.cli.http import download
from validator.cli.output import write_file
from validator.devnet.consumer import TARGETS, Consumer
from validator.devnet.judging import describe_judge
from validator.devnet.network import Network, build_environment
from validator.devnet.result import ChallengeResult, DevnetResult, ProviderResult, SlashResult
from validator.devnet.watch import MAX_AGE_S, RESOLVED_EVENT, Watch

MAX_FILE_BYTES = 64 * 1024 * 1024
STRANGER_TIMEOUT_S = 120


def inspect(network: Network, watch: Watch, consumer: Consumer, seconds: int, home: Path) -> DevnetResult:
    """Return the result: what the ledger holds, and what separate processes say of the files, which stay in `home`."""
    watch.update()
    home.mkdir(parents=True, exist_ok=True)
    set_path = home / "validator-set.json"
    trusted = ValidatorSetFile(domain=network.genesis.domain, validator_set=network.genesis.validator_set)
    write_file(set_path, trusted.encode())
    feed_path = home / "feed-item.json"
    first = watch.providers[0]
    feed_command = ["feed", "get", "--url", network.validator_urls[0], "--provider", first.address]
    feed_command += ["--max-age", str(MAX_AGE_S), "--validator-set", str(set_path), "--save", str(feed_path)]
    _run_stranger(feed_command)
    verify_command = ["feed", "verify", str(feed_path), "--validator-set", str(set_path), "--max-age", str(MAX_AGE_S)]
    is_feed_verified = _run_stranger(verify_command)
    slashes = _inspect_evidence(network, home, set_path)
    with SyncLedgerClient(network.ledger_url, network.genesis.domain) as ledger:
        status = ledger.status()
        challenges = [_inspect_challenge(ledger, watch, name, consumer) for name in TARGETS]
        is_conserved = _is_supply_conserved(ledger, network, consumer)
    commands = {"feed": _command(verify_command)}
    if slashes:
        evidence_command = ["evidence", "verify", slashes[0].evidence_file, "--validator-set", str(set_path), "--rerun"]
        commands["evidence"] = _command(evidence_command)
    return DevnetResult(
        network=f"0x{network.genesis.network.hex()}",
        chain_id=network.genesis.chain_id,
        epochs=watch.epochs,
        seconds=seconds,
        peak_memory_bytes=watch.peak_memory_bytes,
        providers=watch.providers,
        slashes=slashes,
        challenges=challenges,
        burned_wei=status.burned_wei,
        is_supply_conserved=is_conserved,
        is_feed_verified=is_feed_verified,
        judge=describe_judge(build_environment()),
        commands=commands,
    )


def _inspect_evidence(network: Network, home: Path, set_path: Path) -> list[SlashResult]:
    url = network.validator_urls[0]
    keys = json.loads(download(f"{url}/v1/evidence", MAX_FILE_BYTES))["evidence"]
    found: dict[bytes, SlashResult] = {}
    for key in keys:
        data = download(f"{url}/v1/evidence/{key}", MAX_FILE_BYTES)
        file = parse_evidence_file(data)
        if file.evidence.provider in found:
            continue
        path = home / f"evidence-{file.evidence.provider.hex()[:8]}.json"
        write_file(path, data)
        found[file.evidence.provider] = _inspect_file(file, path, set_path)
    return list(found.values())


def _inspect_file(file: EvidenceFile, path: Path, set_path: Path) -> SlashResult:
    output: dict[str, Any] = {}
    arguments = ["evidence", "verify", str(path), "--validator-set", str(set_path), "--json"]
    is_verified = _run_stranger(arguments, output)
    seats = parse_bitfield(file.certificate.signers, len(file.validator_set.validators))
    return SlashResult(
        provider=f"0x{file.evidence.provider.hex()}",
        rule=file.evidence.rule,
        case_index=file.evidence.case_index,
        last_epoch=file.evidence.last_epoch,
        log10_e_milli=int(output.get("log10_e_milli", 0)),
        threshold=file.evidence.threshold,
        probes=int(output.get("probes", 0)),
        missing_probes=int(output.get("missing_probes", 0)),
        signers=len(seats),
        evidence_file=str(path),
        is_verified_by_stranger=is_verified,
    )


def _inspect_challenge(ledger: SyncLedgerClient, watch: Watch, name: str, consumer: Consumer) -> ChallengeResult:
    target = next(item for item in watch.providers if item.spec.name == TARGETS[name])
    challenge_id = consumer.challenge_ids.get(name)
    if challenge_id is None:
        return _build_challenge(name, target, "", "not filed", (), 0)
    view = ledger.challenge(challenge_id)
    paid_wei = sum(
        int(str(event.fields["consumer_wei"]))
        for event in watch.events
        if event.name == RESOLVED_EVENT and event.fields.get("challenge") == f"0x{challenge_id.hex()}"
    )
    e_values = tuple(f"10^{compute_log10_milli(value) / 1000:.1f}" if value else "abstained" for value in view.e_values)
    change_wei = paid_wei - view.filing_fee_wei - view.bond_wei
    return _build_challenge(name, target, f"0x{challenge_id.hex()}", view.verdict or "open", e_values, change_wei)


def _build_challenge(
    name: str, target: ProviderResult, challenge_id: str, verdict: str, e_values: tuple[str, ...], change_wei: int
) -> ChallengeResult:
    return ChallengeResult(
        name=name,
        provider=target.address,
        challenge_id=challenge_id,
        verdict=verdict,
        e_values=e_values,
        consumer_change_wei=change_wei,
    )


def _is_supply_conserved(ledger: SyncLedgerClient, network: Network, consumer: Consumer) -> bool:
    """Add up every account of the devnet from outside: balances, claims, stakes, bonds, escrows and burns."""
    cast = network.cast
    addresses = [keys.address for keys in cast.validators] + [consumer.address]
    addresses += [cast.get_provider_address(spec.name) for spec in network.providers]
    views = [ledger.account(address) for address in addresses]
    held = sum(
        view.balance_wei + view.claimable_wei + view.stake_wei + view.unbonding_wei + view.bond_wei for view in views
    )
    open_challenges = [ledger.challenge(item) for item in consumer.challenge_ids.values()]
    escrow = sum(view.filing_fee_wei + view.bond_wei + view.cover_wei for view in open_challenges if view.is_open)
    status = ledger.status()
    return held + escrow + status.burned_wei == status.issued_wei


def _run_stranger(arguments: list[str], output: dict[str, Any] | None = None) -> bool:
    command = [sys.executable, "-P", "-m", "quiver_oracle", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=STRANGER_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OracleError(f"the verifying process did not run: {error}") from error
    if done.returncode == 0 and output is not None:
        output.update(json.loads(done.stdout))
    return done.returncode == 0


def _command(arguments: list[str]) -> str:
    # As it can be typed here: the demo's virtual environment need not be active.
    name = "quiver" if shutil.which("quiver") else os.path.relpath(Path(sys.executable).with_name("quiver"))
    return shlex.join([name, *arguments])
