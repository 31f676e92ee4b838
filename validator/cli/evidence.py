"""`quiver evidence`: check slashing evidence as a stranger, from the file alone or by running the model again."""

from pathlib import Path

import click

from challenges.evidence import MAX_EVIDENCE_BYTES, EvidenceFile, parse_evidence_file, verify_evidence
from scoring.errors import VerificationFailed
from scoring.evidence.cases import CaseState, compute_threshold, is_proven
from scoring.feed import MAX_VALIDATOR_SET_BYTES, parse_validator_set_file
from validator.cli.output import decode_file, print_facts, print_json

PATH = click.Path(dir_okay=False, path_type=Path)
MAX_DRIFT_MILLI_LOG10 = 1000
"""A re-run in other numerics may differ by up to one order of magnitude before we say so."""


@click.group()
def evidence() -> None:
    """Verify slashing evidence."""


@evidence.command("verify")
@click.argument("file", type=PATH)
@click.option("--validator-set", "set_path", type=PATH, help="The validator set that you trust.")
@click.option("--rerun", is_flag=True, help="Run the model again and compare (needs the validator extra).")
@click.option("--model", default="bundled", show_default=True, help="The claimed model, for --rerun.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(file: Path, set_path: Path | None, rerun: bool, model: str, dtype: str, as_json: bool) -> None:
    """Check signatures, draws, receipts and arithmetic of an evidence FILE."""
    parsed = decode_file(file, MAX_EVIDENCE_BYTES, parse_evidence_file)
    if set_path is None:
        click.echo("note: no --validator-set given: the file is checked against its own validator set", err=True)
        case = verify_evidence(parsed)
    else:
        trusted = decode_file(set_path, MAX_VALIDATOR_SET_BYTES, parse_validator_set_file)
        case = verify_evidence(parsed, trusted.validator_set, trusted.domain)
    again = _rerun(parsed, model, dtype) if rerun else None
    _print(parsed, case, again, as_json)
    if again is not None and not is_proven(parsed.plan, again):
        raise VerificationFailed("the re-run does not reach the threshold: this evidence does not hold here")


def _rerun(file: EvidenceFile, model: str, dtype: str) -> CaseState:
    from rich.console import Console
    from rich.progress import Progress

    from validator.rerun import rerun_evidence

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("running the model again", total=None)
        return rerun_evidence(file, model, dtype, lambda done, total: progress.update(bar, completed=done, total=total))


def _print(file: EvidenceFile, case: CaseState, again: CaseState | None, as_json: bool) -> None:
    record = file.evidence
    threshold = compute_threshold(file.plan, record.case_index)
    if as_json:
        print_json(
            {
                "verified": True,
                "provider": f"0x{record.provider.hex()}",
                "rule": record.rule,
                "case": record.case_index,
                "epochs": [record.first_epoch, record.last_epoch],
                "probes": case.accounted_probes,
                "missing_probes": case.missing_probes,
                "log10_e_milli": case.case_log10_milli,
                "threshold": threshold,
                "rerun_log10_e_milli": None if again is None else again.case_log10_milli,
            }
        )
        return
    facts: dict[str, object] = {
        "provider": f"0x{record.provider.hex()}",
        "offence": f"{record.rule}, case {record.case_index}, epochs {record.first_epoch} to {record.last_epoch}",
        "probes": f"{case.accounted_probes} drawn, {case.missing_probes} missing (each counted against the evidence)",
        "e-value": f"10^{case.case_log10_milli / 1000:.2f}, threshold {threshold:,}",
        "certificate": "more than two thirds of stake, each validator on its own e-process",
    }
    if again is not None:
        facts["e-value, re-run"] = f"10^{again.case_log10_milli / 1000:.2f}"
        drift = abs(again.case_log10_milli - case.case_log10_milli)
        close = drift <= MAX_DRIFT_MILLI_LOG10
        facts["agreement"] = "the re-run agrees" if close else f"differs by 10^{drift / 1000:.1f}: other numerics?"
    print_facts(facts)
