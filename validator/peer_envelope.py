"""The envelope of a message between validators: who sends what to whom, small enough to judge before the rest is read.

It travels in the HTTP header `Quiver-Envelope` as canonical JSON, the body as the bytes that it names by digest and
length. So sender, size, counter, rate and signature are checked before a byte of the body is taken, and all of that
before any BLS check. It is signed with the transport key (Ed25519) over its EIP-712 root: the network, the sender and
the recipient are in it, so nobody can pass it on elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from scoring import canonical
from scoring.eip712 import Address, Bytes32, Domain, Record, Text, Uint64, compute_signing_root, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from validator.keys import TRANSPORT_SIGNATURE_BYTES, is_transport_signed

ENVELOPE_HEADER = "Quiver-Envelope"
MESSAGE_PATH = "/peer/v1/message"
DOCUMENT_PATH = "/peer/v1/documents/{digest}"
MAX_ENVELOPE_BYTES = 2048
KIB = 1024
MIB = 1024 * 1024


class PeerKind(StrEnum):
    """What validators say to each other."""

    COMMIT = "commit"
    REVEAL = "reveal"
    PROPOSAL = "proposal"
    VOTE = "vote"
    CERTIFICATE = "certificate"
    EVIDENCE_VOTE = "evidence-vote"
    EVIDENCE = "evidence"


MAX_BODY_BYTES: dict[PeerKind, int] = {
    PeerKind.COMMIT: 16 * KIB,
    PeerKind.REVEAL: 16 * MIB,
    PeerKind.PROPOSAL: 4 * MIB,
    PeerKind.VOTE: 64 * KIB,
    PeerKind.CERTIFICATE: MIB,
    PeerKind.EVIDENCE_VOTE: 256 * KIB,
    PeerKind.EVIDENCE: 16 * MIB,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEnvelope(Record):
    """The head of a message. `counter` rises strictly from message to message of one sender to one recipient."""

    network: Bytes32
    sender: Address
    recipient: Address
    kind: Text
    counter: Uint64
    body_digest: Bytes32
    body_bytes: Uint64

    def __post_init__(self) -> None:
        super(PeerEnvelope, self).__post_init__()
        if self.kind not in PeerKind._value2member_map_:
            raise InvalidInput("unknown kind of message", "kind")
        if self.body_bytes > MAX_BODY_BYTES[PeerKind(self.kind)]:
            raise InvalidInput(f"over the limit of a {self.kind}, {MAX_BODY_BYTES[PeerKind(self.kind)]}", "body_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEnvelope:
    """An envelope and its sender's Ed25519 signature. JSON: {"envelope": {...}, "signature": "0x<64 bytes>"}."""

    envelope: PeerEnvelope
    signature: bytes

    def encode_header(self) -> str:
        """Return the value of the HTTP header."""
        document = {"envelope": self.envelope.to_json(), "signature": "0x" + self.signature.hex()}
        return canonical.encode(document).decode()  # type: ignore[arg-type]

    @classmethod
    def decode_header(cls, value: str) -> Self:
        """Parse the HTTP header strictly; raises InvalidInput with the field's name."""
        document = canonical.decode(value.encode("utf-8", errors="surrogateescape"), MAX_ENVELOPE_BYTES)
        if not isinstance(document, dict) or set(document) != {"envelope", "signature"}:
            raise InvalidInput("expected an envelope and a signature", ENVELOPE_HEADER)
        signature = parse_hex(document["signature"], "signature")
        if len(signature) != TRANSPORT_SIGNATURE_BYTES:
            raise InvalidInput(f"expected {TRANSPORT_SIGNATURE_BYTES} bytes", "signature")
        return cls(envelope=PeerEnvelope.from_json(document["envelope"]), signature=signature)


def sign_envelope(envelope: PeerEnvelope, domain: Domain, sign: Callable[[bytes], bytes]) -> SignedEnvelope:
    """Sign an envelope; `sign` is the transport key's (`Signer.sign_envelope`)."""
    return SignedEnvelope(envelope=envelope, signature=sign(compute_signing_root(envelope, domain)))


def verify_envelope(signed: SignedEnvelope, domain: Domain, transport_key: bytes) -> None:
    """Raise VerificationFailed unless the transport key signed the envelope. Costs 2 ms."""
    if not is_transport_signed(transport_key, compute_signing_root(signed.envelope, domain), signed.signature):
        raise VerificationFailed("the envelope is not signed by the sender's transport key")


def verify_body(envelope: PeerEnvelope, body: bytes) -> None:
    """Raise VerificationFailed unless the bytes are the ones that the envelope names."""
    if len(body) != envelope.body_bytes or keccak256(body) != envelope.body_digest:
        raise VerificationFailed("the body is not the one in the envelope")
