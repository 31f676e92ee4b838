"""The sign guard: one root for one slot, on disk before the signature, whatever happens in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from scoring.errors import InvalidInput, RefusedToSign, Unavailable, VerificationFailed
from validator.sign_guard import MARKER_FILE, SignGuard, Slot, SlotKind
from validator.sign_history import SLOT_KINDS, History, HistoryFloor

NETWORK = b"n" * 32
KEY = b"k" * 48
ROOT, OTHER_ROOT = b"\x01" * 32, b"\x02" * 32


def slot(number: int = 7, kind: SlotKind = SlotKind.CHECKPOINT, network: bytes = NETWORK, key: bytes = KEY) -> Slot:
    return Slot(network=network, public_key=key, kind=kind, number=number)


@pytest.fixture
def keys_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    return directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "guard.sqlite"


@pytest.fixture
def guard(path: Path, keys_dir: Path) -> SignGuard:
    return SignGuard.open(path, keys_dir, lambda: 1_700_000_000)


def test_lets_the_same_root_be_signed_again(guard: SignGuard) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    guard.check_and_insert(slot(), ROOT, 7)


def test_refuses_a_second_different_checkpoint_and_names_the_first(guard: SignGuard) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    with pytest.raises(RefusedToSign) as caught:
        guard.check_and_insert(slot(), OTHER_ROOT, 7)
    for part in ("checkpoint 7", ROOT.hex(), OTHER_ROOT.hex(), "epoch 7", "1700000000"):
        assert part in str(caught.value)
    entry = guard.find(slot())
    assert entry is not None and entry.signing_root == ROOT


@pytest.mark.parametrize(
    "other",
    [slot(8), slot(kind=SlotKind.COMMIT), slot(network=b"m" * 32), slot(key=b"j" * 48)],
    ids=["number", "kind", "network", "key"],
)
def test_keeps_slots_apart_that_differ_in(guard: SignGuard, other: Slot) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    guard.check_and_insert(other, OTHER_ROOT, 7)


def test_remembers_across_restarts(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    guard.close()
    reopened = SignGuard.open(path, keys_dir)
    with pytest.raises(RefusedToSign):
        reopened.check_and_insert(slot(), OTHER_ROOT, 7)


def test_is_not_made_again_silently_when_it_is_lost(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.close()
    path.unlink()
    with pytest.raises(Unavailable, match=r"missing.*restore it from a backup.*recover"):
        SignGuard.open(path, keys_dir)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100], ids=["an empty file", "garbage"])
def test_is_not_made_again_silently_over(content: bytes, guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)
    with pytest.raises(Unavailable):
        SignGuard.open(path, keys_dir)


def test_writes_its_marker_when_it_is_made(guard: SignGuard, keys_dir: Path) -> None:
    assert (keys_dir / MARKER_FILE).exists()


def test_writes_a_marker_that_was_lost_in_a_crash(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.close()
    (keys_dir / MARKER_FILE).unlink()
    SignGuard.open(path, keys_dir).close()
    assert (keys_dir / MARKER_FILE).exists()


def test_stops_when_the_file_is_replaced_under_it(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    path.rename(path.with_name("moved"))
    with pytest.raises(Unavailable, match="nothing is signed"):
        guard.check_and_insert(slot(), ROOT, 7)
    path.write_bytes(b"")
    with pytest.raises(Unavailable, match="replaced"):
        guard.check_and_insert(slot(), ROOT, 7)


@pytest.mark.parametrize("statement", ["DELETE FROM signatures", "UPDATE signatures SET number = 99"])
def test_refuses_to_forget(guard: SignGuard, path: Path, statement: str) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)


def test_survives_export_and_import(guard: SignGuard, tmp_path: Path) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    guard.check_and_insert(slot(9, SlotKind.EVIDENCE), ROOT, 8)
    exported = guard.export_history().encode()
    (tmp_path / "other").mkdir()
    other = SignGuard.open(tmp_path / "other.sqlite", tmp_path / "other")
    assert other.import_history(History.decode(exported)) == 2
    assert other.import_history(History.decode(exported)) == 0
    assert other.export_history().encode() == exported
    with pytest.raises(RefusedToSign):
        other.check_and_insert(slot(), OTHER_ROOT, 7)


def test_imports_nothing_of_a_history_that_contradicts_it(guard: SignGuard, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = SignGuard.open(tmp_path / "other.sqlite", tmp_path / "other")
    other.check_and_insert(slot(1), ROOT, 1)
    other.check_and_insert(slot(7), OTHER_ROOT, 7)
    guard.check_and_insert(slot(7), ROOT, 7)
    with pytest.raises(VerificationFailed, match="signed two things"):
        guard.import_history(other.export_history())
    assert guard.find(slot(1)) is None


def test_recovers_above_a_floor(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.check_and_insert(slot(5), ROOT, 5)
    history = guard.export_history()
    guard.close()
    path.unlink()
    floor = HistoryFloor(network=NETWORK, public_key=KEY, epoch=7)
    recovered = SignGuard.recover(path, keys_dir, replace(history, floors=(floor,)))
    recovered.check_and_insert(slot(5), ROOT, 5)
    for epoch in (6, 7):
        with pytest.raises(RefusedToSign, match="floor at epoch 7"):
            recovered.check_and_insert(slot(epoch), ROOT, epoch)
    recovered.check_and_insert(slot(8), ROOT, 8)
    recovered.close()
    assert SignGuard.open(path, keys_dir).export_history().floors == (floor,)


def test_recovers_neither_over_a_guard_nor_from_nothing(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    floor = HistoryFloor(network=NETWORK, public_key=KEY, epoch=7)
    with pytest.raises(InvalidInput, match="exists"):
        SignGuard.recover(path, keys_dir, History(entries=(), floors=(floor,)))
    with pytest.raises(InvalidInput, match="floor"):
        SignGuard.recover(path.with_name("new"), keys_dir, History(entries=(), floors=()))


def test_does_not_replay_the_log_of_a_lost_database(guard: SignGuard, path: Path, keys_dir: Path) -> None:
    guard.check_and_insert(slot(5), ROOT, 5)
    log = path.with_name(path.name + "-wal").read_bytes()
    guard.close()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(log)
    floor = HistoryFloor(network=NETWORK, public_key=KEY, epoch=7)
    recovered = SignGuard.recover(path, keys_dir, History(entries=(), floors=(floor,)))
    assert recovered.find(slot(5)) is None
    assert path.with_name(path.name + "-wal.orphaned").exists()


HISTORIES = [
    ("nothing", b""),
    ("a list", b"[]"),
    ("another kind", b'{"kind":"x","entries":[],"floors":[]}'),
    ("no floors", b'{"kind":"quiver-sign-history-v1","entries":[]}'),
    ("an unknown key", b'{"kind":"quiver-sign-history-v1","entries":[],"floors":[],"x":1}'),
    ("entries of the wrong type", b'{"kind":"quiver-sign-history-v1","entries":{},"floors":[]}'),
    ("an empty entry", b'{"kind":"quiver-sign-history-v1","entries":[{}],"floors":[]}'),
]


@pytest.mark.parametrize("data", [row[1] for row in HISTORIES], ids=[row[0] for row in HISTORIES])
def test_refuses_a_history_with(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        History.decode(data)


def test_refuses_a_history_with_an_unknown_kind_of_slot(guard: SignGuard) -> None:
    guard.check_and_insert(slot(), ROOT, 7)
    entry = guard.export_history().entries[0]
    with pytest.raises(InvalidInput, match="kind"):
        replace(entry, kind="vote")
    assert set(SlotKind) == SLOT_KINDS


@pytest.mark.parametrize("number", [-1, 2**53])
def test_refuses_a_number_that_json_cannot_carry(number: int) -> None:
    with pytest.raises(InvalidInput):
        slot(number)


def test_lets_one_of_many_threads_win(guard: SignGuard) -> None:
    outcomes = []

    def sign(number: int) -> None:
        try:
            guard.check_and_insert(slot(), bytes([number]) * 32, 7)
            outcomes.append(number)
        except RefusedToSign:
            pass

    threads = [threading.Thread(target=sign, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1


RACER = """
import sys, pathlib
from scoring.errors import RefusedToSign
from validator.sign_guard import SignGuard, Slot, SlotKind
path, keys, me = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
guard = SignGuard.open(path, keys)
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    slot = Slot(network=b"n" * 32, public_key=b"k" * 48, kind=SlotKind.CHECKPOINT, number=number)
    try:
        guard.check_and_insert(slot, bytes([me]) * 32, number)
        print("signed", number, flush=True)
    except RefusedToSign:
        print("refused", number, flush=True)
"""


def start_racer(path: Path, keys_dir: Path, me: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(path), str(keys_dir), str(me)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_lets_one_of_two_processes_win_each_slot(path: Path, keys_dir: Path) -> None:
    # Both make the database too: the keys are new.
    racers = [start_racer(path, keys_dir, me) for me in (1, 2)]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    outputs = [racer.communicate(timeout=60)[0].split("\n") for racer in racers]
    for number in range(50):
        assert sum(f"signed {number}" in output for output in outputs) == 1
        assert sum(f"refused {number}" in output for output in outputs) == 1


@pytest.mark.slow
def test_remembers_what_was_on_disk_when_it_was_killed(path: Path, keys_dir: Path) -> None:
    racer = start_racer(path, keys_dir, 1)
    assert racer.stdout is not None and racer.stdin is not None
    racer.stdin.write("go\n")
    racer.stdin.flush()
    signed = []
    while len(signed) < 20:
        line = racer.stdout.readline().split()
        if line[0] == "signed":
            signed.append(int(line[1]))
    os.kill(racer.pid, signal.SIGKILL)
    rest = racer.communicate()[0]
    signed += [int(line.split()[1]) for line in rest.splitlines() if line.startswith("signed")]
    guard = SignGuard.open(path, keys_dir)
    for number in signed:
        with pytest.raises(RefusedToSign):
            guard.check_and_insert(slot(number), OTHER_ROOT, number)
