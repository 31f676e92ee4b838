"""A consumer's side: answers are taken with a receipt that holds, and whatever else a provider sends is refused."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from challenges.signed import SignedOffer, SignedReceipt
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
from validator.consumer import (
    MAX_ANSWER_BYTES,
    ReceiptedAnswer,
    ask_many,
    ask_with_receipt,
    build_answers_dossier,
    fetch_offer,
    load_answers,
)

Court = Any  # these classes live in tests/validator/conftest.py
Shop = Any
CHAT = ("POST", "/v1/chat/completions")
OFFER = ("GET", "/quiver/offer")


def serve(shop: Shop, document: object, place: tuple[str, str] = CHAT) -> None:
    shop.answers[place] = (200, json.dumps(document).encode())


def test_an_offer_is_read_as_the_provider_shows_it(court: Court, shop: Shop) -> None:
    serve(shop, court.offer.to_json(), OFFER)
    assert fetch_offer(shop.url + "/") == court.offer


def test_an_answer_is_taken_with_its_receipt(court: Court, shop: Shop) -> None:
    request = court.ask()
    serve(shop, court.answer(request))
    answer = ask_with_receipt(shop.url, court.offer, court.genesis.domain, request)
    assert shop.posted == [request]
    assert (answer.request, answer.receipt.receipt.counter) == (request, 1)


def test_log_probabilities_do_no_harm(court: Court, shop: Shop) -> None:
    request = court.ask()
    document = court.answer(request)
    document["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -0.25}]}
    serve(shop, document)
    assert ask_with_receipt(shop.url, court.offer, court.genesis.domain, request).receipt.receipt.counter == 1


def test_many_answers_make_a_dossier_in_the_order_of_their_counters(court: Court) -> None:
    request = court.ask()
    domain_answers = [
        ReceiptedAnswer(request=request, response=response, receipt=load_receipt(response))
        for response in (court.answer(request, counter) for counter in (3, 1, 2))
    ]
    dossier = build_answers_dossier(domain_answers)
    assert [entry.receipt.receipt.counter for entry in dossier.entries] == [1, 2, 3]
    assert dossier.window_count == 3


def load_receipt(response: dict[str, Any]) -> Any:
    return SignedReceipt.from_json(response["quiver_receipt"])


def test_the_first_error_of_many_is_raised(court: Court, shop: Shop) -> None:
    with pytest.raises(Unavailable, match="status 404"):
        ask_many(shop.url, court.offer, court.genesis.domain, [court.ask(), court.ask()])


def altered(edit: Callable[[dict[str, Any]], object]) -> Callable[[Court, dict[str, Any]], tuple[int, bytes]]:
    def answer(court: Court, request: dict[str, Any]) -> tuple[int, bytes]:
        document = court.answer(request)
        edit(document)
        return 200, json.dumps(document).encode()

    return answer


def receipt_with(**changes: Any) -> Callable[[Court, dict[str, Any]], tuple[int, bytes]]:
    return lambda court, request: (200, json.dumps(court.answer(request, **changes)).encode())


def receipt_dated(issued_in_s: int, expires_in_s: int) -> Callable[[Court, dict[str, Any]], tuple[int, bytes]]:
    def answer(court: Court, request: dict[str, Any]) -> tuple[int, bytes]:
        now_s = int(time.time())
        return receipt_with(issued_s=now_s + issued_in_s, expires_s=now_s + expires_in_s)(court, request)

    return answer


def raw(body: bytes, status: int = 200) -> Callable[[Court, dict[str, Any]], tuple[int, bytes]]:
    return lambda court, request: (status, body)


def set_content(document: dict[str, Any], content: object) -> None:
    document["choices"][0]["message"]["content"] = content


REFUSED: list[tuple[str, Callable[[Court, dict[str, Any]], tuple[int, bytes]], type[OracleError], str]] = [
    ("no receipt", altered(lambda it: it.pop("quiver_receipt")), InvalidInput, "receipt: expected an object"),
    ("a receipt that is text", altered(lambda it: it.update(quiver_receipt="x")), InvalidInput, "receipt"),
    ("another content", altered(lambda it: set_content(it, "no")), VerificationFailed, "another response"),
    ("a content that is a number", altered(lambda it: set_content(it, 7)), InvalidInput, "content: expected a string"),
    ("no choices", altered(lambda it: it.update(choices=[])), InvalidInput, "choices"),
    ("forged usage", altered(lambda it: it["usage"].update(total_tokens=9)), InvalidInput, "usage.total_tokens"),
    ("a float in the usage", altered(lambda it: it["usage"].update(prompt_tokens=5.5)), InvalidInput, "prompt_tokens"),
    ("somebody else's receipt", receipt_with(consumer=b"\x01" * 20), VerificationFailed, "another consumer"),
    ("an old nonce", receipt_with(nonce=b"\x01" * 32), VerificationFailed, "another nonce"),
    ("another network", receipt_with(network=b"\x01" * 32), VerificationFailed, "another network"),
    ("a receipt that has expired", receipt_dated(-50, -1), VerificationFailed, "the receipt expired"),
    ("a receipt of tomorrow", receipt_dated(900, 999), VerificationFailed, "in the future"),
    ("not JSON", raw(b"<html>"), InvalidInput, "not JSON"),
    ("a list", raw(b"[]"), InvalidInput, "not a JSON object"),
    ("broken UTF-8", raw(b'{"\xff":1}'), InvalidInput, "UTF-8"),
    ("deep JSON", raw(b"[" * 100_000), InvalidInput, "deep"),
    ("gigabytes", raw(b" " * (MAX_ANSWER_BYTES + 1)), InvalidInput, "sent more than 1048576 bytes"),
    ("an error", raw(b'{"error":{"message":"overloaded"}}', 503), Unavailable, "status 503: .*overloaded"),
    ("a redirect", raw(b"", 302), Unavailable, "status 302"),
    ("an empty success", raw(b"", 204), Unavailable, "status 204"),
]


@pytest.mark.parametrize(("name", "answer", "error", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses(
    court: Court,
    shop: Shop,
    name: str,
    answer: Callable[[Court, dict[str, Any]], tuple[int, bytes]],
    error: type[OracleError],
    sentence: str,
) -> None:
    request = court.ask()
    shop.answers[CHAT] = answer(court, request)
    with pytest.raises(error, match=sentence):
        ask_with_receipt(shop.url, court.offer, court.genesis.domain, request)


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("not JSON", b"hello", "not JSON"),
        ("a list", b"[]", "not a JSON object"),
        ("another object", b"{}", "offer: expected an object with exactly offer and signature"),
        ("an unknown key", b'{"offer":{"x":1},"signature":"0x"}', "signature"),
    ],
)
def test_refuses_offers(shop: Shop, name: str, body: bytes, sentence: str) -> None:
    shop.answers[OFFER] = (200, body)
    with pytest.raises(InvalidInput):
        fetch_offer(shop.url)


def test_a_provider_that_is_not_there_is_unavailable(court: Court) -> None:
    with pytest.raises(Unavailable, match="ConnectError"):
        fetch_offer("http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="UnsupportedProtocol"):
        fetch_offer("provider.example")


@pytest.fixture
def dripping_url() -> Iterator[str]:
    class Dripping(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(200):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_provider_that_drips_bytes_is_left_at_the_deadline(
    dripping_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validator.consumer.TIMEOUT_S", 0.4)
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match=r"longer than 0\.4 s"):
        fetch_offer(dripping_url)
    assert time.monotonic() - started_s < 5


def test_answers_are_read_from_lines_of_json(court: Court, tmp_path: Path) -> None:
    request = court.ask()
    lines = [json.dumps({"request": request, "response": court.answer(request, counter)}) for counter in (1, 2)]
    (tmp_path / "answers").write_text("\n" + "\n\n".join(lines))
    answers = load_answers(tmp_path / "answers")
    assert [answer.receipt.receipt.counter for answer in answers] == [1, 2]
    assert answers[0].request["temperature"] == 1.0


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("not JSON", b"{"),
        ("a list", b"[]"),
        ("no response", b'{"request": {}}'),
        ("a response that is text", b'{"request": {}, "response": "x"}'),
        ("no receipt", b'{"request": {}, "response": {}}'),
        ("broken UTF-8", b'{"\xff": 1}'),
        ("deep JSON", b"[" * 100_000),
    ],
)
def test_a_line_that_is_none_is_named_by_its_number(name: str, line: bytes, tmp_path: Path) -> None:
    (tmp_path / "answers").write_bytes(b"\n" + line)
    with pytest.raises(InvalidInput, match="answers, line 1: "):
        load_answers(tmp_path / "answers")


def test_an_offer_survives_its_wire_form(court: Court) -> None:
    assert SignedOffer.from_json(json.loads(json.dumps(court.offer.to_json()))) == court.offer
