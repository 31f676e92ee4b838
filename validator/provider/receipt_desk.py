"""Where answers become receipted: one request at a time for each nonce, the same bytes for the same nonce."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from challenges.receipt import build_receipt
from challenges.signed import SignedReceipt, sign_receipt
from scoring.records import Receipt
from validator.provider.api_errors import ApiError
from validator.provider.identity import Identity
from validator.provider.receipt_store import ReceiptStore

JSON_FORM = "json"
STREAM_FORM = "stream"


class ReceiptDesk:
    """Signs receipts for answers. `clock_s` tells unix seconds; `lifetime_s` is how long a receipt is valid."""

    def __init__(
        self,
        identity: Identity,
        store: ReceiptStore,
        *,
        clock_s: Callable[[], int],
        lifetime_s: int,
        default_max_tokens: int,
    ) -> None:
        self.identity = identity
        self._store = store
        self._clock_s = clock_s
        self._lifetime_s = lifetime_s
        self._default_max_tokens = default_max_tokens
        self._open: set[tuple[bytes, bytes]] = set()

    def find_answer(self, consumer: bytes, nonce: bytes | None, request_digest: bytes, form: str) -> bytes | None:
        """Return the stored bytes when the nonce was answered before, None when it is new.

        Raises ApiError 409 when it was used for another request or form, or its bytes are no longer kept.
        """
        self.now_s()
        given = None if nonce is None else self._store.find(consumer, nonce)
        if given is None:
            return None
        if given.request_digest != request_digest:
            raise _conflict("this nonce was used for another request: use a fresh one")
        if given.form != form:
            raise _conflict(f"this nonce was answered in the form {given.form!r}: ask again in that form")
        if given.body is None:
            raise _conflict("this nonce was answered, and the answer is no longer kept: use a fresh one")
        return given.body

    def now_s(self) -> int:
        """Return the time in unix seconds; raises ApiError 503 outside the offer's time: no receipt would be valid."""
        now_s, offer = self._clock_s(), self.identity.signed_offer.offer
        if not offer.issued_s <= now_s < offer.expires_s:
            raise ApiError(503, "this provider's offer is not valid now: it has to be renewed", code="offer_expired")
        return now_s

    @contextmanager
    def hold(self, consumer: bytes, nonce: bytes | None) -> Iterator[bytes]:
        """Hold a nonce (a fresh one for None) while it is answered; raises ApiError 409 when it is held already."""
        held = (consumer, secrets.token_bytes(32) if nonce is None else nonce)
        if held in self._open:
            raise _conflict("a request with this nonce is being answered", retry_after_s=1)
        self._open.add(held)
        try:
            yield held[1]
        finally:
            self._open.discard(held)

    def issue(
        self,
        consumer: bytes,
        nonce: bytes,
        form: str,
        request: Mapping[str, object],
        response: Mapping[str, object],
        finish: Callable[[SignedReceipt], bytes | None],
    ) -> SignedReceipt:
        """Sign and store the receipt of an answer (unstreamed form); see ReceiptStore.issue. Raises InvalidInput."""

        def build(counter: int) -> Receipt:
            now_s = self.now_s()
            return build_receipt(
                network=self.identity.network,
                offer=self.identity.signed_offer.offer,
                consumer=consumer,
                nonce=nonce,
                request=request,
                response=response,
                default_max_tokens=self._default_max_tokens,
                counter=counter,
                issued_s=now_s,
                expires_s=now_s + self._lifetime_s,
            )

        return self.issue_built(consumer, nonce, form, build, finish)

    def issue_built(
        self,
        consumer: bytes,
        nonce: bytes,
        form: str,
        build: Callable[[int], Receipt],
        finish: Callable[[SignedReceipt], bytes | None],
    ) -> SignedReceipt:
        """Sign and store the receipt that `build(counter)` makes."""

        def sign(counter: int) -> SignedReceipt:
            return sign_receipt(build(counter), self.identity.domain, self.identity.secret_key)

        return self._store.issue(consumer, nonce, form, sign, finish)


def _conflict(message: str, retry_after_s: int = 0) -> ApiError:
    return ApiError(409, message, param="quiver_nonce", code="nonce_conflict", retry_after_s=retry_after_s)


def build_stored_response(body: bytes, form: str) -> web.Response:
    """Return stored bytes in their form."""
    kind = "text/event-stream" if form == STREAM_FORM else "application/json"
    return web.Response(body=body, content_type=kind, charset="utf-8")
