"""Where peer messages arrive: what gets on the board and into the store, and every message that does not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from simulation.setting import build_validator_keys
from simulation.story import Story, play_story

from scoring import bls
from scoring.canonical import Json
from scoring.certificate import build_bitfield, compute_validator_set_digest
from scoring.eip712 import Record, compute_signing_root, compute_struct_hash
from scoring.errors import InvalidInput, OracleError, VerificationFailed
from scoring.records import Certificate, Commit, SlashingEvidence
from validator.board import Board
from validator.desk import MessageDesk
from validator.messages import Certified, EvidenceVote, RevealMessage
from validator.peer_envelope import PeerKind
from validator.peer_inbox import PeerMessage
from validator.store import DocumentKind, Store

EPOCH, SEAT = 2, 1
KEYS = build_validator_keys(4)
STRANGER = b"\x77" * 20
EVIDENCE = SlashingEvidence(
    provider=b"\x01" * 20,
    offer_digest=b"\x02" * 32,
    rule="false-capability",
    case_index=1,
    first_epoch=0,
    last_epoch=2,
    checkpoint=bytes(32),
    plan_digest=bytes(32),
    bundle_digest=bytes(32),
    threshold=600,
    slash_bps=1500,
)


@dataclass
class Office:
    """A desk with its board, its store and the evidence votes that it passed on."""

    story: Story
    store: Store
    board: Board = field(default_factory=Board)
    votes: list[tuple[int, EvidenceVote]] = field(default_factory=list)

    def __post_init__(self) -> None:
        genesis = self.story.genesis
        self.board.move_to(EPOCH)
        self.desk = MessageDesk(genesis.validator_set, genesis.domain, self.board, self.store, self._take_vote)

    async def _take_vote(self, seat: int, vote: EvidenceVote) -> None:
        self.votes.append((seat, vote))

    async def handle(self, kind: PeerKind, body: Json, sender: bytes | None = None) -> Json:
        return await self.desk.handle(PeerMessage(sender=sender or KEYS[SEAT].address, kind=kind, body=body))

    def sign(self, record: Record, seat: int = SEAT) -> str:
        return "0x" + bls.sign(KEYS[seat].bls_sk, compute_signing_root(record, self.story.genesis.domain)).hex()

    @property
    def reveal(self) -> RevealMessage:
        return self.story.own_reveals[EPOCH][SEAT]

    @property
    def commit(self) -> Commit:
        reveal = self.reveal.reveal
        return Commit(validator=reveal.validator, epoch=EPOCH, reveal_digest=compute_struct_hash(reveal))

    @property
    def certified(self) -> Certified:
        return self.story.outcomes[EPOCH][0].certified

    def build(self, kind: PeerKind, **changes: Any) -> dict[str, Any]:
        """Return a good body; `changes` replace fields of its record, signed as changed."""
        match kind:
            case PeerKind.COMMIT:
                commit = replace(self.commit, **changes)
                return {"commit": commit.to_json(), "signature": self.sign(commit)}
            case PeerKind.REVEAL:
                reveal = replace(self.reveal.reveal, **changes)
                return {**self.reveal.to_json(), "reveal": reveal.to_json(), "signature": self.sign(reveal)}
            case PeerKind.PROPOSAL:
                return replace(self.certified.proposal, **changes).to_json()
            case PeerKind.VOTE:
                checkpoint = replace(self.certified.proposal.checkpoint, **changes)
                return {"checkpoint": checkpoint.to_json(), "signature": self.sign(checkpoint)}
            case PeerKind.CERTIFICATE:
                certificate = replace(self.certified.certificate, **changes)
                return Certified(proposal=self.certified.proposal, certificate=certificate).to_json()
            case PeerKind.EVIDENCE_VOTE:
                evidence = replace(EVIDENCE, **changes)
                return {"evidence": evidence.to_json(), "signature": self.sign(evidence)}
            case _:
                return {}


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    store = Store(tmp_path / "store.sqlite")
    yield Office(story=play_story(), store=store)
    store.close()


KINDS = [kind for kind in PeerKind if kind is not PeerKind.EVIDENCE]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_message_is_taken_twice_without_harm(office: Office, kind: PeerKind) -> None:
    for _ in range(2):
        assert await office.handle(kind, office.build(kind)) == {"status": "ok"}
    board = office.board.at(EPOCH)
    assert not board.faults
    seen = {
        PeerKind.COMMIT: board.commits,
        PeerKind.REVEAL: board.reveals,
        PeerKind.PROPOSAL: board.proposals,
        PeerKind.VOTE: board.votes,
        PeerKind.CERTIFICATE: board.certificates,
        PeerKind.EVIDENCE_VOTE: office.votes,
    }
    assert seen[kind]


async def test_commits_and_reveals_are_kept_for_a_restart_and_for_peers(office: Office) -> None:
    await office.handle(PeerKind.COMMIT, office.build(PeerKind.COMMIT))
    await office.handle(PeerKind.REVEAL, office.build(PeerKind.REVEAL))
    assert len(office.store.list_documents(DocumentKind.COMMIT, EPOCH)) == 1
    assert office.store.find_by_digest(office.reveal.digest) is not None


async def test_a_late_commit_is_not_kept(office: Office) -> None:
    office.board.at(EPOCH).has_revealed = True
    await office.handle(PeerKind.COMMIT, office.build(PeerKind.COMMIT))
    assert office.board.at(EPOCH).late_seats == {SEAT}
    assert not office.store.list_documents(DocumentKind.COMMIT, EPOCH)


def _signed_by(seat: int) -> Callable[[Office, PeerKind], dict[str, Any]]:
    def build(office: Office, kind: PeerKind) -> dict[str, Any]:
        record = {
            PeerKind.COMMIT: office.commit,
            PeerKind.REVEAL: office.reveal.reveal,
            PeerKind.VOTE: office.certified.proposal.checkpoint,
            PeerKind.EVIDENCE_VOTE: EVIDENCE,
        }[kind]
        return {**office.build(kind), "signature": office.sign(record, seat)}

    return build


def _two_of_four(office: Office, kind: PeerKind) -> dict[str, Any]:
    root = compute_signing_root(office.certified.proposal.checkpoint, office.story.genesis.domain)
    signatures = [bls.sign(KEYS[seat].bls_sk, root) for seat in (0, 1)]
    return office.build(kind, signers=build_bitfield((0, 1), 4), signature=bls.aggregate(signatures))


def _other_checkpoint(office: Office, kind: PeerKind) -> dict[str, Any]:
    checkpoint = replace(office.certified.proposal.checkpoint, feed_root=bytes(32))
    proposal = replace(office.certified.proposal, checkpoint=checkpoint)
    return Certified(proposal=proposal, certificate=office.certified.certificate).to_json()


def _self_made_set(office: Office, kind: PeerKind) -> dict[str, Any]:
    checkpoint = office.certified.proposal.checkpoint
    root = compute_signing_root(checkpoint, office.story.genesis.domain)
    certificate = Certificate(
        signing_root=root,
        validator_set_digest=compute_validator_set_digest(
            replace(office.story.genesis.validator_set, validators=office.story.genesis.validator_set.validators[:1])
        ),
        signers=b"\x01",
        signature=bls.sign(KEYS[0].bls_sk, root),
    )
    return Certified(proposal=office.certified.proposal, certificate=certificate).to_json()


@pytest.mark.parametrize(
    ("kind", "build", "error", "sentence"),
    [
        pytest.param(PeerKind.COMMIT, lambda o, k: None, InvalidInput, "object", id="commit: null"),
        pytest.param(PeerKind.COMMIT, lambda o, k: {}, InvalidInput, "commit", id="commit: empty"),
        pytest.param(
            PeerKind.COMMIT,
            lambda o, k: {**o.build(k), "more": 1},
            InvalidInput,
            "more",
            id="commit: a key too many",
        ),
        pytest.param(
            PeerKind.COMMIT, lambda o, k: {**o.build(k), "signature": 5}, InvalidInput, "signature", id="commit: number"
        ),
        pytest.param(
            PeerKind.COMMIT, _signed_by(0), VerificationFailed, "not signed by", id="commit: signed by another seat"
        ),
        pytest.param(
            PeerKind.COMMIT,
            lambda o, k: {**o.build(k), "signature": "0x" + "00" * 96},
            VerificationFailed,
            "not signed by",
            id="commit: zeros for a signature",
        ),
        pytest.param(
            PeerKind.COMMIT,
            lambda o, k: o.build(k, validator=KEYS[0].address),
            VerificationFailed,
            "another seat than its sender",
            id="commit: in another seat's name",
        ),
        pytest.param(
            PeerKind.COMMIT, lambda o, k: o.build(k, epoch=90), InvalidInput, "far from", id="commit: far-off epoch"
        ),
        pytest.param(
            PeerKind.REVEAL, _signed_by(0), VerificationFailed, "not signed by", id="reveal: signed by another seat"
        ),
        pytest.param(
            PeerKind.REVEAL,
            lambda o, k: o.build(k, validator=KEYS[0].address),
            VerificationFailed,
            "another seat than its sender",
            id="reveal: in another seat's name",
        ),
        pytest.param(
            PeerKind.REVEAL, lambda o, k: o.build(k, epoch=90), InvalidInput, "far from", id="reveal: far-off epoch"
        ),
        pytest.param(
            PeerKind.REVEAL,
            lambda o, k: {**o.build(k), "transcripts": [{"kind": "x"}]},
            InvalidInput,
            "transcript",
            id="reveal: broken transcripts",
        ),
        pytest.param(
            PeerKind.REVEAL,
            lambda o, k: {**o.build(k), "signature": ""},
            InvalidInput,
            "signature",
            id="reveal: no signature",
        ),
        pytest.param(
            PeerKind.PROPOSAL,
            lambda o, k: {**o.build(k), "seats": [3, 2, 1, 0]},
            InvalidInput,
            "seats",
            id="proposal: seats out of order",
        ),
        pytest.param(
            PeerKind.PROPOSAL,
            lambda o, k: {**o.build(k), "reveals": []},
            InvalidInput,
            "reveals",
            id="proposal: no digests",
        ),
        pytest.param(
            PeerKind.PROPOSAL,
            lambda o, k: o.build(k, checkpoint=replace(o.certified.proposal.checkpoint, epoch=90)),
            InvalidInput,
            "far from",
            id="proposal: far-off epoch",
        ),
        pytest.param(
            PeerKind.VOTE, _signed_by(0), VerificationFailed, "not signed by", id="vote: signed by another seat"
        ),
        pytest.param(
            PeerKind.VOTE, lambda o, k: o.build(k, epoch=90), InvalidInput, "far from", id="vote: far-off epoch"
        ),
        pytest.param(
            PeerKind.VOTE,
            lambda o, k: {"checkpoint": {}, "signature": "0x00"},
            InvalidInput,
            "",
            id="vote: no checkpoint",
        ),
        pytest.param(
            PeerKind.CERTIFICATE, _two_of_four, VerificationFailed, "two thirds", id="certificate: of two seats"
        ),
        pytest.param(
            PeerKind.CERTIFICATE,
            lambda o, k: o.build(k, signature=bytes(96)),
            VerificationFailed,
            "",
            id="certificate: forged",
        ),
        pytest.param(
            PeerKind.CERTIFICATE,
            lambda o, k: o.build(k, signers=b"\xff"),
            VerificationFailed,
            "seat",
            id="certificate: of seats that do not exist",
        ),
        pytest.param(
            PeerKind.CERTIFICATE,
            _other_checkpoint,
            VerificationFailed,
            "another record",
            id="certificate: of another checkpoint",
        ),
        pytest.param(
            PeerKind.CERTIFICATE,
            _self_made_set,
            VerificationFailed,
            "another validator set",
            id="certificate: of a set of its own",
        ),
        pytest.param(
            PeerKind.EVIDENCE_VOTE,
            _signed_by(0),
            VerificationFailed,
            "not signed by",
            id="evidence vote: signed by another seat",
        ),
        pytest.param(PeerKind.EVIDENCE_VOTE, lambda o, k: [], InvalidInput, "object", id="evidence vote: a list"),
        pytest.param(PeerKind.EVIDENCE, lambda o, k: {}, InvalidInput, "not taken here", id="a kind without a desk"),
    ],
)
async def test_refuses(
    office: Office,
    kind: PeerKind,
    build: Callable[[Office, PeerKind], Any],
    error: type[OracleError],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        await office.handle(kind, build(office, kind))
    board = office.board.at(EPOCH)
    assert not (board.commits or board.reveals or board.proposals or board.votes or board.certificates)
    assert not office.votes
    for kept in (DocumentKind.COMMIT, DocumentKind.REVEAL):
        assert not office.store.list_documents_between(kept, 0, 100)


@pytest.mark.parametrize("kind", PeerKind)
async def test_a_sender_without_a_seat_is_refused_whatever_it_sends(office: Office, kind: PeerKind) -> None:
    with pytest.raises(VerificationFailed, match="has no seat"):
        await office.handle(kind, office.build(kind), sender=STRANGER)


@pytest.mark.parametrize(
    ("kind", "changes", "fault"),
    [
        (PeerKind.COMMIT, {"reveal_digest": b"\x01" * 32}, "two commits"),
        (PeerKind.REVEAL, {"salt": b"\x01" * 32}, "two reveals"),
        (PeerKind.PROPOSAL, {"reveals": (b"\x01" * 32,) * 4}, "two proposals"),
        (PeerKind.VOTE, {"feed_root": b"\x01" * 32}, "two votes"),
    ],
)
async def test_a_second_different_word_is_refused_and_noted(
    office: Office, kind: PeerKind, changes: dict[str, Any], fault: str
) -> None:
    await office.handle(kind, office.build(kind))
    with pytest.raises(InvalidInput, match=fault):
        await office.handle(kind, office.build(kind, **changes))
    assert office.board.at(EPOCH).faults == {(SEAT, fault)}
    assert len(office.store.list_documents_between(DocumentKind.REVEAL, 0, 100)) <= 1, "nobody fills our disk"


async def test_a_reveal_that_breaks_its_promise_does_not_take_the_place_of_the_right_one(office: Office) -> None:
    await office.handle(PeerKind.COMMIT, office.build(PeerKind.COMMIT))
    with pytest.raises(VerificationFailed, match="does not match its commit"):
        await office.handle(PeerKind.REVEAL, office.build(PeerKind.REVEAL, salt=b"\x01" * 32))
    await office.handle(PeerKind.REVEAL, office.build(PeerKind.REVEAL))
    assert office.board.at(EPOCH).reveals == {SEAT: office.reveal}
