"""Whole audits of a fake endpoint that breaks its word: counts, streams, needles, repetitions."""

import re
from dataclasses import replace

import pytest
from audit_fakes import FakeExaminer

from validator.audit.plan import ProbingPlan


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
    run(budget_tokens=5000, max_requests=20)
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
