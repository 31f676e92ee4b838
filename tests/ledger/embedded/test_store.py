"""The ledger on disk: what survives, and what it refuses to serve."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from challenges.penalty import WEI_PER_QUIV as QUIV
from ledger.embedded.log import compute_leaf_hash, verify_inclusion
from ledger.embedded.store import LedgerStore
from ledger.state.errors import TransactionRefused
from ledger.state.transactions import Transfer
from ledger.state.view import compute_view
from scoring.errors import InvalidInput, Unavailable, VerificationFailed


def _play(world: Any) -> list[bytes]:
    world.register_provider(bond_wei=20 * QUIV)
    world.certify(2)
    world.open_challenge()
    world.slash()
    world.certify()
    log: list[bytes] = world.log
    return log


def _fill(store: LedgerStore, world: Any) -> None:
    for raw in _play(world):
        store.append(raw)


def _reopen(store: LedgerStore, world: Any, tmp_path: Path) -> LedgerStore:
    store.close()
    return LedgerStore(tmp_path / "ledger", world.genesis.encode())


def test_what_was_appended_is_there_after_reopening(store: LedgerStore, world: Any, tmp_path: Path) -> None:
    _fill(store, world)
    assert store.state == world.state
    root, key = store.log.compute_root(), store.operator_key
    again = _reopen(store, world, tmp_path)
    assert again.state == world.state and again.log.compute_root() == root and again.operator_key == key
    again.close()


def test_every_entry_is_proven_in_the_log(store: LedgerStore, world: Any) -> None:
    _fill(store, world)
    size, root = store.log.size, store.log.compute_root()
    for index, raw in enumerate(world.log):
        assert store.get_raw(index) == raw
        verify_inclusion(root, size, index, compute_leaf_hash(raw), store.log.compute_inclusion_proof(index, size))
    assert store.get_raw(size) is None


def test_views_of_past_epochs_are_kept_as_they_were(store: LedgerStore, world: Any) -> None:
    views = []
    for raw in _play(world):
        epoch = store.state.epoch + 1
        views.append((epoch, compute_view(store.state, epoch)))
        store.append(raw)
    for epoch, view in views:
        assert store.get_view(epoch) == view


def test_a_refused_transaction_leaves_no_trace(store: LedgerStore, world: Any, tmp_path: Path) -> None:
    signed = world.sign("stranger", Transfer, recipient=bytes(20), amount_wei=10**30)
    with pytest.raises(TransactionRefused):
        store.append(signed.encode())
    assert store.log.size == 0 and store.find_entry(signed.digest) is None
    again = _reopen(store, world, tmp_path)
    assert again.log.size == 0
    again.close()


def test_a_second_process_cannot_open_the_same_ledger(store: LedgerStore, world: Any, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="another process"):
        LedgerStore(tmp_path / "ledger", world.genesis.encode())


def test_refuses_the_ledger_of_another_genesis(
    store: LedgerStore, make_world: Callable[..., Any], tmp_path: Path
) -> None:
    store.close()
    with pytest.raises(VerificationFailed, match="another genesis"):
        LedgerStore(tmp_path / "ledger", make_world(chain_id=78).genesis.encode())


def test_the_tables_refuse_changes(store: LedgerStore, world: Any, tmp_path: Path) -> None:
    _fill(store, world)
    connection = sqlite3.connect(tmp_path / "ledger" / "ledger.db")
    for sql in (
        "DELETE FROM entries",
        "UPDATE entries SET raw=x''",
        "DELETE FROM views",
        "UPDATE genesis SET body=x''",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(sql)
    connection.close()


DAMAGES: dict[str, tuple[str, str]] = {
    "entry changed": (
        "UPDATE entries SET raw=CAST(replace(CAST(raw AS TEXT), '1', '2') AS BLOB) WHERE sequence=1",
        "replay",
    ),
    "entry lost": ("DELETE FROM entries WHERE sequence=1", "missing or out of order"),
    "root changed": ("UPDATE entries SET root=zeroblob(32) WHERE sequence=2", "another log root"),
    "state digest changed": ("UPDATE checkpoints SET state_digest=zeroblob(32) WHERE epoch=1", "another state"),
}


@pytest.mark.parametrize(("sql", "sentence"), DAMAGES.values(), ids=DAMAGES.keys())
def test_refuses_to_serve_a_damaged_ledger(
    store: LedgerStore, world: Any, tmp_path: Path, sql: str, sentence: str
) -> None:
    _fill(store, world)
    store.close()
    connection = sqlite3.connect(tmp_path / "ledger" / "ledger.db")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(sql)
    connection.commit()
    connection.close()
    with pytest.raises(VerificationFailed, match=sentence):
        LedgerStore(tmp_path / "ledger", world.genesis.encode())


def test_after_a_failed_write_nothing_is_accepted_until_a_restart(
    store: LedgerStore, world: Any, tmp_path: Path
) -> None:
    first, second = (world.sign("stranger", Transfer, recipient=bytes(20), amount_wei=1, nonce=n) for n in (0, 1))
    # A writer that holds the database open makes the store's own write fail.
    blocker = sqlite3.connect(tmp_path / "ledger" / "ledger.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store._execute("PRAGMA busy_timeout=1")
    with pytest.raises(Unavailable, match="database failed"):
        store.append(first.encode())
    blocker.execute("ROLLBACK")
    blocker.close()
    with pytest.raises(Unavailable, match="restart"):
        store.append(first.encode())
    again = _reopen(store, world, tmp_path)
    assert again.log.size == 0
    again.append(first.encode())
    again.append(second.encode())
    again.close()


def test_the_operator_key_is_secret_and_a_damaged_one_is_refused(
    store: LedgerStore, world: Any, tmp_path: Path
) -> None:
    path = tmp_path / "ledger" / "operator.key"
    assert path.stat().st_mode & 0o777 == 0o600
    store.close()
    path.write_bytes(b"short")
    with pytest.raises(InvalidInput, match=r"operator\.key"):
        LedgerStore(tmp_path / "ledger", world.genesis.encode())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_directory_that_cannot_be_written_is_unavailable(world: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unavailable):
        LedgerStore(tmp_path / "ledger", world.genesis.encode())


def test_a_path_that_is_a_file_is_unavailable(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        LedgerStore(tmp_path / "file", world.genesis.encode())
