"""The feed client believes no relay: wrong, old, huge, slow and moved answers are refused with typed errors."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from quiver_oracle import (
    FeedClient,
    InvalidInput,
    MockFeed,
    OracleError,
    Unavailable,
    VerificationFailed,
    build_mock_item,
    build_mock_network,
)
from quiver_oracle.client import parse_address
from scoring.feed_index import FeedIndex

NOW_S = 1_900_000_000
ALICE, BOB = b"\x0a" * 20, b"\x0b" * 20
NETWORK = build_mock_network()


def build_feed_of(*providers: bytes, epoch: int = 7, time_s: int = NOW_S - 100) -> MockFeed:
    feed = MockFeed(NETWORK)
    feed.publish([build_mock_item(provider, epoch=epoch, time_s=time_s) for provider in providers])
    return feed


def build_client(transport: httpx.BaseTransport, **options: object) -> FeedClient:
    return FeedClient(
        "https://relay.example/",
        NETWORK.validator_set_file,
        transport=transport,
        clock=lambda: NOW_S + 0.9,
        **options,  # type: ignore[arg-type]
    )


def test_reads_the_item_of_the_provider_that_was_asked_for() -> None:
    with build_client(build_feed_of(ALICE, BOB).transport) as client:
        assert client.get(BOB, max_age_s=100).provider == BOB
        assert client.get("0x" + "0A" * 20, max_age_s=100).provider == ALICE
        assert client.get_proof(BOB, max_age_s=100).item == client.get(BOB, max_age_s=100)


def test_the_age_has_no_default() -> None:
    with build_client(build_feed_of(ALICE).transport) as client, pytest.raises(TypeError, match="max_age_s"):
        client.get(ALICE)  # type: ignore[call-arg]


def test_one_offer_of_several_must_be_named() -> None:
    feed = MockFeed(NETWORK)
    items = [build_mock_item(ALICE, epoch=7, time_s=NOW_S, model=model) for model in ("large", "small")]
    feed.publish(items)
    with build_client(feed.transport) as client:
        for item in items:
            assert client.get(ALICE, max_age_s=100, offer_digest=item.offer_digest) == item
        with pytest.raises(InvalidInput, match="has 2 offers, name one: 0x"):
            client.get(ALICE, max_age_s=100)


def test_refuses_a_relay_that_goes_back_in_time() -> None:
    feed = build_feed_of(ALICE, epoch=8)
    with build_client(feed.transport) as client:
        client.get(ALICE, max_age_s=3600)
        feed.publish([build_mock_item(ALICE, epoch=7, time_s=NOW_S - 200)])
        with pytest.raises(VerificationFailed, match="went back from epoch 8 to 7"):
            client.get(ALICE, max_age_s=3600)


def test_two_thirds_of_the_stake_are_enough_and_less_is_not_published() -> None:
    feed = MockFeed(NETWORK)
    item = build_mock_item(ALICE, epoch=7, time_s=NOW_S)
    feed.publish([item], seats=(0, 1, 2))
    with build_client(feed.transport) as client:
        assert client.get(ALICE, max_age_s=100) == item
    with pytest.raises(VerificationFailed, match="two thirds"):
        feed.publish([item], seats=(0, 1))


def swap_files(feed: MockFeed) -> None:
    first, second = (f"/v1/feed/7/0x{provider.hex()}.json" for provider in (ALICE, BOB))
    feed.files[first], feed.files[second] = feed.files[second], feed.files[first]


def set_proof(content: bytes) -> Callable[[MockFeed], None]:
    return lambda feed: feed.files.update({f"/v1/feed/7/0x{ALICE.hex()}.json": content})


def set_index(content: bytes) -> Callable[[MockFeed], None]:
    return lambda feed: feed.files.update({"/v1/feed/latest": content})


def serve_foreign(feed: MockFeed) -> None:
    foreign = MockFeed(build_mock_network(name="foreign"))
    foreign.publish([build_mock_item(ALICE, epoch=7, time_s=NOW_S)])
    feed.files = foreign.files


GOOD_PROOF = build_feed_of(ALICE, BOB).files[f"/v1/feed/7/0x{ALICE.hex()}.json"]


@pytest.mark.parametrize(
    ("name", "spoil", "error", "sentence"),
    [
        ("another provider's proof", swap_files, VerificationFailed, "about provider"),
        ("a foreign network", serve_foreign, VerificationFailed, "foreign network"),
        ("a truncated proof", set_proof(GOOD_PROOF[:-9]), InvalidInput, "not JSON"),
        ("a forged trust", set_proof(GOOD_PROOF.replace(b'"trust":900', b'"trust":901')), VerificationFailed, "Merkle"),
        ("nothing in the proof", set_proof(b""), InvalidInput, "not JSON"),
        ("a huge proof", set_proof(b"[" * 5_000_000), InvalidInput, "over the limit"),
        ("a huge index", set_index(b"[" * 5_000_000), InvalidInput, "over the limit"),
        ("an index of another kind", set_index(b'{"kind":"x"}'), InvalidInput, "quiver-feed-index-v1"),
        ("an index without the provider", set_index(FeedIndex(epoch=7, entries=()).encode()), Unavailable, "no item"),
        ("an index of an epoch that is not there", set_index(b""), InvalidInput, "not JSON"),
        ("no index", lambda feed: feed.files.pop("/v1/feed/latest"), Unavailable, "status 404"),
    ],
)
def test_refuses(name: str, spoil: Callable[[MockFeed], None], error: type[OracleError], sentence: str) -> None:
    feed = build_feed_of(ALICE, BOB)
    spoil(feed)
    with build_client(feed.transport) as client, pytest.raises(error, match=sentence):
        client.get(ALICE, max_age_s=3600)


def test_refuses_a_stale_item() -> None:
    with (
        build_client(build_feed_of(ALICE).transport) as client,
        pytest.raises(VerificationFailed, match="stale: 100 s"),
    ):
        client.get(ALICE, max_age_s=99)


@pytest.mark.parametrize(
    ("name", "answer", "sentence"),
    [
        ("a redirect", httpx.Response(302, headers={"location": "https://evil.example/"}), "redirect"),
        ("an error page", httpx.Response(500, content=b"oops"), "status 500"),
        ("an empty success", httpx.Response(204), "status 204"),
        ("a compressed body", httpx.Response(200, headers={"content-encoding": "br"}, content=b"x"), "compressed"),
    ],
)
def test_refuses_answers(name: str, answer: httpx.Response, sentence: str) -> None:
    client = build_client(httpx.MockTransport(lambda request: answer))
    with client, pytest.raises(Unavailable, match=sentence):
        client.get(ALICE, max_age_s=100)


def test_a_relay_that_cannot_be_reached_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with build_client(httpx.MockTransport(refuse)) as client, pytest.raises(Unavailable, match="ConnectError"):
        client.get(ALICE, max_age_s=100)


class EndlessBody(httpx.SyncByteStream):
    def __init__(self) -> None:
        self.sent_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.sent_bytes += 2**20
            yield b" " * 2**20


def test_a_relay_that_sends_gigabytes_is_left_at_the_limit() -> None:
    body = EndlessBody()
    client = build_client(httpx.MockTransport(lambda request: httpx.Response(200, stream=body)))
    with client, pytest.raises(InvalidInput, match="the answer is over the limit of 4194304 bytes"):
        client.get(ALICE, max_age_s=100)
    assert body.sent_bytes <= 6 * 2**20


class DrippingRelay(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(2_000):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def dripping_relay() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), DrippingRelay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_relay_that_drips_bytes_forever_is_left_at_the_deadline(dripping_relay: str) -> None:
    started_s = time.monotonic()
    client = FeedClient(dripping_relay, NETWORK.validator_set_file, timeout_s=0.4)
    with client, pytest.raises(Unavailable, match=r"longer than 0\.4 s"):
        client.get(ALICE, max_age_s=100)
    # Far below the 100 s for which the relay drips.
    assert time.monotonic() - started_s < 30


@pytest.mark.parametrize("value", ["0x12", "zz" * 20, "", b"\x01" * 19, "0x" + "00" * 21])
def test_refuses_addresses(value: bytes | str) -> None:
    with pytest.raises(InvalidInput, match="provider"):
        parse_address(value)


@pytest.mark.parametrize("url", ["relay.example", "file:///etc/passwd", "ftp://relay.example"])
def test_refuses_urls(url: str) -> None:
    with pytest.raises(InvalidInput, match="url"):
        FeedClient(url, NETWORK.validator_set_file)
