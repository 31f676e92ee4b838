"""The transparency log: RFC 6962 roots and proofs, checked against pymerkle, and signed heads."""

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree
from pymerkle import verify_consistency as check_consistency
from pymerkle import verify_inclusion as check_inclusion

from ledger.embedded.log import EMPTY_ROOT, MerkleLog, compute_leaf_hash, verify_consistency, verify_inclusion
from ledger.embedded.log_head import (
    LogHead,
    build_origin,
    derive_public_key,
    parse_note,
    sign_log_head,
    verify_log_head,
)
from scoring.errors import InvalidInput, VerificationFailed

LEAVES = [f"entry {index}".encode() for index in range(40)]
KEY = b"\x05" * 32
ORIGIN = build_origin(b"\x07" * 32)


def _log(count: int) -> MerkleLog:
    return MerkleLog([compute_leaf_hash(leaf) for leaf in LEAVES[:count]])


def test_the_empty_tree_and_the_first_leaf_are_those_of_the_rfc() -> None:
    assert MerkleLog().compute_root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert _log(1).compute_root() == hashlib.sha256(b"\x00entry 0").digest()


def test_roots_agree_with_an_independent_implementation_at_every_size() -> None:
    tree, log = InmemoryTree(algorithm="sha256"), MerkleLog()
    for size, leaf in enumerate(LEAVES, start=1):
        tree.append_entry(leaf)
        log.append(compute_leaf_hash(leaf))
        assert log.compute_root() == tree.get_root()
        assert log.compute_root(max(1, size // 2)) == tree.get_root(max(1, size // 2))


def test_an_independent_implementation_gives_the_same_proofs() -> None:
    tree, log = InmemoryTree(algorithm="sha256"), _log(40)
    for leaf in LEAVES:
        tree.append_entry(leaf)
    for index in range(40):
        proof = tree.prove_inclusion(index + 1, 40)
        assert set(log.compute_inclusion_proof(index, 40)) <= {
            bytes.fromhex(item) for item in proof.serialize()["path"]
        }
        check_inclusion(tree.get_leaf(index + 1), log.compute_root(), proof)
    check_consistency(tree.get_root(13), tree.get_root(40), tree.prove_consistency(13, 40))


@given(st.integers(min_value=1, max_value=40), st.data())
def test_inclusion_and_consistency_proofs_hold_for_every_size(size: int, data: Any) -> None:
    log = _log(40)
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    proof = log.compute_inclusion_proof(index, size)
    verify_inclusion(log.compute_root(size), size, index, compute_leaf_hash(LEAVES[index]), proof)
    first = data.draw(st.integers(min_value=1, max_value=size))
    path = log.compute_consistency_proof(first, size)
    verify_consistency(log.compute_root(first), first, log.compute_root(size), size, path)


@settings(max_examples=200)
@given(st.integers(min_value=2, max_value=40), st.data())
def test_a_changed_proof_root_size_or_place_is_refused(size: int, data: Any) -> None:
    log = _log(40)
    root, index = log.compute_root(size), data.draw(st.integers(min_value=0, max_value=size - 1))
    leaf = compute_leaf_hash(LEAVES[index])
    proof = log.compute_inclusion_proof(index, size)
    place = data.draw(st.integers(min_value=0, max_value=len(proof) - 1))
    changed = (*proof[:place], bytes(32), *proof[place + 1 :])
    other = (index + 1) % size
    attempts = [
        (root, size, index, leaf, changed),
        (root, size, index, leaf, proof[:-1]),
        (root, size, index, leaf, (*proof, bytes(32))),
        (bytes(32), size, index, leaf, proof),
        (root, size, index, bytes(32), proof),
        (root, size, other, leaf, proof),
        (root, size, size, leaf, proof),
    ]
    for attempt in attempts:
        with pytest.raises(VerificationFailed):
            verify_inclusion(*attempt)


def test_a_proof_that_ends_below_the_claimed_size_is_refused() -> None:
    log = _log(4)
    with pytest.raises(VerificationFailed, match="does not lead"):
        verify_inclusion(log.compute_root(1), 5, 0, compute_leaf_hash(LEAVES[0]), ())
    with pytest.raises(VerificationFailed, match="does not lead"):
        verify_consistency(log.compute_root(2), 2, log.compute_root(4), 9, log.compute_consistency_proof(2, 4))


@settings(max_examples=200)
@given(st.integers(min_value=2, max_value=40), st.data())
def test_a_rewritten_history_is_refused(size: int, data: Any) -> None:
    first = data.draw(st.integers(min_value=1, max_value=size - 1))
    place = data.draw(st.integers(min_value=0, max_value=first - 1))
    log = _log(40)
    leaves = [compute_leaf_hash(leaf) for leaf in LEAVES[:size]]
    leaves[place] = bytes(32)
    rewritten = MerkleLog(leaves)
    attempts = [
        (
            log.compute_root(first),
            first,
            rewritten.compute_root(),
            size,
            rewritten.compute_consistency_proof(first, size),
        ),
        (log.compute_root(first), first, log.compute_root(size), size, ()),
        (
            log.compute_root(first),
            first,
            log.compute_root(size),
            size,
            (*log.compute_consistency_proof(first, size), b""),
        ),
        (log.compute_root(first), first, log.compute_root(first), first, (bytes(32),)),
        (log.compute_root(size), size, log.compute_root(first), first, ()),
    ]
    for attempt in attempts:
        with pytest.raises(VerificationFailed):
            verify_consistency(*attempt)


def test_refuses_proofs_beyond_the_tree() -> None:
    log = _log(5)
    for ask in (
        lambda: log.compute_root(6),
        lambda: log.compute_inclusion_proof(5, 5),
        lambda: log.compute_inclusion_proof(0, 6),
        lambda: log.compute_consistency_proof(0, 5),
        lambda: log.compute_consistency_proof(4, 3),
    ):
        with pytest.raises(InvalidInput):
            ask()


HEAD = LogHead(origin=ORIGIN, size=3, root=_log(3).compute_root())
NOTE = sign_log_head(HEAD, KEY)


def test_a_log_head_is_a_signed_note_that_verifies() -> None:
    assert verify_log_head(NOTE, ORIGIN, derive_public_key(KEY)) == HEAD
    lines = NOTE.decode().split("\n")
    assert lines[:4] == [ORIGIN, "3", base64.b64encode(HEAD.root).decode(), ""]
    assert lines[4].startswith(f"\u2014 {ORIGIN} ") and lines[5:] == [""]


def test_the_key_id_is_that_of_the_signed_note_format() -> None:
    (_, signature), *_ = parse_note(NOTE)[1]
    expected = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + derive_public_key(KEY)).digest()[:4]
    assert signature[:4] == expected and len(signature) == 68


def test_a_cosigners_line_does_not_disturb() -> None:
    other = NOTE + f"\u2014 witness {base64.b64encode(bytes(72)).decode()}\n".encode()
    assert verify_log_head(other, ORIGIN, derive_public_key(KEY)) == HEAD


BAD_NOTES = {
    "empty": b"",
    "not UTF-8": b"\xff\n\n",
    "no signature": HEAD.encode_text(),
    "another size": NOTE.replace(b"\n3\n", b"\n4\n"),
    "size with a plus": NOTE.replace(b"\n3\n", b"\n+3\n"),
    "size with a leading zero": NOTE.replace(b"\n3\n", b"\n03\n"),
    "another origin": sign_log_head(LogHead(origin="x", size=3, root=HEAD.root), KEY),
    "another key": sign_log_head(HEAD, b"\x06" * 32),
    "short root": NOTE.replace(base64.b64encode(HEAD.root), base64.b64encode(HEAD.root[:31])),
    "more lines": NOTE.replace(b"\n3\n", b"\n3\nextra\n"),
    "oversize": NOTE + b"\n" * 20_000,
    "damaged signature": NOTE[:-10] + b"AAAA" + NOTE[-6:],
}


@pytest.mark.parametrize("note", BAD_NOTES.values(), ids=BAD_NOTES.keys())
def test_refuses_a_note(note: bytes) -> None:
    with pytest.raises((InvalidInput, VerificationFailed)):
        verify_log_head(note, ORIGIN, derive_public_key(KEY))
