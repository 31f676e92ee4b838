"""The BLS signature scheme over any curve backend: what is refused, what is summed, what is paired.

IETF draft-irtf-cfrg-bls-signature-05, minimal public keys (public key 48 bytes in G1, signature 96 bytes in G2),
proof of possession scheme. Rules kept here, the same for every backend:

* Every point is decoded strictly: exact length, canonical flags, coordinates below the field modulus, on the curve,
  in the subgroup of order r. A public key is never the point at infinity, nor is a sum of public keys.
* A signature at infinity verifies nothing. This is one step stricter than the draft, whose `AggregateVerify` accepts
  it for keys that cancel; honest signers never make one.
* Checks answer False to whatever else they are given, of whatever type; operations that need good input raise
  InvalidInput.
* Public keys in an aggregate must have proven possession (`pop_verify`, once, at registration). Otherwise a key can be
  made from the others so that its owner signs for all of them; nothing here can see that afterwards.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, TypeVar

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest

SECRET_KEY_BYTES = 32
PUBLIC_KEY_BYTES = 48
SIGNATURE_BYTES = 96
SUBGROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

SIGNATURE_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DST = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"

# Decoding a key takes 60 microseconds (square root and subgroup check), finding it here a fifth of a microsecond. The
# cache stays under 4 MB and holds every validator of a network several times over.
CACHED_PUBLIC_KEYS = 8192

_KEYGEN_SALT = b"BLS-SIG-KEYGEN-SALT-"
_KEYGEN_MIN_BYTES = 32
_KEYGEN_OKM_BYTES = 48
_COEFFICIENT_BYTES = 16
_SIGNATURE_AT_INFINITY = b"\xc0" + bytes(SIGNATURE_BYTES - 1)

Item = TypeVar("Item")
# A point of a backend. The curve libraries carry no types, and only the backend that made a point looks inside it.
Point = Any
# Other sequences can fail while they are walked, and a check never raises: they are refused.
Many: TypeAlias = list[Item] | tuple[Item, ...]


class Refused(ValueError):
    """The value is not what the scheme takes here. Never leaves the scheme: it becomes False or InvalidInput."""


class Curve(Protocol):
    """Arithmetic on BLS12-381 as a backend offers it; a module can be one.

    Obligations: `decode_*` get plain bytes of the exact length and return a point of the subgroup that is not infinity,
    or raise Refused. `encode_*` write the compressed form, infinity included. Sums get at least one point. Scalars are
    integers 0 < scalar < r. `hash_to_g2` is RFC 9380's BLS12381G2_XMD:SHA-256_SSWU_RO_. `is_pairing_product_equal` says
    whether the product of e(P, Q) over its pairs equals e(generator of G1, signature).
    """

    def decode_g1(self, encoded: bytes, /) -> Point: ...

    def decode_g2(self, encoded: bytes, /) -> Point: ...

    def encode_g1(self, point: Point, /) -> bytes: ...

    def encode_g2(self, point: Point, /) -> bytes: ...

    def multiply_generator_g1(self, scalar: int, /) -> Point: ...

    def multiply(self, point: Point, scalar: int, /) -> Point: ...

    def sum_points(self, points: Sequence[Point], /) -> Point: ...

    def hash_to_g2(self, message: bytes, dst: bytes, /) -> Point: ...

    def is_pairing_product_equal(self, pairs: Sequence[tuple[Point, Point]], signature: Point, /) -> bool: ...


class Scheme:
    """The operations of the scheme, on bytes. `signature_dst` is replaced only to check other networks' signatures."""

    def __init__(self, curve: Curve, signature_dst: bytes = SIGNATURE_DST) -> None:
        self._curve = curve
        self._signature_dst = signature_dst
        # Refused keys are not remembered (lru_cache keeps no exceptions), so garbage cannot push good keys out.
        self._decode_key = lru_cache(maxsize=CACHED_PUBLIC_KEYS)(curve.decode_g1)

    def key_gen(self, ikm: bytes) -> bytes:
        """Return the secret key derived from at least 32 secret, random bytes.

        KeyGen of the draft with empty key_info and the first salt hashed once, which is also EIP-2333's master key.
        Raises InvalidInput when `ikm` is not bytes or too short.
        """
        try:
            secret = _plain_bytes(ikm)
        except Refused as refusal:
            raise InvalidInput(str(refusal), "ikm") from None
        if len(secret) < _KEYGEN_MIN_BYTES:
            raise InvalidInput(f"must be at least {_KEYGEN_MIN_BYTES} bytes, got {len(secret)}", "ikm")
        scalar, salt = 0, _KEYGEN_SALT
        while scalar == 0:
            salt = hashlib.sha256(salt).digest()
            scalar = int.from_bytes(_hkdf_okm(salt, secret + b"\x00"), "big") % SUBGROUP_ORDER
        return scalar.to_bytes(SECRET_KEY_BYTES, "big")

    def sk_to_pk(self, sk: bytes) -> bytes:
        """Return the public key of a secret key. Raises InvalidInput unless `sk` is 32 bytes with 0 < sk < r."""
        return self._curve.encode_g1(self._curve.multiply_generator_g1(_secret_scalar(sk)))

    def key_validate(self, pk: bytes) -> bool:
        """Say whether `pk` is a usable public key: canonical, on the curve, in the subgroup, not infinity."""
        try:
            self._key(pk)
        except Refused:
            return False
        return True

    def sign(self, sk: bytes, message: bytes) -> bytes:
        """Return the 96-byte signature: the one and only that verifies for this key and message.

        Raises InvalidInput for a bad secret key or a message that is not bytes.
        """
        return self._sign(sk, message, self._signature_dst)

    def verify(self, pk: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether `signature` is the signature of `message` by `pk`."""
        return self._verify(pk, message, signature, self._signature_dst)

    def aggregate(self, signatures: Many[bytes]) -> bytes:
        """Return the sum of one or more signatures, in any order. Raises InvalidInput for none, or a malformed one.

        As in the draft, the encoding of infinity is taken as a signature here, and comes out of ones that cancel; no
        check accepts it.
        """
        try:
            encoded = [_plain_bytes(signature, SIGNATURE_BYTES) for signature in _some(signatures)]
            points = [self._curve.decode_g2(item) for item in encoded if item != _SIGNATURE_AT_INFINITY]
        except Refused as refusal:
            raise InvalidInput(str(refusal), "signatures") from None
        return self._curve.encode_g2(self._curve.sum_points(points)) if points else _SIGNATURE_AT_INFINITY

    def fast_aggregate_verify(self, pks: Many[bytes], message: bytes, signature: bytes) -> bool:
        """Say whether `signature` is the aggregate of one signature of `message` by each of `pks`.

        A key that is listed twice must have signed twice.
        """
        try:
            key = self._curve.sum_points([self._key(pk) for pk in _some(pks)])
            plain_message, point = _plain_bytes(message), self._signature(signature)
        except Refused:
            return False
        # Keys that cancel sum to infinity, which fits no signature but the one at infinity; that one is refused above.
        return self._is_signed([(key, plain_message)], point, self._signature_dst)

    def aggregate_verify(self, pks: Many[bytes], messages: Many[bytes], signature: bytes) -> bool:
        """Say whether `signature` is the aggregate of the signatures of `messages[i]` by `pks[i]`."""
        try:
            keys = [self._key(pk) for pk in _some(pks)]
            plain_messages = [_plain_bytes(message) for message in _some(messages)]
            point = self._signature(signature)
        except Refused:
            return False
        if len(keys) != len(plain_messages):
            return False
        return self._is_signed(list(zip(keys, plain_messages, strict=True)), point, self._signature_dst)

    def batch_verify(self, items: Many[tuple[bytes, bytes, bytes]], entropy: bytes = b"") -> bool:
        """Say whether every `(pk, message, signature)` verifies; False does not say which one failed.

        Checks the sum of c_i times equation i for coefficients 0 < c_i < 2^128 (Bellare, Garay, Rabin 1998, the small
        exponents test). All points lie in groups of prime order r, so if equation i fails, at most one value of c_i
        hides it, whatever the others are. The coefficients are hashed from `entropy` and all of the items
        (Fiat-Shamir): whoever changes an item changes every coefficient, so even without entropy a forger has to try
        about 2^128 batches. Entropy that the forger cannot know adds to that, and no entropy can take away from it.
        Items with one message share a pairing.
        """
        try:
            batch = [_triple(item) for item in _some(items)]
            keys = [self._key(pk) for pk, _, _ in batch]
            points = [self._signature(signature) for _, _, signature in batch]
            coefficients = _compute_coefficients(batch, _plain_bytes(entropy))
        except Refused:
            return False
        curve = self._curve
        keys_by_message: defaultdict[bytes, list[Point]] = defaultdict(list)
        for key, (_, message, _), coefficient in zip(keys, batch, coefficients, strict=True):
            keys_by_message[message].append(curve.multiply(key, coefficient))
        pairs = [(curve.sum_points(group), message) for message, group in keys_by_message.items()]
        total = curve.sum_points([curve.multiply(p, c) for p, c in zip(points, coefficients, strict=True)])
        return self._is_signed(pairs, total, self._signature_dst)

    def pop_prove(self, sk: bytes) -> bytes:
        """Return the proof of holding `sk`: its public key, signed under a domain of its own. Raises InvalidInput."""
        return self._sign(sk, self.sk_to_pk(sk), POSSESSION_DST)

    def pop_verify(self, pk: bytes, proof: bytes) -> bool:
        """Say whether `proof` shows possession of the secret key of `pk`."""
        return self._verify(pk, pk, proof, POSSESSION_DST)

    def _sign(self, sk: bytes, message: bytes, dst: bytes) -> bytes:
        scalar = _secret_scalar(sk)
        try:
            point = self._curve.hash_to_g2(_plain_bytes(message), dst)
        except Refused as refusal:
            raise InvalidInput(str(refusal), "message") from None
        return self._curve.encode_g2(self._curve.multiply(point, scalar))

    def _verify(self, pk: bytes, message: bytes, signature: bytes, dst: bytes) -> bool:
        try:
            key, plain_message, point = self._key(pk), _plain_bytes(message), self._signature(signature)
        except Refused:
            return False
        return self._is_signed([(key, plain_message)], point, dst)

    def _key(self, pk: object) -> Point:
        return self._decode_key(_plain_bytes(pk, PUBLIC_KEY_BYTES))

    def _signature(self, signature: object) -> Point:
        return self._curve.decode_g2(_plain_bytes(signature, SIGNATURE_BYTES))

    def _is_signed(self, pairs: Sequence[tuple[Point, bytes]], signature: Point, dst: bytes) -> bool:
        """Say whether the product of e(key, H(message)) over the pairs equals e(generator, signature)."""
        hashed = [(key, self._curve.hash_to_g2(message, dst)) for key, message in pairs]
        return self._curve.is_pairing_product_equal(hashed, signature)


def _plain_bytes(value: Any, length: int | None = None) -> bytes:
    """Return `value` as plain bytes, of `length` when it is given. Raises Refused."""
    if type(value) is not bytes:
        if not issubclass(type(value), bytes):
            raise Refused(f"must be bytes, got {type(value).__name__}")
        # A subclass (eth-account's HexBytes) may override anything: copy what it holds, past its methods.
        value = bytes.__getitem__(value, slice(None))
    plain: bytes = value
    if length is not None and len(plain) != length:
        raise Refused(f"must be {length} bytes, got {len(plain)}")
    return plain


def _some(values: Any) -> Many[object]:
    """Return `values` if it is a list or a tuple of at least one item. Raises Refused."""
    if not issubclass(type(values), list | tuple):
        raise Refused(f"must be a list or a tuple, got {type(values).__name__}")
    if len(values) == 0:
        raise Refused("must not be empty")
    items: Many[object] = values
    return items


def _triple(item: Any) -> tuple[bytes, bytes, bytes]:
    """Return one item of a batch as plain bytes. Raises Refused."""
    if not issubclass(type(item), tuple | list) or len(item) != 3:
        raise Refused("must be a public key, a message and a signature")
    pk, message, signature = item
    return _plain_bytes(pk, PUBLIC_KEY_BYTES), _plain_bytes(message), _plain_bytes(signature, SIGNATURE_BYTES)


def _secret_scalar(sk: object) -> int:
    """Return the secret key as an integer. Raises InvalidInput, never with the key in the message."""
    try:
        scalar = int.from_bytes(_plain_bytes(sk, SECRET_KEY_BYTES), "big")
    except Refused as refusal:
        raise InvalidInput(str(refusal), "sk") from None
    if not 0 < scalar < SUBGROUP_ORDER:
        raise InvalidInput("must be above zero and below the order of the subgroup", "sk")
    return scalar


def _compute_coefficients(batch: Sequence[tuple[bytes, bytes, bytes]], entropy: bytes) -> list[int]:
    """Return a coefficient, 0 < c < 2^128, for each item; each depends on all the items and on the entropy."""
    seed = tagged_digest("quiver-bls-batch", entropy, *(part for item in batch for part in item))
    digests = (hashlib.sha256(seed + index.to_bytes(8, "big")).digest() for index in range(len(batch)))
    return [int.from_bytes(digest[:_COEFFICIENT_BYTES], "big") or 1 for digest in digests]


def _hkdf_okm(salt: bytes, ikm: bytes) -> bytes:
    """Return 48 bytes of HKDF-SHA-256 (RFC 5869) with the info string of KeyGen: the output length in two bytes."""
    info = _KEYGEN_OKM_BYTES.to_bytes(2, "big")
    prk = hmac.digest(salt, ikm, "sha256")
    first = hmac.digest(prk, info + b"\x01", "sha256")
    second = hmac.digest(prk, first + info + b"\x02", "sha256")
    return (first + second)[:_KEYGEN_OKM_BYTES]
