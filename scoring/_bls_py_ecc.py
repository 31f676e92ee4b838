"""BLS12-381 by py_ecc (pure Python): the reference backend, slow, not constant-time, for checking and for tests.

Only its curve arithmetic is used, and its decoder, which leaves the subgroup to its caller.
"""

from collections.abc import Sequence
from functools import reduce
from hashlib import sha256
from typing import Any, cast

from py_ecc.bls.g2_primitives import (
    G1_to_pubkey,
    G2_to_signature,
    pubkey_to_G1,
    signature_to_G2,
    subgroup_check,
)
from py_ecc.bls.hash_to_curve import hash_to_G2
from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12
from py_ecc.optimized_bls12_381.optimized_curve import G1, add, is_inf, neg
from py_ecc.optimized_bls12_381.optimized_curve import multiply as multiply_point
from py_ecc.optimized_bls12_381.optimized_pairing import final_exponentiate, pairing

from scoring._bls_scheme import Point, Refused


def decode_g1(encoded: bytes) -> Point:
    """Return the point of 48 bytes. Raises Refused."""
    try:
        point = pubkey_to_G1(cast(Any, encoded))
    except ValueError:
        raise Refused("is not a finite point of the subgroup") from None
    return _checked(point)


def decode_g2(encoded: bytes) -> Point:
    """Return the point of 96 bytes. Raises Refused."""
    try:
        point = signature_to_G2(cast(Any, encoded))
    except ValueError:
        raise Refused("is not a finite point of the subgroup") from None
    return _checked(point)


def encode_g1(point: Point) -> bytes:
    """Return the 48 bytes of a point."""
    return bytes(G1_to_pubkey(point))


def encode_g2(point: Point) -> bytes:
    """Return the 96 bytes of a point."""
    return bytes(G2_to_signature(point))


def multiply_generator_g1(scalar: int) -> Point:
    """Return `scalar` times the generator of G1."""
    return multiply_point(G1, scalar)


def multiply(point: Point, scalar: int) -> Point:
    """Return `scalar` times a point of either group."""
    return multiply_point(point, scalar)


def sum_points(points: Sequence[Point]) -> Point:
    """Return the sum of one or more points of one group."""
    return reduce(add, points)


def hash_to_g2(message: bytes, dst: bytes) -> Point:
    """Return the point of G2 that the message hashes to under the domain tag (at most 255 bytes)."""
    return hash_to_G2(message, dst, cast(Any, sha256))


def is_pairing_product_equal(pairs: Sequence[tuple[Point, Point]], signature: Point) -> bool:
    """Say whether the product of e(P, Q) over one or more pairs equals e(generator, signature)."""
    product = pairing(signature, neg(G1), final_exponentiate=False)
    for p, q in pairs:
        product *= pairing(q, p, final_exponentiate=False)
    return bool(final_exponentiate(product) == FQ12.one())


def _checked(point: Point) -> Point:
    if is_inf(point):
        raise Refused("is not a finite point of the subgroup")
    if not subgroup_check(point):
        raise Refused("is not a finite point of the subgroup")
    return point
