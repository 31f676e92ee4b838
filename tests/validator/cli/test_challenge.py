"""`quiver challenge`: a consumer files receipts with a real ledger and follows what comes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scoring.ecdsa import address_of
from validator.cli import main

Court = Any  # the class lives in tests/validator/conftest.py
Run = Callable[..., Any]
QUIV = 10**18


class Files:
    """The consumer's key and its answers as files."""

    def __init__(self, folder: Path, court: Court, count: int = 2) -> None:
        self.court = court
        self.key = folder / "key"
        self.answers = folder / "answers.jsonl"
        self.key.touch(mode=0o600)
        self.key.write_text(f"0x{court.consumer_key.hex()}\n")
        requests = [court.ask(quiver_nonce=f"0x{number:064x}") for number in range(1, count + 1)]
        self.lines = [
            {"request": request, "response": court.answer(request, number)}
            for number, request in enumerate(requests, 1)
        ]
        self.write()

    def write(self) -> None:
        self.answers.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def open(self, *more: str) -> int:
        given = ["--ledger", self.court.url, "--key-file", str(self.key), "--answers", str(self.answers)]
        return main(["challenge", "open", *given, *more])


@pytest.fixture
def files(court: Court, tmp_path: Path) -> Files:
    return Files(tmp_path, court)


def test_a_challenge_is_filed_shown_and_paid_for(
    files: Files, court: Court, capsys: pytest.CaptureFixture[str]
) -> None:
    with court.client() as ledger:
        before = ledger.account(address_of(court.consumer_key)).balance_wei
        terms = court.genesis.parameters.challenge
        assert files.open("--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["phase"], document["windows"]) == ("filed", 2)
        after = ledger.account(address_of(court.consumer_key)).balance_wei
    assert before - after == terms.filing_fee_wei + terms.bond_wei
    assert main(["challenge", "show", document["challenge"].upper(), "--ledger", court.url]) == 0
    shown = capsys.readouterr().out
    for part in ("filed", "not decided", "not drawn", "none revealed", f"{terms.bond_wei / QUIV:g} QUIV", "200 on"):
        assert part in shown
    assert main(["challenge", "show", document["challenge"], "--ledger", court.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["window_count"] == 2


def test_what_was_filed_is_told_in_words(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.open() == 0
    assert "phase      filed" in capsys.readouterr().out


def keep_no_line(files: Files) -> None:
    files.lines = []
    files.write()


def change(edit: Callable[[dict[str, Any]], object]) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        edit(files.lines[1])
        files.write()

    return spoil


def skip_a_counter(files: Files) -> None:
    request = files.court.ask()
    files.lines[1] = {"request": request, "response": files.court.answer(request, 3)}
    files.write()


def use_many(files: Files) -> None:
    files.lines = files.lines * 5
    files.write()


def use_foreign_receipt(files: Files) -> None:
    request = files.court.ask()
    files.lines[1]["response"] = files.court.answer(request, 2, network=b"\x01" * 32)
    files.lines[1]["request"] = request
    files.write()


def use_expired_receipt(files: Files) -> None:
    issued_s = files.court.genesis.start_s
    request = files.court.ask()
    answer = files.court.answer(request, 2, issued_s=issued_s - 20, expires_s=issued_s - 10)
    files.lines[1] = {"request": request, "response": answer}
    files.write()


def use_strangers_key(files: Files) -> None:
    files.key.write_text(f"0x{files.court.stranger_key.hex()}\n")


REFUSED: list[tuple[str, Callable[[Files], object], int, str]] = [
    ("an answer altered", change(lambda line: line["response"].update(model="n")), 1, "speaks of another response"),
    ("a request altered", change(lambda line: line["request"].update(seed=6)), 1, "speaks of another request"),
    ("a counter left out", skip_a_counter, 1, "counters [1, 3] are not consecutive"),
    ("the same answer five times", use_many, 2, "expected 1 to 8 receipts, got 10"),
    (
        "a receipt of another network",
        use_foreign_receipt,
        1,
        "the receipt belongs to another network",
    ),
    ("an expired receipt", use_expired_receipt, 1, "receipt 1 of the dossier:"),
    ("somebody else's receipts", use_strangers_key, 1, "made out to another consumer than the one who files"),
    ("no answers", keep_no_line, 2, "expected 1 to 8 receipts, got 0"),
    ("no receipt", change(lambda line: line["response"].pop("quiver_receipt")), 2, "answers.jsonl, line 2: receipt:"),
    ("no request", change(lambda line: line.pop("request")), 2, "line 2: expected an object with request and response"),
    ("not JSON", lambda files: files.answers.write_text("{"), 2, "answers.jsonl, line 1: "),
    ("huge", lambda files: files.answers.write_text(" " * 1_048_577), 2, "is over the limit of 1048576 bytes"),
    ("no answers file", lambda files: files.answers.unlink(), 2, "No such file or directory"),
    ("a key open to others", lambda files: files.key.chmod(0o644), 2, "run `chmod 600` on it"),
    ("a key that is none", lambda files: files.key.write_text("hello"), 2, "does not hold a secp256k1 secret key"),
    ("no key file", lambda files: files.key.unlink(), 3, "cannot read"),
]


@pytest.mark.parametrize(("name", "spoil", "code", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses_to_file(
    files: Files,
    name: str,
    spoil: Callable[[Files], object],
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(files)
    assert files.open() == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("quiver: ") and output.err.count("\n") == 1
    assert sentence in output.err
    with files.court.client() as ledger:
        assert ledger.account(address_of(files.court.consumer_key)).nonce == 0


def test_the_ledger_refuses_a_second_challenge(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert files.open() == 0
    assert files.open() == 1
    assert "a receipt is challenged once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("challenge_id", "code", "sentence"),
    [
        ("0x" + "00" * 32, 1, "no such challenge"),
        ("0x12", 2, "CHALLENGE_ID: expected 0x and 64 hex digits"),
        ("latest", 2, "CHALLENGE_ID: expected hex"),
        ("", 2, "CHALLENGE_ID: expected hex"),
        ("../../v1/status", 2, "CHALLENGE_ID: expected hex"),
    ],
)
def test_shows_no_challenge(
    court: Court, challenge_id: str, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["challenge", "show", challenge_id, "--ledger", court.url]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:1/nowhere", "ledger.example"])
def test_a_ledger_that_is_not_there_leaves_it_undecided(
    url: str, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["challenge", "show", "0x" + "00" * 32, "--ledger", url]) == 3
    assert "does not answer" in capsys.readouterr().err


def test_something_else_than_a_ledger_is_not_believed(relay: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for body, code, sentence in ((b"{}", 2, ""), (b"hello", 2, "not JSON")):
        relay.files["/v1/genesis"] = body
        assert main(["challenge", "show", "0x" + "00" * 32, "--ledger", relay.url]) == code
        assert sentence in capsys.readouterr().err


def test_the_base_install_files_and_shows(files: Files, court: Court, run_base: Run) -> None:
    filed = run_base(
        "challenge", "open", "--ledger", court.url, "--key-file", files.key, "--answers", files.answers, "--json"
    )
    assert (filed.returncode, filed.stderr) == (0, "")
    shown = run_base("challenge", "show", json.loads(filed.stdout)["challenge"], "--ledger", court.url)
    assert shown.returncode == 0 and "filed" in shown.stdout
