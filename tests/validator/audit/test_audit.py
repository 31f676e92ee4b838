"""Whole audits of a fake endpoint with a fake examiner: what is asked, when it stops, what is kept."""

import io
import json
import math
import re
from dataclasses import replace

import pytest
from audit_fakes import FakeEndpoint, FakeExaminer, refuse

from models.requests import ChatMessage
from scoring.errors import InvalidInput, Unavailable
from validator.audit.asked import Asked
from validator.audit.command import run_audit
from validator.audit.journal import read_journal
from validator.audit.options import AuditOptions
from validator.audit.outcomes import Entry, Origin
from validator.audit.plan import ProbingPlan
from validator.audit.progress import Progress
from validator.audit.records import Exchange, Missing
from validator.audit.transcript import load_transcript


@pytest.fixture
def run(served, opener, tmp_path):
    """Return a function that audits the fake endpoint and returns the exit code and the result."""

    def run_one(**changes: object) -> tuple[int, dict]:
        options = {
            "model": "bundled",
            "endpoint": served.url + "/v1",
            "served_model": "fake-model",
            "json_path": tmp_path / "result.json",
            **changes,
        }
        screen = io.StringIO()
        code = run_audit(AuditOptions(**options), opener.instruments, screen)
        run_one.screen = screen.getvalue()
        return code, json.loads((tmp_path / "result.json").read_text())

    return run_one


def test_an_honest_endpoint_is_consistent(run, served, opener) -> None:
    code, result = run()
    assert (code, result["verdict"]) == (0, "consistent")
    assert 40 <= result["requests"] < 40 + 16
    assert result["ended"] == "decided"
    assert opener.examiner.channels == ("seeded", "text", "logprobs", "usage")


def test_a_lying_endpoint_is_proven_after_a_few_requests(run, served) -> None:
    served.fake.share_of_lies = 1.0
    code, result = run()
    assert (code, result["verdict"]) == (1, "proven")
    assert result["explanation"] == "int4 weights"
    assert result["decided_after"] == 4
    assert result["requests"] <= 16
    assert "int4 weights" in result["sentence"]


def test_asking_does_not_run_far_ahead_of_the_evidence(run, served, opener) -> None:
    served.fake.share_of_lies = 1.0
    opener.delay_s = 1.0
    _, result = run()
    assert result["requests_asked"] <= 8 + 8


def test_answers_are_examined_in_batches(run, opener) -> None:
    run(max_requests=24)
    assert len(opener.examiner.batches) <= 4


def test_evidence_waits_for_the_request_that_comes_next() -> None:
    progress = Progress(plan=ProbingPlan(seed=bytes(32)))
    asked = Asked(messages=(ChatMessage(role="user", content="Hi"),), max_tokens=8)
    taken = []
    for index in (2, 1, 0, 4):
        missing = Missing(index=index, reason="timeout")
        progress.add(Entry(origin=Origin(index=index), asked=asked, outcome=missing))
        taken.append([entry.origin.index for entry in progress.take_ready(9)])
    assert taken == [[], [], [0, 1, 2], [0, 1, 2]]


def test_every_probe_has_another_seed_and_prompts_that_were_drawn(run, served, opener) -> None:
    run()
    exchanges = [outcome for outcome in opener.examiner.outcomes if outcome.repeat_of is None]
    assert len({exchange.seed for exchange in exchanges}) == len(exchanges)
    assert all(exchange.is_drawn and exchange.stratum and exchange.probe_seed for exchange in exchanges)


def test_a_repeated_request_is_marked_and_asked_the_other_way(run, served, opener) -> None:
    run()
    first, again = opener.examiner.outcomes[14], opener.examiner.outcomes[15]
    assert again.repeat_of == 14
    assert (again.messages, again.seed) == (first.messages, first.seed)
    assert again.is_streamed != first.is_streamed
    assert again.content == first.content


def test_an_endpoint_that_counts_more_tokens_than_it_returns_is_suspect(run, served) -> None:
    real = served.fake._usage
    served.fake._usage = lambda body, words: {**real(body, words), "completion_tokens": len(words) + 7}
    code, result = run(max_requests=30)
    assert (code, result["verdict"]) == (3, "suspect")
    assert result["explanation"] == "usage counts more tokens than were returned"
    assert "an alarm, and no proof" in result["sentence"]
    (count,) = [item for item in result["contracts"] if item["broken"]]
    # Streams bring their usage and their ids like whole answers do: every answer was checked.
    assert count == {
        "id": "completion-tokens-v1",
        "checked": 30,
        "broken": 30,
        "is_alarm": True,
        "example": {"expected": "16", "found": "23"},
    }


def test_an_honest_endpoint_breaks_no_contract(run, capsys) -> None:
    _, result = run(max_requests=30)
    assert {item["id"]: (item["broken"], item["example"]) for item in result["contracts"]} == dict.fromkeys(
        (
            "completion-tokens-v1",
            "logprobs-of-the-text-v1",
            "streamed-equals-unstreamed-v1",
            "needle-at-10-v1",
            "needle-at-50-v1",
        ),
        (0, None),
    )
    assert re.search("contracts +5 checked, none broken", capsys.readouterr().out)


def test_streams_of_another_model_break_their_contract(run, served, capsys) -> None:
    real = served.fake.write

    def write(body):
        return ["other ", *real(body)] if body.get("stream") else real(body)

    served.fake.write = write
    code, result = run(max_requests=20)
    (count,) = [item for item in result["contracts"] if item["broken"]]
    assert (count["id"], count["checked"], count["broken"]) == ("streamed-equals-unstreamed-v1", 1, 1)
    # Once is no alarm: honest answers part, too.
    assert (code, count["is_alarm"]) == (0, False)
    assert "broken: streamed-equals-unstreamed-v1 1 of 1 times" in capsys.readouterr().out


def test_a_context_that_is_cut_breaks_the_needles(run, served) -> None:
    served.fake.reach = 200
    _, result = run(max_requests=30)
    broken = {item["id"]: (item["checked"], item["broken"]) for item in result["contracts"] if item["broken"]}
    # Twice is no alarm.
    assert broken == {"needle-at-10-v1": (1, 1), "needle-at-50-v1": (1, 1)}
    assert result["contracts"][-1]["example"]["found"] == "it is lost "
    assert result["verdict"] == "consistent"


def test_needles_are_asked_in_their_turn_and_are_no_evidence(run, opener) -> None:
    _, result = run(max_requests=30)
    needles = [row for row in result["rows"] if (row["stratum"] or "").startswith("needle")]
    assert [(row["index"], row["stratum"]) for row in needles] == [(9, "needle-10"), (25, "needle-50")]
    assert all(row["is_drawn"] and row["log10_by_channel"] == {} for row in needles)
    asked = [outcome for outcome in opener.examiner.outcomes if outcome.index in (9, 25)]
    assert all((exchange.temperature, exchange.sampler) == (0.0, "none") for exchange in asked)


def test_a_small_budget_is_not_spent_on_needles(run, served) -> None:
    run(budget_tokens=1500)
    assert served.fake.asked and not any("secret code" in body["messages"][-1]["content"] for body in served.fake.asked)


@pytest.mark.parametrize(("temperature_ppm", "repeats"), [(0, [15, 31]), (1_000_000, [])])
def test_without_a_seed_requests_are_repeated_at_temperature_0_alone(
    run, served, tmp_path, temperature_ppm, repeats
) -> None:
    served.fake.refuses = ("seed",)
    plan = ProbingPlan(
        seed=bytes(32), requests=32, temperature_min_ppm=temperature_ppm, temperature_max_ppm=temperature_ppm
    )
    (tmp_path / "plan.json").write_bytes(plan.encode())
    _, result = run(plan_path=tmp_path / "plan.json")
    assert [row["index"] for row in result["rows"] if row["repeat_of"] is not None] == repeats


def test_without_a_seed_an_answer_at_temperature_0_is_asked_for_again(run, served, monkeypatch) -> None:
    begin = FakeExaminer.begin
    monkeypatch.setattr(
        FakeExaminer, "begin", lambda self, channels: replace(begin(self, channels), log10_by_channel={"greedy": 0.0})
    )
    served.fake.refuses = ("seed",)
    _, result = run(max_requests=20)
    assert [(row["index"], row["repeat_of"]) for row in result["rows"] if row["repeat_of"] is not None] == [(16, 15)]
    assert result["rows"][15]["is_streamed"] != result["rows"][16]["is_streamed"]


def test_streams_are_timed(run) -> None:
    _, result = run()
    assert 0 < result["latency_ms"]["first_token"]["median"] <= result["latency_ms"]["total"]["high"]
    assert any(row["is_streamed"] for row in result["rows"])
    assert any(not row["is_streamed"] for row in result["rows"])


def test_tokens_are_counted_from_the_usage(run) -> None:
    _, result = run(max_requests=4)
    assert result["tokens"] == 4 * 16
    assert result["tokens_spent"] > result["tokens"]


def test_stops_at_its_number_of_requests(run, served) -> None:
    _, result = run(max_requests=5)
    assert (result["requests"], result["ended"]) == (5, "requests")
    assert len(served.fake.asked) < 5 + 7


def test_stops_at_its_budget_of_tokens(run) -> None:
    _, result = run(budget_tokens=800)
    assert result["ended"] == "tokens"
    assert 300 < result["tokens_spent"] <= 800


def test_missing_answers_are_accounted_for(run, served, opener) -> None:
    real, count = FakeEndpoint.build_answer, [0]

    def sometimes_broken(self, body, words):
        count[0] += 1
        answer = real(self, body, words)
        return {**answer, "choices": []} if count[0] % 7 == 0 else answer

    served.fake.streams = False
    served.fake.build_answer = sometimes_broken.__get__(served.fake)
    _, result = run(max_requests=30)
    missing = [outcome for outcome in opener.examiner.outcomes if isinstance(outcome, Missing)]
    assert result["requests_missing"] == len(missing) > 0
    assert {outcome.reason for outcome in missing} == {"malformed"}
    assert [outcome.index for outcome in opener.examiner.outcomes] == list(range(30))


def test_an_endpoint_that_falls_silent_ends_the_audit(run, served) -> None:
    def answer_twenty(self, body, words):
        return FakeEndpoint.build_answer(self, body, words) if len(self.asked) <= 20 else {"error": "gone"}

    served.fake.streams = False
    served.fake.build_answer = answer_twenty.__get__(served.fake)
    _, result = run()
    assert result["ended"] == "silence"
    assert result["requests"] == result["requests_asked"] < 35
    assert result["rows"][-1]["missing"] == "malformed"


def test_without_seed_there_is_no_seeded_channel(run, served, opener) -> None:
    served.fake.refuses = ("seed",)
    _, result = run(max_requests=3)
    assert "seeded" not in opener.examiner.channels
    assert all(exchange.seed is None for exchange in opener.examiner.outcomes)
    assert result["discovered"]["refused"][0][0] == "seed"


def test_a_declared_sampler_that_is_not_kept_carries_no_seeded_evidence(run, served, opener) -> None:
    served.fake.repeats_seed = False
    _, result = run(max_requests=3)
    assert "seeded" not in opener.examiner.channels
    assert result["discovered"]["declared_sampler"] == "gumbel-philox-v1"
    assert result["discovered"]["repeats_seed"] is False


def test_a_sampler_that_nobody_declared_is_found_by_trying(run, served, opener) -> None:
    served.fake.sampler, opener.sampler = None, "vllm-exponential"
    _, result = run(max_requests=3)
    assert result["discovered"]["sampler_source"] == "found by trying"
    assert {exchange.sampler for exchange in opener.examiner.outcomes} == {"vllm-exponential"}


def test_refused_parameters_are_left_out(run, served) -> None:
    served.fake.refuses = ("return_token_ids", "logprobs")
    _, result = run(max_requests=3)
    assert not {"return_token_ids", "logprobs", "top_logprobs"} & set(served.fake.asked[-1])
    assert result["discovered"]["has_token_ids"] is False


def test_a_plain_endpoint_without_anything_is_judged_by_its_text(run, served, opener) -> None:
    served.fake.refuses = ("return_token_ids", "logprobs", "seed")
    served.fake.streams = served.fake.has_usage = False
    served.fake.sampler = None
    _, result = run(max_requests=3)
    assert opener.examiner.channels == ("text", "greedy")
    assert result["requests"] == 3


def test_what_was_found_is_told(run) -> None:
    run(max_requests=1)
    assert "gumbel-philox-v1 (the model list)" in run.screen
    assert "refused with HTTP status 400" in run.screen


@pytest.mark.parametrize("status", [429, 503])
def test_waits_as_long_as_it_is_told(run, served, status) -> None:
    served.fake.failures = [refuse(status, "slow down", **{"Retry-After": "0.2"})]
    _, result = run(max_requests=2)
    assert result["requests_missing"] == 0


def test_a_failed_audit_says_what_to_do_and_leaves_no_journal(run, served, tmp_path) -> None:
    served.fake.key = "sk-secret"
    with pytest.raises(InvalidInput, match="--api-key-env"):
        run()
    assert not list(tmp_path.iterdir())


def test_the_key_is_sent_and_never_kept(run, served, tmp_path, monkeypatch) -> None:
    served.fake.key = "sk-secret-123"
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    run(api_key_env="MY_KEY", html_path=tmp_path / "r.html", transcript_path=tmp_path / "t.jsonl", max_requests=3)
    assert served.fake.headers[-1]["Authorization"] == "Bearer sk-secret-123"
    assert all(b"sk-secret" not in path.read_bytes() for path in tmp_path.iterdir())
    assert "sk-secret" not in run.screen


def test_a_refused_key_is_not_repeated(run, served, monkeypatch) -> None:
    served.fake.key = "another"
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    with pytest.raises(InvalidInput, match=r"the key in \$MY_KEY is refused") as caught:
        run(api_key_env="MY_KEY")
    assert "sk-secret" not in str(caught.value)


def test_an_endpoint_that_is_not_there_is_told(opener, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match="is the server running"):
        run_audit(AuditOptions(model="bundled", endpoint="http://127.0.0.1:9"), opener.instruments, io.StringIO())
    assert not list(tmp_path.iterdir())


def test_prompts_are_drawn_in_batches(run, served, opener) -> None:
    run(max_requests=40)
    assert len(opener.source.drawn) <= 4


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


def test_a_prompt_that_does_not_follow_from_the_plan_is_not_drawn(run, opener, tmp_path) -> None:
    plan, path = tmp_path / "plan.json", tmp_path / "t.jsonl"
    run(plan_path=plan, transcript_path=path, max_requests=3)
    lines = path.read_text().splitlines()
    document = json.loads(lines[1])
    document["request"]["messages"][-1]["content"] += "!"
    path.write_text("\n".join([lines[0], json.dumps(document), lines[0], *lines[2:]]))
    run(endpoint=None, served_model=None, transcript=path, plan_path=plan)
    # A seed counts once: the third line repeats the first.
    assert [exchange.is_drawn for exchange in opener.examiner.outcomes] == [True, False, False, True]


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
