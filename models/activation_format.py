"""Activation proofs as they travel: base64 of 16-bit words, hostile bytes. No numpy: the base install reads them.

What they are made of and compared with is in `models.activation_proofs`.
"""

import base64
import binascii
import struct
from dataclasses import dataclass

from scoring.errors import InvalidInput

PRIME = 65497
POINTS = 128
MAX_PROOFS = 1 << 12
LEAST_MODULUS = 1 << 15
_MAX_TEXT = 4 * ((2 + 2 * POINTS + 2) // 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationProof:
    """A polynomial over GF(65497), `coefficients` ascending, of the bf16 bits over position modulo `modulus`."""

    modulus: int
    coefficients: tuple[int, ...]

    def __post_init__(self) -> None:
        if not LEAST_MODULUS <= self.modulus <= PRIME:
            raise InvalidInput(f"a modulus lies in {LEAST_MODULUS}..{PRIME}", "quiver_toploc")
        if not 0 < len(self.coefficients) <= POINTS or not all(0 <= value < PRIME for value in self.coefficients):
            raise InvalidInput(f"a proof has 1 to {POINTS} coefficients below {PRIME}", "quiver_toploc")

    def encode(self) -> str:
        """Return base64 of modulus and coefficients, 16 bits each, big-endian (258 bytes for 128 points)."""
        words = (self.modulus, *self.coefficients)
        return base64.b64encode(struct.pack(f">{len(words)}H", *words)).decode()

    @classmethod
    def decode(cls, text: object) -> "ActivationProof":
        """Read a proof; raises InvalidInput for everything that `encode` does not write."""
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT or not text.isascii():
            raise InvalidInput(f"a proof is base64 of at most {_MAX_TEXT} characters", "quiver_toploc")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise InvalidInput("a proof is not base64", "quiver_toploc") from None
        if len(data) % 2 or base64.b64encode(data).decode() != text:
            raise InvalidInput("a proof is base64 of 16-bit words", "quiver_toploc")
        words = struct.unpack(f">{len(data) // 2}H", data)
        return cls(modulus=words[0], coefficients=tuple(words[1:]))


def parse_proofs(value: object) -> tuple[ActivationProof, ...]:
    """Read the field `quiver_toploc` of an answer: a list of base64 texts. Raises InvalidInput."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_PROOFS:
        raise InvalidInput(f"expected a list of 1 to {MAX_PROOFS} proofs", "quiver_toploc")
    return tuple(ActivationProof.decode(text) for text in value)
