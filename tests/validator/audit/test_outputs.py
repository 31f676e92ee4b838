"""The files of an audit: which are refused before anything is asked, and that none of them swallows a verdict."""

import errno
import io
import os
import shutil
from pathlib import Path

import pytest
from audit_fakes import FakeEndpoint

from scoring.errors import InvalidInput, OracleError
from validator.audit.command import run_audit
from validator.audit.dry_run import dry_run
from validator.audit.options import AuditOptions

REFUSED = [
    ("a result in no folder", {"json_path": "none/r.json"}, "--json: there is no folder"),
    ("a report in no folder", {"html_path": "none/r.html"}, "--html: there is no folder"),
    ("a transcript in no folder", {"transcript_path": "none/t.jsonl"}, "--save-transcript: there is no folder"),
    ("a plan in no folder", {"plan_path": "none/p.json"}, "--plan: there is no folder"),
    ("a result inside of a file", {"json_path": "plan.json/r.json"}, "--json: there is no folder"),
    ("a folder", {"html_path": "folder"}, "--html: .*folder is not a file"),
    ("a pipe", {"json_path": "pipe"}, "--json: .*pipe is not a file"),
    ("a name that is too long", {"json_path": "x" * 300}, "--json: cannot write"),
    ("one file for two", {"json_path": "x", "html_path": "x"}, "--html: .*x is the file of --json too"),
    ("one file by two names", {"json_path": "x", "html_path": "folder/../x"}, "is the file of --json too"),
    ("one file behind a link", {"json_path": "plan.json", "html_path": "link"}, "is the file of --json too"),
    ("the plan", {"plan_path": "plan.json", "json_path": "plan.json"}, "--json: .*is the file of --plan too"),
    ("the profile", {"profile_path": "plan.json", "json_path": "plan.json"}, "is the file of --profile too"),
    ("the journal", {"json_path": "x", "html_path": "x.journal.jsonl"}, "--html: .*is the file of the journal too"),
    (
        "the transcript that is judged",
        {"endpoint": None, "transcript": "plan.json", "transcript_path": "plan.json"},
        "--save-transcript: .*is the file of --transcript too",
    ),
]


def build_options(folder: Path, url: str, **changes: object) -> AuditOptions:
    """Return options whose files are in a folder."""
    paths = {name: value if name == "endpoint" else folder / str(value) for name, value in changes.items()}
    return AuditOptions(**{"model": "bundled", "endpoint": url, **paths})


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses_before_anything_is_asked(served, opener, tmp_path, changes, message) -> None:
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("plan.json")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    options = build_options(tmp_path, served.url, **changes)
    with pytest.raises(InvalidInput, match=message):
        run_audit(options, opener.instruments, io.StringIO())
    assert (served.fake.asked, opener.examiner) == ([], None)
    assert sorted(tmp_path.iterdir()) == before
    if options.endpoint is not None:
        with pytest.raises(InvalidInput, match=message):
            dry_run(options)


@pytest.mark.parametrize(
    ("share_of_lies", "code", "verdict"), [(1.0, 1, "PROVEN"), (0.0, 3, "CONSISTENT")], ids=["proven", "consistent"]
)
def test_a_file_that_cannot_be_written_costs_no_verdict(
    served, opener, tmp_path, capsys, share_of_lies, code, verdict
) -> None:
    (tmp_path / "folder").mkdir()

    def remove_folder(self, body, words):
        shutil.rmtree(tmp_path / "folder", ignore_errors=True)
        return FakeEndpoint.build_answer(self, body, words)

    served.fake.streams, served.fake.share_of_lies = False, share_of_lies
    served.fake.build_answer = remove_folder.__get__(served.fake)
    paths = {"json_path": "r.json", "html_path": "folder/r.html", "transcript_path": "t.jsonl"}
    screen = io.StringIO()
    assert run_audit(build_options(tmp_path, served.url, **paths), opener.instruments, screen) == code
    assert verdict in capsys.readouterr().out
    assert f"cannot write {tmp_path / 'folder/r.html'}" in screen.getvalue()
    # The others are written all the same.
    assert (tmp_path / "r.json").exists() and (tmp_path / "t.jsonl").exists()


def test_a_disk_that_is_full_at_the_last_line_of_the_journal_costs_no_verdict(
    served, opener, tmp_path, capsys, monkeypatch
) -> None:
    served.fake.share_of_lies = 1.0
    journal = tmp_path / "r.json.journal.jsonl"

    def is_full(descriptor: int) -> None:
        if b'{"finished"' in journal.read_bytes():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    screen = io.StringIO()
    options = build_options(tmp_path, served.url, json_path="r.json")
    assert run_audit(options, opener.instruments, screen) == 1
    assert "PROVEN" in capsys.readouterr().out
    assert "No space left on device" in screen.getvalue()


FAULTS = [
    ("no profile", {"profile_path": Path("none.json")}),
    ("no key", {"api_key_env": "NO_SUCH_VARIABLE"}),
    ("no key of the reference", {"reference": "http://127.0.0.1:9", "reference_key_env": "NO_SUCH_VARIABLE"}),
    ("no budget", {"budget_tokens": 5}),
]


@pytest.mark.parametrize("changes", [row[1] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_wrong_command_leaves_no_journal_and_spoils_none(run, tmp_path, changes) -> None:
    with pytest.raises(OracleError):
        run(**changes)
    assert not list(tmp_path.iterdir())
    run(max_requests=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OracleError):
        run(**changes)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_audit_that_cannot_go_on_leaves_its_journal_as_it_was(run, tmp_path) -> None:
    run(max_requests=2)
    journal = tmp_path / "result.json.journal.jsonl"
    before = journal.read_bytes()
    with pytest.raises(OracleError):
        run(is_resumed=True, profile_path=Path("none.json"))
    with pytest.raises(InvalidInput, match="--alpha"):
        run(is_resumed=True, alpha=0.1)
    assert journal.read_bytes() == before
    # Neither is it locked.
    run(max_requests=2)


@pytest.mark.parametrize("option", ["plan_path", "profile_path"])
def test_a_file_that_is_not_what_it_should_be_is_named(run, tmp_path, option) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(InvalidInput, match=r"notes\.txt: "):
        run(**{option: path})
