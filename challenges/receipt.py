"""Receipts: what a provider signs about one answer, and how its consumer checks it.

`request` is the JSON object that was sent, `response` the answer in OpenAI's final, unstreamed form (the chunks of a
stream joined). Digests, exactly:

* request: keccak256 of the canonical JSON of the request, where the transport keys `stream`, `stream_options`, `user`
  and every `quiver_*` key are left out and each number field of NUMBER_FIELDS is renamed `<name>_ppm` and written as
  the integer nearest to a million times its exact value (ties to even). Any other float is refused.
* response: keccak256 of the canonical JSON of `{model, content, token_ids or null, finish_reason, usage}` where usage
  is `{prompt_tokens, completion_tokens, total_tokens}` and nothing else.
* token ids: keccak256 of the ids as 4 bytes big-endian each; zero when none were returned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from challenges.signed import (
    SignedOffer,
    SignedReceipt,
    sign_offer,
    sign_receipt,
    verify_offer,
    verify_signed_by,
)
from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.eip712 import Domain, compute_struct_hash
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.records import PPM, ZERO_DIGEST, Offer, Receipt

__all__ = [
    "Answer",
    "Sampling",
    "SignedOffer",
    "SignedReceipt",
    "build_receipt",
    "compute_request_digest",
    "compute_response_digest",
    "compute_token_ids_digest",
    "parse_answer",
    "parse_sampling",
    "sign_offer",
    "sign_receipt",
    "verify_offer",
    "verify_receipt",
]

TRANSPORT_KEYS = frozenset({"stream", "stream_options", "user"})
NUMBER_FIELDS = frozenset(
    {"temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"}
)
MAX_CLOCK_SKEW_S = 60
_MAX_TOKEN_ID = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The sampling terms of a request; temperature and top_p are 1 when absent, `max_tokens` None when absent."""

    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int | None
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The parts of a response that a receipt speaks about."""

    model: str
    content: str
    token_ids: tuple[int, ...] | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def compute_request_digest(request: Mapping[str, object]) -> bytes:
    """Return the 32-byte digest of a request; raises InvalidInput with the field's name on what cannot be digested."""
    document: dict[str, Json] = {}
    for key, value in request.items():
        if not isinstance(key, str):
            raise InvalidInput("a key is not a string", "request")
        if key in TRANSPORT_KEYS or key.startswith("quiver_"):
            continue
        if key in NUMBER_FIELDS and value is not None:
            if f"{key}_ppm" in request:
                raise InvalidInput(f"stands beside {key}_ppm", key)
            document[f"{key}_ppm"] = compute_ppm(value, key)
        else:
            document[key] = value  # type: ignore[assignment]  # canonical.encode refuses what is not JSON
    return keccak256(canonical.encode(document))


def compute_response_digest(
    model: str,
    content: str,
    token_ids: Sequence[int] | None,
    finish_reason: str,
    usage: Mapping[str, object],
) -> bytes:
    """Return the 32-byte digest of an answer; raises InvalidInput."""
    counted: dict[str, Json] = {
        name: _count(usage.get(name), f"usage.{name}") for name in ("prompt_tokens", "completion_tokens")
    }
    counted["total_tokens"] = _count(usage.get("total_tokens"), "usage.total_tokens")
    document: dict[str, Json] = {
        "model": model,
        "content": content,
        "token_ids": None if token_ids is None else list(token_ids),
        "finish_reason": finish_reason,
        "usage": counted,
    }
    return keccak256(canonical.encode(document))


def compute_token_ids_digest(token_ids: Sequence[int] | None) -> bytes:
    """Return the 32-byte digest of token ids, zero for None; raises InvalidInput on an id outside 0..2**32 - 1."""
    if token_ids is None:
        return ZERO_DIGEST
    for index, token_id in enumerate(token_ids):
        if type(token_id) is not int or not 0 <= token_id <= _MAX_TOKEN_ID:
            raise InvalidInput("expected an integer in 0..2**32 - 1", f"token_ids[{index}]")
    return keccak256(b"".join(token_id.to_bytes(4, "big") for token_id in token_ids))


def compute_ppm(value: object, field: str) -> int:
    """Return the integer nearest to a million times a finite number, ties to even; raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput("expected a finite number", field)
    ppm = round(Fraction(value) * PPM)
    if abs(ppm) > MAX_SAFE_INTEGER:
        raise InvalidInput("too large", field)
    return ppm


def parse_sampling(request: Mapping[str, object]) -> Sampling:
    """Read the sampling terms of a request; raises InvalidInput with the field's name."""
    temperature = request.get("temperature")
    top_p = request.get("top_p")
    limit_key = "max_tokens" if request.get("max_tokens") is not None else "max_completion_tokens"
    limit, seed = request.get(limit_key), request.get("seed")
    return Sampling(
        temperature_ppm=_not_negative(1 if temperature is None else temperature, "temperature"),
        top_p_ppm=_not_negative(1 if top_p is None else top_p, "top_p"),
        max_tokens=None if limit is None else _count(limit, limit_key),
        seed=None if seed is None else _count(seed, "seed"),
    )


def parse_answer(response: Mapping[str, object]) -> Answer:
    """Read the first choice of an unstreamed response; raises InvalidInput with the field's name."""
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise InvalidInput("expected a list with one choice", "choices")
    message, usage = choices[0].get("message"), response.get("usage")
    if not isinstance(message, dict):
        raise InvalidInput("expected an object", "choices[0].message")
    if not isinstance(usage, dict):
        raise InvalidInput("expected an object", "usage")
    token_ids = choices[0].get("token_ids")
    if token_ids is not None and not isinstance(token_ids, list):
        raise InvalidInput("expected a list or null", "choices[0].token_ids")
    prompt, completion = (_count(usage.get(key), f"usage.{key}") for key in ("prompt_tokens", "completion_tokens"))
    if usage.get("total_tokens") != prompt + completion:
        raise InvalidInput("is not the sum of its parts", "usage.total_tokens")
    return Answer(
        model=_text(response.get("model"), "model"),
        content=_text(message.get("content"), "choices[0].message.content"),
        token_ids=None if token_ids is None else tuple(token_ids),
        finish_reason=_text(choices[0].get("finish_reason"), "choices[0].finish_reason"),
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


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
        response_digest=_compute_answer_digest(answer),
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
    _require(receipt.response_digest == _compute_answer_digest(answer), "the receipt speaks of another response")
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


def _compute_answer_digest(answer: Answer) -> bytes:
    usage = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    return compute_response_digest(answer.model, answer.content, answer.token_ids, answer.finish_reason, usage)


def _not_negative(value: object, field: str) -> int:
    ppm = compute_ppm(value, field)
    if ppm < 0:
        raise InvalidInput("expected a number of at least 0", field)
    return ppm


def _count(value: object, field: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
        raise InvalidInput("expected an integer in 0..2**53 - 1", field)
    return value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput("expected a string", field)
    return value


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise VerificationFailed(sentence)
