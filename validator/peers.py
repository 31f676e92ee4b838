"""The sending side of the transport: messages to other validators, with time limits and few retries.

Messages to one peer go one after the other, because counters must arrive in order; different peers are served at once.
A retry is a new message under a new counter, so receivers take the same content twice. Replies are not authenticated:
whatever matters in them carries its own signature or is compared with a digest.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
from scoring.hashing import keccak256
from validator.peer_envelope import (
    DOCUMENT_PATH,
    ENVELOPE_HEADER,
    MAX_BODY_BYTES,
    MESSAGE_PATH,
    MIB,
    PeerEnvelope,
    PeerKind,
    sign_envelope,
)

MAX_REPLY_BYTES = 16 * MIB
MAX_DOCUMENT_BYTES = 16 * MIB
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class OutboundCounters(Protocol):
    """Numbers our messages to each recipient, strictly rising across restarts. `Store` is one."""

    def next_outbound_counter(self, recipient: bytes, now_ms: int) -> int:
        """Return the next counter once it is durable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another validator: its account and the URL it listens at."""

    address: bytes
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """`timeout_s` for one try, `tries` in all, waiting `backoff_s`, then twice that, and so on, between them.

    `max_waiting` messages may wait for one peer; a peer that hangs is not allowed to fill our memory.
    """

    timeout_s: float = 10.0
    tries: int = 4
    backoff_s: float = 0.5
    max_waiting: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """What a broadcast got from one peer: a reply, or the error that stopped it."""

    peer: Peer
    reply: Json
    error: OracleError | None


class PeerRefused(OracleError):
    """The peer understood and refused, or answered what is no reply. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class PeerClient:
    """Sends as one validator; use it with `async with`.

    `sign` makes the Ed25519 signature (`Signer.sign_envelope`); `now_ms` is unix time.
    """

    def __init__(
        self,
        *,
        address: bytes,
        network: bytes,
        domain: Domain,
        sign: Callable[[bytes], bytes],
        counters: OutboundCounters,
        now_ms: Callable[[], int],
        limits: SendLimits | None = None,
    ) -> None:
        self._address = address
        self._network = network
        self._domain = domain
        self._sign = sign
        self._counters = counters
        self._now_ms = now_ms
        self._limits = limits or SendLimits()
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._waiting: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def send(self, peer: Peer, kind: PeerKind, body: Json) -> Json:
        """Send a message to one peer and return its JSON reply.

        Raises Unavailable when the peer cannot be reached in the tries there are, PeerRefused when it refuses,
        InvalidInput when the body is over the limit of its kind.
        """
        return await self._send_encoded(peer, kind, _encode(kind, body))

    async def broadcast(self, peers: Iterable[Peer], kind: PeerKind, body: Json) -> dict[bytes, PeerResult]:
        """Send one message to many peers at once; results by peer address. Never raises for a peer."""
        encoded = _encode(kind, body)
        results = await asyncio.gather(*(self._try_send(peer, kind, encoded) for peer in peers))
        return {result.peer.address: result for result in results}

    def broadcast_soon(
        self, peers: Iterable[Peer], kind: PeerKind, body: Json, report: Callable[[PeerResult], None]
    ) -> None:
        """Send one message to many peers without waiting for any: one that hangs holds nobody up.

        `report` is called for each as it ends. What is under way when the client closes is given up.
        """
        encoded = _encode(kind, body)
        for peer in peers:
            task = asyncio.create_task(self._send_and_report(peer, kind, encoded, report))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def fetch_document(self, peer: Peer, digest: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """Return the bytes whose keccak256 is `digest` from a peer.

        Raises Unavailable, PeerRefused (404: it has none), or VerificationFailed when it sends other bytes.
        """
        url = peer.endpoint.rstrip("/") + DOCUMENT_PATH.format(digest="0x" + digest.hex())
        body = await self._retry(peer, lambda: self._request("GET", url, max_bytes))
        if keccak256(body) != digest:
            raise VerificationFailed(f"{peer.endpoint} sent other bytes than asked for")
        return body

    async def get(self, peer: Peer, path: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """Return the body of a public page of a peer; raises Unavailable or PeerRefused (404: it has none)."""
        return await self._retry(peer, lambda: self._request("GET", peer.endpoint.rstrip("/") + path, max_bytes))

    async def find_document(
        self, peers: Iterable[Peer], digest: bytes, max_bytes: int = MAX_DOCUMENT_BYTES
    ) -> bytes | None:
        """Return the bytes whose keccak256 is `digest` from the first of the peers that has them, or None."""
        for peer in peers:
            try:
                return await self.fetch_document(peer, digest, max_bytes)
            except OracleError:
                # Whatever is wrong with one peer, the next may have it.
                continue
        return None

    async def _try_send(self, peer: Peer, kind: PeerKind, encoded: bytes) -> PeerResult:
        try:
            reply = await self._send_encoded(peer, kind, encoded)
        except OracleError as error:
            return PeerResult(peer=peer, reply=None, error=error)
        return PeerResult(peer=peer, reply=reply, error=None)

    async def _send_and_report(
        self, peer: Peer, kind: PeerKind, encoded: bytes, report: Callable[[PeerResult], None]
    ) -> None:
        report(await self._try_send(peer, kind, encoded))

    async def _send_encoded(self, peer: Peer, kind: PeerKind, encoded: bytes) -> Json:
        if self._waiting[peer.address] >= self._limits.max_waiting:
            raise Unavailable(f"{self._limits.max_waiting} messages wait for peer 0x{peer.address.hex()} already")
        self._waiting[peer.address] += 1
        try:
            reply = await self._retry(peer, lambda: self._post(peer, kind, encoded))
        finally:
            self._waiting[peer.address] -= 1
        try:
            return canonical.decode(reply, MAX_REPLY_BYTES)
        except InvalidInput as error:
            raise PeerRefused(f"{peer.endpoint} sent a malformed reply: {error}", 200) from None

    async def _post(self, peer: Peer, kind: PeerKind, encoded: bytes) -> bytes:
        url = peer.endpoint.rstrip("/") + MESSAGE_PATH
        async with self._locks.setdefault(peer.address, asyncio.Lock()):
            counter = await asyncio.to_thread(self._counters.next_outbound_counter, peer.address, self._now_ms())
            envelope = PeerEnvelope(
                network=self._network,
                sender=self._address,
                recipient=peer.address,
                kind=kind.value,
                counter=counter,
                body_digest=keccak256(encoded),
                body_bytes=len(encoded),
            )
            header = sign_envelope(envelope, self._domain, self._sign).encode_header()
            return await self._request("POST", url, MAX_REPLY_BYTES, encoded, {ENVELOPE_HEADER: header})

    async def _retry(self, peer: Peer, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
        for number in range(self._limits.tries):
            try:
                return await attempt()
            except Unavailable as error:
                last = error
            if number + 1 < self._limits.tries:
                await asyncio.sleep(self._limits.backoff_s * 2**number)
        raise Unavailable(f"peer 0x{peer.address.hex()} at {peer.endpoint}: {last}")

    async def _request(
        self, method: str, url: str, max_bytes: int, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("PeerClient is used outside `async with`")
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                body = await _read_bounded(response, max_bytes)
        except TimeoutError:
            raise Unavailable(f"no answer within {self._limits.timeout_s} s") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        if response.status in _RETRIED_STATUSES:
            raise Unavailable(f"HTTP status {response.status}: {body[:200]!r}")
        if response.status != 200:
            raise PeerRefused(f"refused with HTTP status {response.status}: {_explain(body)}", response.status)
        return body


async def _read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > max_bytes:
            response.close()
            raise PeerRefused(f"sent more than {max_bytes} bytes", response.status)
        chunks.append(chunk)
    return b"".join(chunks)


def _encode(kind: PeerKind, body: Json) -> bytes:
    encoded = canonical.encode(body)
    if len(encoded) > MAX_BODY_BYTES[kind]:
        raise InvalidInput(f"{len(encoded)} bytes are over the limit of a {kind}, {MAX_BODY_BYTES[kind]}", "body")
    return encoded


def _explain(body: bytes) -> str:
    try:
        document = canonical.decode(body, 8192)
    except InvalidInput:
        return "no explanation"
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("message"))[:300] if isinstance(error, dict) else "no explanation"
