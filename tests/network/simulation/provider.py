"""Providers of every character behind real HTTP: their receipts are real, their tokens are made up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from simulation.engine import decode_tokens, draw_tokens
from simulation.setting import MANIFEST, NOW_S, START_S, provider_key

from challenges.receipt import build_receipt, sign_offer, sign_receipt
from challenges.signed import SignedOffer
from scoring import canonical
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.hashing import keccak256
from scoring.records import Offer

LIARS = frozenset({"liar"})
BROKEN = frozenset({"hangs", "fails", "garbage", "deep", "endless", "mute", "forger", "short", "renamed"})
"""Characters whose answers are worth nothing: each costs its validator one unscored sample."""


@dataclass
class StandIn:
    """One provider. `character` says what it does; `is_lying` and `compute_delay_s` let a test treat requests apart."""

    name: str
    character: str
    stake_quiv: int = 50_000
    requests: list[dict[str, Any]] = field(default_factory=list)
    is_lying: Callable[[dict[str, Any]], bool] | None = None
    compute_delay_s: Callable[[dict[str, Any]], float] | None = None
    _runner: web.AppRunner | None = None
    _network: bytes = b""
    _domain: Domain | None = None
    _signed: SignedOffer | None = None
    _counters: dict[bytes, int] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return provider_key(self.name)

    @property
    def offer(self) -> SignedOffer:
        assert self._signed is not None
        return self._signed

    async def start(self, network: bytes, domain: Domain) -> None:
        self._network, self._domain = network, domain
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._signed = self._build_offer(f"http://127.0.0.1:{self._runner.addresses[0][1]}")

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _build_offer(self, endpoint: str) -> SignedOffer:
        # Who never answers is waited for ten times what it advertises.
        ttft_ms = 20 if self.character in ("hangs", "endless") else 2_000
        offer = Offer(
            provider=address_of(self.key),
            model="m",
            manifest_digest=MANIFEST,
            sampler="gumbel-philox-v1",
            context_length_tokens=2048,
            input_price_wei=1,
            output_price_wei=2,
            advertised_ttft_ms=ttft_ms,
            advertised_tokens_per_s=1_000,
            endpoint=endpoint,
            issued_s=START_S,
            expires_s=START_S + 1_000_000,
        )
        assert self._domain is not None
        return sign_offer(offer, self._domain, self.key)

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        request = await http.json()
        self.requests.append(request)
        if self.compute_delay_s is not None:
            await asyncio.sleep(self.compute_delay_s(request))
        match self.character:
            case "hangs":
                await asyncio.sleep(3600)
            case "fails":
                return web.Response(status=500)
            case "garbage":
                return web.Response(body=b'{"choices": "\xff\xfe', content_type="application/json")
            case "deep":
                return web.Response(body=b"[" * 60_000, content_type="application/json")
            case "endless":
                return await _stream_forever(http)
            case "flaky" if len(self.requests) % 2:
                return web.Response(status=503)
        return web.Response(body=canonical.encode(self.build_answer(request)), content_type="application/json")

    def build_answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request with its receipt, as this character gives it."""
        nonce = bytes.fromhex(request["quiver_nonce"][2:])
        consumer = bytes.fromhex(request["quiver_consumer"][2:])
        lies = self.character in LIARS if self.is_lying is None else self.is_lying(request)
        tokens = draw_tokens(nonce, request["max_tokens"], lies)
        response = build_response(tokens[:-1] if self.character == "short" else tokens)
        if self.character == "mute":
            return response
        self._counters[consumer] = self._counters.get(consumer, 0) + 1
        assert self._domain is not None
        receipt = build_receipt(
            network=self._network,
            offer=self.offer.offer,
            consumer=consumer,
            nonce=nonce,
            request=request,
            response=response,
            default_max_tokens=request["max_tokens"],
            counter=self._counters[consumer],
            issued_s=NOW_S,
            expires_s=NOW_S + 100_000,
        )
        if self.character == "short":
            # It signs for more than it delivers.
            receipt = replace(receipt, completion_tokens=request["max_tokens"])
        signer = keccak256(b"somebody else") if self.character == "forger" else self.key
        signed = sign_receipt(receipt, self._domain, signer)
        if self.character == "renamed":
            response["model"] = "another"
        return response | {"quiver_receipt": signed.to_json()}


def build_response(tokens: tuple[int, ...]) -> dict[str, Any]:
    """Return a chat completion of made-up tokens, without a receipt."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": decode_tokens(tokens)},
                "finish_reason": "length",
                "token_ids": list(tokens),
            }
        ],
        "usage": {"prompt_tokens": 8, "completion_tokens": len(tokens), "total_tokens": 8 + len(tokens)},
    }


async def _stream_forever(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(http)
    while True:
        await response.write(b" " * 64)
        await asyncio.sleep(0.02)
