"""The daemon's client of an embedded ledger, on aiohttp. Answers are size-capped, redirects are not followed.

Every method raises Unavailable when the ledger does not answer properly or in time, InvalidInput or VerificationFailed
(TransactionRefused with a code among them) when it refuses.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from challenges.filing import Dossier
from ledger.embedded import protocol
from ledger.embedded.protocol import MAX_ANSWER_BYTES, Accepted, Call, LedgerEvent, LedgerStatus
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import SignedTransaction, SubmitCheckpoint, Transaction, sign_transaction
from ledger.state.view import AccountView, ChallengeView, LedgerView, ProviderView
from scoring.ecdsa import address_of
from scoring.eip712 import Domain
from scoring.errors import Unavailable
from scoring.records import Certificate, Checkpoint, SlashingEvidence

TIMEOUT_S = 20.0
POLL_S = 0.25
_NONCE_ATTEMPTS = 5
Result = TypeVar("Result")


class LedgerClient:
    """A client of one ledger. Use as an async context manager, or call `close`."""

    def __init__(self, url: str, domain: Domain, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._domain = domain
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._sending: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def status(self) -> LedgerStatus:
        """Return where the ledger stands."""
        return await self._call(protocol.ask_status())

    async def genesis(self) -> bytes:
        """Return the genesis file's bytes (not checked: compare their hash with the network you trust)."""
        return await self._call(protocol.ask_genesis())

    async def view(self, epoch: int) -> LedgerView:
        """Return the closed facts that an epoch is computed from."""
        return await self._call(protocol.ask_view(epoch))

    async def account(self, address: bytes) -> AccountView:
        """Return an account as it is now."""
        return await self._call(protocol.ask_account(address))

    async def providers(self) -> tuple[ProviderView, ...]:
        """Return all providers as they are now."""
        return await self._call(protocol.ask_providers())

    async def challenge(self, challenge_id: bytes) -> ChallengeView:
        """Return a challenge as it is now."""
        return await self._call(protocol.ask_challenge(challenge_id))

    async def challenges(self, *, member: bytes | None = None, is_open: bool = True) -> tuple[ChallengeView, ...]:
        """Return challenges as they are now: of one committee member or all, open ones alone or all."""
        return await self._call(protocol.ask_challenges(member, is_open))

    async def dossier(self, challenge_id: bytes) -> Dossier:
        """Return the receipts of a challenge."""
        return await self._call(protocol.ask_dossier(challenge_id))

    async def is_offence_settled(self, evidence: SlashingEvidence) -> bool:
        """Tell whether an offence has been slashed or its slash waits for the timelock."""
        return await self._call(protocol.ask_offence(evidence)) is not None

    async def checkpoint(self, epoch: int | None = None) -> tuple[Checkpoint, Certificate]:
        """Return a certified checkpoint, by default the latest; raises TransactionRefused("not-found")."""
        return await self._call(protocol.ask_checkpoint(epoch))

    async def events(self, since: int = 0) -> tuple[LedgerEvent, ...]:
        """Return a page of events from log entry `since` on."""
        return await self._call(protocol.ask_events(since))

    async def log_head(self) -> bytes:
        """Return the signed note of the log's head; check it with `log_head.verify_log_head`."""
        return await self._call(protocol.ask_log_head())

    async def submit(self, transaction: Transaction, secret_key: bytes, attachment: Dossier | None = None) -> Accepted:
        """Sign and submit a transaction that has its nonce."""
        return await self._post(sign_transaction(transaction, self._domain, secret_key, attachment))

    async def send(
        self, cls: type[Transaction], secret_key: bytes, *, attachment: Dossier | None = None, **values: Any
    ) -> Accepted:
        """Build, sign and submit a transaction of a kind with the sender's next nonce.

        Safe to call at once for one account; another process that uses it too costs a retry.
        """
        sender = address_of(secret_key)
        async with self._sending[sender]:
            for attempt in range(1, _NONCE_ATTEMPTS + 1):
                nonce = (await self.account(sender)).nonce
                try:
                    return await self.submit(cls(sender=sender, nonce=nonce, **values), secret_key, attachment)
                except TransactionRefused as error:
                    if error.code != "wrong-nonce" or attempt == _NONCE_ATTEMPTS:
                        raise
        raise AssertionError("unreachable")

    async def submit_checkpoint(self, checkpoint: Checkpoint, certificate: Certificate, secret_key: bytes) -> bool:
        """Bring a certified checkpoint; False when the ledger has its epoch already."""
        try:
            await self.send(SubmitCheckpoint, secret_key, checkpoint=checkpoint, certificate=certificate)
        except TransactionRefused as error:
            if error.code != "stale-epoch":
                raise
            return False
        return True

    async def wait_for_epoch(self, epoch: int, *, timeout_s: float) -> LedgerStatus:
        """Return the status once an epoch (or a later one) is certified; raises Unavailable at the timeout."""
        sentence = f"epoch {epoch} was not certified within {timeout_s} s"
        return await _poll(self.status, lambda status: status.epoch >= epoch, timeout_s, sentence)

    async def wait_for_challenge(self, challenge_id: bytes, *, timeout_s: float) -> ChallengeView:
        """Return a challenge once it is resolved; raises Unavailable at the timeout."""
        sentence = f"the challenge was not resolved within {timeout_s} s"
        return await _poll(lambda: self.challenge(challenge_id), lambda item: not item.is_open, timeout_s, sentence)

    async def _post(self, signed: SignedTransaction) -> Accepted:
        try:
            return await self._call(protocol.post_transaction(signed))
        except Unavailable as error:
            # The answer to an accepted transaction may have been lost: the log knows.
            try:
                return await self._call(protocol.ask_transaction(signed.digest))
            except (TransactionRefused, Unavailable):
                raise error from None

    async def _call(self, call: Call[Result]) -> Result:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        try:
            async with self._session.request(
                call.method, self._url + call.path, params=call.query, data=call.body, allow_redirects=False
            ) as response:
                body = await _read_capped(response)
                return protocol.read_answer(call, response.status, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"the ledger at {self._url} does not answer: {error or type(error).__name__}") from error


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise Unavailable(f"the ledger's answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


async def _poll(
    ask: Callable[[], Awaitable[Result]], is_done: Callable[[Result], bool], timeout_s: float, sentence: str
) -> Result:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        result = await ask()
        if is_done(result):
            return result
        if loop.time() >= deadline:
            raise Unavailable(sentence)
        await asyncio.sleep(POLL_S)
