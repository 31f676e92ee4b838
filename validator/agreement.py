"""Agreement on an epoch between the seats: commit, reveal, checkpoint, certificate.

A commit is a signed hash; nobody reveals before commits of more than 2/3 of stake are in; a reveal counts only with a
timely commit. Leaders propose in beacon order; a seat votes for a proposal only when it computes the same checkpoint
from the same reveals itself, and the sign guard lets it vote once per epoch. A timeout passes the turn to the next.
"""

from collections.abc import Mapping, Sequence

import structlog

from scoring import canonical
from scoring.canonical import Json
from scoring.certificate import build_certificate, is_quorum
from scoring.eip712 import Domain, compute_signing_root, compute_struct_hash
from scoring.errors import OracleError, RefusedToSign, Unavailable
from scoring.outcome import AggregationState, Outcome, compute_outcome
from scoring.records import Commit, Reveal, ValidatorSet
from scoring.schedule import compute_leader_order
from validator.board import Board, EpochBoard
from validator.config import PhaseTimeouts
from validator.epoch import CertifiedOutcome, EpochContext
from validator.messages import Certified, Proposal, RevealMessage
from validator.peer_envelope import PeerKind
from validator.peers import Peer, PeerClient, PeerResult
from validator.reveals import verify_reveal
from validator.signer import Signer

log = structlog.get_logger()


class EpochAbandoned(OracleError):
    """Too few seats took part in time: this epoch has no certificate; the next one goes on."""


class Agreement:
    """This seat's part in agreeing on epochs. Messages of others reach the board through `validator.inbox`."""

    def __init__(
        self,
        *,
        signer: Signer,
        seat: int,
        validator_set: ValidatorSet,
        domain: Domain,
        board: Board,
        peers: Sequence[Peer],
        client: PeerClient,
        timeouts: PhaseTimeouts,
    ) -> None:
        self._signer = signer
        self._seat = seat
        self._validator_set = validator_set
        self._domain = domain
        self._board = board
        self._peers = {peer.address: peer for peer in peers if peer.address != signer.address}
        self._client = client
        self._timeouts = timeouts

    @property
    def _seat_count(self) -> int:
        return len(self._validator_set.validators)

    async def commit(self, context: EpochContext, reveal: Reveal) -> None:
        """Promise our reveal and wait for the others' promises; raises EpochAbandoned below 2/3 of stake."""
        commit = Commit(validator=reveal.validator, epoch=context.epoch, reveal_digest=compute_struct_hash(reveal))
        signature = self._signer.sign_commit(commit)
        board = self._board.at(context.epoch)
        board.put_commit(self._seat, commit)
        self._broadcast(PeerKind.COMMIT, {"commit": commit.to_json(), "signature": "0x" + signature.hex()})
        await board.wait_until(lambda it: len(it.commits) == self._seat_count, self._timeouts.commit_ms / 1000)
        self._require_quorum(board.commits, "commits")

    async def reveal(self, context: EpochContext, message: RevealMessage) -> dict[int, RevealMessage]:
        """Publish our observations and return those that count, ours among them; raises EpochAbandoned."""
        board = self._board.at(context.epoch)
        board.has_revealed = True
        board.put_reveal(self._seat, message)
        self._broadcast(PeerKind.REVEAL, message.to_json())
        await board.wait_until(lambda it: it.reveals.keys() >= it.commits.keys(), self._timeouts.reveal_ms / 1000)
        counted = self._verify_reveals(board, context, {})
        self._require_quorum(counted, "reveals")
        return counted

    async def certify(
        self, context: EpochContext, state: AggregationState, reveals: Mapping[int, RevealMessage]
    ) -> CertifiedOutcome:
        """Bring the epoch to a certified checkpoint, leader by leader; raises EpochAbandoned."""
        board = self._board.at(context.epoch)
        verified = dict(reveals)
        for leader in compute_leader_order(context.inputs.beacon, self._validator_set):
            if leader == self._seat:
                await self._lead(context, board, state, verified)
            else:
                await self._follow(context, board, state, verified, leader)
            if board.certified is not None:
                break
            log.warning("leader_gave_no_certificate", epoch=context.epoch, leader=leader)
        if board.certified is None:
            raise EpochAbandoned(f"no leader brought epoch {context.epoch} to a certificate")
        return await self._adopt(context, board, state, verified)

    async def _lead(
        self, context: EpochContext, board: EpochBoard, state: AggregationState, verified: dict[int, RevealMessage]
    ) -> None:
        outcome = _compute(context, state, verified)
        seats = tuple(sorted(verified))
        digests = tuple(verified[seat].digest for seat in seats)
        proposal = Proposal(checkpoint=outcome.checkpoint, seats=seats, reveals=digests)
        root = compute_signing_root(outcome.checkpoint, self._domain)
        try:
            board.put_vote(self._seat, root, self._signer.sign_checkpoint(outcome.checkpoint))
        except RefusedToSign as refusal:
            # We voted for an earlier leader's checkpoint that differs: only that one can still be certified by us.
            log.info("not_proposing", epoch=context.epoch, why=str(refusal))
            return
        self._broadcast(PeerKind.PROPOSAL, proposal.to_json())

        def is_decided(it: EpochBoard) -> bool:
            return it.certified is not None or is_quorum(self._validator_set, it.votes.get(root, {}))

        # All votes are worth a short wait: a certificate with every seat in it says more than a bare quorum.
        await board.wait_until(
            lambda it: len(it.votes.get(root, {})) == self._seat_count or it.certified is not None, 2
        )
        await board.wait_until(is_decided, self._timeouts.vote_ms / 1000)
        votes = board.votes.get(root, {})
        if board.certified is None and is_quorum(self._validator_set, votes):
            certificate = build_certificate(root, self._validator_set, votes)
            board.put_certified(proposal, certificate)
            certified = Certified(proposal=proposal, certificate=certificate)
            self._broadcast(PeerKind.CERTIFICATE, certified.to_json())

    async def _follow(
        self,
        context: EpochContext,
        board: EpochBoard,
        state: AggregationState,
        verified: dict[int, RevealMessage],
        leader: int,
    ) -> None:
        await board.wait_until(
            lambda it: leader in it.proposals or it.certified is not None, self._timeouts.proposal_ms / 1000
        )
        if board.certified is None and leader in board.proposals:
            await self._vote(context, board, state, verified, leader)
            await board.wait_until(lambda it: it.certified is not None, self._timeouts.vote_ms / 1000)

    async def _vote(
        self,
        context: EpochContext,
        board: EpochBoard,
        state: AggregationState,
        verified: dict[int, RevealMessage],
        leader: int,
    ) -> None:
        proposal = board.proposals[leader]
        await self._fetch_missing(board, proposal)
        verified.update(self._verify_reveals(board, context, verified))
        if not set(proposal.seats) <= set(verified) or not is_quorum(self._validator_set, proposal.seats):
            log.warning("proposal_refused", epoch=context.epoch, leader=leader, why="reveals missing or too few")
            return
        outcome = _compute(context, state, {seat: verified[seat] for seat in proposal.seats})
        if outcome.checkpoint != proposal.checkpoint:
            log.warning("proposal_refused", epoch=context.epoch, leader=leader, why="another checkpoint than ours")
            return
        try:
            signature = self._signer.sign_checkpoint(outcome.checkpoint)
        except RefusedToSign as refusal:
            log.info("vote_refused", epoch=context.epoch, leader=leader, why=str(refusal))
            return
        body: dict[str, Json] = {"checkpoint": outcome.checkpoint.to_json(), "signature": "0x" + signature.hex()}
        try:
            await self._client.send(self._peers[self._validator_set.validators[leader].address], PeerKind.VOTE, body)
        except OracleError as error:
            log.warning("vote_not_delivered", epoch=context.epoch, leader=leader, why=str(error))

    async def _adopt(
        self, context: EpochContext, board: EpochBoard, state: AggregationState, verified: dict[int, RevealMessage]
    ) -> CertifiedOutcome:
        if board.certified is None:
            raise RuntimeError("adopting an epoch without certificate")
        proposal, certificate = board.certified
        await self._fetch_missing(board, proposal)
        # The certificate settles which commits were in time, whatever we saw.
        verified.update(self._verify_reveals(board, context, verified, with_late=True))
        if not set(proposal.seats) <= set(verified):
            raise Unavailable(f"epoch {context.epoch} is certified with reveals that did not reach us")
        reveals = {seat: verified[seat] for seat in proposal.seats}
        outcome = _compute(context, state, reveals)
        if outcome.checkpoint != proposal.checkpoint:
            raise OracleError(f"epoch {context.epoch} is certified with another outcome than ours: upgrade or stop")
        certified = Certified(proposal=proposal, certificate=certificate)
        return CertifiedOutcome(context=context, outcome=outcome, certified=certified, reveals=reveals)

    async def _fetch_missing(self, board: EpochBoard, proposal: Proposal) -> None:
        """Ask the peers for the reveals of a proposal that did not reach us; what nobody has stays missing."""
        for seat, digest in zip(proposal.seats, proposal.reveals, strict=True):
            if seat not in board.reveals and seat < self._seat_count:
                body = await self._client.find_document(self._peers.values(), digest)
                if body is not None:
                    board.put_reveal(seat, RevealMessage.from_json(canonical.decode(body)))

    def _verify_reveals(
        self, board: EpochBoard, context: EpochContext, known: Mapping[int, RevealMessage], with_late: bool = False
    ) -> dict[int, RevealMessage]:
        counted = {}
        for seat, message in board.reveals.items():
            commit = board.commits.get(seat)
            if seat in known or commit is None or (seat in board.late_seats and not with_late):
                continue
            entry = self._validator_set.validators[seat]
            try:
                verify_reveal(message, commit, entry, context, self._domain)
            except OracleError as error:
                log.warning("reveal_refused", epoch=context.epoch, seat=seat, why=str(error))
                continue
            counted[seat] = message
        return counted

    def _require_quorum(self, seats: Mapping[int, object], what: str) -> None:
        if not is_quorum(self._validator_set, list(seats)):
            raise EpochAbandoned(f"{what} of {len(seats)} of {self._seat_count} seats are too little stake")

    def _broadcast(self, kind: PeerKind, body: dict[str, Json]) -> None:
        def report(result: PeerResult) -> None:
            if result.error is not None:
                log.warning("peer_not_reached", kind=kind.value, peer=result.peer.address.hex(), why=str(result.error))

        # Nobody is waited for: a peer that hangs must not hold up the phase.
        self._client.broadcast_soon(self._peers.values(), kind, body, report)


def _compute(context: EpochContext, state: AggregationState, reveals: Mapping[int, RevealMessage]) -> Outcome:
    return compute_outcome(context.inputs, state, {seat: message.reveal for seat, message in reveals.items()})
