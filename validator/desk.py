"""Where peer messages arrive: parse, check the signature inside, put it on the board. The round does the rest."""

from collections.abc import Awaitable, Callable

from scoring import bls
from scoring.canonical import Json
from scoring.certificate import verify_certificate
from scoring.eip712 import Domain, Record, compute_signing_root, compute_struct_hash, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import Checkpoint, Commit, ValidatorSet
from validator.board import Board
from validator.messages import Certified, EvidenceVote, Proposal, RevealMessage, parse_object
from validator.peer_envelope import PeerKind
from validator.peer_inbox import PeerMessage
from validator.publishing import keep_reveal
from validator.store import DocumentKind, Store, build_seat_key

EvidenceHandler = Callable[[int, EvidenceVote], Awaitable[None]]


class MessageDesk:
    """Handles the messages of the transport. Each takes the same message twice without harm."""

    def __init__(
        self,
        validator_set: ValidatorSet,
        domain: Domain,
        board: Board,
        store: Store,
        process_evidence_vote: EvidenceHandler,
    ) -> None:
        self._validator_set = validator_set
        self._domain = domain
        self._board = board
        self._store = store
        self._process_evidence_vote = process_evidence_vote

    async def handle(self, message: PeerMessage) -> Json:
        """Process one message; raises OracleError, which goes back to the sender."""
        seat = self._validator_set.index_of(message.sender)
        if seat is None:
            raise VerificationFailed("the sender has no seat")
        match message.kind:
            case PeerKind.COMMIT:
                self._process_commit(seat, message.body)
            case PeerKind.REVEAL:
                self._process_reveal(seat, message.body)
            case PeerKind.PROPOSAL:
                proposal = Proposal.from_json(message.body)
                self._board.at(proposal.checkpoint.epoch).put_proposal(seat, proposal)
            case PeerKind.VOTE:
                self._process_vote(seat, message.body)
            case PeerKind.CERTIFICATE:
                self._process_certificate(seat, message.body)
            case PeerKind.EVIDENCE_VOTE:
                vote = EvidenceVote.from_json(message.body)
                self._require_signed(seat, vote.evidence, vote.signature)
                await self._process_evidence_vote(seat, vote)
            case _:
                raise InvalidInput(f"messages of kind {message.kind} are not taken here", "kind")
        return {"status": "ok"}

    def _process_commit(self, seat: int, body: Json) -> None:
        fields = parse_object(body, ("commit", "signature"))
        commit = Commit.from_json(fields["commit"])
        self._require_own(seat, commit.validator)
        self._require_signed(seat, commit, parse_hex(fields["signature"], "signature"))
        board = self._board.at(commit.epoch)
        board.put_commit(seat, commit)
        if seat not in board.late_seats:
            # Kept for a restart in the middle of the epoch.
            key = build_seat_key(commit.epoch, commit.validator)
            self._store.put_document(DocumentKind.COMMIT, key, commit.epoch, commit.encode())

    def _process_reveal(self, seat: int, body: Json) -> None:
        message = RevealMessage.from_json(body)
        self._require_own(seat, message.reveal.validator)
        self._require_signed(seat, message.reveal, message.signature)
        board = self._board.at(message.reveal.epoch)
        commit = board.commits.get(seat)
        if commit is not None and commit.reveal_digest != compute_struct_hash(message.reveal):
            # It would take the place of the right one, which may still come.
            raise VerificationFailed("the reveal does not match its commit")
        # The board takes one from each seat, so nobody fills our disk. Stored at once: a peer that missed it may ask.
        board.put_reveal(seat, message)
        keep_reveal(self._store, message)

    def _process_vote(self, seat: int, body: Json) -> None:
        fields = parse_object(body, ("checkpoint", "signature"))
        checkpoint = Checkpoint.from_json(fields["checkpoint"])
        signature = parse_hex(fields["signature"], "signature")
        self._require_signed(seat, checkpoint, signature)
        root = compute_signing_root(checkpoint, self._domain)
        self._board.at(checkpoint.epoch).put_vote(seat, root, signature)

    def _process_certificate(self, seat: int, body: Json) -> None:
        certified = Certified.from_json(body)
        checkpoint = certified.proposal.checkpoint
        board = self._board.at(checkpoint.epoch)
        verify_certificate(certified.certificate, self._validator_set, compute_signing_root(checkpoint, self._domain))
        board.put_certified(seat, certified)

    def _require_own(self, seat: int, address: bytes) -> None:
        if self._validator_set.validators[seat].address != address:
            raise VerificationFailed("the record names another seat than its sender")

    def _require_signed(self, seat: int, record: Record, signature: bytes) -> None:
        entry = self._validator_set.validators[seat]
        if not bls.verify(entry.public_key, compute_signing_root(record, self._domain), signature):
            raise VerificationFailed(f"the {type(record).__name__} is not signed by its sender's BLS key")
