"""The receiving side of the transport: which messages reach the round, in the order in which it is cheap to tell.

Shape and size of the envelope, network, recipient, known sender, higher counter, rate of the address it comes from,
signature, rate of the sender; then the counter is written down, and only then the body is read, compared with the
digest and parsed. A message that fails anywhere changes nothing but, from the counter on, the counter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Domain, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from validator.http_errors import NotFound, RateLimited, build_json_response, read_body
from validator.peer_envelope import (
    DOCUMENT_PATH,
    ENVELOPE_HEADER,
    MESSAGE_PATH,
    PeerEnvelope,
    PeerKind,
    SignedEnvelope,
    verify_body,
    verify_envelope,
)
from validator.rate_limit import Rate, RateLimiter


class InboundCounters(Protocol):
    """Remembers the highest counter of each sender, across restarts. `Store` is one."""

    def get_inbound_counter(self, sender: bytes) -> int:
        """Return the highest accepted, 0 for none."""
        ...

    def accept_inbound_counter(self, sender: bytes, counter: int) -> bool:
        """Record a higher counter durably; False when it is not higher. Atomic."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMessage:
    """A message whose sender is certain and whose bytes are canonical; its content is still to be judged."""

    sender: bytes
    kind: PeerKind
    body: Json


PeerHandler = Callable[[PeerMessage], Awaitable[Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxLimits:
    """Rates by sender and by network address, and how long a body may take to arrive."""

    sender_rate: Rate = field(default_factory=lambda: Rate(per_s=20, burst=200))
    address_rate: Rate = field(default_factory=lambda: Rate(per_s=100, burst=1000))
    body_timeout_s: float = 10.0


class PeerInbox:
    """Judges incoming messages and hands the good ones to `handler`, whose JSON reply goes back.

    `find_transport_key(sender)` returns the Ed25519 key of a validator of the current set, or None. The handler must
    take the same message twice (a sender that saw no reply sends it again under a new counter) and may raise
    OracleError, which goes back as the error form of `http_errors`.
    """

    def __init__(
        self,
        *,
        address: bytes,
        network: bytes,
        domain: Domain,
        find_transport_key: Callable[[bytes], bytes | None],
        find_document: Callable[[bytes], bytes | None],
        counters: InboundCounters,
        handler: PeerHandler,
        now_s: Callable[[], float],
        limits: InboxLimits | None = None,
    ) -> None:
        self._address = address
        self._network = network
        self._domain = domain
        self._find_transport_key = find_transport_key
        self._find_document = find_document
        self._counters = counters
        self._handler = handler
        self._limits = limits or InboxLimits()
        self._sender_limiter = RateLimiter(self._limits.sender_rate, now_s)
        self._address_limiter = RateLimiter(self._limits.address_rate, now_s)
        self._locks: dict[bytes, asyncio.Lock] = {}

    async def process_request(self, request: web.Request) -> web.Response:
        """Judge one POST; raises OracleError for `http_errors.map_errors`."""
        header = request.headers.get(ENVELOPE_HEADER)
        if header is None:
            raise InvalidInput("missing", ENVELOPE_HEADER)
        signed = SignedEnvelope.decode_header(header)
        self._check_address_rate(request)
        envelope = signed.envelope
        transport_key = self._find_sender(envelope)
        # One at a time for each sender: its counters arrive in order and its bodies cannot pile up in memory.
        async with self._locks.setdefault(envelope.sender, asyncio.Lock()):
            self._admit(signed, transport_key)
            body = await read_body(request, envelope.body_bytes, self._limits.body_timeout_s)
            verify_body(envelope, body)
            message = PeerMessage(
                sender=envelope.sender, kind=PeerKind(envelope.kind), body=canonical.decode(body, len(body))
            )
        return build_json_response(await self._handler(message))

    async def process_document_request(self, request: web.Request) -> web.Response:
        """Answer a GET of a document by its digest."""
        self._check_address_rate(request)
        digest = parse_hex(request.match_info["digest"], "digest")
        if len(digest) != 32:
            raise InvalidInput("expected 32 bytes", "digest")
        body = self._find_document(digest)
        if body is None:
            raise NotFound("no document of this digest here")
        return web.Response(body=body, content_type="application/octet-stream")

    def _find_sender(self, envelope: PeerEnvelope) -> bytes:
        if envelope.network != self._network:
            raise VerificationFailed("the message is of another network")
        if envelope.recipient != self._address:
            raise VerificationFailed("the message is for another validator")
        transport_key = self._find_transport_key(envelope.sender)
        if transport_key is None:
            raise VerificationFailed(f"0x{envelope.sender.hex()} is not in the validator set")
        return transport_key

    def _admit(self, signed: SignedEnvelope, transport_key: bytes) -> None:
        sender, counter = signed.envelope.sender, signed.envelope.counter
        if counter <= self._counters.get_inbound_counter(sender):
            raise VerificationFailed("the counter is not higher than the last one: a replay, or out of order")
        verify_envelope(signed, self._domain, transport_key)
        if not self._sender_limiter.is_allowed(sender):
            raise RateLimited("too many messages from this validator")
        if not self._counters.accept_inbound_counter(sender, counter):
            raise VerificationFailed("the counter is not higher than the last one: a replay, or out of order")

    def _check_address_rate(self, request: web.Request) -> None:
        # Before the signature, which costs the most: forged envelopes are limited by where they come from, and cannot
        # use up the sender's own rate.
        if not self._address_limiter.is_allowed(request.remote):
            raise RateLimited("too many requests from this address")


def add_peer_routes(app: web.Application, inbox: PeerInbox) -> None:
    """Add the two routes of the transport. The application has the middleware of `http_errors`."""
    app.router.add_post(MESSAGE_PATH, inbox.process_request)
    app.router.add_get(DOCUMENT_PATH, inbox.process_document_request)
