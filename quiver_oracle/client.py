"""Read the feed over HTTP and believe none of the bytes: every item is verified against the trusted validator set.

The server is a dumb relay that may be hostile: answers have a size limit and a deadline, redirects and compressed
bodies are refused, and an item older than one already seen is refused even when it is fresh enough.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx

from scoring.errors import InvalidInput, Unavailable, VerificationFailed
from scoring.feed import MAX_FEED_PROOF_BYTES, FeedProof, ValidatorSetFile, parse_feed_proof, verify_feed_proof
from scoring.feed_index import MAX_FEED_INDEX_BYTES, FeedIndexEntry, parse_feed_index
from scoring.records import FeedItem

DEFAULT_TIMEOUT_S = 10.0


class FeedClient:
    """A reader of one relay's feed. Not safe to share between threads.

    `timeout_s` bounds each whole download; `clock` gives unix seconds. Use it in a `with` block, or call `close`.
    """

    def __init__(
        self,
        url: str,
        validator_set: ValidatorSetFile,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise InvalidInput("expected a URL with http:// or https://", "url")
        self._url = url.rstrip("/")
        self._trusted = validator_set
        self._timeout_s = timeout_s
        self._clock = clock
        self._newest_epochs: dict[tuple[bytes, bytes], int] = {}
        self._http = httpx.Client(
            timeout=timeout_s,
            follow_redirects=False,
            headers={"accept": "application/json", "accept-encoding": "identity"},
            transport=transport,
        )

    def get(self, provider: bytes | str, *, max_age_s: int, offer_digest: bytes | None = None) -> FeedItem:
        """Return the newest item of a provider, verified and at most `max_age_s` old.

        `provider` is 20 bytes or 0x and 40 hex digits; `offer_digest` says which offer when there are several. Raises
        Unavailable when the relay does not answer or has no such item, InvalidInput on malformed bytes or arguments,
        VerificationFailed when the proof does not hold, is stale, or is older than one seen before.
        """
        return self.get_proof(provider, max_age_s=max_age_s, offer_digest=offer_digest).item

    def get_proof(self, provider: bytes | str, *, max_age_s: int, offer_digest: bytes | None = None) -> FeedProof:
        """Return the verified one-file proof of that item, to keep or to pass on. Raises what `get` raises."""
        account = parse_address(provider)
        index = parse_feed_index(self._download("/v1/feed/latest", MAX_FEED_INDEX_BYTES))
        entry = _choose(index.entries, account, offer_digest)
        proof = parse_feed_proof(self._download(f"/v1/feed/{index.epoch}/{entry.file}", MAX_FEED_PROOF_BYTES))
        item = verify_feed_proof(
            proof,
            self._trusted,
            max_age_s=max_age_s,
            now_s=int(self._clock()),
            provider=account,
            offer_digest=entry.offer_digest,
        )
        self._remember(item)
        return proof

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remember(self, item: FeedItem) -> None:
        key = (item.provider, item.offer_digest)
        newest = self._newest_epochs.get(key, item.epoch)
        if item.epoch < newest:
            raise VerificationFailed(f"the relay went back from epoch {newest} to {item.epoch}")
        self._newest_epochs[key] = item.epoch

    def _download(self, path: str, max_bytes: int) -> bytes:
        url = self._url + path
        try:
            with self._http.stream("GET", url) as response:
                _check_head(response, url)
                return self._read(response, url, max_bytes)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {str(error)[:200]}") from error

    def _read(self, response: httpx.Response, url: str, max_bytes: int) -> bytes:
        deadline_s = time.monotonic() + self._timeout_s
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise InvalidInput(f"{url}: the answer is over the limit of {max_bytes} bytes")
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{url}: the answer took longer than {self._timeout_s} s")
        return bytes(body)


def parse_address(value: bytes | str) -> bytes:
    """Return the 20 bytes of an account given as bytes, or as 0x and 40 hex digits of any case; raises InvalidInput."""
    if isinstance(value, bytes):
        address = value
    else:
        try:
            address = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            raise InvalidInput("expected 0x and 40 hex digits", "provider") from None
    if len(address) != 20:
        raise InvalidInput(f"expected 20 bytes, got {len(address)}", "provider")
    return address


def _check_head(response: httpx.Response, url: str) -> None:
    if response.is_redirect:
        raise Unavailable(f"{url}: answered with a redirect, which is not followed")
    if response.status_code != httpx.codes.OK:
        raise Unavailable(f"{url}: answered with status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unavailable(f"{url}: answered with a compressed body, which was not asked for")


def _choose(entries: tuple[FeedIndexEntry, ...], provider: bytes, offer_digest: bytes | None) -> FeedIndexEntry:
    found = [entry for entry in entries if entry.provider == provider and offer_digest in (None, entry.offer_digest)]
    if not found:
        raise Unavailable(f"the relay has no item of provider 0x{provider.hex()}")
    if len(found) > 1:
        offers = ", ".join(f"0x{entry.offer_digest.hex()}" for entry in found[:8])
        raise InvalidInput(f"the provider has {len(found)} offers, name one: {offers}", "offer_digest")
    return found[0]
