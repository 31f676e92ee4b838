"""A provider with receipts and an embedded ledger, both real and on loopback, for those who deal with them."""

import asyncio
import http.server
import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from challenges.receipt import build_receipt
from challenges.signed import SignedOffer, sign_offer, sign_receipt
from ledger.embedded.api import build_app
from ledger.embedded.store import LedgerStore
from ledger.embedded.sync_client import SyncLedgerClient
from ledger.state.genesis import Genesis, GenesisValidator, build_genesis
from ledger.state.parameters import Parameters
from ledger.state.transactions import PostPerformanceBond, RegisterProvider
from scoring import bls
from scoring.ecdsa import address_of
from scoring.hashing import keccak256
from scoring.records import Offer

QUIV = 10**18
PROVIDER_KEY, CONSUMER_KEY, STRANGER_KEY = keccak256(b"provider"), keccak256(b"consumer"), keccak256(b"stranger")


def build_court_genesis(trial: Any) -> Genesis:
    """Return a genesis with the trial's plan and seats, a provider, a consumer and a stranger with balances."""
    seats = [
        GenesisValidator(
            entry=entry, endpoint=f"http://127.0.0.1:{9000 + seat}", proof_of_possession=bls.pop_prove(secret_key)
        )
        for seat, (entry, secret_key) in enumerate(zip(trial.validator_set.validators, trial.secret_keys, strict=True))
    ]
    return build_genesis(
        chain_id=77,
        network_name="court",
        start_s=int(time.time()) - 3600,
        epoch_s=10,
        epochs_per_day=8640,
        plan=trial.plan,
        parameters=Parameters(timelock_epochs=0),
        balances={address_of(key): 100_000 * QUIV for key in (PROVIDER_KEY, CONSUMER_KEY, STRANGER_KEY)},
        validators=seats,
        beacon=b"\x0b" * 32,
    )


@dataclass(slots=True)
class Court:
    """A running ledger with one registered provider; `offer` is the provider's."""

    genesis: Genesis
    url: str
    offer: SignedOffer

    consumer_key: bytes = CONSUMER_KEY
    stranger_key: bytes = STRANGER_KEY

    def ask(self, **changes: Any) -> dict[str, Any]:
        """Return a request of the consumer; `changes` replace its fields."""
        request: dict[str, Any] = {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 1.0,
            "top_p": 0.9,
            "max_tokens": 8,
            "seed": 5,
            "return_token_ids": True,
            "quiver_nonce": "0x" + "07" * 32,
            "quiver_consumer": "0x" + address_of(CONSUMER_KEY).hex(),
        }
        return request | changes

    def answer(self, request: dict[str, Any], counter: int = 1, **changes: Any) -> dict[str, Any]:
        """Return the provider's answer with its receipt; `changes` go into the receipt."""
        response: dict[str, Any] = {
            "id": "chatcmpl-1",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"answer {counter}"},
                    "finish_reason": "stop",
                    "token_ids": [1, 2, counter],
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }
        given: dict[str, Any] = {
            "network": self.genesis.network,
            "offer": self.offer.offer,
            "consumer": bytes.fromhex(request["quiver_consumer"][2:]),
            "nonce": bytes.fromhex(request["quiver_nonce"][2:]),
            "request": request,
            "response": response,
            "default_max_tokens": 8,
            "counter": counter,
            "issued_s": int(time.time()) - 5,
            "expires_s": int(time.time()) + 3600,
        }
        receipt = build_receipt(**(given | changes))
        return {**response, "quiver_receipt": sign_receipt(receipt, self.genesis.domain, PROVIDER_KEY).to_json()}

    def client(self) -> SyncLedgerClient:
        """Return a client of the ledger."""
        return SyncLedgerClient(self.url, self.genesis.domain)


@pytest.fixture
def court(trial: Any, tmp_path: Path) -> Iterator[Court]:
    genesis = build_court_genesis(trial)
    with _serve_in_thread(tmp_path / "ledger", genesis) as url:
        offer = _register_provider(SyncLedgerClient(url, genesis.domain), genesis, trial.plan.manifest_digest)
        yield Court(genesis=genesis, url=url, offer=offer)


@contextmanager
def _serve_in_thread(folder: Path, genesis: Genesis) -> Iterator[str]:
    """Serve a ledger from a thread of its own (where its database must be opened too)."""
    loop, urls = asyncio.new_event_loop(), queue.SimpleQueue[str]()
    stop = asyncio.Event()

    async def serve() -> None:
        store = LedgerStore(folder, genesis.encode())
        runner = web.AppRunner(build_app(store), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        urls.put(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stop.wait()
        await runner.cleanup()
        store.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    yield urls.get(timeout=20)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def _register_provider(client: SyncLedgerClient, genesis: Genesis, manifest_digest: bytes) -> SignedOffer:
    offer = Offer(
        provider=address_of(PROVIDER_KEY),
        model="m",
        manifest_digest=manifest_digest,
        sampler=genesis.plan.sampler,
        context_length_tokens=2048,
        input_price_wei=1,
        output_price_wei=2,
        advertised_ttft_ms=100,
        advertised_tokens_per_s=10,
        endpoint="http://127.0.0.1:1",
        issued_s=genesis.start_s,
        expires_s=genesis.start_s + 1_000_000,
    )
    signed = sign_offer(offer, genesis.domain, PROVIDER_KEY)
    with client:
        client.send(
            RegisterProvider, PROVIDER_KEY, stake_wei=10_000 * QUIV, offer=offer, offer_signature=signed.signature
        )
        client.send(PostPerformanceBond, PROVIDER_KEY, amount_wei=100 * QUIV)
    return signed


@dataclass(slots=True)
class Shop:
    """A provider's HTTP server: `answers` by (method, path), each (status, body); what was posted is in `posted`."""

    url: str
    answers: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def shop() -> Iterator[Shop]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            served.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer("POST")

        def _answer(self, method: str) -> None:
            status, body = served.answers.get((method, self.path), (404, b"nothing here"))
            self.send_response(status)
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # the client has seen enough
                return

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Shop(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()
