"""What an endpoint says of an answer, held against the answer: tables of honest habits and of contradictions."""

import json
from dataclasses import replace

import pytest
from audit_fakes import FakeClaimedModel, find_ids
from exchanges import PLAIN

from models.requests import ChatMessage
from scoring.errors import InvalidInput
from scoring.evidence.contracts import COMPLETION_TOKENS, FINISH_REASON, LOGPROBS, STREAMED
from validator.audit.contract_checks import ContractChecker
from validator.audit.needles import build_needle, find_code
from validator.audit.records import Missing, ReturnedLogprob, ReturnedToken

END = 0
TEXT = "sea hill tree cloud"
IDS = tuple(find_ids(TEXT))
ANSWER = replace(
    PLAIN,
    max_tokens=4,
    is_drawn=True,
    stratum="prose",
    content=TEXT,
    token_ids=IDS,
    finish_reason="length",
    prompt_tokens=9,
    completion_tokens=4,
)
STOPPED = replace(ANSWER, max_tokens=64, finish_reason="stop", token_ids=(*IDS, END), completion_tokens=5)


class Model(FakeClaimedModel):
    """Words by their first letters, and no token above 1000."""

    def is_text_of(self, text, token_ids):
        if any(token_id > 1000 for token_id in token_ids):
            raise InvalidInput("token ids of this model are 0 to 1000", "token_ids")
        return super().is_text_of(text, [token_id for token_id in token_ids if token_id != END])


def check(*exchanges):
    """Return the contracts of the last of some answers, by id."""
    checker = ContractChecker(Model())
    found = [checker.check(exchange) for exchange in exchanges][-1]
    assert len({outcome.id for outcome in found}) == len(found)
    return {outcome.id: outcome.is_kept for outcome in found}


COMPLETIONS = {
    "as many as ids": (ANSWER, {}, True),
    "more than were returned": (ANSWER, {"completion_tokens": 9}, False),
    "one more, at the limit": (ANSWER, {"completion_tokens": 5}, False),
    "fewer": (ANSWER, {"completion_tokens": 1}, False),
    "a character that the limit cut off": (ANSWER, {"max_tokens": 7, "completion_tokens": 7}, None),
    "more than a character that the limit cut off": (ANSWER, {"max_tokens": 8, "completion_tokens": 8}, False),
    "none at all": (ANSWER, {"completion_tokens": 0}, False),
    "no usage": (ANSWER, {"completion_tokens": None}, None),
    "no ids": (ANSWER, {"token_ids": None}, None),
    "ids of another text": (ANSWER, {"token_ids": (1, 2), "completion_tokens": 9}, None),
    "ids that the model does not have": (ANSWER, {"token_ids": (2**30,), "completion_tokens": 9}, None),
    "the end token counted": (STOPPED, {}, True),
    "the end token returned and not counted": (STOPPED, {"completion_tokens": 4}, True),
    "the end token counted and not returned": (STOPPED, {"token_ids": IDS}, True),
    "two more than the end token": (STOPPED, {"completion_tokens": 7}, False),
    "an empty answer": (STOPPED, {"content": "", "token_ids": (), "completion_tokens": 0}, True),
    "an empty answer that is charged": (STOPPED, {"content": "", "token_ids": (), "completion_tokens": 40}, False),
}


@pytest.mark.parametrize(("answer", "change", "is_kept"), COMPLETIONS.values(), ids=COMPLETIONS.keys())
def test_completion_tokens(answer, change, is_kept):
    assert check(replace(answer, **change))[COMPLETION_TOKENS] is is_kept


FINISHES = {
    "length at the limit": (ANSWER, {}, True),
    "length before the limit": (ANSWER, {"max_tokens": 64}, False),
    "length in the middle of a character": (ANSWER, {"max_tokens": 7, "completion_tokens": 7}, None),
    "length before more than a character": (ANSWER, {"max_tokens": 8, "completion_tokens": 8}, False),
    "length where the context may be full": (ANSWER, {"max_tokens": 64, "prompt_tokens": 2040}, None),
    "length after a long prompt that nobody counted": (
        ANSWER,
        {"max_tokens": 64, "prompt_tokens": None, "messages": (ChatMessage(role="user", content="Hi " * 4000),)},
        None,
    ),
    "more than the limit": (ANSWER, {"max_tokens": 3}, False),
    "stop at the end token": (STOPPED, {}, True),
    "the end token beyond the limit": (STOPPED, {"max_tokens": 4}, True),
    "stop without an end token": (STOPPED, {"token_ids": IDS}, None),
    "no ids": (ANSWER, {"token_ids": None, "max_tokens": 64}, None),
    "ids of another text": (ANSWER, {"token_ids": (1, 2), "max_tokens": 64}, None),
}


@pytest.mark.parametrize(("answer", "change", "is_kept"), FINISHES.values(), ids=FINISHES.keys())
def test_finish_reason(answer, change, is_kept):
    assert check(replace(answer, **change)).get(FINISH_REASON) is is_kept


def test_a_missing_end_token_is_seen_where_they_are_returned():
    cut = replace(STOPPED, token_ids=IDS)
    assert check(STOPPED, cut)[FINISH_REASON] is False
    assert check(STOPPED, replace(cut, stop=("x",)))[FINISH_REASON] is None
    # Streams of the same endpoint may leave it out.
    assert check(STOPPED, replace(cut, is_streamed=True))[FINISH_REASON] is None


def test_spelled_tokens_are_counted_where_there_are_no_ids():
    answer = replace(ANSWER, token_ids=None, logprobs=build_logprobs(TEXT))
    assert check(answer)[FINISH_REASON] is True
    assert check(replace(answer, max_tokens=64))[FINISH_REASON] is False


def build_logprobs(text, top=(), ends=()):
    """Return one log-probability of -2 for each word, beside alternatives."""
    others = tuple(ReturnedToken(text=name, logprob=logprob) for name, logprob in top)
    pieces = [*text.replace(" ", "\n ").split("\n"), *ends]
    return tuple(ReturnedLogprob(chosen=ReturnedToken(text=piece, logprob=-2.0), top=others) for piece in pieces)


def change_token(logprobs, **change):
    """Return log-probabilities whose second token is another."""
    second = replace(logprobs[1], chosen=replace(logprobs[1].chosen, **change))
    return (logprobs[0], second, *logprobs[2:])


PLAIN = build_logprobs(TEXT)
PROBABILITIES = {
    "without alternatives": (PLAIN, {}, True),
    "below the alternatives": (build_logprobs(TEXT, top=(("lamp", -1.0), ("road", -1.5))), {}, True),
    "above the alternatives": (build_logprobs(TEXT, top=(("lamp", -3.0),)), {}, False),
    "another than its own among the alternatives": (build_logprobs(TEXT, top=((" hill", -1.0),)), {}, False),
    "a part of its character among the alternatives": (
        build_logprobs(TEXT, top=(("\ufffd", -1.0), ("\ufffd", -2.0), ("\ufffd", -3.0))),
        {},
        True,
    ),
    "parts of other characters above it": (build_logprobs(TEXT, top=(("\ufffd", -3.0),)), {}, False),
    "alternatives of more than 1": (build_logprobs(TEXT, top=(("lamp", -0.1), ("road", -0.1))), {}, False),
    "an alternative that comes twice": (build_logprobs(TEXT, top=(("lamp", -0.5), ("lamp", -0.5))), {}, True),
    "another text": (PLAIN, {"content": "sea hill tree stone"}, False),
    "a part of the text": (PLAIN[:2], {}, False),
    "trimmed text": (PLAIN, {"content": f"\n{TEXT} \n"}, True),
    "tokens without their space": (change_token(PLAIN, text="hill"), {}, True),
    "bytes instead of text": (change_token(PLAIN, text="?", data=b" hill"), {}, True),
    "bytes of another text": (change_token(PLAIN, data=b" road"), {}, False),
    "half a character": (change_token(PLAIN, data=b"\xe2\x82"), {}, None),
    "an id for a text": (change_token(PLAIN, text="token_id:12"), {}, None),
    "a piece of the vocabulary": (change_token(PLAIN, text="\u0120hill"), {}, None),
    "the name of the end token": (build_logprobs(TEXT, ends=("<end>",)), {"finish_reason": "stop"}, True),
    "reasoning before the text": (build_logprobs(f"because {TEXT}"), {}, None),
    "nothing returned": (None, {}, None),
    "an empty list": ((), {}, None),
}


@pytest.mark.parametrize(("logprobs", "change", "is_kept"), PROBABILITIES.values(), ids=PROBABILITIES.keys())
def test_logprobs_belong_to_the_text(logprobs, change, is_kept):
    assert check(replace(ANSWER, logprobs=logprobs, **change)).get(LOGPROBS) is is_kept


LONG = "sea hill tree cloud stone bird lamp road sea hill tree cloud"
REPEATS = {
    "the same": ({"content": LONG}, True),
    "another end": ({"content": LONG[:20] + "lamp lamp lamp"}, True),
    "shorter": ({"content": LONG[:20]}, True),
    "trimmed": ({"content": f" {LONG}\n"}, True),
    "another from the start": ({"content": LONG[::-1]}, False),
    "another after a few letters": ({"content": LONG[:3] + LONG[3:].upper()}, False),
    "empty": ({"content": ""}, False),
    "no seed": ({"content": LONG[::-1], "seed": None}, None),
    "no seed at temperature 0": ({"content": LONG[::-1], "seed": None, "temperature": 0.0}, False),
    "streamed both times": ({"content": LONG[::-1], "is_streamed": False}, None),
    "of a request without an answer": ({"content": LONG[::-1], "repeat_of": 5}, None),
    "of nothing": ({"content": LONG[::-1], "repeat_of": None}, None),
}


@pytest.mark.parametrize(("change", "is_kept"), REPEATS.values(), ids=REPEATS.keys())
def test_streamed_equals_unstreamed(change, is_kept):
    first = replace(ANSWER, content=LONG)
    again = replace(ANSWER, **{"index": 1, "repeat_of": 0, "is_streamed": True, **change})
    assert check(first, again).get(STREAMED) is is_kept


SEED = bytes(range(32))
PROBE = build_needle(SEED, 50)
CODE = find_code(SEED)
FOUND = replace(
    ANSWER,
    messages=PROBE.messages,
    stratum=PROBE.stratum,
    probe_seed=SEED,
    temperature=0.0,
    content=f"It is {CODE}.",
    token_ids=None,
)
NEEDLES = {
    "found": ({}, True),
    "lost": ({"content": "I do not know."}, False),
    "no words": ({"content": ""}, False),
    "of another request": ({"stratum": "prose"}, None),
    "at no depth that is asked": ({"stratum": "needle-51"}, None),
    "not of the plan": ({"is_drawn": False}, None),
    "without its seed": ({"probe_seed": None}, None),
}


@pytest.mark.parametrize(("change", "is_kept"), NEEDLES.values(), ids=NEEDLES.keys())
def test_needles(change, is_kept):
    assert check(replace(FOUND, **change)).get("needle-at-50-v1") is is_kept


def test_a_needle_that_the_claimed_model_does_not_find_is_not_checked():
    model = Model()
    model.is_sure = False
    (outcome,) = [item for item in ContractChecker(model).check(replace(FOUND, content="Lost.")) if "needle" in item.id]
    assert outcome.is_kept is None


def test_a_needle_that_the_claimed_model_cannot_read_is_not_checked():
    class Short(Model):
        def find_sure_answer(self, messages, max_tokens):
            raise InvalidInput("do not fit the context", "messages")

    (outcome,) = [item for item in ContractChecker(Short()).check(FOUND) if "needle" in item.id]
    assert outcome.is_kept is None


def test_a_missing_answer_has_no_contracts():
    assert check(Missing(index=0, reason="timeout")) == {}


def test_a_hostile_answer_makes_an_example_of_bounded_length():
    checker = ContractChecker(Model())
    first = replace(ANSWER, content="a" * 100_000)
    again = replace(ANSWER, index=1, repeat_of=0, is_streamed=True, content="b" * 100_000)
    found = [*checker.check(first), *checker.check(again)]
    assert all(len(outcome.expected) + len(outcome.found) <= 400 for outcome in found)
    assert json.dumps([outcome.found for outcome in found])
