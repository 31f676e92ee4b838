"""The sign guard: at most one signing root for each slot, ever, written to disk before the signature is made.

A slot is (network, public key, kind, number); `SlotKind` says what the number is. The guard is a SQLite database of its
own, because it is trusted where the store is not: losing it can get the validator slashed. Rules kept here:

* Check and insert are one exclusive transaction, on disk (synchronous=FULL) when it returns. The same root again is
  allowed, so a crash between guard and signature costs nothing; a different root is refused with the earlier one.
* The database is never created silently for a key with history: a marker file beside the keys says that there is one.
* Nothing is ever updated or deleted; triggers refuse it.

What it cannot see: the same keys on a second machine, or a database restored from a backup older than the last
signature. After such a restore, recover with a floor above the epochs that may have been signed.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from scoring.canonical import MAX_SAFE_INTEGER
from scoring.errors import InvalidInput, RefusedToSign, Unavailable, VerificationFailed
from validator.file_lock import hold_file_lock
from validator.keys import sync_directory, write_new_file
from validator.sign_history import History, HistoryEntry, HistoryFloor

MARKER_FILE = "guard-created"
BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
CREATE TABLE signatures (
    network BLOB NOT NULL, public_key BLOB NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL,
    epoch INTEGER NOT NULL, signing_root BLOB NOT NULL, time_s INTEGER NOT NULL,
    PRIMARY KEY (network, public_key, kind, number)
) WITHOUT ROWID;
CREATE TABLE floors (
    network BLOB NOT NULL, public_key BLOB NOT NULL, epoch INTEGER NOT NULL, time_s INTEGER NOT NULL
);
CREATE TRIGGER signatures_keep BEFORE UPDATE ON signatures BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER signatures_stay BEFORE DELETE ON signatures BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER floors_keep BEFORE UPDATE ON floors BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER floors_stay BEFORE DELETE ON floors BEGIN SELECT RAISE(ABORT, 'append-only'); END;
PRAGMA user_version = 1;
"""


class SlotKind(StrEnum):
    """What is signed once, and what the slot's number is."""

    COMMIT = "commit"
    """number = the epoch of the Commit"""
    REVEAL = "reveal"
    """number = the epoch of the Reveal"""
    CHECKPOINT = "checkpoint"
    """number = the epoch of the Checkpoint"""
    EVIDENCE = "evidence"
    """number = the top 53 bits of tagged_digest("quiver-evidence-slot", offer_digest, rule, case_index, last_epoch)"""
    VRF = "vrf"
    """number = the epoch; the root is the VRF input, so one epoch has one beacon"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place of one signature: genesis hash (32 bytes), BLS public key (48), kind, number in 0..2**53 - 1."""

    network: bytes
    public_key: bytes
    kind: SlotKind
    number: int

    def __post_init__(self) -> None:
        if len(self.network) != 32 or len(self.public_key) != 48:
            raise InvalidInput("expected a network of 32 bytes and a public key of 48", "slot")
        if not 0 <= self.number <= MAX_SAFE_INTEGER:
            raise InvalidInput("outside 0..2**53 - 1", "number")


class SignGuard:
    """The open database. Safe for threads and for several processes at once; make it with `open` or `recover`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, now_s: Callable[[], int]) -> None:
        self._path = path
        self._connection = connection
        self._inode = path.stat().st_ino
        self._now_s = now_s
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, keys_directory: Path, now_s: Callable[[], int] = lambda: int(time.time())) -> Self:
        """Open the guard of the keys in a directory; make it if those keys have never had one.

        Raises Unavailable when the marker says that a guard existed and the database is missing, empty or unreadable.
        """
        marker = keys_directory / MARKER_FILE
        with hold_file_lock(keys_directory / "guard.lock"):
            if not marker.exists() and not path.exists():
                _create_database(path)
            elif not path.exists():
                raise Unavailable(
                    f"the sign guard {path} is missing, but these keys have signed before ({marker}): restore it from "
                    "a backup, or recover it from an export and a floor above every epoch that may have been signed "
                    "(`quiver validator guard recover`); starting without it risks the stake"
                )
            connection = _connect(path)
            _write_marker(marker, path)
        return cls(path, connection, now_s)

    @classmethod
    def recover(
        cls,
        path: Path,
        keys_directory: Path,
        history: History,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> Self:
        """Make a new database from an exported history, for keys whose guard is lost.

        Raises InvalidInput when there is a database at `path`, or when the history holds neither entry nor floor.
        """
        if not history.entries and not history.floors:
            raise InvalidInput("recovering needs an export or a floor epoch", "history")
        with hold_file_lock(keys_directory / "guard.lock"):
            if path.exists():
                raise InvalidInput(f"{path} exists: open it and import into it instead")
            _create_database(path, history)
            connection = _connect(path)
            _write_marker(keys_directory / MARKER_FILE, path)
        return cls(path, connection, now_s)

    def check_and_insert(self, slot: Slot, signing_root: bytes, epoch: int) -> None:
        """Record the intent to sign; when this returns, it is on disk and the signature may be made.

        `epoch` is the record's (a floor refuses it when the floor is as high). Raises RefusedToSign when another root
        holds the slot, Unavailable when the database cannot answer: then nothing may be signed either.
        """
        if len(signing_root) != 32:
            raise InvalidInput("expected 32 bytes", "signing_root")
        with self._transaction() as connection:
            earlier = _find(connection, slot)
            if earlier is None:
                _require_above_floor(connection, slot, epoch)
                _insert(connection, _entry(slot, signing_root, epoch, self._now_s()))
            elif earlier.signing_root != signing_root:
                raise RefusedToSign(
                    f"refused to sign {slot.kind} {slot.number} with root 0x{signing_root.hex()}: root "
                    f"0x{earlier.signing_root.hex()} was signed for it before (epoch {earlier.epoch}, unix time "
                    f"{earlier.time_s} s)"
                )

    def find(self, slot: Slot) -> HistoryEntry | None:
        """Return what is recorded for a slot, or None."""
        with self._transaction() as connection:
            return _find(connection, slot)

    def export_history(self) -> History:
        """Return everything recorded, for a backup or another machine. Stop signing here before importing there."""
        with self._transaction() as connection:
            return _read_history(connection)

    def import_history(self, history: History) -> int:
        """Add an export and return the number of new entries; all of it or nothing.

        Raises VerificationFailed when the history holds another root for a slot that is taken here.
        """
        with self._transaction() as connection:
            return _import(connection, history)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_unavailable(self._path):
            # A database that was unlinked or replaced under us would take our writes and remember nothing.
            if self._path.stat().st_ino != self._inode:
                raise Unavailable(f"the sign guard {self._path} was replaced while in use; restart the validator")
            self._connection.execute("BEGIN EXCLUSIVE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the sign guard {path} cannot be used, so nothing is signed: {error}") from error


def _create_database(path: Path, history: History | None = None) -> None:
    # Built beside and renamed: a crash leaves no half-made guard that would look like one.
    temporary = path.with_name(f".{path.name}.new")
    with _as_unavailable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.executescript("BEGIN;" + _SCHEMA)
            _import(connection, history or History(entries=(), floors=()))
            connection.execute("COMMIT")
        finally:
            connection.close()
        for suffix in ("-wal", "-shm"):
            # SQLite would replay the log of a lost database into this one.
            leftover = path.with_name(path.name + suffix)
            if leftover.exists():
                leftover.rename(leftover.with_name(leftover.name + ".orphaned"))
        temporary.rename(path)
        sync_directory(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    with _as_unavailable(path):
        connection = sqlite3.connect(
            f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA fullfsync=ON")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except BaseException:
            connection.close()
            raise
    if version != 1:
        connection.close()
        raise Unavailable(
            f"{path} is not a sign guard of this version (schema {version}, expected 1); restore it from a backup"
        )
    return connection


def _write_marker(marker: Path, path: Path) -> None:
    if not marker.exists():
        write_new_file(
            marker, f"these keys sign under the guard {path.name}; never sign with them without it\n".encode()
        )


def _entry(slot: Slot, signing_root: bytes, epoch: int, time_s: int) -> HistoryEntry:
    return HistoryEntry(
        network=slot.network,
        public_key=slot.public_key,
        kind=slot.kind.value,
        number=slot.number,
        epoch=epoch,
        signing_root=signing_root,
        time_s=time_s,
    )


_COLUMNS = "network, public_key, kind, number, epoch, signing_root, time_s"


def _find(connection: sqlite3.Connection, slot: Slot) -> HistoryEntry | None:
    row = connection.execute(
        "SELECT epoch, signing_root, time_s FROM signatures WHERE network=? AND public_key=? AND kind=? AND number=?",
        (slot.network, slot.public_key, slot.kind.value, slot.number),
    ).fetchone()
    return None if row is None else _entry(slot, row[1], row[0], row[2])


def _insert(connection: sqlite3.Connection, entry: HistoryEntry) -> None:
    connection.execute(
        f"INSERT INTO signatures ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (a constant)
        (
            entry.network,
            entry.public_key,
            entry.kind,
            entry.number,
            entry.epoch,
            entry.signing_root,
            entry.time_s,
        ),
    )


def _require_above_floor(connection: sqlite3.Connection, slot: Slot, epoch: int) -> None:
    floor = connection.execute(
        "SELECT max(epoch) FROM floors WHERE network=? AND public_key=?", (slot.network, slot.public_key)
    ).fetchone()[0]
    if floor is not None and epoch <= floor:
        raise RefusedToSign(
            f"refused to sign {slot.kind} of epoch {epoch}: this guard was recovered with a floor at epoch {floor}, "
            "because earlier signatures may be unknown to it"
        )


def _read_history(connection: sqlite3.Connection) -> History:
    entries = connection.execute(f"SELECT {_COLUMNS} FROM signatures ORDER BY {_COLUMNS}")  # noqa: S608
    names = [name.strip() for name in _COLUMNS.split(",")]
    floors = connection.execute("SELECT network, public_key, max(epoch) FROM floors GROUP BY network, public_key")
    return History(
        entries=tuple(HistoryEntry(**dict(zip(names, row, strict=True))) for row in entries),
        floors=tuple(HistoryFloor(network=row[0], public_key=row[1], epoch=row[2]) for row in floors),
    )


def _import(connection: sqlite3.Connection, history: History) -> int:
    added = 0
    for entry in history.entries:
        slot = Slot(network=entry.network, public_key=entry.public_key, kind=SlotKind(entry.kind), number=entry.number)
        earlier = _find(connection, slot)
        if earlier is None:
            _insert(connection, entry)
            added += 1
        elif earlier.signing_root != entry.signing_root:
            raise VerificationFailed(
                f"the history holds root 0x{entry.signing_root.hex()} for {entry.kind} {entry.number}, this guard "
                f"0x{earlier.signing_root.hex()}: these keys have signed two things; nothing was imported"
            )
    for floor in history.floors:
        connection.execute(
            "INSERT INTO floors (network, public_key, epoch, time_s) VALUES (?, ?, ?, 0)",
            (floor.network, floor.public_key, floor.epoch),
        )
    return added
