"""What an endpoint offers, from what it says and does; and what a person is told when it offers nothing."""

from dataclasses import replace

import pytest

from scoring.errors import InvalidInput, Unavailable
from validator.audit.advice import explain_failure, is_fatal
from validator.audit.answered import Answered
from validator.audit.discovery import choose_served_model, compare_seeded, compute_agreement, find_declared
from validator.audit.endpoint import Failure
from validator.audit.facts import EndpointFacts
from validator.fetch import FailureReason

LISTED = ["small", "large"]


def said(content: str) -> Answered:
    return Answered(content=content, finish_reason="length")


@pytest.mark.parametrize(
    ("first", "again", "other", "repeats"),
    [
        ("one two three", "one two three", "four", True),
        # The batch moved the last digits of a logit, and the answers part late.
        ("one two three", "one two four!", "six", True),
        ("one two three", "six", "seven", False),
        ("one two three", "one two three", "one two three", None),
        ("", "", "", None),
    ],
)
def test_says_whether_a_seed_repeats_an_answer(first, again, other, repeats) -> None:
    assert compare_seeded(said(first), said(again), said(other)) is repeats


def test_cannot_tell_without_answers() -> None:
    assert compare_seeded(said("one"), None, said("two")) is None


def test_agreement_is_the_share_of_a_common_beginning() -> None:
    assert compute_agreement("abcd", "abxd") == 0.5
    assert compute_agreement("ab", "abcd") == 0.5
    assert compute_agreement("", "") == 1.0


def test_the_signed_offer_is_believed_before_the_list() -> None:
    offer, entry = {"sampler": "gumbel-philox-v1"}, {"quiver_sampler": "inverse-cdf"}
    assert find_declared(entry, offer).source == "the signed offer"
    assert find_declared(entry, None).sampler == "inverse-cdf"


@pytest.mark.parametrize("value", [None, "none", "dice", 5, ["gumbel-philox-v1"]])
def test_a_sampler_that_is_not_ours_is_not_declared(value) -> None:
    assert find_declared({"sampler": value}, {"sampler": value}) is None


@pytest.mark.parametrize(
    ("listed", "wanted", "found"),
    [
        ([], None, "bundled-name"),
        (["claimed", "other"], None, "claimed"),
        (["bundled-name", "other"], None, "bundled-name"),
        (["only"], None, "only"),
        (LISTED, "large", "large"),
        (LISTED, "hidden", "hidden"),
    ],
)
def test_finds_what_the_model_is_called(listed, wanted, found) -> None:
    assert choose_served_model("claimed", ("bundled-name",), listed, wanted) == found


def test_names_the_models_to_choose_from() -> None:
    with pytest.raises(InvalidInput, match=r"--served-model.*small, large, ev\?il"):
        choose_served_model("claimed", (), [*LISTED, "ev\x1bil"], None)


ADVICE = [
    (Failure(reason=FailureReason.RESOLVE, detail="no such host"), Unavailable, "spelling of --endpoint"),
    (Failure(reason=FailureReason.CONNECT, detail="refused"), Unavailable, "is the server running"),
    (Failure(reason=FailureReason.REDIRECT, detail="to x", status=302), InvalidInput, "give the final URL"),
    (Failure(reason=FailureReason.CONTENT_TYPE, detail="html"), InvalidInput, "ends where /v1 begins"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=401), InvalidInput, "--api-key-env"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=402), Unavailable, "has to pay"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=404), InvalidInput, "no such model or route"),
    (
        Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=429, retry_after_s=7),
        Unavailable,
        "in 7 s, or with a smaller --concurrency",
    ),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=400), InvalidInput, "the endpoint refuses this"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=405), InvalidInput, "refuses this request: http"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=422), InvalidInput, "refuses this request"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="late", status=408), Unavailable, "late; try again later"),
    (
        Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=503, retry_after_s=3600),
        Unavailable,
        "try again in 3,600 s",
    ),
    (Failure(reason=FailureReason.PROTOCOL, detail="SSH-2.0"), InvalidInput, "not look like an OpenAI-compatible"),
    (Failure(reason=FailureReason.DISCONNECTED, detail="hung up"), Unavailable, "scheme and port"),
    (Failure(reason=FailureReason.HTTP_STATUS, detail="no", status=500), Unavailable, "try again later"),
    (Failure(reason=FailureReason.TIMEOUT, detail="slow"), Unavailable, "try again later"),
]


@pytest.mark.parametrize(("failure", "kind", "advice"), ADVICE, ids=[row[2] for row in ADVICE])
def test_says_what_to_do(failure, kind, advice) -> None:
    error = explain_failure(failure, "http://host", None)
    assert type(error) is kind
    assert advice in str(error) and "http://host" in str(error)


def test_what_may_pass_is_not_fatal() -> None:
    assert not is_fatal(Failure(reason=FailureReason.HTTP_STATUS, detail="", status=429))
    assert not is_fatal(Failure(reason=FailureReason.TIMEOUT, detail=""))
    assert is_fatal(Failure(reason=FailureReason.HTTP_STATUS, detail="", status=401))


FACTS = EndpointFacts(served_model="m", refused=(("seed", "no"),), repeats_seed=None)


def test_facts_survive_the_journal() -> None:
    assert EndpointFacts.from_json(FACTS.to_json()) == FACTS


@pytest.mark.parametrize("value", [None, [], {}, {**FACTS.to_json(), "more": 1}, {**FACTS.to_json(), "refused": 5}])
def test_refuses_facts_that_no_discovery_wrote(value) -> None:
    with pytest.raises(InvalidInput):
        EndpointFacts.from_json(value)


def test_channels_follow_from_what_is_offered() -> None:
    assert FACTS.channels == ("text", "greedy")
    rich = replace(FACTS, sampler="gumbel-philox-v1", has_logprobs=True, has_usage=True)
    assert rich.channels == ("seeded", "text", "logprobs", "usage")


def test_facts_are_told_in_words() -> None:
    assert FACTS.describe()["seed"] == "refused"
    differing = replace(FACTS, streams=True, has_stream_usage=True, stream_agrees=False)
    assert "DIFFERS" in differing.describe()["streaming"]
