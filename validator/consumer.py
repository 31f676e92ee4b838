"""A consumer's side: ask a provider for receipted answers and turn them into a dossier for a challenge."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from challenges.filing import MAX_DOSSIER_BYTES, Dossier, build_dossier
from challenges.receipt import SignedOffer, SignedReceipt, verify_receipt
from scoring.canonical import verify_depth
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, Unavailable
from validator.cli.output import read_file
from validator.hostile_json import parse_hostile_json

MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_S = 120.0
CONCURRENCY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptedAnswer:
    """One exchange: the request as sent, the response as received, its receipt."""

    request: dict[str, Any]
    response: dict[str, Any]
    receipt: SignedReceipt


def fetch_offer(endpoint: str) -> SignedOffer:
    """Return the signed offer that a provider shows; raises Unavailable or InvalidInput."""
    return SignedOffer.from_json(_parse(_exchange("GET", f"{endpoint.rstrip('/')}/quiver/offer", None)))


def ask_with_receipt(endpoint: str, offer: SignedOffer, domain: Domain, request: dict[str, Any]) -> ReceiptedAnswer:
    """Send one request and return the answer with its verified receipt; raises OracleError."""
    response = _parse(_exchange("POST", f"{endpoint.rstrip('/')}/v1/chat/completions", request))
    receipt = SignedReceipt.from_json(response.get("quiver_receipt"))
    verify_receipt(
        receipt,
        domain=domain,
        offer=offer,
        consumer=bytes.fromhex(request["quiver_consumer"][2:]),
        nonce=bytes.fromhex(request["quiver_nonce"][2:]),
        request=request,
        response=response,
        now_s=int(time.time()),
    )
    return ReceiptedAnswer(request=request, response=response, receipt=receipt)


def ask_many(
    endpoint: str, offer: SignedOffer, domain: Domain, requests: Sequence[dict[str, Any]]
) -> list[ReceiptedAnswer]:
    """Send requests a few at a time; raises the first error."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(lambda request: ask_with_receipt(endpoint, offer, domain, request), requests))


def build_answers_dossier(answers: Sequence[ReceiptedAnswer]) -> Dossier:
    """Return the dossier of some answers, in the order of their counters."""
    return build_dossier([(answer.receipt, answer.request, answer.response) for answer in answers])


def load_answers(path: Path) -> list[ReceiptedAnswer]:
    """Read a JSON Lines file of {"request", "response"} with `quiver_receipt` in the response.

    Raises InvalidInput with the line's number, and what `read_file` raises.
    """
    data = read_file(path, MAX_DOSSIER_BYTES)
    lines = [line for line in data.split(b"\n") if line.strip()]
    return [_parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _parse_line(line: bytes, place: str) -> ReceiptedAnswer:
    try:
        # The consumer's own file: floats (temperature) are kept, the receipt's digests decide on the rest.
        text = line.decode("utf-8")
        verify_depth(text)
        document = json.loads(text)
        if not isinstance(document, dict) or not all(
            isinstance(document.get(k), dict) for k in ("request", "response")
        ):
            raise InvalidInput("expected an object with request and response")
        response = document["response"]
        receipt = SignedReceipt.from_json(response.get("quiver_receipt"))
    except (InvalidInput, ValueError) as error:
        raise InvalidInput(f"{place}: {error}") from None
    return ReceiptedAnswer(request=document["request"], response=response, receipt=receipt)


def _exchange(method: str, url: str, body: dict[str, Any] | None) -> bytes:
    deadline_s = time.monotonic() + TIMEOUT_S
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream(method, url, json=body) as response,
        ):
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_ANSWER_BYTES:
                    raise InvalidInput(f"{url} sent more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"{url}: the answer took longer than {TIMEOUT_S} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url}: {type(error).__name__}: {str(error)[:200]}") from error
    if response.status_code != httpx.codes.OK:
        raise Unavailable(f"{url}: answered with status {response.status_code}: {bytes(data[:200])!r}")
    return bytes(data)


def _parse(data: bytes) -> dict[str, Any]:
    document = parse_hostile_json(data, MAX_ANSWER_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput("the answer is not a JSON object")
    return document
