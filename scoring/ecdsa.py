"""secp256k1 signatures of Ethereum accounts on 32-byte digests: the hand of providers, consumers and operators.

A signature is 65 bytes r || s || v with v 27 or 28. Rules kept here: s is in the lower half of the order (EIP-2: nobody
can make a second signature from a first), 0 < r, s < n, and an account is the last 20 bytes of keccak256 of the public
key. Source of the formulas: SEC 1 v2.0 section 4.1.6 (public key recovery), Ethereum yellow paper appendix F.
"""

from coincurve import PrivateKey, PublicKey

from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256

SIGNATURE_BYTES = 65
SECRET_KEY_BYTES = 32
GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_LOWEST_V = 27


def sign_digest(secret_key: bytes, digest: bytes) -> bytes:
    """Return the deterministic (RFC 6979) 65-byte signature of a 32-byte digest; raises InvalidInput on bad lengths."""
    _require_digest(digest)
    signature: bytes = _parse_secret_key(secret_key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([signature[64] + _LOWEST_V])


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """Return the 20-byte account that signed the digest; raises InvalidInput when no key fits the signature."""
    _require_digest(digest)
    _require_well_formed(signature)
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - _LOWEST_V]), digest, hasher=None
        )
    except Exception as error:  # coincurve raises plain Exception on a point that is not on the curve
        raise InvalidInput("no public key fits this signature", "signature") from error
    return _compute_address(key)


def verify_signature(digest: bytes, signature: bytes, address: bytes) -> None:
    """Raise VerificationFailed unless `address` signed the digest; InvalidInput on a malformed signature."""
    signer = recover_address(digest, signature)
    if signer != address:
        raise VerificationFailed(f"signed by 0x{signer.hex()}, expected 0x{address.hex()}")


def address_of(secret_key: bytes) -> bytes:
    """Return the 20-byte account of a secret key (32 bytes big-endian); raises InvalidInput on a bad key."""
    return _compute_address(_parse_secret_key(secret_key).public_key)


def _compute_address(key: PublicKey) -> bytes:
    point: bytes = key.format(compressed=False)
    return keccak256(point[1:])[-20:]


def _parse_secret_key(secret_key: bytes) -> PrivateKey:
    if type(secret_key) is not bytes or len(secret_key) != SECRET_KEY_BYTES:
        raise InvalidInput(f"expected {SECRET_KEY_BYTES} bytes", "secret_key")
    if not 0 < int.from_bytes(secret_key, "big") < GROUP_ORDER:
        raise InvalidInput("outside 1..n-1", "secret_key")
    return PrivateKey(secret_key)


def _require_digest(digest: bytes) -> None:
    if type(digest) is not bytes or len(digest) != 32:
        raise InvalidInput("expected 32 bytes", "digest")


def _require_well_formed(signature: bytes) -> None:
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise InvalidInput(f"expected {SIGNATURE_BYTES} bytes r || s || v", "signature")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < GROUP_ORDER or not 0 < s < GROUP_ORDER:
        raise InvalidInput("r or s is outside 1..n-1", "signature")
    if s > GROUP_ORDER // 2:
        raise InvalidInput("s is in the upper half of the order (malleable)", "signature")
    if signature[64] not in (_LOWEST_V, _LOWEST_V + 1):
        raise InvalidInput("v is neither 27 nor 28", "signature")
