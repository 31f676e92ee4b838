"""Whole audits of a fake endpoint with a fake examiner: what is asked, when it stops, what is told."""

import io

import pytest
from audit_fakes import FakeEndpoint, refuse

from models.requests import ChatMessage
from scoring.errors import InvalidInput, Unavailable
from validator.audit.asked import PLAIN, Asked
from validator.audit.command import run_audit
from validator.audit.online import DISCOVERY_PROBES
from validator.audit.options import AuditOptions
from validator.audit.outcomes import Entry, Origin
from validator.audit.plan import ProbingPlan
from validator.audit.prober import DRAW_AHEAD
from validator.audit.progress import Progress
from validator.audit.records import Missing


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


def test_stops_at_its_budget_of_tokens(run, served) -> None:
    real = served.fake._usage
    served.fake._usage = lambda body, words: {**real(body, words), "prompt_tokens": 150}
    _, result = run(budget_tokens=3000)
    assert result["ended"] == "tokens"
    assert 2000 < result["tokens_spent"] <= 3000


def test_a_budget_below_what_one_request_can_take_is_refused_before_anything_is_asked(run, served, opener) -> None:
    with pytest.raises(InvalidInput, match="--budget-tokens: the first look and one request can take 2144 tokens"):
        run(budget_tokens=2143)
    assert (served.fake.asked, opener.examiner) == ([], None)
    _, result = run(budget_tokens=2144)
    assert result["requests"] >= 1


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


def test_a_request_that_is_refused_midway_is_missing_and_no_error(run, served) -> None:
    served.fake.failures, served.fake.fails_after = [refuse(400, "no such field")], 10
    _, result = run(max_requests=12)
    assert [row["missing"] for row in result["rows"] if row["missing"]] == ["http-400"]


def test_a_refusal_of_whatever_is_asked_is_told_as_one(run, served, tmp_path) -> None:
    async def no_such_field(request):
        return refuse(422, "no such field")

    served.fake.handler = no_such_field
    with pytest.raises(InvalidInput, match=r"the endpoint refuses this request: .*no such field"):
        run()
    assert not list(tmp_path.iterdir())


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


def test_filters_that_a_server_may_have_by_default_are_switched_off(run, served) -> None:
    run(max_requests=3)
    assert len(served.fake.asked) > 3
    assert all(PLAIN.items() <= body.items() for body in served.fake.asked)


@pytest.mark.parametrize("culprit", ["top_k", "min_p", "logprobs", "seed", "top_p"])
def test_what_a_refusal_does_not_name_is_found_and_nothing_else_is_left_out(run, served, culprit) -> None:
    served.fake.refuses, served.fake.names_refused = (culprit,), False
    _, result = run(max_requests=2)
    assert [name for name, _ in result["discovered"]["refused"]] == [culprit]


def test_what_two_refusals_are_about_that_name_nothing_stays_out_and_costs_one_request_more(run, served) -> None:
    served.fake.refuses, served.fake.names_refused = ("min_p", "seed"), False
    _, result = run(max_requests=2)
    refused = [name for name, _ in result["discovered"]["refused"]]
    assert set(refused) >= {"min_p", "seed"}
    # All of them one by one, the first that is answered, and all but the last once more.
    assert [body.keys() >= {"min_p"} for body in served.fake.asked[: len(refused) + 2]].count(True) == 3


def test_what_an_endpoint_refuses_to_be_told_of_filters_is_left_out_and_no_more(run, served) -> None:
    served.fake.refuses = ("min_p",)
    run(max_requests=3)
    assert "min_p" not in served.fake.asked[-1]
    assert served.fake.asked[-1]["top_k"] == -1


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


def test_https_to_a_port_without_tls_is_told(run, served) -> None:
    url = served.url.replace("http://", "https://")
    with pytest.raises(InvalidInput, match=f"no TLS is spoken there: try {served.url}$"):
        run(endpoint=url)


def test_prompts_are_drawn_in_batches_the_first_with_those_of_the_first_look(run, served, opener) -> None:
    run(max_requests=40)
    first, *others = opener.source.drawn
    assert (first, len(others)) == (DISCOVERY_PROBES + DRAW_AHEAD, 2)


def test_no_more_prompts_are_drawn_than_there_are_requests(run, served, opener) -> None:
    run(max_requests=5)
    assert opener.source.drawn == [DISCOVERY_PROBES + 5]
