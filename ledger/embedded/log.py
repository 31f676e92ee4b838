"""The transparency log: an RFC 6962 Merkle tree over the transactions' bytes, with proofs. Pure.

SHA-256; a leaf is H(0x00 || data), a node H(0x01 || left || right). Source: RFC 6962 section 2.1. Hashes of complete
subtrees are kept, so a root or proof costs a logarithm.
"""

import hashlib
from collections.abc import Sequence

from scoring.errors import InvalidInput, VerificationFailed

EMPTY_ROOT = hashlib.sha256(b"").digest()


def compute_leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte leaf hash of an entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def compute_node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleLog:
    """The growing tree. `append` is the only change; proofs may be asked about any earlier size."""

    def __init__(self, leaf_hashes: Sequence[bytes] = ()) -> None:
        # _levels[k][i] is the hash of the complete subtree over leaves i * 2**k .. (i + 1) * 2**k - 1.
        self._levels: list[list[bytes]] = [[]]
        for leaf_hash in leaf_hashes:
            self.append(leaf_hash)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def append(self, leaf_hash: bytes) -> None:
        """Add a leaf."""
        self._levels[0].append(leaf_hash)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            left, right = self._levels[level][-2:]
            self._levels[level + 1].append(compute_node_hash(left, right))
            level += 1

    def compute_root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves (default: all); raises InvalidInput beyond the tree."""
        size = self.size if size is None else size
        self._require_size(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def compute_inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of leaf `index` in the tree of `size` leaves, from the leaf up."""
        self._require_size(size)
        if not 0 <= index < size:
            raise InvalidInput(f"no leaf {index} in a tree of {size}", "index")
        return self._path(index, 0, size)

    def compute_consistency_proof(self, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `second` leaves only adds to that of `first` (at least 1)."""
        self._require_size(second)
        if not 1 <= first <= second:
            raise InvalidInput(f"expected 1..{second}", "first")
        return self._subproof(first, 0, second, True)

    def _require_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise InvalidInput(f"expected 0..{self.size}", "size")

    def _range(self, start: int, stop: int) -> bytes:
        length = stop - start
        if length & (length - 1) == 0:
            level = length.bit_length() - 1
            return self._levels[level][start >> level]
        middle = start + _split(length)
        return compute_node_hash(self._range(start, middle), self._range(middle, stop))

    def _path(self, index: int, start: int, stop: int) -> tuple[bytes, ...]:
        if stop - start == 1:
            return ()
        middle = start + _split(stop - start)
        if index < middle:
            return (*self._path(index, start, middle), self._range(middle, stop))
        return (*self._path(index, middle, stop), self._range(start, middle))

    def _subproof(self, first: int, start: int, stop: int, is_whole: bool) -> tuple[bytes, ...]:
        if first == stop - start:
            return () if is_whole else (self._range(start, stop),)
        split = _split(stop - start)
        if first <= split:
            return (*self._subproof(first, start, start + split, is_whole), self._range(start + split, stop))
        return (*self._subproof(first - split, start + split, stop, False), self._range(start, start + split))


def verify_inclusion(root: bytes, size: int, index: int, leaf_hash: bytes, proof: Sequence[bytes]) -> None:
    """Raise VerificationFailed unless the leaf is at `index` of that tree. Source: RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        raise VerificationFailed(f"no leaf {index} in a tree of {size}")
    node, last, value = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise VerificationFailed("the inclusion proof is too long")
        if node % 2 or node == last:
            value = compute_node_hash(sibling, value)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            value = compute_node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    if last or value != root:
        raise VerificationFailed("the inclusion proof does not lead to the root")


def verify_consistency(first_root: bytes, first: int, second_root: bytes, second: int, proof: Sequence[bytes]) -> None:
    """Raise VerificationFailed unless the second tree only adds to the first. Source: RFC 9162, section 2.1.4.2."""
    if not 1 <= first <= second:
        raise VerificationFailed(f"no consistency proof from {first} to {second} leaves")
    if first == second:
        if proof or first_root != second_root:
            raise VerificationFailed("two roots for one size, or a proof where none is needed")
        return
    path = list(proof) if first & (first - 1) else [first_root, *proof]
    if not path:
        raise VerificationFailed("the consistency proof is empty")
    node, last = first - 1, second - 1
    while node % 2:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise VerificationFailed("the consistency proof is too long")
        if node % 2 or node == last:
            old, new = compute_node_hash(sibling, old), compute_node_hash(sibling, new)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            new = compute_node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise VerificationFailed("the consistency proof does not lead to both roots")


def _split(length: int) -> int:
    """Return the largest power of two below `length` (at least 2)."""
    return 1 << ((length - 1).bit_length() - 1)
