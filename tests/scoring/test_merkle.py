"""Merkle trees agree with OpenZeppelin's library and prove what is in them, nothing else."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.merkle import (
    EMPTY_ROOT,
    MAX_PROOF_LENGTH,
    build_tree,
    compute_leaf_hash,
    compute_proof,
    compute_proofs,
    compute_root,
    verify_proof,
)

digests = st.binary(min_size=32, max_size=32)
leaf_lists = st.lists(digests, min_size=1, max_size=40, unique=True)

# The dump that @openzeppelin/merkle-tree 1.0.6 made of ["a"] ... ["f"] with the leaf encoding ["string"]
# (test/dumps/standard-v1.sorted.1_0_6.json of https://github.com/OpenZeppelin/merkle-tree, MIT).
OPENZEPPELIN_TREE = [
    "6deb52b5da8fd108f79fab00341f38d2587896634c646ee52e49f845680a70c8",
    "52426e0f1f65ff7e209a13b8c29cffe82e3acaf3dad0a9b9088f3b9a61a929c3",
    "fd3cf45654e88d1cc5d663578c82c76f4b5e3826bacaa1216441443504538f51",
    "8076923e76cf01a7c048400a2304c9a9c23bbbdac3a98ea3946340fdafbba34f",
    "965b92c6cf08303cc4feb7f3e0819c436c2cec17c6f0688a6af139c9a368707c",
    "eba909cf4bb90c6922771d7f126ad0fd11dfde93f3937a196274e1ac20fd2f5b",
    "c62a8cfa41edc0ef6f6ae27a2985b7d39c7fea770787d7e104696c6e81f64848",
    "9cf5a63718145ba968a01c1d557020181c5b252f665cf7386d370eddb176517b",
    "9c15a6a0eaeed500fd9eed4cbeab71f797cefcc67bfd46683e4d2e6ff7f06d1c",
    "9a4f64e953595df82d1b4f570d34c4f4f0cfaf729a61e9d60e83e579e1aa283e",
    "19ba6c6333e0e9a15bf67523e0676e2f23eb8e574092552d5e888c64a4bb3681",
]
OPENZEPPELIN_TREE_INDEX = {"a": 8, "b": 10, "c": 7, "d": 5, "e": 9, "f": 6}


def abi_encode_string(text: str) -> bytes:
    return (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text.encode().ljust(32, b"\0")


def test_builds_the_tree_that_openzeppelin_dumped() -> None:
    leaf_hashes = [compute_leaf_hash(abi_encode_string(letter)) for letter in "abcdef"]
    tree = build_tree(leaf_hashes)
    assert [node.hex() for node in tree] == OPENZEPPELIN_TREE
    for letter, index in OPENZEPPELIN_TREE_INDEX.items():
        assert tree[index] == compute_leaf_hash(abi_encode_string(letter))


@settings(deadline=None)
@given(leaf_lists)
def test_every_leaf_is_proven_under_the_root(leaves: list[bytes]) -> None:
    root = compute_root(leaves)
    proofs = compute_proofs(leaves, range(len(leaves)))
    for index, leaf in enumerate(leaves):
        assert proofs[index] == compute_proof(leaves, index)
        verify_proof(root, leaf, proofs[index])


def test_the_root_does_not_depend_on_the_order() -> None:
    leaves = [keccak256(bytes([number])) for number in range(5)]
    assert len({compute_root(order) for order in permutations(leaves)}) == 1


@settings(deadline=None)
@given(leaf_lists, digests)
def test_a_foreign_leaf_is_never_proven(leaves: list[bytes], foreign: bytes) -> None:
    if foreign in leaves:
        return
    root = compute_root(leaves)
    for proof in compute_proofs(leaves, range(len(leaves))):
        with pytest.raises(VerificationFailed):
            verify_proof(root, foreign, proof)


@settings(deadline=None)
@given(leaf_lists, st.data())
def test_a_changed_proof_is_refused(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = list(compute_proof(leaves, index))
    if not proof:
        return
    step = data.draw(st.integers(0, len(proof) - 1))
    proof[step] = bytes([proof[step][0] ^ 1]) + proof[step][1:]
    with pytest.raises(VerificationFailed, match="does not lead"):
        verify_proof(compute_root(leaves), leaves[index], proof)


def test_an_inner_node_is_not_a_leaf() -> None:
    leaves = [keccak256(bytes([number])) for number in range(4)]
    tree = build_tree([compute_leaf_hash(leaf) for leaf in leaves])
    with pytest.raises(VerificationFailed):
        verify_proof(tree[0], tree[1], (tree[2],))


def test_a_single_leaf_has_an_empty_proof() -> None:
    leaf = keccak256(b"only")
    assert compute_root([leaf]) == compute_leaf_hash(leaf)
    assert compute_proof([leaf], 0) == ()
    verify_proof(compute_root([leaf]), leaf, ())


def test_nothing_is_proven_under_the_empty_root() -> None:
    assert compute_root([]) == EMPTY_ROOT == bytes(32)
    with pytest.raises(VerificationFailed, match="empty tree"):
        verify_proof(EMPTY_ROOT, keccak256(b"leaf"), ())


@pytest.mark.parametrize(
    ("name", "root", "leaf", "proof", "sentence"),
    [
        ("a short leaf", b"\1" * 32, b"\2" * 31, (), "32 bytes each"),
        ("a short root", b"\1" * 31, b"\2" * 32, (), "32 bytes each"),
        ("a long step", b"\1" * 32, b"\2" * 32, (b"\3" * 33,), "32 bytes each"),
        ("text for bytes", b"\1" * 32, b"\2" * 32, ("3" * 32,), "32 bytes each"),
        ("an endless proof", b"\1" * 32, b"\2" * 32, (b"\3" * 32,) * (MAX_PROOF_LENGTH + 1), "over the limit"),
    ],
)
def test_refuses_malformed_proofs(name: str, root: bytes, leaf: bytes, proof: tuple[bytes, ...], sentence: str) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        verify_proof(root, leaf, proof)


def test_refuses_leaves_that_are_not_digests() -> None:
    with pytest.raises(InvalidInput, match=r"leaves\[1\]"):
        compute_root([bytes(32), bytes(31)])
    for index in (-1, 1):
        with pytest.raises(InvalidInput, match="index"):
            compute_proof([bytes(32)], index)
