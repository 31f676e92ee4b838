"""The tables of the embedded ledger. A migration, once released, is never edited: another one follows it."""

from sqlite_utils import Database, Migrations

MIGRATIONS = Migrations("quiver-ledger")

_TABLES = {
    "genesis": "body BLOB NOT NULL",
    "entries": (
        "sequence INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, kind TEXT NOT NULL, sender BLOB NOT NULL, "
        "raw BLOB NOT NULL, events BLOB NOT NULL, root BLOB NOT NULL"
    ),
    "checkpoints": "epoch INTEGER PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE, state_digest BLOB NOT NULL",
    "views": "since_epoch INTEGER PRIMARY KEY, view BLOB NOT NULL",
}


@MIGRATIONS()
def create_tables(database: Database) -> None:
    """Make the tables and the triggers that keep them append-only."""
    for name, columns in _TABLES.items():
        database.execute(f"CREATE TABLE {name} ({columns})")
        for verb in ("UPDATE", "DELETE"):
            database.execute(
                f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
            )
