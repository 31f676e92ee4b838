"""Catching up: adopt epochs that were certified without us, from any peer, believing none of its bytes.

A certified checkpoint is checked against the validator set and our own chain; then the epoch is computed anew from
its reveals and the facts that a peer remembers, and must give that very checkpoint.
"""

from collections.abc import Sequence

import structlog

from ledger.state.view import LedgerView
from scoring import canonical
from scoring.certificate import verify_certificate
from scoring.eip712 import compute_signing_root
from scoring.errors import InvalidInput, OracleError, VerificationFailed
from scoring.outcome import compute_outcome
from validator.embedded_ledger import build_network_view
from validator.epoch import CertifiedOutcome
from validator.messages import Certified, RevealMessage
from validator.peers import Peer, PeerClient, PeerRefused
from validator.seat import Seat
from validator.store import DocumentKind

log = structlog.get_logger()

MAX_GAP_EPOCHS = 10_000
NOT_FOUND = 404


async def catch_up(seat: Seat, peers: Sequence[Peer], client: PeerClient) -> None:
    """Adopt every certified epoch that some peer has and we do not; a peer that lies or is gone is passed over."""
    for peer in peers:
        try:
            await _catch_up_from(seat, peer, peers, client)
        except OracleError as error:
            log.info("catching_up_failed", peer=peer.endpoint, why=str(error))


async def _catch_up_from(seat: Seat, peer: Peer, peers: Sequence[Peer], client: PeerClient) -> None:
    latest = await _fetch_certified(seat, peer, client, "latest")
    if latest is None:
        return
    newest = latest.proposal.checkpoint.epoch
    if newest - seat.last_epoch > MAX_GAP_EPOCHS:
        raise InvalidInput(f"{newest - seat.last_epoch} epochs behind: start from a backup or a fresh store")
    for epoch in range(seat.last_epoch + 1, newest + 1):
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
    body = await client.get(peer, f"/v1/views/{checkpoint.epoch}")
    context = seat.build_context(checkpoint.epoch, build_network_view(LedgerView.decode(body)))
    reveals: dict[int, RevealMessage] = {}
    for number, digest in zip(certified.proposal.seats, certified.proposal.reveals, strict=True):
        document = await client.find_document(peers, digest)
        if document is None:
            raise VerificationFailed(f"no peer has the reveal of seat {number} in epoch {checkpoint.epoch}")
        reveals[number] = RevealMessage.from_json(canonical.decode(document))
    records = {number: message.reveal for number, message in reveals.items()}
    outcome = compute_outcome(context.inputs, seat.state, records)
    if outcome.checkpoint != checkpoint:
        raise VerificationFailed(f"what the peer sent does not give the checkpoint of epoch {checkpoint.epoch}")
    # Kept: a restart replays the open case with it.
    seat.store.put_document(DocumentKind.LEDGER_VIEW, str(checkpoint.epoch), checkpoint.epoch, body)
    return CertifiedOutcome(context=context, outcome=outcome, certified=certified, reveals=reveals)
