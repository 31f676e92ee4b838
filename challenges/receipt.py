"""Receipts: what a provider signs about one answer, and how its consumer checks it.

`request` is the JSON object that was sent, `response` the answer in OpenAI's final, unstreamed form, or the document
forms of both; `challenges.exchange` defines the digests.
"""

from collections.abc import Mapping

from challenges.exchange import (
    Answer,
    Sampling,
    build_request_document,
    build_response_document,
    compute_answer_digest,
    compute_request_digest,
    compute_response_digest,
    compute_token_ids_digest,
    parse_answer,
    parse_sampling,
)
from challenges.signed import SignedOffer, SignedReceipt, sign_offer, sign_receipt, verify_offer, verify_signed_by
from scoring.eip712 import Domain, compute_struct_hash
from scoring.errors import VerificationFailed
from scoring.records import Offer, Receipt

__all__ = [
    "Answer",
    "Sampling",
    "SignedOffer",
    "SignedReceipt",
    "build_receipt",
    "build_request_document",
    "build_response_document",
    "compute_request_digest",
    "compute_response_digest",
    "compute_token_ids_digest",
    "parse_answer",
    "parse_sampling",
    "sign_offer",
    "sign_receipt",
    "verify_offer",
    "verify_receipt",
    "verify_receipt_content",
    "verify_receipt_terms",
]

MAX_CLOCK_SKEW_S = 60


def build_receipt(
    *,
    network: bytes,
    offer: Offer,
    consumer: bytes,
    nonce: bytes,
    request: Mapping[str, object],
    response: Mapping[str, object],
    default_max_tokens: int,
    counter: int,
    issued_s: int,
    expires_s: int,
) -> Receipt:
    """Build the receipt of one answer; `default_max_tokens` stands in when the request names no limit."""
    sampling, answer = parse_sampling(request), parse_answer(response)
    return Receipt(
        network=network,
        offer_digest=compute_struct_hash(offer),
        provider=offer.provider,
        consumer=consumer,
        nonce=nonce,
        request_digest=compute_request_digest(request),
        response_digest=compute_answer_digest(answer),
        token_ids_digest=compute_token_ids_digest(answer.token_ids),
        temperature_ppm=sampling.temperature_ppm,
        top_p_ppm=sampling.top_p_ppm,
        max_tokens=default_max_tokens if sampling.max_tokens is None else sampling.max_tokens,
        is_seeded=sampling.seed is not None,
        seed=sampling.seed or 0,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        input_price_wei=offer.input_price_wei,
        output_price_wei=offer.output_price_wei,
        counter=counter,
        issued_s=issued_s,
        expires_s=expires_s,
    )


def verify_receipt(
    signed: SignedReceipt,
    *,
    domain: Domain,
    offer: SignedOffer,
    consumer: bytes,
    nonce: bytes,
    request: Mapping[str, object],
    response: Mapping[str, object],
    now_s: int,
) -> None:
    """Raise VerificationFailed, with a sentence, unless the receipt speaks of just this request, answer and offer.

    `nonce` and `consumer` are those that were sent; `now_s` is unix seconds. Raises InvalidInput when the request or
    the response lack the fields that a receipt speaks about.
    """
    receipt = signed.receipt
    verify_receipt_terms(signed, domain=domain, offer=offer)
    _require(receipt.consumer == consumer, "the receipt is made out to another consumer")
    _require(receipt.nonce == nonce, "the receipt answers another nonce")
    verify_receipt_content(receipt, request=request, response=response)
    _require(receipt.issued_s <= now_s + MAX_CLOCK_SKEW_S, "the receipt is dated in the future")
    _require(now_s < receipt.expires_s, f"the receipt expired at {receipt.expires_s}")


def verify_receipt_terms(signed: SignedReceipt, *, domain: Domain, offer: SignedOffer) -> None:
    """Raise VerificationFailed unless signature, network, offer, prices, counter and times of a receipt hold."""
    receipt = signed.receipt
    verify_offer(offer, domain=domain)
    _require(receipt.network[-20:] == domain.verifying_contract, "the receipt belongs to another network")
    _require(receipt.provider == offer.offer.provider, "the receipt names another provider than the offer")
    verify_signed_by(receipt, signed.signature, domain, receipt.provider, "receipt")
    _require(receipt.offer_digest == offer.digest, "the receipt speaks of another offer")
    prices = (receipt.input_price_wei, receipt.output_price_wei)
    _require(prices == (offer.offer.input_price_wei, offer.offer.output_price_wei), "the prices are not the offer's")
    _require(receipt.counter > 0, "the receipt's counter starts at 1")
    _require(receipt.issued_s < receipt.expires_s, "the receipt expires before it is issued")
    is_in_offer = offer.offer.issued_s <= receipt.issued_s < offer.offer.expires_s
    _require(is_in_offer, "the receipt is dated outside the offer's time")


def verify_receipt_content(receipt: Receipt, *, request: Mapping[str, object], response: Mapping[str, object]) -> None:
    """Raise VerificationFailed unless digests, sampling terms and usage are those of request and response."""
    sampling, answer = parse_sampling(request), parse_answer(response)
    _require(receipt.request_digest == compute_request_digest(request), "the receipt speaks of another request")
    _require(receipt.response_digest == compute_answer_digest(answer), "the receipt speaks of another response")
    _require(
        receipt.token_ids_digest == compute_token_ids_digest(answer.token_ids), "the token ids are not the receipt's"
    )
    _require(receipt.temperature_ppm == sampling.temperature_ppm, "the temperature is not the one asked for")
    _require(receipt.top_p_ppm == sampling.top_p_ppm, "top_p is not the one asked for")
    _require(sampling.max_tokens in (None, receipt.max_tokens), "max_tokens is not the one asked for")
    _require(receipt.is_seeded == (sampling.seed is not None), "the receipt disagrees on whether there was a seed")
    _require(receipt.seed == (sampling.seed or 0), "the seed is not the one asked for")
    usage = (receipt.prompt_tokens, receipt.completion_tokens)
    _require(usage == (answer.prompt_tokens, answer.completion_tokens), "the usage is not the response's")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise VerificationFailed(sentence)
