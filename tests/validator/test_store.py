"""The store: append-only, the same bytes twice are welcome, other bytes are a conflict, and kill -9 loses nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scoring.errors import InvalidInput, Unavailable
from scoring.hashing import keccak256
from validator.store import PUBLIC_KINDS, DocumentConflict, DocumentKind, Store, build_seat_key

PEER, OTHER = b"p" * 20, b"o" * 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


def test_keeps_documents_by_kind_and_key(store: Store) -> None:
    assert store.put_document(DocumentKind.COMMIT, "3:aa", 3, b"one")
    assert store.put_document(DocumentKind.REVEAL, "3:aa", 3, b"two")
    assert store.get_document(DocumentKind.COMMIT, "3:aa") == b"one"
    assert store.get_document(DocumentKind.COMMIT, "3:bb") is None


def test_takes_the_same_bytes_twice_and_shows_what_is_stored_on_a_conflict(store: Store) -> None:
    assert store.put_document(DocumentKind.COMMIT, "3:aa", 3, b"one")
    assert not store.put_document(DocumentKind.COMMIT, "3:aa", 3, b"one")
    with pytest.raises(DocumentConflict) as caught:
        store.put_document(DocumentKind.COMMIT, "3:aa", 3, b"other")
    assert caught.value.stored == b"one"


def test_stores_a_group_of_documents_whole_or_not_at_all(store: Store) -> None:
    store.put_document(DocumentKind.COMMIT, "b", 1, b"one")
    with pytest.raises(DocumentConflict):
        store.put_documents([(DocumentKind.COMMIT, "a", 1, b"x"), (DocumentKind.COMMIT, "b", 1, b"x")])
    assert store.get_document(DocumentKind.COMMIT, "a") is None
    assert store.put_documents([(DocumentKind.COMMIT, "a", 1, b"x"), (DocumentKind.COMMIT, "b", 1, b"one")]) == 1


def test_lists_documents_of_epochs_in_order(store: Store) -> None:
    for epoch, address in ((2, OTHER), (1, PEER), (1, OTHER), (3, PEER)):
        key = build_seat_key(epoch, address)
        store.put_document(DocumentKind.REVEAL, key, epoch, f"{key}".encode())
    assert [document.key[-2:] for document in store.list_documents(DocumentKind.REVEAL, 1)] == ["6f", "70"]
    assert [document.epoch for document in store.list_documents_between(DocumentKind.REVEAL, 1, 2)] == [1, 1, 2]
    latest = store.find_latest(DocumentKind.REVEAL)
    assert latest is not None and latest.epoch == 3 and latest.digest == keccak256(latest.body)
    assert store.find_latest(DocumentKind.COMMIT) is None


def test_finds_public_documents_by_digest_and_no_others(store: Store) -> None:
    store.put_document(DocumentKind.TRANSCRIPT, "x", 1, b"seen")
    store.put_document(DocumentKind.OWN_REVEAL, "1", 1, b"salted")
    assert store.find_by_digest(keccak256(b"seen")) == b"seen"
    assert store.find_by_digest(keccak256(b"salted")) is None
    assert store.find_by_digest(keccak256(b"salted"), frozenset({DocumentKind.OWN_REVEAL})) == b"salted"
    assert DocumentKind.OWN_REVEAL not in PUBLIC_KINDS and DocumentKind.AGGREGATION not in PUBLIC_KINDS


def test_refuses_a_document_beyond_its_limit(store: Store) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        store.put_document(DocumentKind.EVIDENCE, "x", 1, bytes(64 * 1024 * 1024 + 1))


def test_records_the_first_time_that_an_epoch_reached_a_phase(store: Store) -> None:
    assert store.record_phase(4, "probed", 100)
    assert store.record_phase(4, "committed", 101)
    assert not store.record_phase(4, "probed", 102)
    assert list(store.list_phases(4).items()) == [("probed", 100), ("committed", 101)]
    assert (store.find_last_epoch("probed"), store.find_last_epoch("certified")) == (4, None)


def test_counts_outbound_messages_up_from_the_clock_for_each_peer(store: Store, path: Path) -> None:
    assert store.next_outbound_counter(PEER, 1000) == 1000
    assert store.next_outbound_counter(PEER, 1000) == 1001
    assert store.next_outbound_counter(PEER, 5) == 1002
    assert store.next_outbound_counter(OTHER, 7) == 7
    store.close()
    assert Store(path).next_outbound_counter(PEER, 5) == 1003


def test_accepts_inbound_counters_that_rise(store: Store, path: Path) -> None:
    assert store.get_inbound_counter(PEER) == 0
    assert [store.accept_inbound_counter(PEER, counter) for counter in (5, 5, 4, 6, 9)] == [
        True,
        False,
        False,
        True,
        True,
    ]
    assert store.accept_inbound_counter(OTHER, 1)
    store.close()
    assert Store(path).get_inbound_counter(PEER) == 9


CHANGES = [
    "UPDATE documents SET body = x'00'",
    "DELETE FROM documents",
    "UPDATE phases SET time_s = 0",
    "DELETE FROM phases",
    "UPDATE inbound_counters SET counter = 1",
    "INSERT OR REPLACE INTO documents VALUES ('commit', 'a', 1, x'00', x'00')",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_refuses_to_rewrite_history(store: Store, path: Path, statement: str) -> None:
    store.put_document(DocumentKind.COMMIT, "a", 1, b"x")
    store.record_phase(1, "probed", 1)
    store.accept_inbound_counter(PEER, 5)
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("PRAGMA recursive_triggers=on")
        connection.execute(statement)


def test_says_what_is_wrong_with_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        Store(tmp_path / "store.sqlite")


def test_is_unavailable_once_closed(store: Store) -> None:
    store.close()
    with pytest.raises(Unavailable):
        store.get_document(DocumentKind.COMMIT, "a")


def test_is_written_from_many_threads(store: Store) -> None:
    def write(number: int) -> None:
        for index in range(20):
            store.put_document(DocumentKind.TRANSCRIPT, f"{number}-{index}", number, b"x")
            store.next_outbound_counter(PEER, 0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(store.list_documents(DocumentKind.TRANSCRIPT, number)) for number in range(4)) == 80
    assert store.next_outbound_counter(PEER, 0) == 81


WRITER = """
import sys, pathlib
from validator.store import Store, DocumentKind
print("loaded", flush=True)
sys.stdin.readline()
store = Store(pathlib.Path(sys.argv[1]))
print("open", flush=True)
for number in range(1_000_000):
    store.put_document(DocumentKind.TRANSCRIPT, f"{sys.argv[2]}-{number}", 1, b"x" * 2000)
    print(number, flush=True)
    if number == int(sys.argv[3]): break
"""


def start_writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def release(*writers: "subprocess.Popen[str]") -> None:
    """Let writers open the store, all at one moment."""
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "loaded\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()


@pytest.mark.slow
def test_is_made_and_migrated_by_several_processes_at_once(path: Path) -> None:
    writers = [start_writer(path, name, 9) for name in ("a", "b", "c", "d")]
    release(*writers)
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    assert len(Store(path).list_documents(DocumentKind.TRANSCRIPT, 1)) == 40


@pytest.mark.slow
def test_loses_nothing_that_was_written_before_kill_9(path: Path) -> None:
    writer = start_writer(path, "a", 10**6)
    release(writer)
    assert writer.stdout is not None
    for _ in range(30):
        last = writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.communicate()[0].split("\n")
    complete = [line for line in [last.strip(), *rest[:-1]] if line.isdigit()]
    store = Store(path)
    assert store.get_document(DocumentKind.TRANSCRIPT, f"a-{complete[-1]}") == b"x" * 2000
    assert store.put_document(DocumentKind.TRANSCRIPT, "after", 1, b"x")
