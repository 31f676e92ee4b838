"""Transcripts: canonical bytes with a digest, the same request digest as the receipt's, nothing that could change."""

from dataclasses import replace
from typing import Any

import pytest

from challenges.exchange import compute_request_digest
from challenges.receipt import build_receipt, sign_receipt, verify_receipt_content
from challenges.signed import SignedReceipt
from scoring import canonical, ecdsa
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.records import Offer
from validator.provider_answer import ProviderAnswer
from validator.transcript import Transcript, build_transcript

SECRET = b"\x07" * 32
NETWORK = b"n" * 32
DOMAIN = Domain(chain_id=5, verifying_contract=NETWORK[-20:])
REQUEST = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.7,
    "top_p": 0.95,
    "max_tokens": 8,
    "seed": 5,
    "return_token_ids": True,
    "stream": False,
    "quiver_nonce": "0x" + "11" * 32,
}
ANSWER = ProviderAnswer(model="m", content="hej", token_ids=(1, 2), finish_reason="stop", usage=(3, 2), receipt=b"{}")
OFFER = Offer(
    provider=ecdsa.address_of(SECRET),
    model="m",
    manifest_digest=bytes(32),
    sampler="none",
    context_length_tokens=100,
    input_price_wei=1,
    output_price_wei=1,
    advertised_ttft_ms=1,
    advertised_tokens_per_s=1,
    endpoint="http://x",
    issued_s=1,
    expires_s=1000,
)


def receipt() -> SignedReceipt:
    unsigned = build_receipt(
        network=NETWORK,
        offer=OFFER,
        consumer=b"c" * 20,
        nonce=b"\x11" * 32,
        request=REQUEST,
        response=ANSWER.to_response(),
        default_max_tokens=8,
        counter=1,
        issued_s=10,
        expires_s=20,
    )
    return sign_receipt(unsigned, DOMAIN, SECRET)


def build() -> Transcript:
    answer = replace(ANSWER, receipt=canonical.encode(receipt().to_json()))
    return build_transcript(request=REQUEST, answer=answer, ttft_ms=12, latency_ms=34, probe_index=1)


def test_is_named_by_the_digest_of_its_canonical_bytes() -> None:
    transcript = build()
    assert transcript.digest == keccak256(transcript.encode())
    assert Transcript.decode(transcript.encode()) == transcript
    assert Transcript.from_json(transcript.to_json()).digest == transcript.digest
    assert replace(transcript, latency_ms=35).digest != transcript.digest


def test_speaks_about_the_same_exchange_as_the_receipt() -> None:
    transcript = build()
    assert compute_request_digest(transcript.to_request()) == compute_request_digest(REQUEST)
    signed = transcript.receipt.receipt
    verify_receipt_content(signed, request=transcript.to_request(), response=transcript.to_response())
    other = replace(transcript, request=canonical.encode(transcript.to_request() | {"seed": 6}))
    with pytest.raises(VerificationFailed):
        verify_receipt_content(signed, request=other.to_request(), response=other.to_response())


def test_writes_the_request_without_floats_and_transport() -> None:
    request = build().to_request()
    assert (request["temperature_ppm"], request["top_p_ppm"]) == (700_000, 950_000)
    assert not {"temperature", "top_p", "stream", "quiver_nonce"} & set(request)


def test_cannot_be_changed_through_what_it_hands_out() -> None:
    transcript = build()
    before = transcript.digest
    transcript.to_request()["seed"] = 99
    transcript.to_response()["model"] = "other"
    assert transcript.digest == before


def changed(*path: str, value: Any) -> dict[str, Any]:
    document: dict[str, Any] = build().to_json()
    place = document
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


REFUSED = [
    ("another kind", changed("kind", value="x"), "kind"),
    ("no kind", changed("kind", value=None), "kind"),
    ("an unknown key", changed("extra", value=1), "extra"),
    ("a negative index", changed("probe_index", value=-1), "probe_index"),
    ("an index that is true", changed("probe_index", value=True), "probe_index"),
    ("a time in a string", changed("timing", "ttft_ms", value="1"), "ttft_ms"),
    ("no time", changed("timing", "latency_ms", value=None), "latency_ms"),
    ("an unknown time", changed("timing", "extra_ms", value=1), "extra_ms"),
    ("timing of the wrong type", changed("timing", value=[]), "timing"),
    ("a request of the wrong type", changed("request", value=[]), "request"),
    ("a request with a transport key", changed("request", "stream", value=False), "document form"),
    ("a request with a temperature", changed("request", "temperature", value=1), "temperature"),
    ("a response without choices", changed("response", "choices", value=None), "choices"),
    ("a response without usage", changed("response", "usage", value=None), "usage"),
    ("a receipt of the wrong type", changed("receipt", value={}), "receipt"),
]


@pytest.mark.parametrize(("document", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses(document: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        Transcript.from_json(document)


@pytest.mark.parametrize("receipt_bytes", [None, b"{}", b'{"receipt":{},"signature":"0x"}'])
def test_is_not_built_without_a_good_receipt(receipt_bytes: bytes | None) -> None:
    answer = replace(ANSWER, receipt=receipt_bytes)
    with pytest.raises(InvalidInput):
        build_transcript(request=REQUEST, answer=answer, ttft_ms=1, latency_ms=1, probe_index=0)


def test_refuses_bytes_that_are_not_canonical_or_too_many() -> None:
    data = build().encode()
    with pytest.raises(InvalidInput, match="not canonical"):
        Transcript.decode(data.replace(b":", b": ", 1))
    with pytest.raises(InvalidInput, match="over the limit"):
        Transcript.decode(data + b" " * 2**20)
