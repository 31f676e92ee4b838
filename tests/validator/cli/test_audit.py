"""`quiver audit` from the outside: help, what is refused before any model is loaded, a dry run on the base install."""

import json

import pytest

OFFLINE = ("audit", "--transcript", "t.jsonl", "--model", "bundled")
ENDPOINT = ("audit", "--endpoint", "http://127.0.0.1:9", "--model", "bundled")


def test_help_lists_the_options(run_quiver) -> None:
    text = run_quiver("audit", "--help").stdout
    for option in ("--endpoint", "--transcript", "--claim", "--reference", "--plan", "--resume", "--save-transcript"):
        assert option in text


USAGE = [
    ("nothing", ("audit",), "--model"),
    ("no subject", ("audit", "--model", "bundled"), "one of the two"),
    ("another claim", (*ENDPOINT, "--claim", "price"), "--claim"),
    ("alpha above a half", (*ENDPOINT, "--alpha", "0.9"), "--alpha"),
    ("no requests", (*ENDPOINT, "--max-requests", "0"), "--max-requests"),
    ("no URL", ("audit", "--endpoint", "host", "--model", "bundled"), "--endpoint"),
    ("a key that is not set", (*ENDPOINT, "--api-key-env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE is not set"),
    ("nothing to resume", (*ENDPOINT, "--resume", "--json", "none.json"), "nothing to resume"),
    ("a result in no folder", (*ENDPOINT, "--json", "none/result.json"), "--json: there is no folder none"),
    ("one file for two", (*ENDPOINT, "--json", "x", "--html", "./x"), "--html: x is the file of --json too"),
    ("a budget for nothing", (*ENDPOINT, "--budget-tokens", "5"), "can take 2144 tokens"),
    ("a dry run that goes on", (*ENDPOINT, "--dry-run", "--resume"), "--dry-run"),
    ("a dry run without a budget", (*ENDPOINT, "--dry-run", "--budget-tokens", "5"), "can take 2144 tokens"),
    ("a dry run into no folder", (*ENDPOINT, "--dry-run", "--plan", "none/p.json"), "--plan: there is no folder"),
    ("a transcript at once", (*OFFLINE, "--concurrency", "4"), "--concurrency: a transcript"),
]


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in USAGE], ids=[row[0] for row in USAGE])
def test_wrong_usage_exits_with_2(run_quiver, arguments, message) -> None:
    done = run_quiver(*arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_an_endpoint_that_is_not_there_exits_with_3(run_quiver, tmp_path) -> None:
    done = run_quiver(*ENDPOINT, "--json", tmp_path / "r.json")
    assert done.returncode == 3
    assert "is the server running" in done.stderr


def test_bad_lines_exit_with_2_and_are_named(run_quiver, tmp_path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"request": {"messages": []}}\n{"request": oops}\n')
    done = run_quiver("audit", "--transcript", path, "--model", "bundled")
    assert done.returncode == 2
    assert "line 1: request.messages" in done.stderr and "line 2: not JSON" in done.stderr


def test_a_transcript_that_is_not_there_exits_with_3(run_quiver, tmp_path) -> None:
    assert run_quiver("audit", "--transcript", tmp_path / "none", "--model", "bundled").returncode == 3


def test_a_dry_run_asks_nobody_and_needs_no_more_than_the_base_install(run_base, tmp_path) -> None:
    plan = tmp_path / "plan.json"
    done = run_base(*ENDPOINT, "--dry-run", "--max-requests", "50", "--plan", plan)
    assert done.returncode == 0, done.stderr
    # 47 answers of 64 tokens, and three of 16 to needles.
    for part in ("at most 50 requests", "3,056 tokens", "one honest endpoint in 1,000,000"):
        assert part in done.stdout
    assert json.loads(plan.read_text())["requests"] == 50
    assert run_base(*ENDPOINT, "--dry-run", "--plan", plan).stdout == done.stdout


def test_a_dry_run_reads_the_profile_too(run_base, tmp_path) -> None:
    done = run_base(*ENDPOINT, "--dry-run", "--profile", tmp_path / "none.json")
    assert done.returncode != 0
    assert f"cannot read {tmp_path / 'none.json'}" in done.stderr


def test_a_bad_plan_is_refused_by_name(run_base, tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"format": "quiver-audit-plan-v1"}')
    done = run_base(*ENDPOINT, "--dry-run", "--plan", tmp_path / "plan.json")
    assert done.returncode == 2
    assert "is missing" in done.stderr


def test_without_the_extra_it_says_what_to_install(run_base, tmp_path) -> None:
    done = run_base(*ENDPOINT, "--json", tmp_path / "r.json")
    assert done.returncode == 2
    assert "quiver-oracle[validator]" in done.stderr
