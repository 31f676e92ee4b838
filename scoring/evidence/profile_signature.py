"""Who vouches for a tolerance profile: an account's signature on its digest, in a file beside it.

One wrong bound hits every honest provider of a cell at once, so whoever makes a plan from a profile should know whose
it is; several signatures by operators of different hardware are several files.
"""

from dataclasses import dataclass

from scoring import canonical
from scoring.ecdsa import SIGNATURE_BYTES, recover_address, sign_digest
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.evidence.profile import ToleranceProfile
from scoring.hashing import tagged_digest

MAX_SIGNATURE_FILE_BYTES = 1024
_KEYS = {"account", "profile_digest", "signature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSignature:
    """An account (20 bytes), the digest of the profile that it signed, and its 65-byte signature."""

    account: bytes
    profile_digest: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return the canonical JSON of the file."""
        return canonical.encode({name: "0x" + getattr(self, name).hex() for name in sorted(_KEYS)})

    @classmethod
    def decode(cls, data: bytes) -> "ProfileSignature":
        """Read the file strictly; raises InvalidInput with the field's name."""
        value = canonical.decode(data)
        if not isinstance(value, dict) or set(value) != _KEYS:
            raise InvalidInput(f"has exactly the keys {', '.join(sorted(_KEYS))}", "signature")
        parts = {name: parse_hex(value[name], name) for name in _KEYS}
        for name, length in (("account", 20), ("profile_digest", 32), ("signature", SIGNATURE_BYTES)):
            if len(parts[name]) != length:
                raise InvalidInput(f"expected {length} bytes", name)
        return cls(**parts)


def sign_profile(profile: ToleranceProfile, secret_key: bytes) -> ProfileSignature:
    """Return the signature of an account on a profile; raises InvalidInput on a key that is none."""
    digest = profile.compute_digest()
    root = _compute_root(digest)
    signature = sign_digest(secret_key, root)
    return ProfileSignature(account=recover_address(root, signature), profile_digest=digest, signature=signature)


def verify_profile_signature(profile: ToleranceProfile, signed: ProfileSignature) -> None:
    """Raise VerificationFailed unless the account of the file signed this very profile."""
    if signed.profile_digest != profile.compute_digest():
        raise VerificationFailed("the signature is for another profile")
    signer = recover_address(_compute_root(signed.profile_digest), signed.signature)
    if signer != signed.account:
        raise VerificationFailed(f"signed by 0x{signer.hex()}, not by 0x{signed.account.hex()}")


def _compute_root(profile_digest: bytes) -> bytes:
    return tagged_digest("quiver-tolerance-profile", profile_digest)
