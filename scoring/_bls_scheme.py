"""The BLS signature scheme over any curve backend: what is refused, what is summed, what is paired.

IETF draft-irtf-cfrg-bls-signature-05, minimal public keys (public key 48 bytes in G1, signature 96 bytes in G2), proof of
possession scheme. Rules kept here, the same for every backend:

* Every point is decoded strictly: exact length, canonical flags, coordinates below the field modulus, on the curve, in the
  subgroup of order r. A public key is never the point at infinity, nor is a sum of public keys.
* A signature at infinity verifies nothing. This is one step stricter than the draft, which lets `aggregate_verify` accept it
  for keys that cancel; nobody honest ever makes one.
* Checks answer False to anything else than good input, whatever its type; operations that need good input raise InvalidInput.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest

SECRET_KEY_BYTES = 32
PUBLIC_KEY_BYTES = 48
SIGNATURE_BYTES = 96
SUBGROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

SIGNATURE_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DST = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"

# Decoding a key costs 60 microseconds (most of it the subgroup check), finding it here 0.1. A decoded point takes about
# 250 bytes, so the cache stays under 4 MB, and holds every validator of a network several times over.
CACHED_PUBLIC_KEYS = 8192

_KEYGEN_SALT = b"BLS-SIG-KEYGEN-SALT-"
_KEYGEN_BYTES = 48
_COEFFICIENT_BYTES = 16

# A point of a backend. The libraries carry no types; only the backend that made a point looks inside it.
Point = Any


class NotAPoint(ValueError):
    """The bytes are not the canonical encoding of a point of the subgroup other than infinity."""


class Curve(Protocol):
    """Arithmetic on BLS12-381: what a backend offers. A module can be one.

    Obligations: `decode_*` get bytes of the exact length and return a point of the subgroup that is not infinity, or raise
    NotAPoint; `encode_g1` and `encode_g2` write the compressed form, infinity included; `sum_g1` and `sum_g2` get at least
    one point; scalars are integers with 0 < scalar < r; `hash_to_g2` is RFC 9380's BLS12381G2_XMD:SHA-256_SSWU_RO_;
    `is_pairing_product_equal(pairs, signature)` says whether the product of e(P, Q) over the pairs is e(G1 generator,
    signature).
    """

    def decode_g1(self, encoded: bytes) -> Point: ...

    def decode_g2(self, encoded: bytes) -> Point: ...

    def encode_g1(self, point: Point) -> bytes: ...

    def encode_g2(self, point: Point) -> bytes: ...

    def multiply_g1_generator(self, scalar: int) -> Point: ...

    def multiply_g1(self, point: Point, scalar: int) -> Point: ...

    def multiply_g2(self, point: Point, scalar: int) -> Point: ...

    def sum_g1(self, points: Sequence[Point]) -> Point: ...

    def sum_g2(self, points: Sequence[Point]) -> Point: ...

    def is_g1_infinity(self, point: Point) -> bool: ...

    def hash_to_g2(self, message: bytes, dst: bytes) -> Point: ...

    def is_pairing_product_equal(self, pairs: Sequence[tuple[Point, Point]], signature: Point) -> bool: ...
