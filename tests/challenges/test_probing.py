"""Drawn probes: everything about a request follows from the validator's random function, and anybody can check it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.probing import (
    DrawnProbe,
    build_plain_response,
    build_probe_request,
    draw_probes,
    verify_probe_answer,
)
from challenges.receipt import Answer, SignedReceipt, compute_request_digest, parse_answer, parse_sampling
from scoring.errors import InvalidInput, VerificationFailed
from scoring.probes import build_probe, compute_probe_seed

Trial = Any  # the class lives in tests/conftest.py
VRF_OUTPUT = b"\x07" * 32
NOW_S = 1_800_000_020


def test_the_draw_is_that_of_the_generator(trial: Trial) -> None:
    offer = trial.offer()
    for index, drawn in enumerate(draw_probes(trial.plan, [offer], VRF_OUTPUT)):
        seed = compute_probe_seed(VRF_OUTPUT, offer.offer.provider, trial.plan.manifest_digest, index)
        assert drawn.probe == build_probe(seed, trial.plan)
        assert (drawn.index, drawn.offer) == (index, offer)


@settings(max_examples=20, deadline=None)
@given(output=st.binary(min_size=32, max_size=32), data=st.data())
def test_the_order_of_the_offers_does_not_matter(trial: Trial, output: bytes, data: st.DataObject) -> None:
    offers = [trial.offer(name) for name in ("liar", "honest", "flaky")]
    drawn = draw_probes(trial.plan, offers, output)
    assert draw_probes(trial.plan, data.draw(st.permutations(offers)), output) == drawn
    assert [probe.key for probe in drawn] == sorted({probe.key for probe in drawn})
    assert len(drawn) == len(offers) * trial.plan.probes_per_epoch


def test_offers_of_other_models_are_not_audited(trial: Trial) -> None:
    other = trial.offer(manifest_digest=b"\x09" * 32)
    assert draw_probes(trial.plan, [other], VRF_OUTPUT) == ()
    assert {drawn.offer for drawn in draw_probes(trial.plan, [other, trial.offer()], VRF_OUTPUT)} == {trial.offer()}


def test_every_probe_comes_from_a_consumer_of_its_own(trial: Trial) -> None:
    offers = [trial.offer(name) for name in ("liar", "honest")]
    drawn = [probe for output in (b"\x01" * 32, b"\x02" * 32) for probe in draw_probes(trial.plan, offers, output)]
    assert len({probe.consumer for probe in drawn}) == len({probe.probe.nonce for probe in drawn}) == len(drawn) == 8
    assert {len(probe.consumer) for probe in drawn} == {20}


def test_the_request_asks_for_what_was_drawn(trial: Trial) -> None:
    drawn = trial.draw(0, 0)[0]
    request = build_probe_request(drawn)
    probe = drawn.probe
    sampling = parse_sampling(request)
    assert (sampling.temperature_ppm, sampling.top_p_ppm) == (probe.temperature_ppm, probe.top_p_ppm)
    assert (sampling.max_tokens, sampling.seed) == (probe.max_tokens, probe.sampler_seed)
    assert request["messages"] == [{"role": item.role, "content": item.content} for item in probe.messages]
    assert (request["quiver_nonce"], request["quiver_consumer"]) == (
        f"0x{probe.nonce.hex()}",
        f"0x{drawn.consumer.hex()}",
    )
    assert request["return_token_ids"] is True


def test_a_request_says_nothing_that_marks_it_as_a_probe(trial: Trial) -> None:
    # All that a consumer's request may have too; the stratum, the index and the epoch stay with the validator.
    assert set(build_probe_request(trial.draw(0, 0)[0])) == {
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "seed",
        "return_token_ids",
        "quiver_nonce",
        "quiver_consumer",
    }


def test_the_receipt_does_not_depend_on_nonce_or_consumer_in_the_request_digest(trial: Trial) -> None:
    request = build_probe_request(trial.draw(0, 0)[0])
    assert compute_request_digest(request) == compute_request_digest({**request, "quiver_nonce": "0x00"})


@pytest.mark.parametrize("token_ids", [None, (), (1, 2, 3)])
def test_a_plain_response_reads_as_the_answer_that_it_was_built_from(token_ids: tuple[int, ...] | None) -> None:
    answer = Answer(
        model="m", content="héllo\n", token_ids=token_ids, finish_reason="stop", prompt_tokens=4, completion_tokens=3
    )
    assert parse_answer(build_plain_response(answer)) == answer


def read_answer(trial: Trial, drawn: DrawnProbe, **changes: Any) -> tuple[dict[str, Any], SignedReceipt]:
    transcript = trial.answer(drawn, **changes)
    return transcript["response"], SignedReceipt.from_json(transcript["receipt"])


def test_an_answer_with_its_receipt_is_taken(trial: Trial) -> None:
    drawn = trial.draw(0, 0)[0]
    response, receipt = read_answer(trial, drawn)
    answer = verify_probe_answer(drawn, response, receipt, domain=trial.domain, now_s=NOW_S)
    assert (answer.content, answer.completion_tokens) == ("answer 0", 8)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("another consumer", {"consumer": b"\x01" * 20}, "made out to another consumer"),
        ("another nonce", {"nonce": b"\x01" * 32}, "answers another nonce"),
        ("another network", {"network": b"\x01" * 32}, "belongs to another network"),
        ("another offer", {"offer_digest": b"\x01" * 32}, "speaks of another offer"),
        ("another signer", {"signer": "honest"}, "is not signed by"),
        ("another temperature", {"temperature_ppm": 1}, "the temperature is not the one asked for"),
        ("another usage", {"completion_tokens": 9}, "the usage is not the response's"),
        ("a higher price", {"output_price_wei": 3}, "the prices are not the offer's"),
        ("from the future", {"issued_s": NOW_S + 61, "expires_s": NOW_S + 99}, "dated in the future"),
        ("expired", {"expires_s": NOW_S}, "the receipt expired"),
    ],
)
def test_refuses_a_receipt_of(trial: Trial, name: str, changes: dict[str, Any], sentence: str) -> None:
    drawn = trial.draw(0, 0)[0]
    response, receipt = read_answer(trial, drawn, **changes)
    with pytest.raises(VerificationFailed, match=sentence):
        verify_probe_answer(drawn, response, receipt, domain=trial.domain, now_s=NOW_S)


def test_refuses_the_answer_to_another_probe(trial: Trial) -> None:
    first, second = trial.draw(0, 0)
    response, receipt = read_answer(trial, second)
    with pytest.raises(VerificationFailed, match="made out to another consumer"):
        verify_probe_answer(first, response, receipt, domain=trial.domain, now_s=NOW_S)
    # Even if the provider could guess who asks, the request is another one.
    wearing_first = replace(second, consumer=first.consumer, probe=replace(second.probe, nonce=first.probe.nonce))
    response, receipt = read_answer(trial, wearing_first)
    with pytest.raises(VerificationFailed, match="speaks of another request"):
        verify_probe_answer(first, response, receipt, domain=trial.domain, now_s=NOW_S)


def test_refuses_a_response_that_is_none(trial: Trial) -> None:
    drawn = trial.draw(0, 0)[0]
    _, receipt = read_answer(trial, drawn)
    with pytest.raises(InvalidInput, match="choices"):
        verify_probe_answer(drawn, {}, receipt, domain=trial.domain, now_s=NOW_S)
