"""OpenZeppelin standard Merkle trees over 32-byte digests: Keccak-256, sorted pairs, leaves hashed twice.

The same roots and proofs as `StandardMerkleTree.of(values, ["bytes32"])`, so a contract checks them with OpenZeppelin's
`MerkleProof.verify`. Rules kept here:

* A leaf is keccak(keccak(digest)); the second hash keeps an inner node from being passed off as a leaf.
* Leaf hashes are sorted, so the root does not depend on the order in which the leaves are given.
* A proof shows inclusion only: never absence, position or number.
* The root of no leaves is 32 zero bytes, and nothing is proven under it.

Source of the layout (nodes in one array, root first, leaf hashes ascending from the end):
https://github.com/OpenZeppelin/merkle-tree
"""

from collections.abc import Sequence
from functools import reduce

from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256

DIGEST_BYTES = 32
EMPTY_ROOT = bytes(DIGEST_BYTES)
MAX_PROOF_LENGTH = 20
MAX_LEAVES = 2**MAX_PROOF_LENGTH


def compute_root(leaves: Sequence[bytes]) -> bytes:
    """Return the 32-byte root over the digests, in whatever order they come; zero for none. Raises InvalidInput."""
    return build_tree([compute_leaf_hash(leaf) for leaf in _checked(leaves)])[0] if leaves else EMPTY_ROOT


def compute_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the siblings from `leaves[index]` up to the root. Raises InvalidInput on a bad leaf or index."""
    return compute_proofs(leaves, [index])[0]


def compute_proofs(leaves: Sequence[bytes], indices: Sequence[int]) -> list[tuple[bytes, ...]]:
    """Return one proof for each index, from one tree. Raises InvalidInput on a bad leaf or index."""
    hashes = [compute_leaf_hash(leaf) for leaf in _checked(leaves)]
    if any(not 0 <= index < len(hashes) for index in indices):
        raise InvalidInput(f"expected an index below {len(hashes)}", "index")
    tree = build_tree(hashes) if hashes else []
    order = sorted(range(len(hashes)), key=lambda position: hashes[position])
    node_of = {position: len(tree) - 1 - rank for rank, position in enumerate(order)}
    return [_climb(tree, node_of[index]) for index in indices]


def verify_proof(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> None:
    """Check that the digest `leaf` is under `root`; raises VerificationFailed."""
    if root == EMPTY_ROOT:
        raise VerificationFailed("the Merkle root is that of an empty tree: nothing is in it")
    if len(proof) > MAX_PROOF_LENGTH:
        raise VerificationFailed(f"Merkle proof of {len(proof)} steps is over the limit of {MAX_PROOF_LENGTH}")
    if any(type(part) is not bytes or len(part) != DIGEST_BYTES for part in (root, leaf, *proof)):
        raise VerificationFailed(f"Merkle root, leaf and proof steps are {DIGEST_BYTES} bytes each")
    if reduce(_hash_pair, proof, compute_leaf_hash(leaf)) != root:
        raise VerificationFailed("the Merkle proof does not lead from the item to the signed root")


def compute_leaf_hash(leaf: bytes) -> bytes:
    """Return keccak(keccak(leaf))."""
    return keccak256(keccak256(leaf))


def build_tree(leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """Return all nodes of the tree over at least one leaf hash, root first, children of node i at 2i+1 and 2i+2."""
    inner = len(leaf_hashes) - 1
    tree = [b""] * inner + sorted(leaf_hashes, reverse=True)
    for node in range(inner - 1, -1, -1):
        tree[node] = _hash_pair(tree[2 * node + 1], tree[2 * node + 2])
    return tree


def _climb(tree: Sequence[bytes], node: int) -> tuple[bytes, ...]:
    proof = []
    while node > 0:
        proof.append(tree[node + 1 if node % 2 else node - 1])
        node = (node - 1) // 2
    return tuple(proof)


def _hash_pair(first: bytes, second: bytes) -> bytes:
    return keccak256(min(first, second) + max(first, second))


def _checked(leaves: Sequence[bytes]) -> Sequence[bytes]:
    if len(leaves) > MAX_LEAVES:
        raise InvalidInput(f"{len(leaves)} leaves are over the limit of {MAX_LEAVES}", "leaves")
    for index, leaf in enumerate(leaves):
        if type(leaf) is not bytes or len(leaf) != DIGEST_BYTES:
            raise InvalidInput(f"expected {DIGEST_BYTES} bytes", f"leaves[{index}]")
    return leaves
