"""A verifiable random function from unique BLS signatures: one key and one input give one output, provable to anybody.

The proof is the BLS signature of a digest of the input. For one public key and message exactly one byte string verifies
(points are decoded strictly, so each has one encoding): the key's owner cannot choose the output, and nobody else can
predict it. The digest has its own tag, so a proof is never the signature of a record, nor the other way round.
Unique signatures make a VRF: Micali, Rabin, Vadhan 1999; BLS signatures are unique: Boneh, Lynn, Shacham 2001. The
words proof, alpha and output are those of RFC 9381.
"""

from scoring import bls
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import tagged_digest


def compute_vrf_proof(sk: bytes, alpha: bytes) -> bytes:
    """Return the 96-byte proof of key `sk` for the bytes `alpha`. Raises InvalidInput for a bad key or input."""
    return bls.sign(sk, _compute_alpha_digest(alpha))


def verify_vrf(pk: bytes, alpha: bytes, proof: bytes) -> None:
    """Raise VerificationFailed unless `proof` is the proof of the key `pk` for `alpha`.

    Whoever wants an output calls this first: `compute_vrf_output` hashes whatever it is given.
    """
    try:
        digest = _compute_alpha_digest(alpha)
    except InvalidInput as error:
        raise VerificationFailed(f"VRF input {error}") from None
    if not bls.verify(pk, digest, proof):
        raise VerificationFailed("the VRF proof is not this key's proof for this input")


def compute_vrf_output(proof: bytes) -> bytes:
    """Return the 32 pseudo-random bytes of a verified proof. Raises InvalidInput unless it is 96 bytes."""
    if not isinstance(proof, bytes) or len(proof) != bls.SIGNATURE_BYTES:
        raise InvalidInput(f"must be {bls.SIGNATURE_BYTES} bytes", "proof")
    return tagged_digest("quiver-vrf-output", proof)


def _compute_alpha_digest(alpha: bytes) -> bytes:
    if not isinstance(alpha, bytes):
        raise InvalidInput(f"must be bytes, got {type(alpha).__name__}", "alpha")
    return tagged_digest("quiver-vrf-input", alpha)
