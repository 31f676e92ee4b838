"""The validator's own record of what it saw and did: SQLite in WAL mode, append-only, safe against kill -9.

Almost everything is a document: (kind, key) -> bytes, written once. The same bytes again are welcome (a retry), other
bytes for the same key raise DocumentConflict, which carries what is stored: for a peer's commit or reveal that is the
evidence of two faces. Besides there are the phases that each epoch has reached and the counters of peer messages.

The store is not trusted for safety (the sign guard is), only for availability: a lost transcript is lost evidence.
Methods are synchronous and small; an instance may be used from several threads, a file from several processes.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlite_utils

from scoring.canonical import MAX_SAFE_INTEGER
from scoring.errors import InvalidInput, Unavailable, VerificationFailed
from scoring.hashing import keccak256
from validator.file_lock import hold_file_lock
from validator.store_schema import MIGRATIONS

BUSY_TIMEOUT_S = 30.0
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024

Row = tuple[Any, ...]


class DocumentKind(StrEnum):
    """What is stored, and what its key is. Hex keys have no 0x."""

    TRANSCRIPT = "transcript"
    """key = hex digest of the transcript's canonical bytes"""
    OWN_REVEAL = "own-reveal"
    """key = epoch; written before the commit is signed; holds the salt: never served to peers"""
    COMMIT = "commit"
    """key = build_seat_key(epoch, validator)"""
    REVEAL = "reveal"
    """key = build_seat_key(epoch, validator), ":", hex digest: a seat may show different ones to different peers"""
    PROPOSAL = "proposal"
    """key = build_seat_key(epoch, leader)"""
    CHECKPOINT = "checkpoint"
    """key = epoch; the certified one"""
    CERTIFICATE = "certificate"
    """key = epoch, of the checkpoint"""
    FEED_PROOF = "feed-proof"
    """key = build_seat_key(epoch, provider)"""
    CASE_ITEM = "case-item"
    """key = chosen by the round"""
    AGGREGATION = "aggregation"
    """key = epoch; the aggregation state after it"""
    EVIDENCE = "evidence"
    """key = hex digest of the evidence; the complete file with its certificate"""
    EVIDENCE_BUNDLE = "evidence-bundle"
    """key = hex digest of the bundle; stored before the evidence is signed"""
    EVIDENCE_VOTE = "evidence-vote"
    """key = hex digest of the evidence, ":", hex address of the signer"""
    OWN_VOTE = "own-vote"
    """key = hex challenge id; our vote in its committee, with the salt: never served to peers"""
    LEDGER_VIEW = "ledger-view"
    """key = hex signing root of the checkpoint that closed these facts (the network's id: the genesis)"""


PUBLIC_KINDS = frozenset(
    {
        DocumentKind.TRANSCRIPT,
        DocumentKind.COMMIT,
        DocumentKind.REVEAL,
        DocumentKind.PROPOSAL,
        DocumentKind.CHECKPOINT,
        DocumentKind.CERTIFICATE,
        DocumentKind.EVIDENCE,
        DocumentKind.EVIDENCE_BUNDLE,
    }
)
"""What a peer may fetch by digest. A transcript's digest is known to others only once it was revealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One stored document; `digest` is the keccak256 of `body`."""

    kind: DocumentKind
    key: str
    epoch: int
    digest: bytes
    body: bytes


class DocumentConflict(VerificationFailed):
    """Other bytes are stored under this key; `stored` holds them."""

    def __init__(self, message: str, stored: bytes) -> None:
        self.stored = stored
        super().__init__(message)


def build_seat_key(epoch: int, address: bytes) -> str:
    """Return the key of a document of one account in one epoch: "<epoch>:<hex address>"."""
    return f"{epoch}:{address.hex()}"


class Store:
    """The open database. Everything raises Unavailable when SQLite cannot work (disk full, locked, damaged)."""

    def __init__(self, path: Path) -> None:
        """Open a database, making or migrating it under a file lock."""
        self._path = path
        self._lock = threading.RLock()
        with _as_unavailable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with hold_file_lock(path.with_name(path.name + ".lock")):
                self._connection = _connect(path)
                MIGRATIONS.apply(sqlite_utils.Database(self._connection))

    def put_document(self, kind: DocumentKind, key: str, epoch: int, body: bytes) -> bool:
        """Store a document and return True, or False when the same bytes are there; raises DocumentConflict."""
        return self.put_documents([(kind, key, epoch, body)]) == 1

    def put_documents(self, documents: Iterable[tuple[DocumentKind, str, int, bytes]]) -> int:
        """Store (kind, key, epoch, body) rows in one transaction, all or none; return how many were new."""
        with self._transaction() as connection:
            return sum(_put(connection, *document) for document in documents)

    def get_document(self, kind: DocumentKind, key: str) -> bytes | None:
        """Return the bytes of a document, or None."""
        row = self._read_one("SELECT body FROM documents WHERE kind=? AND key=?", kind.value, key)
        return None if row is None else bytes(row[0])

    def find_by_digest(self, digest: bytes, kinds: frozenset[DocumentKind] = PUBLIC_KINDS) -> bytes | None:
        """Return the bytes whose keccak256 is `digest`, among the kinds given, or None."""
        rows = self._read("SELECT kind, body FROM documents WHERE digest=?", digest)
        return next((bytes(body) for kind, body in rows if DocumentKind(kind) in kinds), None)

    def list_documents(self, kind: DocumentKind, epoch: int) -> list[Document]:
        """Return the documents of a kind in an epoch, in order of key."""
        return self.list_documents_between(kind, epoch, epoch)

    def list_documents_between(self, kind: DocumentKind, first_epoch: int, last_epoch: int) -> list[Document]:
        """Return the documents of a kind from `first_epoch` to `last_epoch` inclusive, in order of epoch and key."""
        rows = self._read(
            "SELECT kind, key, epoch, digest, body FROM documents WHERE kind=? AND epoch BETWEEN ? AND ? "
            "ORDER BY epoch, key",
            kind.value,
            first_epoch,
            last_epoch,
        )
        return [_document(row) for row in rows]

    def find_latest(self, kind: DocumentKind) -> Document | None:
        """Return the document of a kind with the highest epoch (last key within it), or None."""
        row = self._read_one(
            "SELECT kind, key, epoch, digest, body FROM documents WHERE kind=? ORDER BY epoch DESC, key DESC LIMIT 1",
            kind.value,
        )
        return None if row is None else _document(row)

    def record_phase(self, epoch: int, phase: str, time_s: int) -> bool:
        """Record that an epoch has reached a phase; False when it had before (its first time stays)."""
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO phases (epoch, phase, time_s) VALUES (?, ?, ?)", (epoch, phase, time_s)
            )
            return cursor.rowcount == 1

    def list_phases(self, epoch: int) -> dict[str, int]:
        """Return the phases that an epoch has reached, with their unix seconds, in the order they were reached."""
        rows = self._read("SELECT phase, time_s FROM phases WHERE epoch=? ORDER BY rowid", epoch)
        return {str(phase): int(time_s) for phase, time_s in rows}

    def find_last_epoch(self, phase: str) -> int | None:
        """Return the highest epoch that has reached a phase, or None."""
        row = self._read_one("SELECT max(epoch) FROM phases WHERE phase=?", phase)
        return None if row is None or row[0] is None else int(row[0])

    def next_outbound_counter(self, recipient: bytes, now_ms: int) -> int:
        """Take the next counter of our messages to a peer; on disk before it is returned.

        It starts from the clock (unix milliseconds), so a lost store does not fall behind what peers have seen.
        """
        with self._transaction() as connection:
            last = connection.execute(
                "SELECT counter FROM outbound_counters WHERE recipient=?", (recipient,)
            ).fetchone()
            counter = max(now_ms, 1 if last is None else last[0] + 1)
            if counter > MAX_SAFE_INTEGER:
                raise InvalidInput("the clock is beyond 2**53 - 1 ms", "now_ms")
            connection.execute(
                "INSERT INTO outbound_counters (recipient, counter) VALUES (?, ?) "
                "ON CONFLICT (recipient) DO UPDATE SET counter=excluded.counter",
                (recipient, counter),
            )
            return counter

    def get_inbound_counter(self, sender: bytes) -> int:
        """Return the highest counter accepted from a peer, 0 for none."""
        row = self._read_one("SELECT counter FROM inbound_counters WHERE sender=?", sender)
        return 0 if row is None else int(row[0])

    def accept_inbound_counter(self, sender: bytes, counter: int) -> bool:
        """Record a peer's counter if it is higher than every one before; False (and no change) if not."""
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO inbound_counters (sender, counter) VALUES (?, ?) "
                "ON CONFLICT (sender) DO UPDATE SET counter=excluded.counter WHERE excluded.counter > counter",
                (sender, counter),
            )
            return cursor.rowcount == 1

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_unavailable(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _read(self, sql: str, *values: object) -> list[Row]:
        with self._lock, _as_unavailable(self._path):
            return self._connection.execute(sql, values).fetchall()

    def _read_one(self, sql: str, *values: object) -> Row | None:
        with self._lock, _as_unavailable(self._path):
            row: Row | None = self._connection.execute(sql, values).fetchone()
            return row


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the store {path} failed: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _put(connection: sqlite3.Connection, kind: DocumentKind, key: str, epoch: int, body: bytes) -> bool:
    if len(body) > MAX_DOCUMENT_BYTES:
        raise InvalidInput(f"a document of {len(body)} bytes is over the limit of {MAX_DOCUMENT_BYTES}", kind.value)
    row = connection.execute("SELECT body FROM documents WHERE kind=? AND key=?", (kind.value, key)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO documents (kind, key, epoch, digest, body) VALUES (?, ?, ?, ?, ?)",
            (kind.value, key, epoch, keccak256(body), body),
        )
        return True
    if row[0] != body:
        raise DocumentConflict(f"another {kind.value} is stored under {key}", bytes(row[0]))
    return False


def _document(row: Row) -> Document:
    return Document(kind=DocumentKind(row[0]), key=row[1], epoch=row[2], digest=bytes(row[3]), body=bytes(row[4]))
