"""Catching up: adopt epochs that were certified without us, from any peer, believing none of its bytes.

A certified checkpoint is checked against the validator set and our own chain; then the epoch is computed anew from
its reveals and the facts that a peer remembers, and must give that very checkpoint. Transcripts are checked like those
of a running epoch: our own e-processes are folded from them. No peer that hangs is waited for long.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from ledger.state.view import LedgerView
from scoring import canonical
from scoring.certificate import verify_certificate
from scoring.eip712 import compute_signing_root
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
from scoring.outcome import compute_outcome
from validator.embedded_ledger import build_network_view
from validator.epoch import CertifiedOutcome, EpochContext
from validator.messages import Certified, RevealMessage
from validator.peers import Peer, PeerClient, PeerRefused
from validator.reveal_pool import fetch_reveal
from validator.reveals import verify_observations
from validator.seat import Seat
from validator.store import DocumentKind

log = structlog.get_logger()

MAX_GAP_EPOCHS = 10_000
NOT_FOUND = 404
ASK_S = 5.0
"""How long a peer may take to say where it stands."""
FETCH_S = 30.0
"""How long one document may take, from whichever peer is first."""


async def catch_up(seat: Seat, peers: Sequence[Peer], client: PeerClient) -> None:
    """Adopt every certified epoch that some peer has and we do not; a peer that lies or is gone is passed over."""
    newest = await asyncio.gather(*(_find_newest(seat, peer, client) for peer in peers))
    for peer, epoch in zip(peers, newest, strict=True):
        try:
            await _catch_up_from(seat, peer, epoch, peers, client)
        except OracleError as error:
            log.info("catching_up_failed", peer=peer.endpoint, why=str(error))


async def _find_newest(seat: Seat, peer: Peer, client: PeerClient) -> int:
    """Return the newest epoch that a peer proves to be certified, -1 when it proves none in time."""
    try:
        async with _within(ASK_S, peer):
            certified = await _fetch_certified(seat, peer, client, "latest")
    except OracleError as error:
        log.info("peer_not_asked", peer=peer.endpoint, why=str(error))
        return -1
    return -1 if certified is None else certified.proposal.checkpoint.epoch


async def _catch_up_from(seat: Seat, peer: Peer, newest: int, peers: Sequence[Peer], client: PeerClient) -> None:
    if newest - seat.last_epoch > MAX_GAP_EPOCHS:
        raise InvalidInput(f"{newest - seat.last_epoch} epochs behind: start from a backup or a fresh store")
    for epoch in range(seat.last_epoch + 1, newest + 1):
        async with _within(FETCH_S, peer):
            certified = await _fetch_certified(seat, peer, client, str(epoch))
        if certified is not None:
            adopted = await _recompute(seat, certified, peer, peers, client)
            seat.adopt(adopted)
            await seat.casework.process_epoch(adopted)
            log.info("caught_up", epoch=epoch, peer=peer.endpoint)


async def _fetch_certified(seat: Seat, peer: Peer, client: PeerClient, name: str) -> Certified | None:
    try:
        body = await client.get(peer, f"/v1/checkpoints/{name}")
    except PeerRefused as refusal:
        if refusal.status == NOT_FOUND:
            return None
        raise
    certified = Certified.from_json(canonical.decode(body))
    root = compute_signing_root(certified.proposal.checkpoint, seat.domain)
    verify_certificate(certified.certificate, seat.facts.validator_set, root)
    return certified


async def _recompute(
    seat: Seat, certified: Certified, peer: Peer, peers: Sequence[Peer], client: PeerClient
) -> CertifiedOutcome:
    checkpoint = certified.proposal.checkpoint
    if checkpoint.previous != seat.previous:
        raise VerificationFailed(f"the checkpoint of epoch {checkpoint.epoch} does not follow ours")
    async with _within(FETCH_S, peer):
        body = await client.get(peer, f"/v1/views/0x{checkpoint.previous.hex()}")
    context = seat.build_context(checkpoint.epoch, build_network_view(LedgerView.decode(body)))
    reveals = await _fetch_reveals(seat, context, certified, peers, client)
    records = {number: message.reveal for number, message in reveals.items()}
    outcome = compute_outcome(context.inputs, seat.state, records)
    if outcome.checkpoint != checkpoint:
        raise VerificationFailed(f"what the peer sent does not give the checkpoint of epoch {checkpoint.epoch}")
    if seat.store.get_document(DocumentKind.LEDGER_VIEW, checkpoint.previous.hex()) is None:
        # Kept: a restart replays the open case with it.
        seat.store.put_document(DocumentKind.LEDGER_VIEW, checkpoint.previous.hex(), checkpoint.epoch, body)
    return CertifiedOutcome(context=context, outcome=outcome, certified=certified, reveals=reveals)


async def _fetch_reveals(
    seat: Seat, context: EpochContext, certified: Certified, peers: Sequence[Peer], client: PeerClient
) -> dict[int, RevealMessage]:
    validators = seat.facts.validator_set.validators
    reveals: dict[int, RevealMessage] = {}
    for number, digest in zip(certified.proposal.seats, certified.proposal.reveals, strict=True):
        if number >= len(validators):
            raise InvalidInput("names a seat that does not exist", "seats")
        message = await fetch_reveal(client, peers, digest, FETCH_S)
        if message is None:
            raise VerificationFailed(f"no peer has the reveal of seat {number} in epoch {context.epoch}")
        verify_observations(message, validators[number], context, seat.domain)
        reveals[number] = message
    return reveals


@asynccontextmanager
async def _within(seconds: float, peer: Peer) -> AsyncIterator[None]:
    """Limit how long one peer may take; raises Unavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(f"{peer.endpoint} did not answer within {seconds:.0f} s") from None
