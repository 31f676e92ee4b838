"""Offers and receipts with the 65-byte signature of the account that made them, and their wire form."""

from dataclasses import dataclass

from scoring.canonical import Json
from scoring.ecdsa import SIGNATURE_BYTES, sign_digest, verify_signature
from scoring.eip712 import Domain, Record, compute_signing_root, compute_struct_hash, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import Offer, Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOffer:
    """An offer and its provider's signature. JSON: {"offer": {...}, "signature": "0x<65 bytes>"}."""

    offer: Offer
    signature: bytes

    def __post_init__(self) -> None:
        _check_signature(self.signature)

    @property
    def digest(self) -> bytes:
        """The struct hash of the offer: the name by which receipts, cases and feed items know it."""
        return compute_struct_hash(self.offer)

    def to_json(self) -> dict[str, Json]:
        """Return the wire form."""
        return {"offer": self.offer.to_json(), "signature": "0x" + self.signature.hex()}

    @classmethod
    def from_json(cls, value: object) -> "SignedOffer":
        """Parse the wire form strictly; raises InvalidInput."""
        record, signature = _parse(value, "offer")
        return cls(offer=Offer.from_json(record), signature=signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt and its provider's signature. JSON: {"receipt": {...}, "signature": "0x<65 bytes>"}."""

    receipt: Receipt
    signature: bytes

    def __post_init__(self) -> None:
        _check_signature(self.signature)

    @property
    def digest(self) -> bytes:
        """The struct hash of the receipt: the same for every signature on it."""
        return compute_struct_hash(self.receipt)

    def to_json(self) -> dict[str, Json]:
        """Return the wire form (the value of `quiver_receipt`)."""
        return {"receipt": self.receipt.to_json(), "signature": "0x" + self.signature.hex()}

    @classmethod
    def from_json(cls, value: object) -> "SignedReceipt":
        """Parse the wire form strictly; raises InvalidInput."""
        record, signature = _parse(value, "receipt")
        return cls(receipt=Receipt.from_json(record), signature=signature)


def sign_offer(offer: Offer, domain: Domain, secret_key: bytes) -> SignedOffer:
    """Sign an offer with the provider's account."""
    return SignedOffer(offer=offer, signature=sign_digest(secret_key, compute_signing_root(offer, domain)))


def sign_receipt(receipt: Receipt, domain: Domain, secret_key: bytes) -> SignedReceipt:
    """Sign a receipt with the provider's account."""
    return SignedReceipt(receipt=receipt, signature=sign_digest(secret_key, compute_signing_root(receipt, domain)))


def verify_offer(signed: SignedOffer, *, domain: Domain) -> None:
    """Raise VerificationFailed unless the offer is signed by its own provider on this network and spans some time."""
    verify_signed_by(signed.offer, signed.signature, domain, signed.offer.provider, "offer")
    if signed.offer.issued_s >= signed.offer.expires_s:
        raise VerificationFailed("the offer expires before it is issued")


def verify_signed_by(record: Record, signature: bytes, domain: Domain, address: bytes, what: str) -> None:
    """Raise VerificationFailed, naming `what`, unless `address` signed the record on this network."""
    try:
        verify_signature(compute_signing_root(record, domain), signature, address)
    except (InvalidInput, VerificationFailed) as error:
        raise VerificationFailed(f"the {what} is not signed by 0x{address.hex()} on this network ({error})") from None


def _parse(value: object, name: str) -> tuple[object, bytes]:
    if not isinstance(value, dict) or set(value) != {name, "signature"}:
        raise InvalidInput(f"expected an object with exactly {name} and signature", name)
    return value[name], parse_hex(value["signature"], "signature")


def _check_signature(signature: bytes) -> None:
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise InvalidInput(f"expected {SIGNATURE_BYTES} bytes", "signature")
