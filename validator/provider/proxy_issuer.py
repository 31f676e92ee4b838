"""Receipts for answers that somebody else generated and that were only seen passing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from challenges.receipt import build_receipt
from challenges.signed import SignedReceipt
from scoring.errors import InvalidInput
from scoring.records import Receipt
from validator.provider.config import ProxyConfig
from validator.provider.proxy_answer import NotReceiptable, ObservedAnswer
from validator.provider.receipt_desk import JSON_FORM, STREAM_FORM, ReceiptDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One chat request as the client sent it. `nonce` is the one that is held; `is_promised` when the client named it.

    `hides_usage` when the client did not ask for a usage chunk and the proxy did.
    """

    document: dict[str, Any]
    consumer: bytes
    nonce: bytes
    is_promised: bool
    is_streamed: bool
    hides_usage: bool

    @property
    def form(self) -> str:
        """The form of the answer."""
        return STREAM_FORM if self.is_streamed else JSON_FORM


class ProxyIssuer:
    """Turns what was observed of an answer into a stored, signed receipt."""

    def __init__(self, config: ProxyConfig, desk: ReceiptDesk) -> None:
        self._config = config
        self._desk = desk

    def issue(self, asked: Asked, observed: ObservedAnswer, finish: Callable[[SignedReceipt], bytes | None]) -> None:
        """Store the receipt with the complete bytes of the answer that `finish(receipt)` makes.

        Bytes over `max_replay_bytes`, and None, are not kept. Raises NotReceiptable.
        """
        response, digest = observed.build_response()
        if response["model"] != self._config.model:
            raise NotReceiptable(f"model {response['model'][:80]!r} is not the offer's")

        def keep(receipt: SignedReceipt) -> bytes | None:
            body = finish(receipt)
            return body if body is not None and len(body) <= self._config.max_replay_bytes else None

        def build(counter: int) -> Receipt:
            # The text itself is gone: its digest was computed on the way.
            return replace(self._build_receipt(asked, response, counter), response_digest=digest)

        try:
            self._desk.issue_built(asked.consumer, asked.nonce, asked.form, build, keep)
        except InvalidInput as error:
            raise NotReceiptable(str(error)) from None

    def _build_receipt(self, asked: Asked, response: dict[str, Any], counter: int) -> Receipt:
        identity, now_s = self._desk.identity, self._desk.now_s()
        return build_receipt(
            network=identity.network,
            offer=identity.signed_offer.offer,
            consumer=asked.consumer,
            nonce=asked.nonce,
            request=asked.document,
            response=response,
            default_max_tokens=self._config.default_max_tokens,
            counter=counter,
            issued_s=now_s,
            expires_s=now_s + self._config.receipt_lifetime_s,
        )
