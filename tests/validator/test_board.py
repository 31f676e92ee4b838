"""The board: what seats have said of an epoch, the first word of each, and waiting for enough of it."""

import asyncio
from dataclasses import replace

import pytest

from scoring.errors import InvalidInput
from scoring.records import Certificate, Checkpoint, Commit, Reveal
from validator.board import Board, EpochBoard
from validator.messages import Certified, Proposal, RevealMessage

COMMIT = Commit(validator=b"\x01" * 20, epoch=3, reveal_digest=b"\x02" * 32)
REVEAL = RevealMessage(
    reveal=Reveal(validator=b"\x01" * 20, epoch=3, salt=b"\x03" * 32, vrf_proof=bytes(96), outcomes=()),
    signature=bytes(96),
    transcripts=(),
)
PROPOSAL = Proposal(
    checkpoint=Checkpoint(
        epoch=3,
        previous=bytes(32),
        time_s=30,
        beacon=bytes(32),
        vrf_outputs=(),
        reveals_root=bytes(32),
        feed_root=bytes(32),
        case_root=bytes(32),
        state_digest=bytes(32),
        validator_set_digest=bytes(32),
        plan_digest=bytes(32),
    ),
    seats=(),
    reveals=(),
)
CERTIFICATE = Certificate(signing_root=bytes(32), validator_set_digest=bytes(32), signers=b"\x07", signature=bytes(96))


@pytest.fixture
def board() -> EpochBoard:
    return EpochBoard(epoch=3)


@pytest.mark.parametrize(
    ("put", "first", "second", "fault"),
    [
        ("put_commit", COMMIT, replace(COMMIT, reveal_digest=b"\x09" * 32), "two commits"),
        ("put_reveal", REVEAL, replace(REVEAL, signature=b"\x01" * 96), "two reveals"),
        ("put_proposal", PROPOSAL, replace(PROPOSAL, seats=(1,), reveals=(bytes(32),)), "two proposals"),
    ],
)
def test_the_first_word_of_a_seat_stays_and_a_second_is_a_fault(
    board: EpochBoard, put: str, first: object, second: object, fault: str
) -> None:
    getattr(board, put)(2, first)
    getattr(board, put)(2, first)
    assert not board.faults, "the same again is a retry"
    with pytest.raises(InvalidInput, match=fault):
        getattr(board, put)(2, second)
    assert board.faults == {(2, fault)}
    getattr(board, put)(1, second)
    kept = next(value for value in (board.commits, board.reveals, board.proposals) if value)
    assert kept == {2: first, 1: second}


def test_a_seat_votes_for_one_root_in_an_epoch(board: EpochBoard) -> None:
    board.put_vote(1, b"\x01" * 32, b"a")
    board.put_vote(1, b"\x01" * 32, b"a")
    with pytest.raises(InvalidInput, match="two votes"):
        board.put_vote(1, b"\x02" * 32, b"b")
    assert board.votes == {b"\x01" * 32: {1: b"a"}}


def test_a_commit_after_our_own_reveal_is_late(board: EpochBoard) -> None:
    board.put_commit(0, COMMIT)
    board.has_revealed = True
    board.put_commit(1, COMMIT)
    board.put_commit(0, COMMIT)
    assert board.late_seats == {1}


def test_each_sender_of_a_certificate_is_heard_once(board: EpochBoard) -> None:
    assert not board.is_certified
    lie = Certified(proposal=replace(PROPOSAL, seats=(2,), reveals=(bytes(32),)), certificate=CERTIFICATE)
    right = Certified(proposal=PROPOSAL, certificate=CERTIFICATE)
    board.put_certified(2, lie)
    board.put_certified(0, right)
    board.put_certified(2, right)
    assert board.certificates == {2: lie, 0: right}
    assert board.is_certified


async def test_waiting_ends_as_soon_as_there_is_enough(board: EpochBoard) -> None:
    waiting = asyncio.create_task(board.wait_until(lambda it: len(it.commits) == 2, 10))
    await asyncio.sleep(0)
    board.put_commit(0, COMMIT)
    await asyncio.sleep(0)
    assert not waiting.done()
    board.put_commit(1, COMMIT)
    async with asyncio.timeout(5):
        assert await waiting


async def test_waiting_ends_at_the_timeout(board: EpochBoard) -> None:
    assert not await board.wait_until(lambda it: bool(it.commits), 0.02)
    assert not await board.wait_until(lambda it: bool(it.commits), -1.0)


async def test_what_is_there_already_is_not_waited_for(board: EpochBoard) -> None:
    board.put_commit(0, COMMIT)
    assert await board.wait_until(lambda it: bool(it.commits), 0.0)


async def test_two_who_wait_on_one_board_are_both_woken(board: EpochBoard) -> None:
    waiting = [asyncio.create_task(board.wait_until(lambda it: bool(it.commits), 5)) for _ in range(2)]
    await asyncio.sleep(0)
    board.put_commit(0, COMMIT)
    assert await asyncio.gather(*waiting) == [True, True]


@pytest.mark.parametrize("epoch", [15, 25, -1, 10**9])
def test_epochs_far_from_the_current_one_are_refused(epoch: int) -> None:
    board = Board()
    board.move_to(20)
    with pytest.raises(InvalidInput, match="far from the current 20"):
        board.at(epoch)


def test_boards_that_fall_out_of_the_window_are_dropped_and_others_stay() -> None:
    board = Board()
    kept, dropped = board.at(3), board.at(0)
    kept.put_commit(0, COMMIT)
    dropped.put_commit(0, COMMIT)
    board.move_to(6)
    assert board.at(3) is kept
    with pytest.raises(InvalidInput):
        board.at(0)


def test_the_current_epoch_never_goes_back() -> None:
    board = Board()
    board.move_to(9)
    board.move_to(2)
    with pytest.raises(InvalidInput):
        board.at(2)


def test_opening_notes_the_time_and_keeps_what_came_before() -> None:
    board = Board()
    early = board.at(1)
    early.put_commit(0, COMMIT)
    assert early.opened_s is None
    assert board.open(1, 12.5) is early
    assert early.opened_s == 12.5
