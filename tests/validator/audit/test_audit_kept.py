"""What an audit leaves behind: its journal, its plan, its transcript, and what they are good for."""

import json
import math

import pytest

from scoring.errors import InvalidInput
from validator.audit.discovery import WANTED_LOGPROBS
from validator.audit.http_exchange import AskLimits
from validator.audit.journal import read_journal
from validator.audit.plan import MAX_ANSWER_TOKENS, ProbingPlan
from validator.audit.records import Exchange
from validator.audit.transcript import MAX_LINE_BYTES, load_transcript


def test_goes_on_where_it_was_stopped(run, served, opener, tmp_path) -> None:
    run(max_requests=6)
    first = [outcome.content for outcome in opener.examiner.outcomes]
    asked = len(served.fake.asked)
    _, result = run(max_requests=20, is_resumed=True)
    assert result["requests"] == 20
    assert [outcome.content for outcome in opener.examiner.outcomes][:6] == first
    assert len(served.fake.asked) == asked + 14
    assert len(result["rows"]) == 20


def test_a_resumed_audit_ends_as_one_that_was_not_interrupted(run, opener, tmp_path) -> None:
    plan = tmp_path / "plan.json"
    _, whole = run(plan_path=plan, max_requests=12)
    kept = read_journal(tmp_path / "result.json.journal.jsonl")
    journal = tmp_path / "result.json.journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed while the seventh answer was being written.
    journal.write_bytes(b"".join(lines[:8]) + lines[8][:40])
    _, resumed = run(is_resumed=True)
    again = read_journal(journal)
    assert kept is not None and again is not None
    assert sorted(again.entries) == sorted(kept.entries)
    assert math.isclose(resumed["log10_e"], whole["log10_e"])
    assert resumed["contracts"] == whole["contracts"] != []
    assert [row["stratum"] for row in resumed["rows"]] == [row["stratum"] for row in whole["rows"]]


def test_an_unfinished_audit_is_not_overwritten(run, tmp_path) -> None:
    run(max_requests=3)
    journal = tmp_path / "result.json.journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InvalidInput, match="--resume"):
        run(max_requests=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"served_model": "another"}, "--served-model: .* is of answers by fake-model"),
        ({"max_requests": 5}, "--max-requests: 6 are asked already"),
        ({"model": "./another"}, "--resume"),
    ],
)
def test_an_audit_that_goes_on_must_not_be_contradicted(run, tmp_path, change, message) -> None:
    run(max_requests=6)
    journal = tmp_path / "result.json.journal.jsonl"
    kept = journal.read_bytes()
    with pytest.raises(InvalidInput, match=message):
        run(is_resumed=True, **change)
    assert journal.read_bytes() == kept
    _, result = run(is_resumed=True, max_requests=6)
    assert result["requests"] == 6


def test_a_finished_audit_makes_room_for_the_next(run) -> None:
    run(max_requests=3)
    _, result = run(max_requests=2)
    assert result["requests"] == 2


def test_a_saved_transcript_says_the_same_offline(run, served, opener, tmp_path) -> None:
    served.fake.share_of_lies = 0.15
    plan, path = tmp_path / "plan.json", tmp_path / "t.jsonl"
    plan.write_bytes(ProbingPlan(seed=bytes(32), requests=20).encode())
    _, online = run(plan_path=plan, transcript_path=path)
    seen = list(opener.examiner.outcomes)
    _, offline = run(endpoint=None, served_model=None, transcript=path, plan_path=plan)
    assert offline["verdict"] == online["verdict"]
    # Batches are cut otherwise, so that one may look a little further than the other.
    together = min(len(seen), len(opener.examiner.outcomes))
    assert opener.examiner.outcomes[:together] == seen[:together]
    running = [[row["log10_e"] for row in result["rows"][:together]] for result in (online, offline)]
    assert running[0] == running[1]


def test_a_saved_transcript_says_the_same_of_contracts(run, served, tmp_path) -> None:
    real = served.fake._usage
    served.fake._usage = lambda body, words: {**real(body, words), "completion_tokens": 99}
    plan = tmp_path / "plan.json"
    _, online = run(transcript_path=tmp_path / "t.jsonl", max_requests=20, plan_path=plan)
    _, offline = run(endpoint=None, served_model=None, transcript=tmp_path / "t.jsonl", plan_path=plan)
    assert offline["contracts"] == online["contracts"]
    assert (offline["verdict"], offline["explanation"]) == (online["verdict"], online["explanation"])
    assert [item["checked"] for item in offline["contracts"]] == [20, 20, 1, 1]


def test_a_transcript_of_lies_is_not_read_to_its_end(run, served, opener, tmp_path) -> None:
    served.fake.share_of_lies = 1.0
    run(transcript_path=tmp_path / "t.jsonl", max_requests=30)
    line = next(line for line in (tmp_path / "t.jsonl").read_text().splitlines() if "lie" in line)
    (tmp_path / "t.jsonl").write_text(f"{line}\n" * 60)
    code, result = run(endpoint=None, served_model=None, transcript=tmp_path / "t.jsonl")
    assert (code, result["requests"], result["ended"]) == (1, 4, "decided")


def test_a_transcript_without_its_plan_has_no_drawn_prompts(run, opener, tmp_path) -> None:
    run(transcript_path=tmp_path / "t.jsonl", max_requests=5)
    run(endpoint=None, served_model=None, transcript=tmp_path / "t.jsonl")
    assert not any(exchange.is_drawn or exchange.stratum for exchange in opener.examiner.outcomes)


def test_from_a_prompt_on_that_does_not_follow_from_the_plan_none_is_drawn(run, opener, tmp_path) -> None:
    plan, path = tmp_path / "plan.json", tmp_path / "t.jsonl"
    run(plan_path=plan, transcript_path=path, max_requests=3)
    lines = path.read_text().splitlines()
    document = json.loads(lines[1])
    document["request"]["messages"][-1]["content"] += "!"
    path.write_text("\n".join([lines[0], json.dumps(document), lines[0], *lines[2:]]))
    run(endpoint=None, served_model=None, transcript=path, plan_path=plan)
    assert [exchange.is_drawn for exchange in opener.examiner.outcomes] == [True, False, False, False]


def test_a_plan_fixes_the_requests(run, served, tmp_path) -> None:
    plan = tmp_path / "plan.json"
    run(plan_path=plan, max_requests=3)
    first = sorted(body["messages"][-1]["content"] for body in served.fake.asked)
    served.fake.asked.clear()
    (tmp_path / "result.json.journal.jsonl").unlink()
    run(plan_path=plan)
    assert sorted(body["messages"][-1]["content"] for body in served.fake.asked) == first


def test_exchanges_survive_the_journal(run, opener, tmp_path) -> None:
    run(max_requests=20)
    kept = read_journal(tmp_path / "result.json.journal.jsonl")
    assert kept is not None and kept.finished == "requests"
    assert [kept.entries[index].outcome for index in range(20)] == opener.examiner.outcomes


def test_reads_its_own_transcript(run, opener, tmp_path) -> None:
    run(transcript_path=tmp_path / "t.jsonl", max_requests=4)
    entries = load_transcript(tmp_path / "t.jsonl")
    seen = [outcome for outcome in opener.examiner.outcomes if isinstance(outcome, Exchange)]
    assert [entry.outcome.content for entry in entries] == [exchange.content for exchange in seen]
    assert [entry.outcome.logprobs for entry in entries] == [exchange.logprobs for exchange in seen]


def test_the_longest_answer_that_is_taken_fits_into_a_line_of_the_journal() -> None:
    limits = AskLimits(max_tokens=MAX_ANSWER_TOKENS, logprobs=1 + WANTED_LOGPROBS, is_streamed=True)
    assert 2 * limits.max_body_bytes <= MAX_LINE_BYTES
