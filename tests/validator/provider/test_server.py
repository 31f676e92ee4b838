"""The provider as its clients see it: the official openai client against a real process with the real model."""

import asyncio
import json
import signal
import socket
import time

import httpx
import openai
import pytest

from challenges.receipt import verify_receipt
from challenges.signed import SignedReceipt
from scoring.eip712 import Domain
from scoring.errors import VerificationFailed
from scoring.records import ZERO_ADDRESS
from validator.provider.config import NO_NETWORK, NO_NETWORK_CHAIN_ID

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m-instruct"
DOMAIN = Domain(chain_id=NO_NETWORK_CHAIN_ID, verifying_contract=NO_NETWORK[-20:])
CONSUMER = b"\xc0" * 20
ASKED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Name three colours of the rainbow."}],
    "max_tokens": 16,
    "seed": 7,
    "temperature": 0.8,
    "top_p": 0.95,
}
_nonces = iter(range(1, 1_000_000))


def fresh_nonce() -> bytes:
    return next(_nonces).to_bytes(32, "big")


def ask(running, **more) -> httpx.Response:
    return httpx.post(f"{running.url}/v1/chat/completions", json={**ASKED, **more}, timeout=60)


def read_stream(body: str) -> list[dict]:
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def check_receipt(running, request: dict, response: dict, receipt: object, nonce: bytes | None = None) -> SignedReceipt:
    signed = SignedReceipt.from_json(receipt)
    verify_receipt(
        signed,
        domain=DOMAIN,
        offer=running.offer,
        consumer=ZERO_ADDRESS if nonce is None else CONSUMER,
        nonce=signed.receipt.nonce if nonce is None else nonce,
        request=request,
        response=response,
        now_s=int(time.time()),
    )
    return signed


@pytest.fixture(scope="module")
def client(provider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0, timeout=60)


def test_lists_its_one_model(client) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_answers_with_usage_and_a_receipt_that_holds(client, provider) -> None:
    answer = client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    signed = check_receipt(provider, ASKED, answer.model_dump(), answer.quiver_receipt)
    assert (signed.receipt.input_price_wei, signed.receipt.output_price_wei) == (2, 5)
    assert (signed.receipt.seed, signed.receipt.temperature_ppm) == (7, 800_000)


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(client) -> None:
    texts = [client.chat.completions.create(**{**ASKED, "seed": seed}).choices[0].message.content for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_is_the_unstreamed_answer_in_pieces(client, provider) -> None:
    whole = ask(provider, return_token_ids=True).json()
    chunks = list(
        client.chat.completions.create(
            **ASKED, stream=True, stream_options={"include_usage": True}, extra_body={"return_token_ids": True}
        )
    )
    pieces = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(piece.delta.content or "" for piece in pieces) == whole["choices"][0]["message"]["content"]
    ids = [token for piece in pieces for token in getattr(piece, "token_ids", None) or []]
    assert ids == whole["choices"][0]["token_ids"]
    assert chunks[-2].usage.model_dump(exclude_none=True) == whole["usage"]
    assert chunks[-1].choices == []
    response = {
        "model": MODEL,
        "choices": [
            {
                "message": {"content": "".join(piece.delta.content or "" for piece in pieces)},
                "finish_reason": pieces[-1].finish_reason,
                "token_ids": ids,
            }
        ],
        "usage": chunks[-2].usage.model_dump(exclude_none=True),
    }
    request = {**ASKED, "return_token_ids": True}
    check_receipt(provider, request, response, chunks[-1].quiver_receipt)


def test_a_receipt_does_not_hold_for_another_request_answer_or_count(provider) -> None:
    answer = ask(provider).json()
    receipt = answer["quiver_receipt"]
    check_receipt(provider, ASKED, answer, receipt)
    changed = json.loads(json.dumps(answer))
    changed["choices"][0]["message"]["content"] += "!"
    billed = json.loads(json.dumps(answer))
    billed["usage"]["prompt_tokens"] += 1
    billed["usage"]["total_tokens"] += 1
    for request, response in (({**ASKED, "seed": 8}, answer), (ASKED, changed), (ASKED, billed)):
        with pytest.raises(VerificationFailed):
            check_receipt(provider, request, response, receipt)


def test_the_usage_counts_the_rendered_prompt(provider) -> None:
    from transformers import AutoTokenizer

    from models.bundled import prepare_bundled

    tokenizer = AutoTokenizer.from_pretrained(prepare_bundled() / "bf16")
    rendered = tokenizer.apply_chat_template(ASKED["messages"], tokenize=False, add_generation_prompt=True)
    wanted = len(tokenizer.encode(rendered, add_special_tokens=False))
    assert ask(provider).json()["usage"]["prompt_tokens"] == wanted


def test_token_ids_come_only_when_asked_for_and_spell_the_text(provider) -> None:
    assert "token_ids" not in ask(provider).json()["choices"][0]
    answer = ask(provider, return_token_ids=True).json()
    assert len(answer["choices"][0]["token_ids"]) == answer["usage"]["completion_tokens"]


def test_logprobs_are_those_of_the_tokens(provider) -> None:
    answer = ask(provider, logprobs=True, top_logprobs=3, temperature=0).json()
    rows = answer["choices"][0]["logprobs"]["content"]
    assert len(rows) == answer["usage"]["completion_tokens"]
    for row in rows:
        assert row["token"] == row["top_logprobs"][0]["token"]
        assert len(row["top_logprobs"]) == 3
        assert all(top["logprob"] <= row["logprob"] + 1e-6 for top in row["top_logprobs"])
        assert row["bytes"] == list(row["token"].encode())


def test_a_stop_string_ends_the_answer_and_is_not_in_it(provider) -> None:
    free = ask(provider, max_tokens=24, temperature=0).json()["choices"][0]["message"]["content"]
    stop = free[len(free) // 2 :][:3]
    cut = ask(provider, max_tokens=24, temperature=0, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == free[: free.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_the_same_nonce_gets_the_same_bytes_and_one_counter(provider) -> None:
    for is_streamed in (False, True):
        nonce = fresh_nonce()
        more = {"quiver_nonce": f"0x{nonce.hex()}", "quiver_consumer": f"0x{CONSUMER.hex()}", "stream": is_streamed}
        first, second = ask(provider, seed=None, **more), ask(provider, seed=None, **more)
        assert first.status_code == 200
        assert first.content == second.content
        receipt = (read_stream(first.text)[-1] if is_streamed else first.json())["quiver_receipt"]
        assert receipt["receipt"]["nonce"] == f"0x{nonce.hex()}"
    third = ask(provider, quiver_nonce=f"0x{fresh_nonce().hex()}", quiver_consumer=f"0x{CONSUMER.hex()}").json()
    assert third["quiver_receipt"]["receipt"]["counter"] == receipt["receipt"]["counter"] + 1


def test_a_used_nonce_is_refused_for_another_request_or_form(provider) -> None:
    more = {"quiver_nonce": f"0x{fresh_nonce().hex()}", "quiver_consumer": f"0x{CONSUMER.hex()}"}
    ask(provider, **more)
    for change in ({"seed": 99}, {"stream": True}):
        refused = ask(provider, **more, **change)
        assert refused.status_code == 409
        assert refused.json()["error"]["param"] == "quiver_nonce"


async def test_a_nonce_that_is_being_answered_is_refused(provider) -> None:
    more = {"quiver_nonce": f"0x{fresh_nonce().hex()}", "max_tokens": 64}
    async with httpx.AsyncClient(timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post(f"{provider.url}/v1/chat/completions", json={**ASKED, **more}) for _ in range(2))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_many_requests_at_once_are_batched_and_each_gets_its_own_answer(provider) -> None:
    client = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0, timeout=120)
    started_s = time.monotonic()
    alone = await client.chat.completions.create(**{**ASKED, "max_tokens": 32, "seed": 100})
    one_s = time.monotonic() - started_s
    started_s = time.monotonic()
    answers = await asyncio.gather(
        *(client.chat.completions.create(**{**ASKED, "max_tokens": 32, "seed": 100 + n}) for n in range(8))
    )
    eight_s = time.monotonic() - started_s
    assert eight_s < 6 * max(one_s, 0.5)
    assert len({answer.choices[0].message.content for answer in answers}) > 4
    assert len({answer.quiver_receipt["receipt"]["counter"] for answer in answers}) == 8
    assert alone.model == MODEL
    await client.close()


REFUSED = {
    "another model": ({"model": "gpt-4"}, 404, "model", "model_not_found"),
    "two choices": ({"n": 2}, 400, "n", "unsupported_value"),
    "a temperature of three": ({"temperature": 3}, 400, "temperature", "invalid_value"),
    "an unknown parameter": ({"best_of": 2}, 400, "best_of", "unknown_parameter"),
    "a prompt too long": (
        {"messages": [{"role": "user", "content": "word " * 2000}]},
        400,
        "messages",
        "context_length_exceeded",
    ),
    "an answer too long": ({"max_tokens": 600}, 400, "messages", "context_length_exceeded"),
}


@pytest.mark.parametrize(("more", "status", "param", "code"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
def test_refuses_in_openais_format(client, more, status, param, code, is_streamed) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(
            **{**ASKED, **{name: value for name, value in more.items() if name != "best_of"}},
            stream=is_streamed,
            extra_body={name: value for name, value in more.items() if name == "best_of"},
        )
    assert (refused.value.status_code, refused.value.param, refused.value.code) == (status, param, code)


BODIES = {
    "not JSON": (b"{", 400, "invalid_json"),
    "broken UTF-8": (b'{"model": "\xff"}', 400, "invalid_json"),
    "deep JSON": (b"[" * 200_000, 400, "invalid_json"),
    "too large": (b" " * (1024 * 1024 + 1), 413, "body_too_large"),
}


@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=BODIES)
def test_refuses_a_body(provider, body, status, code) -> None:
    answer = httpx.post(f"{provider.url}/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_body_that_grows_too_large_without_saying_so_is_refused(provider) -> None:
    def endless():
        for _ in range(40):
            yield b" " * 65536

    try:
        answer = httpx.post(f"{provider.url}/v1/chat/completions", content=endless())
    except httpx.WriteError:
        return  # the server hung up on us while we were still sending, which is as good
    assert answer.status_code == 413


def test_an_unknown_path_and_a_wrong_method_are_told_in_openais_format(provider) -> None:
    assert httpx.get(f"{provider.url}/v1/files").json()["error"]["code"] == "unknown_url"
    assert httpx.get(f"{provider.url}/v1/chat/completions").json()["error"]["code"] == "method_not_allowed"


def test_a_client_that_hangs_up_leaves_the_server_well(provider) -> None:
    host, port = provider.url.removeprefix("http://").split(":")
    body = json.dumps({**ASKED, "max_tokens": 400, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(4):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
            connection.recv(200)
    started_s = time.monotonic()
    assert ask(provider).status_code == 200
    assert time.monotonic() - started_s < 20


def test_a_restart_never_reuses_a_counter_and_ends_cleanly(launch, tmp_path) -> None:
    more = {"quiver_consumer": f"0x{CONSUMER.hex()}", "max_tokens": 2}
    nonce = f"0x{fresh_nonce().hex()}"
    first = launch("validator.provider.server", tmp_path)
    before = ask(first, quiver_nonce=nonce, **more)
    assert first.stop() == 0
    second = launch("validator.provider.server", tmp_path)
    again = ask(second, quiver_nonce=nonce, **more)
    after = ask(second, quiver_nonce=f"0x{fresh_nonce().hex()}", **more)
    assert again.content == before.content
    assert after.json()["quiver_receipt"]["receipt"]["counter"] == 2
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(20) == 0


def test_too_many_requests_are_told_to_come_back(launch) -> None:
    narrow = launch("validator.provider.server", max_pending=1, cheats=["slow=1"])

    async def rush() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            request = {**ASKED, "max_tokens": 64}
            return await asyncio.gather(
                *(client.post(f"{narrow.url}/v1/chat/completions", json=request) for _ in range(4))
            )

    answers = asyncio.run(rush())
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 3
    assert refused[0].headers["Retry-After"] == "1"
    assert refused[0].json()["error"]["type"] == "rate_limit_error"
    narrow.stop()
