"""What a certified epoch leaves in the store, and how it is found again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from simulation.story import EPOCHS, Story, play_story

from scoring import canonical
from scoring.errors import OracleError
from scoring.feed import parse_feed_proof
from scoring.feed_index import parse_feed_index
from validator.board import EpochBoard
from validator.messages import RevealMessage
from validator.publishing import (
    INDEX_FILE,
    keep_reveal,
    load_certified,
    load_checkpoints,
    load_messages,
    load_reveals,
    load_state,
    publish_epoch,
)
from validator.store import DocumentConflict, DocumentKind, Store


@pytest.fixture(scope="module")
def story() -> Story:
    return play_story()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store.sqlite")
    yield opened
    opened.close()


def publish(store: Store, story: Story, *epochs: int) -> None:
    for epoch in epochs:
        publish_epoch(store, story.outcomes[epoch][0], story.genesis.domain)


def test_a_fresh_store_knows_nothing(store: Store) -> None:
    assert load_state(store) is None
    assert load_checkpoints(store, 8) == {}
    assert load_certified(store, 0) is None


def test_what_was_published_is_found_again(store: Store, story: Story) -> None:
    publish(store, story, 0, 1, 2)
    outcome = story.outcomes[2][0]
    assert load_state(store) == outcome.outcome.state
    certified = load_certified(store, 2)
    assert certified == outcome.certified
    assert certified is not None
    assert load_reveals(store, certified) == dict(outcome.reveals)
    assert load_checkpoints(store, 2) == {epoch: story.outcomes[epoch][0].checkpoint for epoch in (1, 2)}


def test_the_newest_state_counts_and_epochs_may_be_missing_between(store: Store, story: Story) -> None:
    publish(store, story, 1, 4)
    assert load_state(store) == story.outcomes[4][0].outcome.state
    assert list(load_checkpoints(store, 8)) == [1, 4]


def test_publishing_twice_is_a_retry(store: Store, story: Story) -> None:
    publish(store, story, 1)
    publish(store, story, 1)


def test_another_outcome_of_a_published_epoch_is_refused_whole(store: Store, story: Story) -> None:
    publish(store, story, 1)
    other = story.outcomes[1][0]
    certificate = replace(other.certified.certificate, signers=b"\x07")
    conflicting = replace(other, certified=replace(other.certified, certificate=certificate))
    before = store.list_documents(DocumentKind.FEED_PROOF, 1)
    with pytest.raises(DocumentConflict):
        publish_epoch(store, conflicting, story.genesis.domain)
    assert store.list_documents(DocumentKind.FEED_PROOF, 1) == before


def test_the_index_names_every_proof_file(store: Store, story: Story) -> None:
    publish(store, story, 3)
    body = store.get_document(DocumentKind.FEED_PROOF, f"3:{INDEX_FILE}")
    assert body is not None
    entries = parse_feed_index(body).entries
    assert len(entries) == len(story.outcomes[3][0].outcome.feed_items)
    for entry in entries:
        proof = store.get_document(DocumentKind.FEED_PROOF, f"3:{entry.file}")
        assert proof is not None
        assert parse_feed_proof(proof).item.offer_digest == entry.offer_digest


def test_a_second_face_of_a_reveal_stands_beside_the_first(store: Store, story: Story) -> None:
    outcome = story.outcomes[2][0]
    message = outcome.reveals[1]
    false = replace(message, reveal=replace(message.reveal, salt=b"\x01" * 32))
    keep_reveal(store, false)
    publish(store, story, 2)
    assert load_reveals(store, outcome.certified)[1] == message
    assert store.find_by_digest(false.digest) is not None


def test_a_missing_reveal_is_named(store: Store, story: Story) -> None:
    with pytest.raises(OracleError, match="reveal of seat 0 in epoch 2"):
        load_reveals(store, story.outcomes[2][0].certified)


def test_messages_of_an_epoch_come_back_on_its_board_after_a_restart(store: Store, story: Story) -> None:
    genesis = story.genesis
    addresses = [entry.address for entry in genesis.validator_set.validators]
    live = story.stores[0]
    board = EpochBoard(epoch=EPOCHS - 1)
    load_messages(live, board, addresses)
    assert set(board.commits) == {1, 2, 3}, "of the others: our own is made anew"
    assert set(board.reveals) == {0, 1, 2, 3}
    assert not board.late_seats
    load_messages(live, board, addresses)
    assert not board.faults


def test_messages_on_the_board_already_are_not_replaced(store: Store, story: Story) -> None:
    message = story.outcomes[2][0].reveals[1]
    other = replace(message, signature=bytes(96))
    keep_reveal(store, other)
    board = EpochBoard(epoch=2)
    board.put_reveal(1, message)
    load_messages(store, board, [entry.address for entry in story.genesis.validator_set.validators])
    assert board.reveals == {1: message}


def test_a_reveal_is_found_by_the_digest_that_proposals_name(store: Store, story: Story) -> None:
    message = story.outcomes[2][0].reveals[1]
    keep_reveal(store, message)
    body = store.find_by_digest(message.digest)
    assert body is not None
    assert RevealMessage.from_json(canonical.decode(body)) == message
