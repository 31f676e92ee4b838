"""The ledger on disk: SQLite in WAL mode, every write synchronous, append-only, one writer.

One database transaction per ledger transaction holds its raw bytes, its events, the log's new root and, for a
checkpoint, the view that it closed and a digest of the whole state. A killed process leaves either all of it or
nothing. On start the log is replayed through the state machine and roots and digests must come out as stored: whatever
differs (damage, or a program with other rules) is refused, never repaired.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlite_utils

from ledger.embedded.log import MerkleLog, compute_leaf_hash
from ledger.embedded.schema import MIGRATIONS
from ledger.state.digest import compute_state_digest
from ledger.state.genesis import Genesis, build_state, parse_genesis
from ledger.state.holdings import Event, LedgerState
from ledger.state.machine import apply
from ledger.state.transactions import SignedTransaction, SubmitCheckpoint, parse_transaction
from ledger.state.view import LedgerView, compute_view
from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
from scoring.records import Certificate, Checkpoint

BUSY_TIMEOUT_S = 30.0
DATABASE_NAME = "ledger.db"
LOCK_NAME = "ledger.lock"
OPERATOR_KEY_NAME = "operator.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted transaction: its place in the log (from 0), digest, events and the log's root after it."""

    sequence: int
    digest: bytes
    events: tuple[Event, ...]
    root: bytes

    def to_json(self) -> dict[str, Json]:
        """Return the answer to whoever submitted it."""
        return {
            "sequence": self.sequence,
            "digest": "0x" + self.digest.hex(),
            "events": self.events_to_json(),
            "log_root": "0x" + self.root.hex(),
        }

    def events_to_json(self) -> list[Json]:
        """Return the events with their place in the log."""
        return [{"sequence": self.sequence, "name": event.name, "fields": dict(event.fields)} for event in self.events]


class LedgerStore:
    """The open ledger: `state` and `log` in memory, the rest on disk. For one thread; no second process may open it."""

    def __init__(self, directory: Path, genesis: bytes) -> None:
        """Open or make the ledger of a genesis in a directory.

        Raises Unavailable when another process has it or the disk fails, VerificationFailed when what is stored does
        not replay or belongs to another genesis, InvalidInput when the genesis is bad.
        """
        self.genesis: Genesis = parse_genesis(genesis)
        self.state: LedgerState = build_state(self.genesis)
        self.log = MerkleLog()
        self._is_broken = False
        self._connection: sqlite3.Connection | None = None
        self._lock = _take_lock(directory)
        try:
            with _as_unavailable():
                self._connection = _connect(directory / DATABASE_NAME)
                MIGRATIONS.apply(sqlite_utils.Database(self._connection))
            self._bind_genesis(genesis)
            self.operator_key = _load_operator_key(directory / OPERATOR_KEY_NAME)
            self._replay()
        except BaseException:
            self.close()
            raise

    def append(self, raw: bytes) -> Entry:
        """Apply a transaction and put it on disk; only then is it part of `state`. Raises as `machine.apply` does."""
        if self._is_broken:
            raise Unavailable("an earlier write to the ledger's disk failed: restart it, so that it replays its log")
        signed = parse_transaction(raw)
        state, events = apply(self.state, signed)
        # Whether a failed write is on disk is unknown until the next start, so nothing is accepted after one.
        self._is_broken = True
        sequence = self.log.size
        self.log.append(compute_leaf_hash(raw))
        entry = Entry(sequence=sequence, digest=signed.digest, events=events, root=self.log.compute_root())
        with self._transaction():
            self._write(entry, raw, signed, state)
        self.state = state
        self._is_broken = False
        return entry

    def find_entry(self, digest: bytes) -> Entry | None:
        """Return an accepted transaction by the struct hash of its record, or None."""
        rows = self._read("SELECT sequence, digest, events, root FROM entries WHERE digest=?", digest)
        return _to_entry(rows[0]) if rows else None

    def list_entries(self, since: int, limit: int) -> list[Entry]:
        """Return up to `limit` accepted transactions from a place in the log on."""
        sql = "SELECT sequence, digest, events, root FROM entries WHERE sequence>=? ORDER BY sequence LIMIT ?"
        return [_to_entry(row) for row in self._read(sql, since, limit)]

    def get_raw(self, sequence: int) -> bytes | None:
        """Return the bytes of one log entry, or None beyond the end."""
        rows = self._read("SELECT raw FROM entries WHERE sequence=?", sequence)
        return bytes(rows[0][0]) if rows else None

    def get_view(self, epoch: int) -> LedgerView:
        """Return the view of an epoch: that which the last checkpoint before it closed."""
        if epoch > self.state.epoch:
            return compute_view(self.state, epoch)
        rows = self._read("SELECT view FROM views WHERE since_epoch<=? ORDER BY since_epoch DESC LIMIT 1", epoch)
        return LedgerView.decode(bytes(rows[0][0]))

    def get_checkpoint(self, epoch: int | None = None) -> tuple[Checkpoint, Certificate] | None:
        """Return a certified checkpoint (default: the last), or None."""
        epoch = self.state.epoch if epoch is None else epoch
        rows = self._read("SELECT entries.raw FROM entries JOIN checkpoints USING (sequence) WHERE epoch=?", epoch)
        if not rows:
            return None
        transaction = parse_transaction(bytes(rows[0][0])).transaction
        assert isinstance(transaction, SubmitCheckpoint)
        return transaction.checkpoint, transaction.certificate

    def get_dossier(self, challenge_id: bytes) -> Json | None:
        """Return the dossier of a challenge as JSON, or None."""
        rows = self._read("SELECT raw FROM entries WHERE digest=? AND kind='open-challenge'", challenge_id)
        dossier = parse_transaction(bytes(rows[0][0])).attachment if rows else None
        return None if dossier is None else list(dossier.to_json())

    def close(self) -> None:
        """Close the database and let go of the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            os.close(self._lock)

    def _bind_genesis(self, genesis: bytes) -> None:
        rows = self._read("SELECT body FROM genesis")
        if rows and bytes(rows[0][0]) != genesis:
            raise VerificationFailed("this directory holds the ledger of another genesis")
        if not rows:
            with self._transaction():
                self._execute("INSERT INTO genesis (body) VALUES (?)", genesis)
                self._write_view()

    def _replay(self) -> None:
        digests = dict(self._read("SELECT sequence, state_digest FROM checkpoints"))
        for sequence, raw, root in self._read("SELECT sequence, raw, root FROM entries ORDER BY sequence"):
            place = f"log entry {sequence}"
            if sequence != self.log.size:
                raise VerificationFailed(f"{place} is missing or out of order")
            try:
                self.state, _ = apply(self.state, parse_transaction(bytes(raw)))
            except OracleError as error:
                raise VerificationFailed(f"{place} does not replay: {error}") from error
            self.log.append(compute_leaf_hash(bytes(raw)))
            if self.log.compute_root() != bytes(root):
                raise VerificationFailed(f"{place} gives another log root than the stored one")
            if sequence in digests and compute_state_digest(self.state) != bytes(digests[sequence]):
                raise VerificationFailed(f"{place} gives another state than the stored one")

    def _write(self, entry: Entry, raw: bytes, signed: SignedTransaction, state: LedgerState) -> None:
        events = canonical.encode([{"name": event.name, "fields": dict(event.fields)} for event in entry.events])
        columns = "sequence, digest, kind, sender, raw, events, root"
        values = (entry.sequence, entry.digest, signed.kind, signed.transaction.sender, raw, events, entry.root)
        self._execute(f"INSERT INTO entries ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", *values)  # noqa: S608
        if isinstance(signed.transaction, SubmitCheckpoint):
            digest = compute_state_digest(state)
            columns = "epoch, sequence, state_digest"
            self._execute(f"INSERT INTO checkpoints ({columns}) VALUES (?, ?, ?)", state.epoch, entry.sequence, digest)  # noqa: S608
            self._write_view(state)

    def _write_view(self, state: LedgerState | None = None) -> None:
        state = state or self.state
        view = compute_view(state, state.epoch + 1)
        self._execute("INSERT INTO views (since_epoch, view) VALUES (?, ?)", view.since_epoch, view.encode())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _as_unavailable():
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._execute("ROLLBACK")
                raise
            self._execute("COMMIT")

    def _execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if self._connection is None:
            raise Unavailable("the ledger's database is closed")
        return self._connection.execute(sql, values)

    def _read(self, sql: str, *values: object) -> list[Any]:
        with _as_unavailable():
            return self._execute(sql, *values).fetchall()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"the ledger's database failed: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _take_lock(directory: Path) -> int:
    """Lock the directory for the life of the process; the kernel lets go when it dies, however it dies."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot use {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Unavailable(f"another process serves the ledger in {directory}") from None
    return descriptor


def _load_operator_key(path: Path) -> bytes:
    """Return the operator's Ed25519 seed, made on the first start (mode 0600)."""
    try:
        if not path.exists():
            fresh = path.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        key = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot use {path}: {error.strerror}") from error
    if len(key) != 32:
        raise InvalidInput("expected 32 bytes", str(path))
    return key


def _to_entry(row: Any) -> Entry:
    events = canonical.decode(bytes(row[2]))
    assert isinstance(events, list)
    return Entry(
        sequence=row[0],
        digest=bytes(row[1]),
        events=tuple(Event(name=item["name"], fields=item["fields"]) for item in events),  # type: ignore[index, call-overload, arg-type]
        root=bytes(row[3]),
    )
