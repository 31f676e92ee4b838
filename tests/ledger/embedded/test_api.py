"""The ledger over real HTTP: what both clients read, and what the interface refuses."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from challenges.filing import parse_dossier
from challenges.penalty import WEI_PER_QUIV as QUIV
from ledger.embedded.api import build_app
from ledger.embedded.client import LedgerClient
from ledger.embedded.log import compute_leaf_hash, verify_consistency, verify_inclusion
from ledger.embedded.log_head import build_origin, verify_log_head
from ledger.embedded.rate_limit import Rate, RateLimiter
from ledger.embedded.store import LedgerStore
from ledger.embedded.sync_client import SyncLedgerClient
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import MAX_DOCUMENT_BYTES, RegisterProvider, Transfer
from scoring.canonical import decode
from scoring.errors import InvalidInput, Unavailable, VerificationFailed


async def _register(client: LedgerClient, world: Any) -> None:
    signed = world.offer()
    values = {"stake_wei": 10_000 * QUIV, "offer": signed.offer, "offer_signature": signed.signature}
    await client.send(RegisterProvider, world.key("provider"), **values)


async def test_a_client_reads_where_the_ledger_stands(client: LedgerClient, world: Any) -> None:
    status = await client.status()
    assert (status.network, status.chain_id, status.epoch) == (world.genesis.network, 77, -1)
    assert status.issued_wei == world.genesis.issued_wei
    assert await client.genesis() == world.genesis.encode()


async def test_transactions_change_accounts_views_and_events(client: LedgerClient, world: Any) -> None:
    await _register(client, world)
    accepted = await client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=7)
    assert accepted.sequence == 1 and accepted.events[0].name == "transferred"
    assert (await client.account(b"\x01" * 20)).balance_wei == 7
    assert [event.name for event in await client.events()] == ["provider-registered", "transferred"]
    assert [event.sequence for event in await client.events(since=1)] == [1]
    assert len(await client.providers()) == 1 and (await client.view(0)).providers == ()


async def test_one_account_sends_many_transactions_at_once(client: LedgerClient, world: Any) -> None:
    sends = (client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=1) for _ in range(20))
    await asyncio.gather(*sends)
    assert (await client.account(world.address("stranger"))).nonce == 20


async def test_two_clients_of_one_account_do_not_lose_a_transaction(serve: Callable[..., Any], world: Any) -> None:
    url = await serve()
    async with LedgerClient(url, world.genesis.domain) as one, LedgerClient(url, world.genesis.domain) as two:
        values = {"recipient": b"\x01" * 20, "amount_wei": 1}
        await asyncio.gather(*(c.send(Transfer, world.key("stranger"), **values) for c in (one, two, one, two)))
        assert (await one.account(b"\x01" * 20)).balance_wei == 4


async def test_a_checkpoint_that_is_known_is_no_error(client: LedgerClient, world: Any) -> None:
    checkpoint = world.checkpoint()
    certificate = world.certificate(checkpoint)
    assert await client.submit_checkpoint(checkpoint, certificate, world.key("validator-0"))
    assert not await client.submit_checkpoint(checkpoint, certificate, world.key("validator-1"))
    assert await client.checkpoint() == await client.checkpoint(0) == (checkpoint, certificate)
    assert (await client.wait_for_epoch(0, timeout_s=1)).epoch == 0


async def test_a_challenge_is_read_with_its_dossier_and_committee(
    client: LedgerClient, store: LedgerStore, world: Any
) -> None:
    world.register_provider(bond_wei=20 * QUIV)
    world.certify(2)
    dossier = world.dossier()
    challenge_id = world.open_challenge(dossier)
    world.certify(2)
    world.slash()
    for raw in world.log:
        store.append(raw)
    challenge = await client.challenge(challenge_id)
    assert challenge.phase == "committee" and await client.challenges() == (challenge,)
    assert await client.challenges(member=challenge.committee[0]) == (challenge,)
    assert await client.challenges(member=world.address("stranger")) == ()
    assert await client.dossier(challenge_id) == dossier == parse_dossier(dossier.to_json())
    assert await client.is_offence_settled(world.evidence())
    assert not await client.is_offence_settled(world.evidence(rule="another"))
    with pytest.raises(Unavailable, match="not resolved"):
        await client.wait_for_challenge(challenge_id, timeout_s=0.1)


async def test_log_head_and_proofs_verify(client: LedgerClient, serve: Callable[..., Any], world: Any) -> None:
    url = await serve()
    for _ in range(5):
        await client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=1)
    old = await client.status()
    await client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=1)
    head = verify_log_head(await client.log_head(), build_origin(world.genesis.network), old.operator_key)
    async with aiohttp.ClientSession() as session:
        raw = await (await session.get(f"{url}/v1/log/entries/2")).read()
        answer: Any = decode(await (await session.get(f"{url}/v1/log/proof/inclusion?index=2&size=6")).read())
        proof = [bytes.fromhex(item[2:]) for item in answer["proof"]]
        verify_inclusion(head.root, head.size, 2, compute_leaf_hash(raw), proof)
        answer = decode(await (await session.get(f"{url}/v1/log/proof/consistency?first=5&second=6")).read())
        proof = [bytes.fromhex(item[2:]) for item in answer["proof"]]
        verify_consistency(old.log_root, 5, head.root, 6, proof)


async def test_refusals_arrive_as_the_errors_they_were(client: LedgerClient, world: Any) -> None:
    key = world.key("stranger")
    with pytest.raises(TransactionRefused) as refusal:
        await client.send(Transfer, key, recipient=bytes(20), amount_wei=10**30)
    assert (refusal.value.code, refusal.value.field) == ("insufficient-balance", "amount_wei")
    with pytest.raises(VerificationFailed, match="not signed"):
        await client.submit(Transfer(sender=bytes(20), nonce=0, recipient=bytes(20), amount_wei=1), key)
    with pytest.raises(TransactionRefused, match="no such challenge"):
        await client.challenge(bytes(32))
    with pytest.raises(TransactionRefused, match="no checkpoint"):
        await client.checkpoint()


def _get(path: str) -> tuple[str, str, bytes]:
    return "GET", path, b""


REFUSED: dict[str, tuple[tuple[str, str, bytes], int, str]] = {
    "unknown path": (_get("/v1/nothing"), 404, "not-found"),
    "another method": (("DELETE", "/v1/status", b""), 405, "method-not-allowed"),
    "empty transaction": (("POST", "/v1/transactions", b""), 400, "invalid-input"),
    "not JSON": (("POST", "/v1/transactions", b"\xff\xfe"), 400, "invalid-input"),
    "not canonical": (("POST", "/v1/transactions", b'{ "kind": "transfer"}'), 400, "invalid-input"),
    "oversize": (("POST", "/v1/transactions", b"x" * (MAX_DOCUMENT_BYTES + 1)), 413, "too-large"),
    "short address": (_get("/v1/accounts/0x00"), 400, "invalid-input"),
    "upper-case address": (_get("/v1/accounts/0x" + "AB" * 20), 400, "invalid-input"),
    "no epoch": (_get("/v1/state"), 400, "invalid-input"),
    "negative epoch": (_get("/v1/state?epoch=-1"), 400, "invalid-input"),
    "epoch in other digits": (_get("/v1/state?epoch=%D9%A1"), 400, "invalid-input"),
    "epoch beyond 2**53": (_get("/v1/state?epoch=9999999999999999"), 400, "invalid-input"),
    "unknown transaction": (_get("/v1/transactions/0x" + "00" * 32), 404, "not-found"),
    "unknown dossier": (_get(f"/v1/challenges/0x{'00' * 32}/dossier"), 404, "not-found"),
    "entry beyond the log": (_get("/v1/log/entries/5"), 404, "not-found"),
    "proof beyond the log": (_get("/v1/log/proof/inclusion?index=0&size=1"), 400, "invalid-input"),
    "offence without offer": (_get("/v1/offences?rule=x&case=1"), 400, "invalid-input"),
}


@pytest.mark.parametrize(("request_", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_refuses_a_request(
    serve: Callable[..., Any], request_: tuple[str, str, bytes], status: int, code: str
) -> None:
    method, path, body = request_
    async with aiohttp.ClientSession() as session, session.request(method, await serve() + path, data=body) as answer:
        document: Any = decode(await answer.read())
        assert answer.status == status
        assert document["error"]["code"] == code and set(document["error"]) == {"code", "message", "field"}


async def test_a_client_that_asks_too_much_is_told_to_wait(serve: Callable[..., Any], world: Any) -> None:
    async with LedgerClient(await serve(Rate(per_s=0.001, burst=2)), world.genesis.domain) as client:
        await client.status()
        await client.status()
        with pytest.raises(Unavailable, match="too many requests"):
            await client.status()


def test_a_bucket_fills_again_with_time_and_forgets_the_oldest() -> None:
    limiter = RateLimiter(Rate(per_s=1.0, burst=2))
    assert [limiter.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limiter.take("a", 1.0) and not limiter.take("a", 1.0) and limiter.take("b", 1.0)


async def test_a_slow_body_is_cut_off(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.embedded.api.REQUEST_TIMEOUT_S", 0.2)
    url = await serve()
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def _serve_answer(body: bytes, status: int = 200) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


MALFORMED: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 200),
    "not JSON": (b"<html>", 200),
    "another document": (b"{}", 200),
    "a list": (b"[]", 200),
    "numbers as text": (b'{"chain_id":"x"}', 200),
    "deep": (b"[" * 1000, 200),
    "too long": (b"x" * (17 * 1024 * 1024), 200),
    "an error without a document": (b"oops", 400),
    "an error that is no object": (b'{"error":5}', 404),
    "a redirect": (b"", 302),
    "a server error": (b"", 500),
}


@pytest.mark.parametrize(("body", "status"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_ledger_that_answers_garbage_is_unavailable_to_both_clients(
    world: Any, body: bytes, status: int
) -> None:
    runner, url = await _serve_answer(body, status)
    try:
        async with LedgerClient(url, world.genesis.domain) as client:
            with pytest.raises(Unavailable):
                await client.status()

        def ask() -> None:
            with SyncLedgerClient(url, world.genesis.domain) as client, pytest.raises(Unavailable):
                client.status()

        await asyncio.to_thread(ask)
    finally:
        await runner.cleanup()


async def test_a_transaction_whose_answer_was_lost_is_found_in_the_log(store: LedgerStore, world: Any) -> None:
    @web.middleware
    async def hang_up(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        if request.method == "POST" and request.transport is not None:
            request.transport.abort()
        return answer

    app = build_app(store)
    app.middlewares.append(hang_up)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with LedgerClient(f"http://127.0.0.1:{runner.addresses[0][1]}", world.genesis.domain) as client:
        accepted = await client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=7)
        assert accepted.sequence == 0 and (await client.account(b"\x01" * 20)).balance_wei == 7
    await runner.cleanup()


async def test_a_ledger_that_is_not_there_is_unavailable_to_both_clients(world: Any) -> None:
    async with LedgerClient("http://127.0.0.1:1", world.genesis.domain) as client:
        with pytest.raises(Unavailable, match="does not answer"):
            await client.status()
    refusal = pytest.raises(Unavailable, match="does not answer")
    with SyncLedgerClient("http://127.0.0.1:1", world.genesis.domain) as other, refusal:
        other.status()


async def test_a_ledger_that_hangs_is_unavailable(world: Any) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await asyncio.sleep(5)
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with LedgerClient(url, world.genesis.domain, timeout_s=0.2) as client:
        with pytest.raises(Unavailable, match="does not answer"):
            await client.status()
    server.close()


async def test_the_synchronous_client_does_the_same(serve: Callable[..., Any], world: Any) -> None:
    url = await serve()

    def use() -> None:
        with SyncLedgerClient(url, world.genesis.domain) as client:
            accepted = client.send(Transfer, world.key("stranger"), recipient=b"\x01" * 20, amount_wei=7)
            assert accepted.sequence == 0 and client.account(b"\x01" * 20).balance_wei == 7
            assert client.status().log_size == 1 and len(client.events()) == 1
            with pytest.raises(TransactionRefused, match="are needed"):
                client.send(Transfer, world.key("stranger"), recipient=bytes(20), amount_wei=10**30)
            with pytest.raises(InvalidInput, match="epoch"):
                client.view(-1)

    await asyncio.to_thread(use)
