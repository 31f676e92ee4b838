"""BLS12-381 by pyblst (blst, assembly, constant-time scalar multiplication): the default backend.

`uncompress` checks length, flags, field range, curve and subgroup; it accepts infinity, which is refused here.
The library holds the interpreter lock while it computes.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add, mul

from pyblst import BlstP1Element, BlstP2Element, final_verify, miller_loop

from scoring._bls_scheme import Point, Refused

_INFINITY_FLAG = 0x40
_GENERATOR_G1 = BlstP1Element.uncompress(
    bytes.fromhex("97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb")
)


def decode_g1(encoded: bytes) -> Point:
    """Return the point of 48 bytes. Raises Refused."""
    return _uncompress(BlstP1Element, encoded)


def decode_g2(encoded: bytes) -> Point:
    """Return the point of 96 bytes. Raises Refused."""
    return _uncompress(BlstP2Element, encoded)


def encode_g1(point: Point) -> bytes:
    """Return the 48 bytes of a point."""
    return bytes(point.compress())


def encode_g2(point: Point) -> bytes:
    """Return the 96 bytes of a point."""
    return bytes(point.compress())


def multiply_generator_g1(scalar: int) -> Point:
    """Return `scalar` times the generator of G1."""
    return _GENERATOR_G1.scalar_mul(scalar)


def multiply(point: Point, scalar: int) -> Point:
    """Return `scalar` times a point of either group."""
    return point.scalar_mul(scalar)


def sum_points(points: Sequence[Point]) -> Point:
    """Return the sum of one or more points of one group."""
    return reduce(add, points)


def hash_to_g2(message: bytes, dst: bytes) -> Point:
    """Return the point of G2 that the message hashes to under the domain tag (at most 255 bytes)."""
    return BlstP2Element.hash_to_group(message, dst)


def is_pairing_product_equal(pairs: Sequence[tuple[Point, Point]], signature: Point) -> bool:
    """Say whether the product of e(P, Q) over one or more pairs equals e(generator, signature)."""
    product = reduce(mul, (miller_loop(p, q) for p, q in pairs))
    return bool(final_verify(product, miller_loop(_GENERATOR_G1, signature)))


def _uncompress(group: Point, encoded: bytes) -> Point:
    if encoded[0] & _INFINITY_FLAG:
        raise Refused("is not a finite point of the subgroup")
    try:
        return group.uncompress(encoded)
    except ValueError:
        raise Refused("is not a finite point of the subgroup") from None
