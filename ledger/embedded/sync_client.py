"""The command line's client of an embedded ledger, on httpx (in the base install). Rules as in `client`."""

from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from challenges.filing import Dossier
from ledger.embedded import protocol
from ledger.embedded.protocol import MAX_ANSWER_BYTES, Accepted, Call, LedgerEvent, LedgerStatus
from ledger.state.transactions import Transaction, sign_transaction
from ledger.state.view import AccountView, ChallengeView, LedgerView, ProviderView
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.errors import Unavailable

TIMEOUT_S = 20.0
Result = TypeVar("Result")


class SyncLedgerClient:
    """A client of one ledger for short-lived programs. Use as a context manager, or call `close`."""

    def __init__(self, url: str, domain: Domain, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._domain = domain
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def status(self) -> LedgerStatus:
        """Return where the ledger stands."""
        return self._call(protocol.ask_status())

    def genesis(self) -> bytes:
        """Return the genesis file's bytes (not checked: compare their hash with the network you trust)."""
        return self._call(protocol.ask_genesis())

    def view(self, epoch: int) -> LedgerView:
        """Return the closed facts that an epoch is computed from."""
        return self._call(protocol.ask_view(epoch))

    def account(self, address: bytes) -> AccountView:
        """Return an account as it is now."""
        return self._call(protocol.ask_account(address))

    def providers(self) -> tuple[ProviderView, ...]:
        """Return all providers as they are now."""
        return self._call(protocol.ask_providers())

    def challenge(self, challenge_id: bytes) -> ChallengeView:
        """Return a challenge as it is now."""
        return self._call(protocol.ask_challenge(challenge_id))

    def events(self, since: int = 0) -> tuple[LedgerEvent, ...]:
        """Return a page of events from log entry `since` on."""
        return self._call(protocol.ask_events(since))

    def send(
        self, cls: type[Transaction], secret_key: bytes, *, attachment: Dossier | None = None, **values: Any
    ) -> Accepted:
        """Build, sign and submit a transaction of a kind with the sender's next nonce."""
        sender = address_of(secret_key)
        transaction = cls(sender=sender, nonce=self.account(sender).nonce, **values)
        return self._call(
            protocol.post_transaction(sign_transaction(transaction, self._domain, secret_key, attachment))
        )

    def _call(self, call: Call[Result]) -> Result:
        try:
            with self._client.stream(
                call.method, self._url + call.path, params=dict(call.query), content=call.body
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise Unavailable(f"the ledger's answer is over {MAX_ANSWER_BYTES} bytes")
                return protocol.read_answer(call, response.status_code, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"the ledger at {self._url} does not answer: {error or type(error).__name__}") from error
