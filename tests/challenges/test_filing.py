"""Dossiers: what is filed, and every filing that is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from challenges.filing import Dossier, build_dossier, compute_window_count, parse_dossier, verify_dossier
from challenges.receipt import build_receipt
from challenges.signed import SignedOffer, sign_offer, sign_receipt
from scoring.canonical import decode
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import Offer

KEY, OTHER_KEY, CONSUMER, NETWORK = b"\x01" * 32, b"\x02" * 32, b"\x0c" * 20, b"\x0e" * 32
DOMAIN = Domain(chain_id=5, verifying_contract=NETWORK[-20:])
OFFER = Offer(
    provider=address_of(KEY),
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
SIGNED_OFFER: SignedOffer = sign_offer(OFFER, DOMAIN, KEY)


def _answer(counter: int, key: bytes = KEY, **changes: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    request = {"model": "m", "messages": [], "temperature": 0.7, "max_tokens": 8, "seed": counter, "stream": True}
    response = {
        "model": "m",
        "id": "chatcmpl-1",
        "choices": [{"message": {"content": "x"}, "token_ids": [1], "finish_reason": "stop", "logprobs": {"a": 0.5}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    receipt = build_receipt(
        network=NETWORK,
        offer=OFFER,
        consumer=CONSUMER,
        nonce=counter.to_bytes(32, "big"),
        request=request,
        response=response,
        default_max_tokens=8,
        counter=counter,
        issued_s=100,
        expires_s=500,
    )
    return sign_receipt(replace(receipt, **changes), DOMAIN, key), request, response


def _verify(dossier: Dossier, **changes: Any) -> None:
    given: dict[str, Any] = {"domain": DOMAIN, "offer": SIGNED_OFFER, "consumer": CONSUMER, "ledger_time_s": 200}
    verify_dossier(dossier, **(given | changes))


def test_a_dossier_survives_its_wire_form_and_verifies_without_floats_or_transport_keys() -> None:
    dossier = build_dossier([_answer(2), _answer(1), _answer(3)])
    assert parse_dossier(decode(dossier.encode())) == dossier
    assert [entry.receipt.receipt.counter for entry in dossier.entries] == [1, 2, 3]
    assert dossier.entries[0].request["temperature_ppm"] == 700_000
    _verify(dossier)


def test_the_windows_to_pick_from_are_all_the_receipts_ever_received() -> None:
    assert build_dossier([_answer(9), _answer(8)]).window_count == 9
    with pytest.raises(InvalidInput):
        compute_window_count(0)


REFUSED: dict[str, tuple[Callable[[], Dossier], dict[str, Any], str]] = {
    "a gap in the counters": (lambda: build_dossier([_answer(1), _answer(3)]), {}, "not consecutive"),
    "the same receipt twice": (lambda: build_dossier([_answer(1), _answer(1)]), {}, "not consecutive"),
    "somebody else's receipts": (lambda: build_dossier([_answer(1)]), {"consumer": b"\x01" * 20}, "another consumer"),
    "expired": (lambda: build_dossier([_answer(1)]), {"ledger_time_s": 500}, "expired"),
    "signed by another": (lambda: build_dossier([_answer(1, OTHER_KEY)]), {}, "not signed"),
    "another network": (lambda: build_dossier([_answer(1, network=bytes(32))]), {}, "another network"),
    "another answer": (lambda: build_dossier([_answer(1, response_digest=bytes(32))]), {}, "another response"),
    "another request": (lambda: build_dossier([_answer(1, request_digest=bytes(32))]), {}, "another request"),
}


@pytest.mark.parametrize(("build", "changes", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_dossier(build: Callable[[], Dossier], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        _verify(build(), **changes)


def test_refuses_no_receipts_and_more_than_eight() -> None:
    for count in (0, 9):
        with pytest.raises(InvalidInput, match="dossier"):
            build_dossier([_answer(1 + index) for index in range(count)])


GOOD: Any = build_dossier([_answer(1)]).to_json()
BROKEN: dict[str, Any] = {
    "not a list": {},
    "null": None,
    "entry is not an object": ["x"],
    "entry with an extra key": [GOOD[0] | {"x": 1}],
    "entry without a response": [{key: GOOD[0][key] for key in ("receipt", "request")}],
    "request with transport keys": [GOOD[0] | {"request": GOOD[0]["request"] | {"stream": True}}],
    "request of a wrong type": [GOOD[0] | {"request": []}],
    "response with more than a receipt speaks of": [GOOD[0] | {"response": GOOD[0]["response"] | {"id": "x"}}],
    "response of a wrong type": [GOOD[0] | {"response": "x"}],
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN.keys())
def test_refuses_a_wire_form_that_is_not_exact(document: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_dossier(document)
