"""Receipts that were given: counters that never repeat, and the answer to every nonce, in one SQLite file.

The order that matters: a receipt and the bytes of its answer are on disk before the receipt leaves. A restart, or a
second process on the same file, therefore continues the counters and repeats the answers. Bytes of answers are kept
for the newest `max_kept_answers` only; the nonce itself is remembered until its receipt has expired, so no nonce ever
gets two valid receipts.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlite_utils
from sqlite_utils.migrations import Migrations

from challenges.signed import SignedReceipt
from scoring import canonical
from scoring.errors import InvalidInput, Unavailable
from validator.file_lock import hold_file_lock

BUSY_TIMEOUT_S = 30.0
_PRUNE_EVERY = 64

MIGRATIONS = Migrations("quiver-provider-receipts")


@MIGRATIONS()
def m001_receipts(db: sqlite_utils.Database) -> None:
    """Make the tables of counters and receipts."""
    db.execute("CREATE TABLE counters (consumer BLOB PRIMARY KEY, counter INTEGER NOT NULL)")
    db.execute(
        "CREATE TRIGGER counters_rise BEFORE UPDATE ON counters WHEN new.counter <= old.counter "
        "BEGIN SELECT RAISE(ABORT, 'counters only rise'); END"
    )
    db.execute(
        "CREATE TABLE receipts (number INTEGER PRIMARY KEY AUTOINCREMENT, consumer BLOB NOT NULL, nonce BLOB NOT NULL, "
        "request_digest BLOB NOT NULL, counter INTEGER NOT NULL, expires_s INTEGER NOT NULL, receipt BLOB NOT NULL, "
        "form TEXT NOT NULL, body BLOB, UNIQUE (consumer, nonce), UNIQUE (consumer, counter))"
    )
    db.execute("CREATE INDEX receipts_by_expiry ON receipts (expires_s)")
    db.execute("CREATE INDEX receipts_with_body ON receipts (number) WHERE body IS NOT NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAnswer:
    """What was answered to a nonce. `form` is "json" or "stream"; `body` is None when it is no longer kept."""

    request_digest: bytes
    form: str
    body: bytes | None


class ReceiptStore:
    """The open database. Methods are small and synchronous; SQLite's failures raise Unavailable."""

    def __init__(self, path: Path, max_kept_answers: int = 10_000) -> None:
        """Open the file, making or migrating it under a file lock."""
        self._path = path
        self._lock = threading.RLock()
        self._max_kept_answers = max_kept_answers
        self._inserted = 0
        with _as_unavailable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with hold_file_lock(path.with_name(path.name + ".lock")):
                self._connection = _connect(path)
                MIGRATIONS.apply(sqlite_utils.Database(self._connection))

    def find(self, consumer: bytes, nonce: bytes) -> GivenAnswer | None:
        """Return what was answered to a consumer's nonce, or None."""
        with self._lock, _as_unavailable(self._path):
            row = self._connection.execute(
                "SELECT request_digest, form, body FROM receipts WHERE consumer=? AND nonce=?", (consumer, nonce)
            ).fetchone()
        if row is None:
            return None
        return GivenAnswer(request_digest=bytes(row[0]), form=row[1], body=None if row[2] is None else bytes(row[2]))

    def issue(
        self,
        consumer: bytes,
        nonce: bytes,
        form: str,
        sign: Callable[[int], SignedReceipt],
        finish: Callable[[SignedReceipt], bytes | None],
    ) -> SignedReceipt:
        """Take the consumer's next counter, sign, and store receipt and body, all or nothing; return the receipt.

        `sign(counter)` makes the receipt, `finish(receipt)` the complete bytes of the answer (None: too large to keep).
        Raises InvalidInput when the nonce has a receipt already.
        """
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM receipts WHERE consumer=? AND nonce=?", (consumer, nonce)).fetchone():
                raise InvalidInput("this nonce has been answered already", "quiver_nonce")
            signed = sign(_take_counter(connection, consumer))
            body = finish(signed)
            receipt = signed.receipt
            connection.execute(
                "INSERT INTO receipts (consumer, nonce, request_digest, counter, expires_s, receipt, form, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    consumer, nonce, receipt.request_digest, receipt.counter, receipt.expires_s,
                    canonical.encode(signed.to_json()), form, body,
                ),
            )  # fmt: skip
            self._inserted += 1
            if self._inserted % _PRUNE_EVERY == 0:
                self._prune(connection, receipt.issued_s)
        return signed

    def list_receipts(self, consumer: bytes, first_counter: int = 1, limit: int = 100) -> list[SignedReceipt]:
        """Return a consumer's receipts from a counter on, in order."""
        with self._lock, _as_unavailable(self._path):
            rows = self._connection.execute(
                "SELECT receipt FROM receipts WHERE consumer=? AND counter>=? ORDER BY counter LIMIT ?",
                (consumer, first_counter, limit),
            ).fetchall()
        return [SignedReceipt.from_json(canonical.decode(bytes(row[0]))) for row in rows]

    def prune(self, now_s: int) -> None:
        """Forget expired receipts and the bytes of all but the newest answers. Counters stay."""
        with self._transaction() as connection:
            self._prune(connection, now_s)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def _prune(self, connection: sqlite3.Connection, now_s: int) -> None:
        connection.execute("DELETE FROM receipts WHERE expires_s <= ?", (now_s,))
        connection.execute(
            "UPDATE receipts SET body=NULL WHERE body IS NOT NULL AND number <= "
            "(SELECT number FROM receipts WHERE body IS NOT NULL ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (self._max_kept_answers,),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_unavailable(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise


def _take_counter(connection: sqlite3.Connection, consumer: bytes) -> int:
    row = connection.execute(
        "INSERT INTO counters (consumer, counter) VALUES (?, 1) "
        "ON CONFLICT (consumer) DO UPDATE SET counter = counter + 1 RETURNING counter",
        (consumer,),
    ).fetchone()
    return int(row[0])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the receipt store {path} failed: {error}") from error
