"""Who a provider is: its account's secret key in a private file, and the offer that it has signed."""

import os
import secrets
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from challenges.signed import SignedOffer, sign_offer, verify_offer
from scoring import canonical
from scoring.ecdsa import GROUP_ORDER, address_of
from scoring.eip712 import Domain, parse_hex
from scoring.errors import InvalidInput, Unavailable, VerificationFailed
from scoring.records import Offer
from validator.keys import write_new_file
from validator.provider.config import SellerConfig

# The offer is dated a little back: a consumer's clock may be slow, and a receipt must lie inside its offer's time.
OFFER_BACKDATE_S = 60
_MAX_KEY_FILE_BYTES = 256
_MAX_OFFER_FILE_BYTES = 64 * 1024
_TERMS = (
    "provider", "model", "manifest_digest", "sampler", "context_length_tokens", "input_price_wei", "output_price_wei",
    "advertised_ttft_ms", "advertised_tokens_per_s", "endpoint",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A provider's hand: what it signs receipts with, on which network, under which offer."""

    secret_key: bytes = field(repr=False)
    network: bytes
    domain: Domain
    signed_offer: SignedOffer

    @property
    def address(self) -> bytes:
        """The 20-byte account."""
        return self.signed_offer.offer.provider


def open_identity(
    config: SellerConfig, *, model: str, manifest_digest: bytes, sampler: str, context_length_tokens: int, endpoint: str
) -> Identity:
    """Return the identity of a configuration: its key, and its offer of this model, each made if there is none.

    Raises InvalidInput, VerificationFailed or Unavailable as the functions below do.
    """
    secret_key = load_or_create_key(config.key_path)
    now_s = int(time.time())
    wanted = Offer(
        provider=address_of(secret_key),
        model=model,
        manifest_digest=manifest_digest,
        sampler=sampler,
        context_length_tokens=context_length_tokens,
        input_price_wei=config.input_price_wei,
        output_price_wei=config.output_price_wei,
        advertised_ttft_ms=config.advertised_ttft_ms,
        advertised_tokens_per_s=config.advertised_tokens_per_s,
        endpoint=endpoint,
        issued_s=now_s - OFFER_BACKDATE_S,
        expires_s=now_s + config.offer_lifetime_s,
    )
    signed = load_or_sign_offer(
        config.offer_path, wanted, config.domain, secret_key, is_fixed=config.offer_file is not None
    )
    return Identity(secret_key=secret_key, network=config.network, domain=config.domain, signed_offer=signed)


def load_or_create_key(path: Path) -> bytes:
    """Return the 32-byte secret key of a file ("0x" and 64 hex digits), made with mode 0600 if there is none.

    Raises InvalidInput when the file is malformed or open to others, Unavailable when it cannot be read or made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new_file(path, f"0x{_draw_key().hex()}\n".encode())
    except FileExistsError:
        pass
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
    return load_key(path)


def load_key(path: Path) -> bytes:
    """Return the secret key of an existing file; raises as `load_or_create_key` does."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise InvalidInput(f"{path} can be read or written by others; run `chmod 600` on it", "key_file")
    try:
        key = parse_hex(data.decode("ascii", errors="replace").strip(), "key_file")
        address_of(key)
    except InvalidInput:
        # Never with the value: it is a secret, if a damaged one.
        raise InvalidInput(f"{path} does not hold a secp256k1 secret key (0x and 64 hex digits)", "key_file") from None
    return key


def load_or_sign_offer(path: Path, wanted: Offer, domain: Domain, secret_key: bytes, *, is_fixed: bool) -> SignedOffer:
    """Return the offer of a file if it still says what is wanted, otherwise sign the wanted one and write it there.

    A restart keeps the offer, because cases and receipts know it by its digest. With `is_fixed` (the operator named
    the file) an offer of other terms raises VerificationFailed instead of being replaced.
    """
    found = _read_offer(path)
    if found is not None and found.offer.issued_s <= wanted.issued_s < found.offer.expires_s:
        differing = [name for name in _TERMS if getattr(found.offer, name) != getattr(wanted, name)]
        if not differing:
            verify_offer(found, domain=domain)
            return found
        if is_fixed:
            raise VerificationFailed(f"the offer in {path} has another {', '.join(differing)} than this provider")
    elif found is not None and is_fixed:
        raise VerificationFailed(f"the offer in {path} is not valid now: it expires at {found.offer.expires_s}")
    signed = sign_offer(wanted, domain, secret_key)
    _write(path, canonical.encode(signed.to_json()))
    return signed


def _read_offer(path: Path) -> SignedOffer | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_OFFER_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    try:
        return SignedOffer.from_json(canonical.decode_lenient(data, _MAX_OFFER_FILE_BYTES))
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", "offer_file") from None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def _draw_key() -> bytes:
    return (1 + secrets.randbelow(GROUP_ORDER - 1)).to_bytes(32, "big")
