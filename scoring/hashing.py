"""Keccak-256 (the hash of EIP-712 and the EVM) and domain-separated digests."""

from Crypto.Hash import keccak


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest (the pre-NIST padding that Ethereum uses)."""
    return keccak.new(digest_bits=256, data=data).digest()


def tagged_digest(tag: str, *parts: bytes) -> bytes:
    """Return keccak256 of the tag and the length-prefixed parts: no two part lists share an encoding.

    Lengths are 8 bytes big-endian; the tag is one of the "quiver-..." strings, each used in one place.
    """
    name = tag.encode()
    chunks = [len(name).to_bytes(8, "big"), name]
    for part in parts:
        chunks += [len(part).to_bytes(8, "big"), part]
    return keccak256(b"".join(chunks))
