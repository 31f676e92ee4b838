"""From a proven case to a slash: votes in any order, outages at any moment, and every offence once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from simulation.engine import FakeEngine
from simulation.ledger import MemoryLedger
from simulation.setting import build_validator_keys
from simulation.story import Story, play_story

from challenges.evidence import parse_evidence_file, verify_evidence
from scoring import bls
from scoring.certificate import parse_bitfield
from scoring.eip712 import compute_signing_root
from scoring.errors import InvalidInput
from scoring.records import Checkpoint, SlashingEvidence
from validator.casework import Casework
from validator.keys import create_keys
from validator.messages import EvidenceVote
from validator.peer_envelope import PeerKind
from validator.peers import Peer, PeerResult
from validator.prosecution import KEPT_EPOCHS, MAX_OPEN_VOTES_PER_SEAT, Prosecution
from validator.scorer import Scorer
from validator.sign_guard import SignGuard
from validator.signer import Signer
from validator.store import DocumentKind, Store

OWN_SEAT = 1
KEYS = build_validator_keys(4)


@dataclass
class Mailbox:
    """Takes what is broadcast."""

    sent: list[EvidenceVote] = field(default_factory=list)

    def broadcast_soon(
        self, peers: list[Peer], kind: PeerKind, body: Any, report: Callable[[PeerResult], None]
    ) -> None:
        assert kind is PeerKind.EVIDENCE_VOTE
        self.sent.append(EvidenceVote.from_json(body))


@dataclass
class Desk:
    """One seat's prosecution over the epochs of the story; the others' votes are signed by hand."""

    story: Story
    directory: Path
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    mailbox: Mailbox = field(default_factory=Mailbox)

    def open(self) -> None:
        genesis = self.story.genesis
        self.store = Store(self.directory / "store.sqlite")
        self.guard = SignGuard.open(self.directory / "guard.sqlite", self.directory / "keys")
        scorer = Scorer(FakeEngine(), genesis.plan)  # type: ignore[arg-type]
        self.casework = Casework(genesis.plan, genesis.domain, genesis.validator_set, OWN_SEAT, scorer, self.store)
        self.prosecution = Prosecution(
            signer=Signer(KEYS[OWN_SEAT], self.guard, genesis.domain, genesis.network),
            seat=OWN_SEAT,
            validator_set=genesis.validator_set,
            domain=genesis.domain,
            casework=self.casework,
            ledger=self.ledger,
            store=self.store,
            peers=[Peer(address=keys.address, endpoint="http://nowhere.test") for keys in KEYS],
            client=self.mailbox,  # type: ignore[arg-type]
        )

    def close(self) -> None:
        self.store.close()
        self.guard.close()

    async def play(self, first: int, last: int) -> None:
        """Fold some epochs of the story, and prosecute after each as a round does."""
        for epoch in range(first, last + 1):
            await self.casework.process_epoch(self.story.outcomes[epoch][OWN_SEAT])
            await self.prosecution.prosecute(self.checkpoint(epoch))

    def checkpoint(self, epoch: int) -> Checkpoint:
        return self.story.outcomes[epoch][OWN_SEAT].checkpoint

    async def vote(self, seat: int, evidence: SlashingEvidence) -> None:
        root = compute_signing_root(evidence, self.story.genesis.domain)
        vote = EvidenceVote(evidence=evidence, signature=bls.sign(KEYS[seat].bls_sk, root))
        await self.prosecution.process_vote(seat, vote)

    @property
    def right_evidence(self) -> SlashingEvidence:
        """What all seats sign after epoch 2."""
        (document,) = self.story.stores[0].list_documents(DocumentKind.EVIDENCE, 2)
        return parse_evidence_file(document.body).evidence


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    create_keys(tmp_path / "keys", KEYS[OWN_SEAT])
    opened = Desk(story=play_story(), directory=tmp_path)
    opened.open()
    yield opened
    opened.close()


async def test_below_the_threshold_nothing_is_signed(desk: Desk) -> None:
    await desk.play(0, 1)
    assert not desk.mailbox.sent
    assert not desk.store.list_documents_between(DocumentKind.EVIDENCE_BUNDLE, 0, 100)


async def test_at_the_threshold_the_bundle_is_stored_and_our_vote_is_sent(desk: Desk) -> None:
    await desk.play(0, 2)
    assert [vote.evidence for vote in desk.mailbox.sent] == [desk.right_evidence]
    bundle = desk.store.get_document(DocumentKind.EVIDENCE_BUNDLE, desk.right_evidence.bundle_digest.hex())
    assert bundle is not None
    assert not desk.ledger.evidence, "one vote is no quorum"


async def test_the_third_vote_makes_the_certificate_the_file_and_the_slash(desk: Desk) -> None:
    await desk.play(0, 2)
    await desk.vote(0, desk.right_evidence)
    assert not desk.ledger.evidence
    await desk.vote(3, desk.right_evidence)
    ((evidence, certificate),) = desk.ledger.evidence
    assert evidence == desk.right_evidence
    assert parse_bitfield(certificate.signers, 4) == (0, 1, 3)
    (document,) = desk.store.list_documents(DocumentKind.EVIDENCE, 2)
    file = parse_evidence_file(document.body)
    verify_evidence(file, desk.story.genesis.validator_set, desk.story.genesis.domain)
    assert file.witness == KEYS[OWN_SEAT].address


async def test_votes_that_come_before_our_own_evidence_wait_for_it(desk: Desk) -> None:
    await desk.play(0, 1)
    for seat in (0, 2):
        await desk.vote(seat, desk.right_evidence)
    assert not desk.ledger.evidence, "others' votes alone slash nobody, however many"
    await desk.play(2, 2)
    assert len(desk.ledger.evidence) == 1


async def test_three_votes_of_others_do_not_make_us_sign_or_submit(desk: Desk) -> None:
    await desk.play(0, 1)
    for seat in (0, 2, 3):
        await desk.vote(seat, desk.right_evidence)
    assert not desk.ledger.evidence
    assert not desk.mailbox.sent


async def test_votes_for_other_evidence_do_not_add_up(desk: Desk) -> None:
    await desk.play(0, 2)
    await desk.vote(0, replace(desk.right_evidence, slash_bps=2000))
    await desk.vote(2, replace(desk.right_evidence, bundle_digest=bytes(32)))
    assert not desk.ledger.evidence


async def test_an_offence_is_submitted_once(desk: Desk) -> None:
    await desk.play(0, 2)
    for seat in (0, 2, 3, 0):
        await desk.vote(seat, desk.right_evidence)
    await desk.play(3, 4)
    assert desk.ledger.attempts == 1
    assert len(desk.mailbox.sent) == 1, "and nothing is signed for it again"
    assert len(desk.store.list_documents_between(DocumentKind.EVIDENCE_BUNDLE, 0, 100)) == 1


async def test_another_seat_that_was_first_settles_it(desk: Desk) -> None:
    await desk.play(0, 2)
    desk.ledger.evidence.append((desk.right_evidence, None))  # type: ignore[arg-type]
    for seat in (0, 2):
        await desk.vote(seat, desk.right_evidence)
    await desk.play(3, 3)
    assert desk.ledger.attempts == 1


async def test_a_ledger_that_is_gone_gets_it_at_the_next_checkpoint(desk: Desk) -> None:
    await desk.play(0, 2)
    desk.ledger.is_gone = True
    for seat in (0, 2):
        await desk.vote(seat, desk.right_evidence)
    assert not desk.ledger.evidence
    desk.ledger.is_gone = False
    await desk.play(3, 3)
    assert [evidence for evidence, _ in desk.ledger.evidence] == [desk.right_evidence]
    assert len(desk.mailbox.sent) == 1


async def test_a_seat_killed_before_the_ledger_had_it_brings_it_after_the_restart(desk: Desk) -> None:
    await desk.play(0, 2)
    desk.ledger.is_gone = True
    for seat in (0, 2):
        await desk.vote(seat, desk.right_evidence)
    desk.close()
    desk.open()
    desk.ledger.is_gone = False
    for epoch in range(3):
        await desk.casework.process_epoch(desk.story.outcomes[epoch][OWN_SEAT])
    desk.prosecution.resume(0, 2)
    await desk.play(3, 3)
    assert [evidence for evidence, _ in desk.ledger.evidence] == [desk.right_evidence]


async def test_a_case_that_is_proven_later_than_the_others_joins_them(desk: Desk) -> None:
    """The others' evidence of epoch 2 is not ours; in epoch 3 all sign that of epoch 3."""
    await desk.play(0, 1)
    await desk.vote(0, desk.right_evidence)
    await desk.casework.process_epoch(desk.story.outcomes[2][OWN_SEAT])
    await desk.play(3, 3)
    assert [vote.evidence.last_epoch for vote in desk.mailbox.sent] == [3]
    for seat in (0, 3):
        await desk.vote(seat, desk.mailbox.sent[0].evidence)
    assert desk.ledger.evidence[0][0].last_epoch == 3


async def test_a_quorum_after_the_next_case_has_opened_still_has_its_own_bundle(desk: Desk) -> None:
    await desk.play(0, 2)
    desk.casework._bundles.clear()
    desk.casework._statistics.clear()
    for seat in (0, 2):
        await desk.vote(seat, desk.right_evidence)
    (document,) = desk.store.list_documents(DocumentKind.EVIDENCE, 2)
    verify_evidence(parse_evidence_file(document.body), desk.story.genesis.validator_set, desk.story.genesis.domain)


async def test_one_seat_cannot_fill_our_memory_with_votes_and_is_heard_again_later(desk: Desk) -> None:
    for number in range(MAX_OPEN_VOTES_PER_SEAT):
        await desk.vote(0, replace(desk.right_evidence, threshold=number))
    with pytest.raises(InvalidInput, match="too many open evidence votes"):
        await desk.vote(0, desk.right_evidence)
    await desk.vote(2, desk.right_evidence)
    later = replace(desk.checkpoint(4), epoch=KEPT_EPOCHS + 1)
    await desk.prosecution.prosecute(later)
    await desk.vote(0, desk.right_evidence)


async def test_a_case_that_ended_is_not_signed_for_an_epoch_that_it_does_not_have(desk: Desk) -> None:
    await desk.play(0, 1)
    await desk.casework.process_epoch(desk.story.outcomes[2][OWN_SEAT])
    # The offer is gone: nothing was folded in this epoch.
    await desk.prosecution.prosecute(desk.checkpoint(4))
    assert not desk.mailbox.sent
