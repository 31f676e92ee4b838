"""Contracts: each comparison as a table, bets on planned contracts alone, contradictions that the provider signed."""

import math
from dataclasses import replace

import pytest

from scoring.errors import InvalidInput
from scoring.evidence.contracts import (
    COMPLETION_TOKENS,
    LOGPROBS,
    PROMPT_TOKENS,
    ContractOutcome,
    ContractRate,
    build_contract_wealth,
    build_needle_id,
    calibrate_contract,
    compare_completion_tokens,
    compare_finish_reason,
    compare_logprobs,
    compare_needle,
    compare_prompt_tokens,
    compare_refusal,
    compare_streamed,
    find_contradictions,
    fold_contracts,
)
from scoring.records import Receipt


@pytest.mark.parametrize(
    ("rendered", "claimed", "is_kept"), [(40, 40, True), (40, 57, False), (40, 39, False), (40, None, None)]
)
def test_prompt_tokens_equal_the_rendered_template(rendered, claimed, is_kept):
    outcome = compare_prompt_tokens(rendered, claimed)
    assert (outcome.id, outcome.is_kept, outcome.expected) == (PROMPT_TOKENS, is_kept, "40")


@pytest.mark.parametrize(
    ("ids", "claimed", "is_kept"), [(12, 12, True), (12, 13, False), (None, 12, None), (12, None, None)]
)
def test_completion_tokens_equal_the_number_of_ids(ids, claimed, is_kept):
    outcome = compare_completion_tokens(ids, claimed)
    assert (outcome.id, outcome.is_kept) == (COMPLETION_TOKENS, is_kept)


FINISHES = {
    "length at the limit": ("length", 64, None, True),
    "length before the limit": ("length", 63, None, False),
    "stop at a stop token": ("stop", 20, True, True),
    "stop without a stop token": ("stop", 20, False, False),
    "stop where the end cannot be seen": ("stop", 20, None, None),
    "stop at the limit with a stop token": ("stop", 64, True, True),
    "more than was asked for": ("stop", 65, True, False),
    "a filter": ("content_filter", 20, False, None),
    "no reason": (None, 20, True, None),
}


@pytest.mark.parametrize(("reason", "tokens", "stop", "is_kept"), FINISHES.values(), ids=FINISHES.keys())
def test_finish_reason(reason, tokens, stop, is_kept):
    assert compare_finish_reason(reason, tokens, 64, stop).is_kept is is_kept


NEEDLES = {
    "repeated": ("The code is  BLUE-42.\n", True),
    "broken over lines": ("blue-42\nis the code", True),
    "lost": ("I do not know.", False),
    "no answer": (None, None),
}


@pytest.mark.parametrize(("answer", "is_kept"), NEEDLES.values(), ids=NEEDLES.keys())
def test_needle(answer, is_kept):
    outcome = compare_needle(25, "Blue-42", answer)
    assert (outcome.id, outcome.is_kept) == ("needle-at-25-v1", is_kept)


@pytest.mark.parametrize(
    ("streamed", "unstreamed", "is_reproducible", "is_kept"),
    [("a b", "a b", True, True), ("a b", "a c", True, False), ("a", "b", False, None), (None, "b", True, None)],
)
def test_streamed_equals_unstreamed_where_the_request_fixes_the_answer(streamed, unstreamed, is_reproducible, is_kept):
    assert compare_streamed(streamed, unstreamed, is_reproducible).is_kept is is_kept


@pytest.mark.parametrize(("is_refused", "is_kept"), [(True, True), (False, False), (None, None)])
def test_a_parameter_that_the_offer_excludes_must_be_refused(is_refused, is_kept):
    outcome = compare_refusal("temperature", is_refused)
    assert (outcome.id, outcome.is_kept) == ("refuses-temperature-v1", is_kept)


TOP = [[("a", -0.1), ("b", -3.0)], [("c", -1.0), ("d", -2.0)]]
LOGPROB_ROWS = {
    "consistent": ("ac", ["a", "c"], [-0.1, -1.0], TOP, True),
    "without alternatives": ("ac", ["a", "c"], [-0.1, -1.0], (), True),
    "a token below the listed ones": ("ax", ["a", "x"], [-0.1, -5.0], TOP, True),
    "a token above the listed ones that is not among them": ("ax", ["a", "x"], [-0.1, -1.5], TOP, False),
    "a token that is listed otherwise": ("ac", ["a", "c"], [-0.1, -4.0], TOP, False),
    "another text": ("ab", ["a", "c"], [-0.1, -1.0], TOP, False),
    "a probability above one": ("ac", ["a", "c"], [0.1, -1.0], (), False),
    "not a number": ("ac", ["a", "c"], [math.nan, -1.0], (), False),
    "alternatives above one in sum": ("a", ["a"], [-0.1], [[("a", -0.1), ("b", -0.2)]], False),
    "too few": ("ac", ["a", "c"], [-0.1], (), False),
    "too few alternatives": ("ac", ["a", "c"], [-0.1, -1.0], TOP[:1], False),
    "parts of a character": ("\u00e9", ["\ufffd", "\ufffd"], [-0.1, -0.1], (), None),
    "none returned": ("ac", None, [], (), None),
}


@pytest.mark.parametrize(
    ("text", "tokens", "logprobs", "top", "is_kept"), LOGPROB_ROWS.values(), ids=LOGPROB_ROWS.keys()
)
def test_logprobs_of_the_text(text, tokens, logprobs, top, is_kept):
    outcome = compare_logprobs(text, tokens, logprobs, top)
    assert (outcome.id, outcome.is_kept) == (LOGPROBS, is_kept)


def test_a_contract_that_never_failed_still_has_a_rate():
    rate = calibrate_contract(PROMPT_TOKENS, requests=5000, failures=0, log_one_over_delta=math.log(1e7))
    assert math.log(1e7) / 5000 < rate.mu < 0.004


def test_failures_of_honest_answers_raise_the_bound_above_their_share():
    rate = calibrate_contract(build_needle_id(50), requests=1000, failures=300, log_one_over_delta=math.log(1e7))
    assert 0.3 < rate.mu < 0.41


RATES = tuple(ContractRate(id=name, requests=5000, failures=0, mu=0.004) for name in (PROMPT_TOKENS, LOGPROBS))
RATES_IDS = [rate.id for rate in RATES]


def outcome_of(contract_id, is_kept):
    return ContractOutcome(id=contract_id, is_kept=is_kept, expected="", found="")


def fold_all(planned, outcomes, count=1):
    wealth = build_contract_wealth(RATES)
    for _ in range(count):
        wealth = fold_contracts(wealth, planned, outcomes, 100.0)
    return wealth


def test_a_contract_that_is_broken_every_time_is_proven_in_five_requests():
    assert fold_all([PROMPT_TOKENS], [outcome_of(PROMPT_TOKENS, False)], 5).log_wealth > math.log(1e6)


def test_kept_contracts_only_lose():
    assert fold_all([PROMPT_TOKENS], [outcome_of(PROMPT_TOKENS, True)], 5).log_wealth < 0.0


def test_what_cannot_be_checked_or_is_missing_costs_what_a_kept_contract_costs():
    kept, unchecked, missing = (
        fold_all([PROMPT_TOKENS], outcomes)
        for outcomes in ([outcome_of(PROMPT_TOKENS, True)], [outcome_of(PROMPT_TOKENS, None)], [])
    )
    assert kept == unchecked == missing


def test_contracts_that_were_not_planned_are_not_bet_on():
    wealth = fold_all([PROMPT_TOKENS], [outcome_of(PROMPT_TOKENS, True)], 3)
    assert wealth.bettors[LOGPROBS] == build_contract_wealth(RATES).bettors[LOGPROBS]


def test_contracts_of_one_request_are_averaged_and_not_multiplied():
    both = fold_all(RATES_IDS, [outcome_of(name, False) for name in RATES_IDS], 3).log_wealth
    assert both <= 3 * math.log(100)


RECEIPT = Receipt(
    network=b"\x01" * 32,
    offer_digest=b"\x02" * 32,
    provider=b"\x03" * 20,
    consumer=b"\x04" * 20,
    nonce=b"\x05" * 32,
    request_digest=b"\x06" * 32,
    response_digest=b"\x07" * 32,
    token_ids_digest=b"\x00" * 32,
    temperature_ppm=1_000_000,
    top_p_ppm=1_000_000,
    max_tokens=64,
    is_seeded=False,
    seed=0,
    prompt_tokens=10,
    completion_tokens=20,
    input_price_wei=1,
    output_price_wei=1,
    counter=1,
    issued_s=1000,
    expires_s=4600,
)
OTHER = replace(RECEIPT, response_digest=b"\x08" * 32)
PAIRS = {
    "the same receipt twice": (RECEIPT, []),
    "two answers to one nonce": (replace(OTHER, counter=2), ["nonce"]),
    "one counter twice": (replace(OTHER, nonce=b"\x09" * 32), ["counter"]),
    "both": (OTHER, ["nonce", "counter"]),
    "another nonce and counter": (replace(OTHER, nonce=b"\x09" * 32, counter=2), []),
    "another consumer": (replace(OTHER, consumer=b"\x09" * 20), []),
    "another provider": (replace(OTHER, provider=b"\x09" * 20), []),
    "another network": (replace(OTHER, network=b"\x09" * 32), []),
    "the nonce of a receipt that has expired": (replace(OTHER, counter=2, issued_s=4601), []),
    "the counter of a receipt that has expired": (replace(OTHER, nonce=b"\x09" * 32, issued_s=9000), ["counter"]),
}


@pytest.mark.parametrize(("other", "repeated"), PAIRS.values(), ids=PAIRS.keys())
def test_contradictions(other, repeated):
    for receipts in ([RECEIPT, other], [other, RECEIPT]):
        found = find_contradictions(receipts)
        assert [item.repeated for item in found] == repeated
        assert all({item.first, item.second} == {RECEIPT, other} for item in found)


REFUSED = {
    "a needle of nothing": lambda: compare_needle(10, " \n", "a"),
    "a depth beyond the context": lambda: build_needle_id(101),
    "more failures than requests": lambda: calibrate_contract(LOGPROBS, 10, 11, 10.0),
    "calibration on nothing": lambda: calibrate_contract(LOGPROBS, 0, 0, 10.0),
    "no rate": lambda: build_contract_wealth([]),
    "a rate twice": lambda: build_contract_wealth([RATES[0], RATES[0]]),
    "a contract that honest answers always break": lambda: build_contract_wealth([replace(RATES[0], mu=1.0)]),
    "an outcome that was not planned": lambda: fold_all([LOGPROBS], [outcome_of(PROMPT_TOKENS, False)]),
    "an outcome twice": lambda: fold_all([LOGPROBS], [outcome_of(LOGPROBS, False)] * 2),
    "a contract without a rate": lambda: fold_all(["surprise-v1"], []),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call):
    with pytest.raises(InvalidInput):
        call()
