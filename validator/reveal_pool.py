"""The reveals of one epoch: which of them hold, and how to come by those that a proposal names and that we lack.

A reveal is named by the digest of its whole message. A seat may send different ones to different peers; what counts is
the one that the proposal names, so that is asked for when another one, or none, has arrived.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from scoring import canonical
from scoring.eip712 import Domain
from scoring.errors import OracleError
from scoring.records import Commit, ValidatorSet
from validator.board import EpochBoard
from validator.epoch import EpochContext
from validator.messages import Proposal, RevealMessage
from validator.peers import Peer, PeerClient
from validator.reveals import verify_observations, verify_reveal

log = structlog.get_logger()

FetchReveal = Callable[[bytes], Awaitable[RevealMessage | None]]
"""Returns the message of a digest from any peer, or None when nobody gives it in time."""


class RevealPool:
    """Verifies each reveal once. `fetch` asks the peers."""

    def __init__(
        self, context: EpochContext, board: EpochBoard, validator_set: ValidatorSet, domain: Domain, fetch: FetchReveal
    ) -> None:
        self._context = context
        self._board = board
        self._validator_set = validator_set
        self._domain = domain
        self._fetch = fetch
        self._good: dict[tuple[int, bytes], RevealMessage] = {}
        self._bad: set[tuple[int, bytes]] = set()

    def list_timely(self) -> dict[int, RevealMessage]:
        """Return the reveals on the board that hold and were promised in time, by seat."""
        return {seat: message for seat, message in sorted(self._board.reveals.items()) if self._counts(seat, message)}

    async def collect(self, proposal: Proposal, *, is_certified: bool = False) -> dict[int, RevealMessage] | None:
        """Return just the reveals that a proposal names, by seat, or None when one is missing or does not count.

        A certificate settles which commits were in time, whatever we saw of them.
        """
        wanted = list(zip(proposal.seats, proposal.reveals, strict=True))
        if any(seat >= len(self._validator_set.validators) for seat, _ in wanted):
            return None
        found = await asyncio.gather(*(self._find(seat, digest) for seat, digest in wanted))
        reveals = {}
        for seat, message in zip(proposal.seats, found, strict=True):
            if message is None:
                log.info("reveal_missing", epoch=self._context.epoch, seat=seat)
                return None
            if not (self._holds(seat, message, None) if is_certified else self._counts(seat, message)):
                return None
            reveals[seat] = message
        return reveals

    async def _find(self, seat: int, digest: bytes) -> RevealMessage | None:
        known = self._good.get((seat, digest))
        if known is not None:
            return known
        message = self._board.reveals.get(seat)
        return message if message is not None and message.digest == digest else await self._fetch(digest)

    def _counts(self, seat: int, message: RevealMessage) -> bool:
        commit = self._board.commits.get(seat)
        return commit is not None and seat not in self._board.late_seats and self._holds(seat, message, commit)

    def _holds(self, seat: int, message: RevealMessage, commit: Commit | None) -> bool:
        key = (seat, message.digest)
        if key in self._bad and commit is not None:
            return False
        if key not in self._good:
            entry = self._validator_set.validators[seat]
            try:
                if commit is None:
                    verify_observations(message, entry, self._context, self._domain)
                else:
                    verify_reveal(message, commit, entry, self._context, self._domain)
            except OracleError as error:
                log.warning("reveal_refused", epoch=self._context.epoch, seat=seat, why=str(error))
                self._bad.add(key)
                return False
            self._good[key] = message
        return True


async def fetch_reveal(
    client: PeerClient, peers: Collection[Peer], digest: bytes, timeout_s: float
) -> RevealMessage | None:
    """Ask all peers at once for a reveal message and return the first good answer, or None: no hanging peer counts."""
    asked = [asyncio.create_task(client.fetch_document(peer, digest)) for peer in peers]
    try:
        async with asyncio.timeout(timeout_s):
            for task in asyncio.as_completed(asked):
                try:
                    return RevealMessage.from_json(canonical.decode(await task))
                except OracleError:
                    # Whatever is wrong with one peer, another may have it.
                    continue
    except TimeoutError:
        pass
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return None
