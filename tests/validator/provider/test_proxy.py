"""The receipt proxy: bytes pass untouched, receipts are added, a hostile upstream breaks nothing."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from challenges.receipt import verify_receipt
from challenges.signed import SignedReceipt
from scoring.eip712 import Domain
from scoring.errors import VerificationFailed
from scoring.records import ZERO_ADDRESS
from validator.provider.config import NO_NETWORK, NO_NETWORK_CHAIN_ID, ProxyConfig
from validator.provider.identity import open_identity
from validator.provider.proxy import build_proxy_app
from validator.provider.receipt_store import ReceiptStore
from validator.provider.sse import DONE, encode_event
from validator.provider.upstream import Upstream

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
# Spaces and an unknown member, so that a proxy that writes JSON anew is found out.
WHOLE = (
    b'{ "model":"m",  "zebra": 1.50, "choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},'
    b'"finish_reason":"stop"}], "usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7} }\n'
)


def chunk(**more: object) -> bytes:
    return encode_event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more})


def piece(text: str, reason: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": reason}])


TEXT_EVENTS = [b": hello\n\n", piece("Hel"), piece("lo", "stop")]
STREAM = [*TEXT_EVENTS, chunk(choices=[], usage=USAGE), DONE]


class FakeUpstream:
    """Answers with what it was told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.body = WHOLE
        self.events: list[bytes] = STREAM
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause_s = 0.0
        self.breaks_off = False
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((f"{request.method} {request.path_qs}", dict(request.headers), body))
        is_streamed = body[:1] == b"{" and json.loads(body).get("stream") is True
        response = web.StreamResponse(status=self.status, headers=self.headers)
        if "Content-Type" not in self.headers:
            response.content_type = "text/event-stream" if is_streamed else "application/json"
        await response.prepare(request)
        for data in self.events if is_streamed else [self.body]:
            await asyncio.sleep(self.pause_s)
            await response.write(data)
        if self.breaks_off and request.transport is not None:
            request.transport.abort()
        return response


@asynccontextmanager
async def run_proxy(tmp_path, upstream_url: str, **settings: object):
    config = ProxyConfig(data_dir=tmp_path, upstream=upstream_url, model="m", **settings)
    identity = open_identity(
        config,
        model=config.model,
        manifest_digest=config.manifest_digest,
        sampler="none",
        context_length_tokens=4096,
        endpoint="http://proxy",
    )
    store = ReceiptStore(config.receipts_path)
    upstream = Upstream(config)
    async with upstream, TestClient(TestServer(build_proxy_app(config, identity, store, upstream))) as client:
        client.identity = identity
        yield client
    store.close()


@pytest.fixture
def fake() -> FakeUpstream:
    return FakeUpstream()


@pytest.fixture
async def proxy(tmp_path, fake):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with TestServer(app) as server:
        settings = {"chunk_timeout_s": 1, "max_answer_bytes": 20_000, "max_replay_bytes": 5_000, "max_pending": 2}
        async with run_proxy(tmp_path, str(server.make_url("/v1")), **settings) as client:
            yield client


def check(proxy, receipt: object, request: dict, content: str = "Hello", **terms: object) -> SignedReceipt:
    signed = SignedReceipt.from_json(receipt)
    choice = {"message": {"content": content}, "finish_reason": "stop"}
    verify_receipt(
        signed,
        domain=proxy.identity.domain,
        offer=proxy.identity.signed_offer,
        consumer=terms.get("consumer", ZERO_ADDRESS),
        nonce=terms.get("nonce", signed.receipt.nonce),
        request=request,
        response={"model": "m", "choices": [choice], "usage": USAGE},
        now_s=int(time.time()),
    )
    return signed


async def post(proxy, **more: object):
    return await proxy.post("/v1/chat/completions", json={**ASKED, **more})


NONCE = {"quiver_nonce": "0x" + "11" * 32, "quiver_consumer": "0x" + "22" * 20}


async def test_adds_a_receipt_and_touches_no_other_byte(proxy) -> None:
    body = await (await post(proxy)).read()
    start = WHOLE.rstrip()[:-1].rstrip()
    assert body.startswith(start)
    check(proxy, json.loads(body)["quiver_receipt"], ASKED)
    with pytest.raises(VerificationFailed):
        check(proxy, json.loads(body)["quiver_receipt"], ASKED, content="Hallo")


async def test_a_stream_passes_as_it_came_with_the_receipt_before_done(proxy) -> None:
    request = {"stream": True, "stream_options": {"include_usage": True}}
    body = await (await post(proxy, **request)).read()
    assert body.startswith(b"".join(STREAM[:-1]))
    assert body.endswith(DONE)
    last = json.loads(body[len(b"".join(STREAM[:-1])) : -len(DONE)].removeprefix(b"data: "))
    assert (last["id"], last["model"], last["choices"]) == ("c1", "m", [])
    check(proxy, last["quiver_receipt"], {**ASKED, **request})


async def test_a_usage_chunk_that_only_the_proxy_wanted_is_taken_out(proxy, fake) -> None:
    body = await (await post(proxy, stream=True)).read()
    assert json.loads(fake.asked[0][2])["stream_options"] == {"include_usage": True}
    assert b'"usage"' not in body
    assert body.startswith(b"".join(TEXT_EVENTS))
    check(proxy, json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["quiver_receipt"], ASKED)


async def test_the_upstream_sees_the_clients_bytes_and_headers_and_nothing_of_ours(proxy, fake) -> None:
    raw = b'{"model": "m",  "messages": [{"role":"user","content":"Hi"}], "min_p": 0.1}'
    headers = {"Authorization": "Bearer client", "X-Custom": "1", "Connection": "close"}
    await proxy.post("/v1/chat/completions", data=raw, headers=headers)
    await post(proxy, **NONCE)
    assert fake.asked[0][2] == raw
    assert (fake.asked[0][1]["Authorization"], fake.asked[0][1]["X-Custom"]) == ("Bearer client", "1")
    assert fake.asked[0][1]["Accept-Encoding"] == "identity"
    assert not any(name.startswith("quiver_") for name in json.loads(fake.asked[1][2]))


async def test_the_same_nonce_gets_the_same_bytes_without_asking_again(proxy, fake) -> None:
    for number, is_streamed in enumerate((False, True)):
        more = {**NONCE, "quiver_nonce": f"0x{number:064x}", "stream": is_streamed}
        first, second = [await (await post(proxy, **more)).read() for _ in range(2)]
        assert first == second
        assert b"quiver_receipt" in first
    assert len(fake.asked) == 2


async def test_a_used_nonce_is_refused_for_another_request(proxy) -> None:
    await post(proxy, **NONCE)
    refused = await post(proxy, **NONCE, seed=5)
    assert refused.status == 409


async def test_a_long_stream_is_receipted_and_not_kept(proxy, fake) -> None:
    fake.events = [piece("x" * 5990), piece("x" * 10), piece("", "stop"), *STREAM[3:]]
    body = await (await post(proxy, **NONCE, stream=True)).read()
    receipt = json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["quiver_receipt"]
    request = {**ASKED, **NONCE}
    check(proxy, receipt, request, content="x" * 6000, consumer=b"\x22" * 20, nonce=b"\x11" * 32)
    again = await post(proxy, **NONCE, stream=True)
    assert again.status == 409
    assert "no longer kept" in (await again.json())["error"]["message"]


async def test_everything_else_below_v1_passes_as_it_is(proxy, fake) -> None:
    fake.body = b'{"object": "list"}'
    answer = await proxy.get("/v1/models?x=%2F", headers={"X-A": "b"})
    assert (await answer.read(), fake.asked[0][0]) == (b'{"object": "list"}', "GET /v1/models?x=/")
    posted = await proxy.post("/v1/embeddings", data=b"\x00\xff")
    assert (posted.status, fake.asked[1][2]) == (200, b"\x00\xff")


async def test_an_upstreams_own_error_passes_as_it_is(proxy, fake) -> None:
    fake.status, fake.body = 418, b'{"error": "teapot"}'
    answer = await post(proxy, **NONCE)
    assert (answer.status, await answer.read()) == (418, b'{"error": "teapot"}')


async def test_a_redirect_is_passed_on_and_not_followed(proxy, fake) -> None:
    fake.status, fake.headers, fake.body = 307, {"Location": "http://127.0.0.1:9/"}, b""
    answer = await proxy.post("/v1/chat/completions", json=ASKED, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "http://127.0.0.1:9/")


WITHOUT_RECEIPT = {
    "not JSON": b"<html>",
    "no usage": WHOLE.replace(b'"usage"', b'"usages"'),
    "another model": WHOLE.replace(b'"model":"m"', b'"model":"x"'),
    "two choices": WHOLE.replace(b'"choices":[', b'"choices":[{},'),
    "a content that is null": WHOLE.replace(b'"Hello"', b"null"),
    "deep JSON": b"[" * 10_000,
    "broken UTF-8": WHOLE.replace(b"Hello", b"\xff"),
    "NaN": WHOLE.replace(b"1.50", b"NaN"),
}


@pytest.mark.parametrize("body", WITHOUT_RECEIPT.values(), ids=WITHOUT_RECEIPT)
async def test_what_cannot_be_receipted_passes_unless_a_receipt_was_promised(proxy, fake, body) -> None:
    fake.body = body
    assert await (await post(proxy)).read() == body
    promised = await post(proxy, **NONCE)
    assert promised.status == 502
    assert (await promised.json())["error"]["code"] == "not_receiptable"


BAD_STREAMS = {
    "no usage": [*TEXT_EVENTS, DONE],
    "no [DONE]": STREAM[:-1],
    "an error in the middle": [TEXT_EVENTS[1], encode_event({"error": {"message": "x"}}), DONE],
    "two models": [piece("a"), chunk(model="other", choices=[]), *STREAM[2:]],
    "not JSON": [b"data: {{{\n\n", *STREAM],
}


@pytest.mark.parametrize("events", BAD_STREAMS.values(), ids=BAD_STREAMS)
async def test_a_stream_that_cannot_be_receipted_passes_or_ends_with_an_error(proxy, fake, events) -> None:
    fake.events = events
    include = {"stream": True, "stream_options": {"include_usage": True}}
    assert await (await post(proxy, **include)).read() == b"".join(events)
    body = await (await post(proxy, **include, **NONCE)).read()
    assert b'"code":"not_receiptable"' in body
    assert not body.endswith(DONE)
    assert b"quiver_receipt" not in body


async def test_an_endless_stream_is_cut_at_the_limit(proxy, fake) -> None:
    fake.events = [piece("x" * 1000)] * 100
    body = await (await post(proxy, stream=True)).read()
    assert len(body) < 30_000
    assert b"answer_too_large" in body


async def test_an_event_without_end_is_cut_at_the_limit(proxy, fake) -> None:
    fake.events = [b"data: " + b"x" * 1000] * 100
    assert b"answer_too_large" in await (await post(proxy, stream=True)).read()


async def test_a_whole_answer_over_the_limit_is_refused(proxy, fake) -> None:
    fake.body = b" " * 30_000
    answer = await post(proxy)
    assert (answer.status, (await answer.json())["error"]["code"]) == (502, "answer_too_large")


async def test_an_upstream_that_falls_silent_costs_a_timeout(proxy, fake) -> None:
    fake.pause_s = 2.0
    answer = await post(proxy)
    assert (answer.status, (await answer.json())["error"]["code"]) == (504, "upstream_timeout")
    assert b"broke off" in await (await post(proxy, stream=True)).read()


async def test_an_upstream_that_hangs_up_costs_one_answer(proxy, fake) -> None:
    fake.breaks_off, fake.events, fake.headers = True, TEXT_EVENTS, {}
    body = await (await post(proxy, stream=True)).read()
    assert b"upstream_failed" in body
    fake.breaks_off = False
    fake.events = STREAM
    assert b"quiver_receipt" in await (await post(proxy, stream=True)).read()


async def test_an_upstream_that_is_not_there_is_a_bad_gateway(tmp_path) -> None:
    async with run_proxy(tmp_path, "http://127.0.0.1:9") as proxy:
        answer = await post(proxy)
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "upstream_unreachable")


async def test_more_than_the_limit_at_once_is_told_to_come_back(proxy, fake) -> None:
    fake.pause_s = 0.5
    answers = await asyncio.gather(*(post(proxy) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]


REFUSED = {
    "not JSON": (b"{", 400),
    "a duplicate key": (b'{"model":"m","model":"x"}', 400),
    "a bad nonce": (b'{"model":"m","quiver_nonce":"0x11"}', 400),
    "a nonce and a request without digest": (
        b'{"model":"m","quiver_nonce":"0x' + b"11" * 32 + b'","logit_bias":{"1":0.5}}',
        400,
    ),
    "too large": (b" " * (1024 * 1024 + 1), 413),
}


@pytest.mark.parametrize(("body", "status"), REFUSED.values(), ids=REFUSED)
async def test_refuses_before_the_upstream_is_asked(proxy, fake, body, status) -> None:
    answer = await proxy.post("/v1/chat/completions", data=body)
    assert answer.status == status
    assert fake.asked == []


async def test_paths_outside_v1_and_steps_upwards_are_not_passed_on(proxy, fake) -> None:
    for path in ("/metrics", "/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/../admin"):
        answer = await proxy.session.get(URL(str(proxy.make_url("/")).rstrip("/") + path, encoded=True))
        assert answer.status == 404, path
    assert not any("admin" in line for line, _, _ in fake.asked)


async def test_tells_its_offer(proxy) -> None:
    offer = await (await proxy.get("/quiver/offer")).json()
    assert offer == proxy.identity.signed_offer.to_json()


@pytest.mark.slow
def test_receipts_streamed_answers_of_a_real_server_for_the_official_client(launch, provider) -> None:
    model = "smollm2-135m-instruct"
    running = launch("validator.provider.proxy", upstream=f"{provider.url}/v1", model=model)
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60)
    asked = {"model": model, "messages": ASKED["messages"], "seed": 5, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    text = "".join(part.choices[0].delta.content or "" for part in chunks if part.choices)
    assert text == whole.choices[0].message.content
    offer = running.offer
    # The provider behind has receipted too; the last receipt is the proxy's own.
    for receipt in (whole.quiver_receipt, chunks[-1].quiver_receipt):
        signed = SignedReceipt.from_json(receipt)
        assert signed.receipt.provider == offer.offer.provider
        verify_receipt(
            signed,
            domain=_no_network(),
            offer=offer,
            consumer=ZERO_ADDRESS,
            nonce=signed.receipt.nonce,
            request=asked,
            response=whole.model_dump(),
            now_s=int(time.time()),
        )
    assert [item.id for item in client.models.list()] == [model]
    assert running.stop() == 0


def _no_network():
    return Domain(chain_id=NO_NETWORK_CHAIN_ID, verifying_contract=NO_NETWORK[-20:])
