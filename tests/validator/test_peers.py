"""The transport between validators: what reaches the round, what is refused and in which order, what is sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, Unavailable, VerificationFailed
from scoring.hashing import keccak256
from validator import peer_inbox
from validator.http_errors import build_app
from validator.keys import ValidatorKeys, sign_transport
from validator.peer_envelope import (
    ENVELOPE_HEADER,
    MAX_BODY_BYTES,
    MESSAGE_PATH,
    PeerEnvelope,
    PeerKind,
    SignedEnvelope,
    sign_envelope,
)
from validator.peer_inbox import InboxLimits, PeerInbox, PeerMessage, add_peer_routes
from validator.peers import Peer, PeerClient, PeerRefused, PeerResult, SendLimits
from validator.rate_limit import Rate
from validator.store import Store

ALICE, BOB, EVE = (ValidatorKeys.from_seed(name * 16) for name in (b"a", b"b", b"e"))
NETWORK = b"n" * 32
DOMAIN = Domain(chain_id=5, verifying_contract=NETWORK[-20:])
KEY_BY_ADDRESS = {keys.address: keys.transport_key for keys in (ALICE, BOB)}
LIMITS = SendLimits(timeout_s=20.0, tries=2, backoff_s=0.01)
BODY: Json = {"epoch": 3}


@dataclass
class BobNode:
    """Bob's inbox on a real socket, with what reached his handler."""

    store: Store
    documents: dict[bytes, bytes] = field(default_factory=dict)
    received: list[PeerMessage] = field(default_factory=list)
    limits: InboxLimits = field(default_factory=InboxLimits)
    errors: list[Exception] = field(default_factory=list)
    url: str = ""

    async def handle(self, message: PeerMessage) -> Json:
        if self.errors:
            raise self.errors.pop()
        self.received.append(message)
        return {"heard": message.kind.value}


@asynccontextmanager
async def run_bob(node: BobNode) -> AsyncIterator[str]:
    inbox = PeerInbox(
        address=BOB.address,
        network=NETWORK,
        domain=DOMAIN,
        find_transport_key=KEY_BY_ADDRESS.get,
        find_document=node.documents.get,
        counters=node.store,
        handler=node.handle,
        now_s=lambda: 0.0,
        limits=node.limits,
    )
    app = build_app()
    add_peer_routes(app, inbox)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield node.url
    finally:
        await runner.cleanup()


@pytest.fixture
def node(tmp_path: Path) -> BobNode:
    return BobNode(store=Store(tmp_path / "bob.sqlite"))


def bob(url: str) -> Peer:
    return Peer(address=BOB.address, endpoint=url)


@asynccontextmanager
async def run_alice(tmp_path: Path, now_ms: int = 1, limits: SendLimits = LIMITS) -> AsyncIterator[PeerClient]:
    client = PeerClient(
        address=ALICE.address,
        network=NETWORK,
        domain=DOMAIN,
        sign=lambda digest: sign_transport(ALICE.transport_seed, digest),
        counters=Store(tmp_path / "alice.sqlite"),
        now_ms=lambda: now_ms,
        limits=limits,
    )
    async with client:
        yield client


async def test_hands_the_round_a_message_whose_sender_is_certain(node: BobNode, tmp_path: Path) -> None:
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        assert await alice.send(bob(url), PeerKind.COMMIT, BODY) == {"heard": "commit"}
    assert node.received == [PeerMessage(sender=ALICE.address, kind=PeerKind.COMMIT, body=BODY)]


async def test_carries_a_large_reveal(node: BobNode, tmp_path: Path) -> None:
    body: Json = {"transcripts": ["x" * 1000] * 3000}
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        await alice.send(bob(url), PeerKind.REVEAL, body)
    assert node.received[0].body == body


async def test_keeps_the_order_of_messages_sent_at_once(node: BobNode, tmp_path: Path) -> None:
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        await asyncio.gather(*(alice.send(bob(url), PeerKind.VOTE, {"number": number}) for number in range(20)))
    assert len(node.received) == 20
    assert node.store.get_inbound_counter(ALICE.address) == 20


async def test_broadcasts_to_all_and_reports_each(node: BobNode, tmp_path: Path) -> None:
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        gone = Peer(address=EVE.address, endpoint="http://127.0.0.1:1")
        results = await alice.broadcast([bob(url), gone], PeerKind.COMMIT, BODY)
    assert results[BOB.address].reply == {"heard": "commit"} and results[BOB.address].error is None
    assert isinstance(results[EVE.address].error, Unavailable)


@asynccontextmanager
async def run_hanging() -> AsyncIterator[Peer]:
    """A peer that takes connections and never answers."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    try:
        yield Peer(address=EVE.address, endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()


async def test_is_not_held_up_by_a_peer_that_hangs(node: BobNode, tmp_path: Path) -> None:
    results: list[PeerResult] = []
    async with run_bob(node) as url, run_hanging() as eve:
        async with run_alice(tmp_path) as alice:
            alice.broadcast_soon([eve, bob(url)], PeerKind.COMMIT, BODY, results.append)
            assert node.received == [] and results == []
            async with asyncio.timeout(15):
                while not results:
                    await asyncio.sleep(0.01)
        assert [result.peer.address for result in results] == [BOB.address] and len(node.received) == 1


async def test_keeps_a_bounded_queue_for_a_peer_that_hangs(tmp_path: Path) -> None:
    results: list[PeerResult] = []
    async with run_hanging() as eve, run_alice(tmp_path) as alice:
        for _ in range(LIMITS.max_waiting + 5):
            alice.broadcast_soon([eve], PeerKind.COMMIT, BODY, results.append)
        await asyncio.sleep(0.05)
        assert len(results) == 5
        assert all("wait for peer" in str(result.error) for result in results)


async def test_starts_above_what_peers_have_seen_after_its_store_was_lost(node: BobNode, tmp_path: Path) -> None:
    async with run_bob(node) as url:
        async with run_alice(tmp_path, now_ms=1000) as alice:
            await alice.send(bob(url), PeerKind.COMMIT, BODY)
        (tmp_path / "new").mkdir()
        async with run_alice(tmp_path / "new", now_ms=2000) as alice:
            await alice.send(bob(url), PeerKind.COMMIT, BODY)
    assert len(node.received) == 2


async def test_refuses_a_replay_after_a_restart_of_the_receiver(node: BobNode, tmp_path: Path) -> None:
    headers, body = forge()
    async with run_bob(node) as url:
        assert (await post(url, headers, body))[0] == 200
    node.store.close()
    node.store = Store(tmp_path / "bob.sqlite")
    async with run_bob(node) as url:
        assert (await post(url, headers, body))[0] == 403


def forge(
    sign_with: ValidatorKeys = ALICE,
    body: bytes = canonical.encode(BODY),
    header: Callable[[str], str] = lambda text: text,
    **changes: object,
) -> tuple[dict[str, str], bytes]:
    """Build the header and body of a message as Alice would, with changes to the envelope before it is signed."""
    values: dict[str, object] = {
        "network": NETWORK,
        "sender": ALICE.address,
        "recipient": BOB.address,
        "kind": "commit",
        "counter": 7,
        "body_digest": keccak256(body),
        "body_bytes": len(body),
    }
    envelope = PeerEnvelope(**(values | changes))  # type: ignore[arg-type]
    signed = sign_envelope(envelope, DOMAIN, lambda digest: sign_transport(sign_with.transport_seed, digest))
    return {ENVELOPE_HEADER: header(signed.encode_header())}, body


async def post(url: str, headers: dict[str, str], body: bytes | AsyncIterator[bytes]) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(url + MESSAGE_PATH, data=body, headers=headers) as got:
        document = canonical.decode(await got.read())
        assert isinstance(document, dict)
        error = document.get("error", {})
        assert isinstance(error, dict)
        return got.status, str(error.get("message", ""))


def swapped(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


Refused = tuple[str, Callable[[], tuple[dict[str, str], bytes]], int, str]
REFUSED: list[Refused] = [
    ("an unknown sender", lambda: forge(EVE, sender=EVE.address), 403, "not in the validator set"),
    ("another's name", lambda: forge(EVE), 403, "not signed by the sender"),
    ("another network", lambda: forge(network=b"m" * 32), 403, "another network"),
    ("another recipient", lambda: forge(recipient=EVE.address), 403, "for another validator"),
    ("a counter of zero", lambda: forge(counter=0), 403, "counter"),
    ("a counter changed after signing", lambda: forge(header=swapped('"counter":7', '"counter":8')), 403, "not signed"),
    ("a kind changed after signing", lambda: forge(header=swapped('"commit"', '"reveal"')), 403, "not signed"),
    ("an unknown kind", lambda: forge(header=swapped('"commit"', '"gossip"')), 400, "unknown kind"),
    ("another body", lambda: (forge()[0], b'{"epoch":4}'), 403, "not the one in the envelope"),
    ("a shorter body", lambda: (forge()[0], b"{}"), 403, "not the one in the envelope"),
    ("a longer body", lambda: (forge()[0], b" " * 100), 400, "over the limit of 11"),
    ("a body that is not canonical", lambda: forge(body=b'{"epoch": 3}'), 400, "not canonical"),
    ("a body that is not JSON", lambda: forge(body=b"\xff\xfe"), 400, "not UTF-8"),
    ("a deep body", lambda: forge(body=b"[" * 1000 + b"]" * 1000), 400, "nested deeper"),
    ("a body over the limit of its kind", lambda: forge(header=swapped('"body_bytes":11', '"body_bytes":99999')), 400,
     "over the limit of a commit"),
    ("a compressed body", lambda: (forge()[0] | {"Content-Encoding": "gzip"}, forge()[1]), 400, "compressed"),
    ("no envelope", lambda: ({}, b"{}"), 400, "missing"),
    ("an envelope that is not JSON", lambda: forge(header=lambda _: "hello"), 400, "not JSON"),
    ("an envelope that is not canonical", lambda: forge(header=lambda text: text + " "), 200, ""),
    ("an envelope with spaces inside", lambda: forge(header=swapped(":", ": ")), 400, "not canonical"),
    ("an envelope with an unknown key", lambda: forge(header=swapped('"kind"', '"kinds"')), 400, "kinds"),
    ("an envelope of the wrong type", lambda: forge(header=lambda _: "[]"), 400, "expected an envelope"),
    ("a huge envelope", lambda: forge(header=lambda _: '"' + "x" * 3000 + '"'), 400, "over the limit of 2048"),
    ("a short signature", lambda: forge(header=lambda text: text[:-4] + '"}'), 400, "expected 64 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "status", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refuses_a_message_with(
    node: BobNode, build: Callable[[], tuple[dict[str, str], bytes]], status: int, message: str
) -> None:
    headers, body = build()
    async with run_bob(node) as url:
        got = await post(url, headers, body)
    assert got[0] == status and message in got[1], got
    assert len(node.received) == (1 if status == 200 else 0)


async def test_refuses_a_replay_and_a_step_back(node: BobNode) -> None:
    async with run_bob(node) as url:
        assert (await post(url, *forge(counter=7)))[0] == 200
        for counter in (7, 6):
            status, message = await post(url, *forge(counter=counter))
            assert status == 403 and "replay" in message
        assert (await post(url, *forge(counter=8)))[0] == 200
    assert len(node.received) == 2


async def test_spends_no_signature_check_on_what_is_refused_by_cheaper_means(
    node: BobNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the signature was checked")

    async with run_bob(node) as url:
        assert (await post(url, *forge(counter=7)))[0] == 200
        monkeypatch.setattr(peer_inbox, "verify_envelope", fail)
        for headers, body in (forge(counter=7), forge(network=b"m" * 32), forge(EVE, sender=EVE.address)):
            assert (await post(url, headers, body))[0] == 403


async def test_refuses_a_flood_from_one_validator_and_one_address(node: BobNode) -> None:
    node.limits = InboxLimits(sender_rate=Rate(per_s=0, burst=3))
    async with run_bob(node) as url:
        statuses = [(await post(url, *forge(counter=counter)))[0] for counter in range(1, 6)]
        assert statuses == [200, 200, 200, 429, 429]
    assert node.store.get_inbound_counter(ALICE.address) == 3
    node.limits = InboxLimits(address_rate=Rate(per_s=0, burst=2))
    async with run_bob(node) as url:
        # Forgeries under Alice's name cost the forger's address its rate, not Alice hers.
        statuses = [(await post(url, *forge(EVE, counter=counter)))[0] for counter in range(10, 14)]
        assert statuses == [403, 403, 429, 429]


async def test_gives_up_on_a_body_that_does_not_come(node: BobNode) -> None:
    node.limits = InboxLimits(body_timeout_s=0.1)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)
        yield b"}"

    async with run_bob(node) as url:
        status, message = await post(url, forge()[0], trickle())
    assert status == 400 and "did not arrive" in message


ERRORS = [
    (InvalidInput("no such epoch", "epoch"), PeerRefused, 400),
    (VerificationFailed("bad signature"), PeerRefused, 403),
    (Unavailable("still starting"), Unavailable, 503),
]


@pytest.mark.parametrize(("error", "seen", "status"), ERRORS, ids=lambda value: str(value)[:20])
async def test_tells_the_sender_what_its_handler_raised(
    node: BobNode, tmp_path: Path, error: Exception, seen: type[Exception], status: int
) -> None:
    node.errors = [error] * LIMITS.tries
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        with pytest.raises(seen, match=str(error)):
            await alice.send(bob(url), PeerKind.COMMIT, BODY)


async def test_sends_again_under_a_new_counter_when_no_reply_came(node: BobNode, tmp_path: Path) -> None:
    node.errors = [Unavailable("busy")]
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        assert await alice.send(bob(url), PeerKind.COMMIT, BODY) == {"heard": "commit"}
    assert len(node.received) == 1
    assert node.store.get_inbound_counter(ALICE.address) == 2


async def test_refuses_to_send_what_is_over_the_limit_or_to_nobody(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1"
    async with run_alice(tmp_path) as alice:
        with pytest.raises(InvalidInput, match="over the limit"):
            await alice.send(bob(url), PeerKind.COMMIT, "x" * MAX_BODY_BYTES[PeerKind.COMMIT])
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await alice.send(bob(url), PeerKind.COMMIT, BODY)


BAD_REPLIES = [
    ("hangs", None, Unavailable),
    ("sends no JSON", web.Response(body=b"hello"), PeerRefused),
    ("sends JSON that is not canonical", web.Response(body=b'{"a": 1}'), PeerRefused),
    ("redirects", web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), PeerRefused),
    ("fails", web.Response(status=500, body=b"oops"), PeerRefused),
    ("is overloaded", web.Response(status=503, body=b"later"), Unavailable),
    ("sends too much", web.Response(body=b"x" * (17 * 2**20)), PeerRefused),
]


@pytest.mark.parametrize(("reply", "error"), [row[1:] for row in BAD_REPLIES], ids=[row[0] for row in BAD_REPLIES])
async def test_survives_a_peer_that(tmp_path: Path, reply: web.Response | None, error: type[Exception]) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        if reply is None:
            await asyncio.sleep(10)
        assert reply is not None
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    app = web.Application(client_max_size=2**24)
    app.router.add_post(MESSAGE_PATH, serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    limits = replace(LIMITS, timeout_s=0.3 if reply is None else 20.0, tries=1)
    try:
        async with run_alice(tmp_path, limits=limits) as alice:
            with pytest.raises(error):
                await alice.send(bob(url), PeerKind.COMMIT, BODY)
    finally:
        await runner.cleanup()


async def test_fetches_a_document_by_its_digest_and_checks_it(node: BobNode, tmp_path: Path) -> None:
    good, forged = keccak256(b"a transcript"), keccak256(b"another")
    node.documents = {good: b"a transcript", forged: b"forged"}
    async with run_bob(node) as url, run_alice(tmp_path) as alice:
        assert await alice.fetch_document(bob(url), good) == b"a transcript"
        assert await alice.find_document([bob(url)], good) == b"a transcript"
        with pytest.raises(VerificationFailed):
            await alice.fetch_document(bob(url), forged)
        with pytest.raises(PeerRefused) as caught:
            await alice.fetch_document(bob(url), keccak256(b"unknown"))
        assert caught.value.status == 404
        with pytest.raises(PeerRefused, match="more than 5 bytes"):
            await alice.fetch_document(bob(url), good, max_bytes=5)
        assert await alice.find_document([bob(url)], forged) is None


@pytest.mark.parametrize("digest", ["0x00", "00" * 32, "0x" + "0g" * 32, "0x" + "00" * 33])
async def test_refuses_a_document_name_that_is_no_digest(node: BobNode, digest: str) -> None:
    async with (
        run_bob(node) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/peer/v1/documents/{digest}") as got,
    ):
        assert got.status == 400


def test_refuses_an_envelope_of_bytes_that_are_no_text() -> None:
    with pytest.raises(InvalidInput, match="not UTF-8"):
        SignedEnvelope.decode_header('"\udcff"')
