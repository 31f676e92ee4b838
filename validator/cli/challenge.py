"""`quiver challenge`: dispute what a provider served, with its own signed receipts."""

from pathlib import Path

import click

from validator.cli.output import parse_digest, print_facts, print_json

FILE = click.Path(dir_okay=False, path_type=Path)
QUIV = 10**18


@click.group()
def challenge() -> None:
    """File and follow challenges."""


@challenge.command("open")
@click.option("--ledger", "ledger_url", required=True, help="The ledger's URL.")
@click.option("--key-file", required=True, type=FILE, help="Your account: 0x and 64 hex digits, mode 0600.")
@click.option("--answers", "answers_path", required=True, type=FILE, help='JSON Lines of {"request", "response"}.')
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def open_(ledger_url: str, key_file: Path, answers_path: Path, as_json: bool) -> None:
    """File a challenge over up to eight receipted answers with consecutive counters.

    Costs the filing fee at once and holds the bond until the committee has decided.
    """
    from challenges.receipt import verify_receipt_content
    from validator.consumer import build_answers_dossier, load_answers
    from validator.filing import file_challenge, open_ledger
    from validator.provider.identity import load_key

    answers = load_answers(answers_path)
    for answer in answers:
        verify_receipt_content(answer.receipt.receipt, request=answer.request, response=answer.response)
    with open_ledger(ledger_url) as ledger:
        challenge_id = file_challenge(ledger, load_key(key_file), build_answers_dossier(answers))
        view = ledger.challenge(challenge_id)
    document = {"challenge": f"0x{challenge_id.hex()}", "phase": view.phase, "windows": view.window_count}
    if as_json:
        print_json(document)
    else:
        print_facts(document)


@challenge.command("show")
@click.argument("challenge_id")
@click.option("--ledger", "ledger_url", required=True, help="The ledger's URL.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(challenge_id: str, ledger_url: str, as_json: bool) -> None:
    """Show where a challenge stands and how it ended."""
    from validator.filing import open_ledger

    digest = parse_digest(challenge_id, "CHALLENGE_ID")
    with open_ledger(ledger_url) as ledger:
        view = ledger.challenge(digest)
    if as_json:
        print_json(view.to_json())
        return
    print_facts(
        {
            "provider": f"0x{view.provider.hex()}",
            "phase": view.phase,
            "verdict": view.verdict or "not decided",
            "bond": f"{view.bond_wei / QUIV:g} QUIV",
            "filing fee": f"{view.filing_fee_wei / QUIV:g} QUIV",
            "committee": ", ".join(f"0x{member.hex()}" for member in view.committee) or "not drawn",
            "e-values": ", ".join(f"{value / QUIV:.3g}" for value in view.e_values) or "none revealed",
            "upheld from": f"{100 * view.window_count:,} on ({view.window_count} windows)",
        }
    )
