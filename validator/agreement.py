"""Agreement on an epoch between the seats: commit, reveal, checkpoint, certificate.

A commit is a signed hash; nobody reveals before commits of more than 2/3 of stake are in; a reveal counts only with a
timely commit. Leaders propose in beacon order; a seat votes for a proposal only when it computes the same checkpoint
from the same reveals itself, and the sign guard lets it vote once per epoch. A timeout passes the turn to the next,
who brings up again what it voted for. No step waits for a single peer's answer.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog

from scoring.canonical import Json
from scoring.certificate import build_certificate, is_quorum
from scoring.eip712 import Domain, compute_signing_root, compute_struct_hash
from scoring.errors import OracleError, RefusedToSign, Unavailable
from scoring.merkle import compute_root
from scoring.outcome import AggregationState, Outcome, compute_outcome
from scoring.records import Commit, Reveal, ValidatorSet
from scoring.schedule import compute_leader_order
from validator.board import Board, EpochBoard
from validator.config import PhaseTimeouts
from validator.epoch import CertifiedOutcome, EpochContext
from validator.messages import Certified, Proposal, RevealMessage
from validator.peer_envelope import PeerKind
from validator.peers import Peer, PeerClient, PeerResult
from validator.publishing import keep_reveal
from validator.reveal_pool import RevealPool, fetch_reveal
from validator.signer import Signer
from validator.store import Store

log = structlog.get_logger()

ALL_VOTES_S = 2.0
"""How long a leader that has a quorum waits for the rest: a certificate with every seat in it says more."""


class EpochAbandoned(OracleError):
    """Too few seats took part in time: this epoch has no certificate; the next one goes on."""


class Agreement:
    """This seat's part in agreeing on epochs. Messages of others reach the board through `validator.desk`."""

    def __init__(
        self,
        *,
        signer: Signer,
        seat: int,
        validator_set: ValidatorSet,
        domain: Domain,
        board: Board,
        store: Store,
        peers: Sequence[Peer],
        client: PeerClient,
        timeouts: PhaseTimeouts,
    ) -> None:
        self._signer = signer
        self._seat = seat
        self._validator_set = validator_set
        self._domain = domain
        self._board = board
        self._store = store
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
        await board.wait_until(lambda it: len(it.commits) == self._seat_count, self._compute_commit_wait_s(board))
        self._require_quorum(board.commits, "commits")

    async def reveal(self, context: EpochContext, message: RevealMessage) -> RevealPool:
        """Publish our observations and return the reveals that came in; raises EpochAbandoned below 2/3 of stake."""
        board = self._board.at(context.epoch)
        board.has_revealed = True
        board.put_reveal(self._seat, message)
        # Stored as public first: a peer that misses our message asks for it by its digest.
        keep_reveal(self._store, message)
        self._broadcast(PeerKind.REVEAL, message.to_json())
        await board.wait_until(lambda it: it.reveals.keys() >= it.commits.keys(), self._timeouts.reveal_ms / 1000)
        pool = RevealPool(context, board, self._validator_set, self._domain, self._fetch_reveal)
        self._require_quorum(pool.list_timely(), "reveals")
        return pool

    async def certify(self, context: EpochContext, state: AggregationState, pool: RevealPool) -> CertifiedOutcome:
        """Bring the epoch to a certified checkpoint, leader by leader; raises EpochAbandoned."""
        board = self._board.at(context.epoch)
        for leader in compute_leader_order(context.inputs.beacon, self._validator_set):
            if leader == self._seat:
                await self._lead(context, board, state, pool)
            else:
                await self._follow(context, board, state, pool, leader)
            if board.is_certified:
                return await self._adopt(context, board, state, pool)
            log.warning("leader_gave_no_certificate", epoch=context.epoch, leader=leader)
        raise EpochAbandoned(f"no leader brought epoch {context.epoch} to a certificate")

    def _compute_commit_wait_s(self, board: EpochBoard) -> float:
        # Counted from the start of the round: a provider that keeps one seat waiting must not shut that seat out.
        commit_s = self._timeouts.commit_ms / 1000
        if board.opened_s is None:
            return commit_s
        elapsed_s = asyncio.get_running_loop().time() - board.opened_s
        return max(commit_s, self._timeouts.probe_ms / 1000 + commit_s - elapsed_s)

    async def _lead(self, context: EpochContext, board: EpochBoard, state: AggregationState, pool: RevealPool) -> None:
        # What we have voted for is all that we can still bring to a certificate, whoever proposed it first.
        proposal = board.own_vote or _build_proposal(context, state, pool.list_timely())
        root = compute_signing_root(proposal.checkpoint, self._domain)
        try:
            signature = self._signer.sign_checkpoint(proposal.checkpoint)
        except RefusedToSign as refusal:
            log.info("not_proposing", epoch=context.epoch, why=str(refusal))
            return
        board.own_vote = proposal
        board.put_proposal(self._seat, proposal)
        board.put_vote(self._seat, root, signature)
        self._broadcast(PeerKind.PROPOSAL, proposal.to_json())
        votes = await self._wait_for_votes(board, root)
        if not board.is_certified and is_quorum(self._validator_set, votes):
            certificate = build_certificate(root, self._validator_set, votes)
            certified = Certified(proposal=proposal, certificate=certificate)
            board.put_certified(self._seat, certified)
            self._broadcast(PeerKind.CERTIFICATE, certified.to_json())

    async def _wait_for_votes(self, board: EpochBoard, root: bytes) -> Mapping[int, bytes]:
        vote_s = self._timeouts.vote_ms / 1000
        short_s = min(ALL_VOTES_S, vote_s / 2)
        await board.wait_until(lambda it: it.is_certified or len(it.votes.get(root, {})) == self._seat_count, short_s)
        await board.wait_until(
            lambda it: it.is_certified or is_quorum(self._validator_set, it.votes.get(root, {})), vote_s - short_s
        )
        return board.votes.get(root, {})

    async def _follow(
        self, context: EpochContext, board: EpochBoard, state: AggregationState, pool: RevealPool, leader: int
    ) -> None:
        await board.wait_until(lambda it: leader in it.proposals or it.is_certified, self._timeouts.proposal_ms / 1000)
        if not board.is_certified and leader in board.proposals:
            await self._vote(context, board, state, pool, leader)
            await board.wait_until(lambda it: it.is_certified, self._timeouts.vote_ms / 1000)

    async def _vote(
        self, context: EpochContext, board: EpochBoard, state: AggregationState, pool: RevealPool, leader: int
    ) -> None:
        proposal = board.proposals[leader]
        refusal = await self._find_objection(context, state, pool, proposal)
        if refusal:
            log.warning("proposal_refused", epoch=context.epoch, leader=leader, why=refusal)
            return
        try:
            signature = self._signer.sign_checkpoint(proposal.checkpoint)
        except RefusedToSign as error:
            log.info("vote_refused", epoch=context.epoch, leader=leader, why=str(error))
            return
        board.own_vote = proposal
        body: dict[str, Json] = {"checkpoint": proposal.checkpoint.to_json(), "signature": "0x" + signature.hex()}
        self._send_soon([self._peers[self._validator_set.validators[leader].address]], PeerKind.VOTE, body)

    async def _find_objection(
        self, context: EpochContext, state: AggregationState, pool: RevealPool, proposal: Proposal
    ) -> str:
        """Say why a proposal gets no vote of ours, or nothing."""
        reveals = await pool.collect(proposal)
        if reveals is None:
            return "a reveal is missing or does not count"
        if not is_quorum(self._validator_set, list(reveals)):
            return "too few reveals"
        if _compute(context, state, reveals).checkpoint != proposal.checkpoint:
            return "another checkpoint than ours"
        return ""

    async def _adopt(
        self, context: EpochContext, board: EpochBoard, state: AggregationState, pool: RevealPool
    ) -> CertifiedOutcome:
        for certified in _list_readings(board):
            reveals = await pool.collect(certified.proposal, is_certified=True)
            checkpoint = certified.proposal.checkpoint
            if reveals is None or _compute_reveals_root(reveals) != checkpoint.reveals_root:
                continue
            outcome = _compute(context, state, reveals)
            if outcome.checkpoint != checkpoint:
                raise OracleError(f"epoch {context.epoch} is certified with another outcome than ours: upgrade or stop")
            return CertifiedOutcome(context=context, outcome=outcome, certified=certified, reveals=reveals)
        raise Unavailable(f"epoch {context.epoch} is certified with reveals that did not reach us")

    async def _fetch_reveal(self, digest: bytes) -> RevealMessage | None:
        return await fetch_reveal(self._client, self._peers.values(), digest, self._timeouts.proposal_ms / 1000)

    def _require_quorum(self, seats: Mapping[int, object], what: str) -> None:
        if not is_quorum(self._validator_set, list(seats)):
            raise EpochAbandoned(f"{what} of {len(seats)} of {self._seat_count} seats are too little stake")

    def _broadcast(self, kind: PeerKind, body: dict[str, Json]) -> None:
        self._send_soon(self._peers.values(), kind, body)

    def _send_soon(self, peers: Iterable[Peer], kind: PeerKind, body: dict[str, Json]) -> None:
        def report(result: PeerResult) -> None:
            if result.error is not None:
                log.warning("peer_not_reached", kind=kind.value, peer=result.peer.address.hex(), why=str(result.error))

        # Nobody is waited for: a peer that hangs must not hold up the phase.
        self._client.broadcast_soon(peers, kind, body, report)


def _build_proposal(context: EpochContext, state: AggregationState, reveals: Mapping[int, RevealMessage]) -> Proposal:
    seats = tuple(sorted(reveals))
    return Proposal(
        checkpoint=_compute(context, state, reveals).checkpoint,
        seats=seats,
        reveals=tuple(reveals[seat].digest for seat in seats),
    )


def _list_readings(board: EpochBoard) -> list[Certified]:
    """Return what the certificates may stand for, the likeliest first.

    A certificate signs the checkpoint alone. Which reveals are behind it is the word of those who sent it or proposed
    it; what we voted for is what we know to be right.
    """
    own = [] if board.own_vote is None else [board.own_vote]
    readings = []
    for certified in board.certificates.values():
        for proposal in (*own, certified.proposal, *board.proposals.values()):
            reading = Certified(proposal=proposal, certificate=certified.certificate)
            if proposal.checkpoint == certified.proposal.checkpoint and reading not in readings:
                readings.append(reading)
    return readings


def _compute(context: EpochContext, state: AggregationState, reveals: Mapping[int, RevealMessage]) -> Outcome:
    return compute_outcome(context.inputs, state, {seat: message.reveal for seat, message in reveals.items()})


def _compute_reveals_root(reveals: Mapping[int, RevealMessage]) -> bytes:
    return compute_root([compute_struct_hash(reveals[seat].reveal) for seat in sorted(reveals)])
