"""Receipts: what is digested, what is signed, and every mismatch that a consumer refuses."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from challenges.receipt import (
    SignedOffer,
    SignedReceipt,
    build_receipt,
    compute_request_digest,
    compute_response_digest,
    compute_token_ids_digest,
    parse_answer,
    sign_offer,
    sign_receipt,
    verify_receipt,
)
from scoring.canonical import encode
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, OracleError, VerificationFailed
from scoring.hashing import keccak256
from scoring.records import Offer, Receipt

PROVIDER_KEY, OTHER_KEY = b"\x01" * 32, b"\x02" * 32
CONSUMER, NONCE, NETWORK = b"\x0c" * 20, b"\x0d" * 32, b"\x0e" * 32
DOMAIN = Domain(chain_id=5, verifying_contract=NETWORK[-20:])
NOW_S = 1_000

REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.7,
    "top_p": 1,
    "max_tokens": 48,
    "seed": 11,
    "return_token_ids": True,
    "quiver_nonce": "0x" + NONCE.hex(),
}
RESPONSE: dict[str, Any] = {
    "model": "m",
    "choices": [{"message": {"content": "hello"}, "token_ids": [1, 2, 3], "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}
OFFER = Offer(
    provider=address_of(PROVIDER_KEY),
    model="m",
    manifest_digest=b"\x03" * 32,
    sampler="gumbel-philox-v1",
    context_length_tokens=2048,
    input_price_wei=1,
    output_price_wei=2,
    advertised_ttft_ms=100,
    advertised_tokens_per_s=10,
    endpoint="http://127.0.0.1:1",
    issued_s=10,
    expires_s=10_000,
)
SIGNED_OFFER = sign_offer(OFFER, DOMAIN, PROVIDER_KEY)


def _receipt() -> Receipt:
    return build_receipt(
        network=NETWORK,
        offer=OFFER,
        consumer=CONSUMER,
        nonce=NONCE,
        request=REQUEST,
        response=RESPONSE,
        default_max_tokens=256,
        counter=1,
        issued_s=NOW_S,
        expires_s=NOW_S + 500,
    )


RECEIPT = _receipt()


def _verify(signed: SignedReceipt, **changed: Any) -> None:
    expected: dict[str, Any] = {
        "domain": DOMAIN,
        "offer": SIGNED_OFFER,
        "consumer": CONSUMER,
        "nonce": NONCE,
        "request": REQUEST,
        "response": RESPONSE,
        "now_s": NOW_S,
    }
    verify_receipt(signed, **(expected | changed))


def test_an_honest_receipt_verifies() -> None:
    _verify(sign_receipt(RECEIPT, DOMAIN, PROVIDER_KEY))


def test_signed_offers_and_receipts_survive_their_wire_form() -> None:
    signed = sign_receipt(RECEIPT, DOMAIN, PROVIDER_KEY)
    assert SignedReceipt.from_json(signed.to_json()) == signed
    assert SignedOffer.from_json(SIGNED_OFFER.to_json()) == SIGNED_OFFER


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"network": b"\x01" * 32}, "another network"),
    "provider": ({"provider": b"\x01" * 20}, "another provider"),
    "offer": ({"offer_digest": b"\x01" * 32}, "another offer"),
    "consumer": ({"consumer": b"\x01" * 20}, "another consumer"),
    "nonce": ({"nonce": b"\x01" * 32}, "another nonce"),
    "request digest": ({"request_digest": b"\x01" * 32}, "another request"),
    "response digest": ({"response_digest": b"\x01" * 32}, "another response"),
    "token ids": ({"token_ids_digest": bytes(32)}, "token ids"),
    "temperature": ({"temperature_ppm": 700_001}, "temperature"),
    "top_p": ({"top_p_ppm": 999_999}, "top_p"),
    "max_tokens": ({"max_tokens": 47}, "max_tokens"),
    "is seeded": ({"is_seeded": False}, "whether there was a seed"),
    "seed": ({"seed": 12}, "seed"),
    "prompt tokens": ({"prompt_tokens": 6}, "usage"),
    "completion tokens": ({"completion_tokens": 2}, "usage"),
    "input price": ({"input_price_wei": 3}, "prices"),
    "output price": ({"output_price_wei": 3}, "prices"),
    "counter zero": ({"counter": 0}, "counter"),
    "expired": ({"expires_s": NOW_S, "issued_s": NOW_S - 1}, "expired"),
    "from the future": ({"issued_s": NOW_S + 61}, "future"),
    "backwards": ({"expires_s": NOW_S - 5}, "before it is issued"),
    "before the offer": ({"issued_s": 9}, "outside the offer's time"),
}


@pytest.mark.parametrize(("changes", "sentence"), FORGED.values(), ids=FORGED.keys())
def test_refuses_a_receipt_that_the_provider_signed_about_something_else(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        _verify(sign_receipt(replace(RECEIPT, **changes), DOMAIN, PROVIDER_KEY))


def test_refuses_a_receipt_signed_by_somebody_else() -> None:
    with pytest.raises(VerificationFailed, match="not signed by"):
        _verify(sign_receipt(RECEIPT, DOMAIN, OTHER_KEY))


def test_refuses_a_receipt_signed_for_another_network() -> None:
    foreign = Domain(chain_id=6, verifying_contract=DOMAIN.verifying_contract)
    with pytest.raises(VerificationFailed, match="not signed by"):
        _verify(sign_receipt(RECEIPT, foreign, PROVIDER_KEY))


def test_refuses_an_offer_that_is_not_signed_by_its_provider() -> None:
    with pytest.raises(VerificationFailed, match="the offer is not signed"):
        _verify(sign_receipt(RECEIPT, DOMAIN, PROVIDER_KEY), offer=sign_offer(OFFER, DOMAIN, OTHER_KEY))


def _set(path: tuple[Any, ...], value: Any) -> Callable[[], dict[str, Any]]:
    def build() -> dict[str, Any]:
        document = copy.deepcopy(RESPONSE)
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return document

    return build


BROKEN_RESPONSES = {
    "no choices": _set(("choices",), []),
    "choices of a wrong type": _set(("choices",), {"0": 1}),
    "choice of a wrong type": _set(("choices", 0), "x"),
    "no message": _set(("choices", 0, "message"), None),
    "content null": _set(("choices", 0, "message", "content"), None),
    "token ids text": _set(("choices", 0, "token_ids"), "1 2 3"),
    "token id negative": _set(("choices", 0, "token_ids"), [-1]),
    "token id float": _set(("choices", 0, "token_ids"), [1.0]),
    "token id bool": _set(("choices", 0, "token_ids"), [True]),
    "token id over 32 bits": _set(("choices", 0, "token_ids"), [2**32]),
    "finish reason number": _set(("choices", 0, "finish_reason"), 4),
    "usage missing": _set(("usage",), None),
    "usage negative": _set(("usage", "prompt_tokens"), -5),
    "usage float": _set(("usage", "prompt_tokens"), 5.0),
    "usage that does not add up": _set(("usage", "total_tokens"), 9),
    "lone surrogate": _set(("choices", 0, "message", "content"), "\ud800"),
    "another answer": _set(("choices", 0, "message", "content"), "hello!"),
    "other token ids": _set(("choices", 0, "token_ids"), [1, 2, 4]),
}


@pytest.mark.parametrize("build", BROKEN_RESPONSES.values(), ids=BROKEN_RESPONSES.keys())
def test_refuses_a_response_that_is_broken_or_another(build: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(OracleError):
        _verify(sign_receipt(RECEIPT, DOMAIN, PROVIDER_KEY), response=build())


BROKEN_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "temperature NaN": ({"temperature": float("nan")}, "temperature"),
    "temperature infinite": ({"temperature": float("inf")}, "temperature"),
    "temperature text": ({"temperature": "0.7"}, "temperature"),
    "temperature boolean": ({"temperature": True}, "temperature"),
    "temperature huge": ({"temperature": 1e300}, "temperature"),
    "both forms of temperature": ({"temperature": 1, "temperature_ppm": 5}, "temperature"),
    "another float": ({"bias": 0.5}, "bias"),
    "nested float": ({"logit_bias": {"5": 0.5}}, "logit_bias"),
    "seed beyond 2**53": ({"seed": 2**53}, "seed"),
    "key that is no string": ({5: 1}, "request"),
    "bytes": ({"model": b"m"}, "model"),
}


@pytest.mark.parametrize(("changes", "field"), BROKEN_REQUESTS.values(), ids=BROKEN_REQUESTS.keys())
def test_refuses_to_digest_a_request(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        compute_request_digest(REQUEST | changes)


BROKEN_WIRE: dict[str, Any] = {
    "not an object": [],
    "extra key": sign_receipt(RECEIPT, DOMAIN, PROVIDER_KEY).to_json() | {"x": 1},
    "no signature": {"receipt": RECEIPT.to_json()},
    "short signature": {"receipt": RECEIPT.to_json(), "signature": "0x00"},
    "upper-case hex": {"receipt": RECEIPT.to_json(), "signature": "0x" + "AA" * 65},
    "record with an extra key": {"receipt": RECEIPT.to_json() | {"x": 1}, "signature": "0x" + "aa" * 65},
    "null": None,
}


@pytest.mark.parametrize("document", BROKEN_WIRE.values(), ids=BROKEN_WIRE.keys())
def test_refuses_a_wire_form_that_is_not_exact(document: Any) -> None:
    with pytest.raises(InvalidInput):
        SignedReceipt.from_json(document)


def test_transport_keys_do_not_change_the_request_digest_and_the_rest_does() -> None:
    digest = compute_request_digest(REQUEST)
    transport = {"stream": True, "stream_options": {"include_usage": True}, "user": "u", "quiver_consumer": "0x"}
    assert compute_request_digest(REQUEST | transport) == digest
    assert compute_request_digest(REQUEST | {"top_p": 1.0}) == digest
    for changed in ({"temperature": 0.700001}, {"model": "n"}, {"return_token_ids": False}, {"seed": 12}):
        assert compute_request_digest(REQUEST | changed) != digest


def test_the_request_digest_is_keccak_of_the_documented_canonical_json() -> None:
    document = {key: value for key, value in REQUEST.items() if key not in ("temperature", "top_p", "quiver_nonce")}
    document |= {"temperature_ppm": 700_000, "top_p_ppm": 1_000_000}
    assert compute_request_digest(REQUEST) == keccak256(encode(document))


def test_the_response_digest_is_keccak_of_the_documented_canonical_json() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    document: Any = {"model": "m", "content": "hello", "token_ids": [1, 2, 3], "finish_reason": "stop", "usage": usage}
    extra = usage | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert compute_response_digest("m", "hello", [1, 2, 3], "stop", extra) == keccak256(encode(document))


def test_no_token_ids_and_empty_token_ids_differ() -> None:
    assert compute_token_ids_digest(None) == bytes(32)
    assert compute_token_ids_digest([]) != bytes(32)


def test_defaults_stand_in_for_absent_sampling_terms() -> None:
    bare = {"model": "m", "messages": []}
    receipt = build_receipt(
        network=NETWORK,
        offer=OFFER,
        consumer=CONSUMER,
        nonce=NONCE,
        request=bare,
        response=RESPONSE,
        default_max_tokens=256,
        counter=1,
        issued_s=NOW_S,
        expires_s=NOW_S + 1,
    )
    assert (receipt.temperature_ppm, receipt.top_p_ppm, receipt.max_tokens) == (1_000_000, 1_000_000, 256)
    assert not receipt.is_seeded
    _verify(sign_receipt(receipt, DOMAIN, PROVIDER_KEY), request=bare)


def test_an_answer_without_token_ids_is_read() -> None:
    document = copy.deepcopy(RESPONSE)
    del document["choices"][0]["token_ids"]
    assert parse_answer(document).token_ids is None
