"""The tables of the validator's store, as migrations: each one and the note of it commit together.

A migration is never edited once released; a change is a new one. Statements run one by one, because `executescript`
would commit the transaction that the migration runs in.
"""

import sqlite_utils
from sqlite_utils.migrations import Migrations

MIGRATIONS = Migrations("quiver-validator-store")


@MIGRATIONS()
def m001_documents(db: sqlite_utils.Database) -> None:
    """Make the append-only tables of documents and phases."""
    db.execute(
        "CREATE TABLE documents (kind TEXT NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, "
        "digest BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key))"
    )
    db.execute("CREATE INDEX documents_by_epoch ON documents (kind, epoch)")
    db.execute("CREATE INDEX documents_by_digest ON documents (digest)")
    db.execute(
        "CREATE TABLE phases (epoch INTEGER NOT NULL, phase TEXT NOT NULL, time_s INTEGER NOT NULL, "
        "UNIQUE (epoch, phase))"
    )
    for table in ("documents", "phases"):
        for change in ("UPDATE", "DELETE"):
            db.execute(
                f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


@MIGRATIONS()
def m002_counters(db: sqlite_utils.Database) -> None:
    """Make the counters of peer messages; they rise and never fall."""
    for table, peer in (("outbound_counters", "recipient"), ("inbound_counters", "sender")):
        db.execute(f"CREATE TABLE {table} ({peer} BLOB PRIMARY KEY, counter INTEGER NOT NULL)")
        db.execute(
            f"CREATE TRIGGER {table}_rise BEFORE UPDATE ON {table} WHEN new.counter <= old.counter "
            f"BEGIN SELECT RAISE(ABORT, '{table} only rise'); END"
        )
