"""What validators tell each other in an epoch: bodies of peer messages, parsed strictly.

The transport has already checked sender, size, counter and rate; here fields and types are checked, and by the round
the signatures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput
from scoring.hashing import keccak256
from scoring.records import Certificate, Checkpoint, Reveal, SlashingEvidence
from validator.transcript import Transcript

MAX_TRANSCRIPTS = 4096
MAX_SEATS = 1024
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealMessage:
    """A reveal with its BLS signature and the transcripts that its outcomes name by digest."""

    reveal: Reveal
    signature: bytes
    transcripts: tuple[Transcript, ...]

    @property
    def digest(self) -> bytes:
        """keccak256 of the canonical bytes: the name under which peers serve it."""
        return keccak256(canonical.encode(self.to_json()))

    def to_json(self) -> dict[str, Json]:
        """Return the body of a `reveal` message."""
        return {
            "reveal": self.reveal.to_json(),
            "signature": "0x" + self.signature.hex(),
            "transcripts": [transcript.to_json() for transcript in self.transcripts],
        }

    @classmethod
    def from_json(cls, value: object) -> "RevealMessage":
        """Parse strictly; raises InvalidInput."""
        fields = parse_object(value, ("reveal", "signature", "transcripts"))
        return cls(
            reveal=Reveal.from_json(fields["reveal"]),
            signature=parse_hex(fields["signature"], "signature"),
            transcripts=tuple(
                Transcript.from_json(item) for item in parse_list(fields["transcripts"], "transcripts", MAX_TRANSCRIPTS)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A leader's checkpoint, and the seats whose reveals it was computed from.

    `reveals` are keccak256 of those reveal messages' canonical bytes, in the order of the seats: where to find what
    did not arrive. The checkpoint's own root is what binds their content.
    """

    checkpoint: Checkpoint
    seats: tuple[int, ...]
    reveals: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.seats) != len(self.reveals):
            raise InvalidInput("expected one digest for each seat", "reveals")

    def to_json(self) -> dict[str, Json]:
        """Return the body of a `proposal` message."""
        return {
            "checkpoint": self.checkpoint.to_json(),
            "seats": list(self.seats),
            "reveals": ["0x" + digest.hex() for digest in self.reveals],
        }

    @classmethod
    def from_json(cls, value: object) -> "Proposal":
        """Parse strictly; raises InvalidInput."""
        fields = parse_object(value, ("checkpoint", "seats", "reveals"))
        listed = parse_list(fields["seats"], "seats", MAX_SEATS)
        seats = [seat for seat in listed if type(seat) is int and seat >= 0]
        if len(seats) != len(listed) or seats != sorted(set(seats)):
            raise InvalidInput("expected rising seat numbers", "seats")
        digests = [parse_hex(item, "reveals") for item in parse_list(fields["reveals"], "reveals", MAX_SEATS)]
        if any(len(digest) != DIGEST_BYTES for digest in digests):
            raise InvalidInput(f"expected {DIGEST_BYTES} bytes each", "reveals")
        return cls(checkpoint=Checkpoint.from_json(fields["checkpoint"]), seats=tuple(seats), reveals=tuple(digests))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A checkpoint with its certificate, and the seats it was computed from."""

    proposal: Proposal
    certificate: Certificate

    def to_json(self) -> dict[str, Json]:
        """Return the body of a `certificate` message."""
        return {"proposal": self.proposal.to_json(), "certificate": self.certificate.to_json()}

    @classmethod
    def from_json(cls, value: object) -> "Certified":
        """Parse strictly; raises InvalidInput."""
        fields = parse_object(value, ("proposal", "certificate"))
        return cls(
            proposal=Proposal.from_json(fields["proposal"]),
            certificate=Certificate.from_json(fields["certificate"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceVote:
    """One validator's BLS signature of a slashing evidence."""

    evidence: SlashingEvidence
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """Return the body of an `evidence-vote` message."""
        return {"evidence": self.evidence.to_json(), "signature": "0x" + self.signature.hex()}

    @classmethod
    def from_json(cls, value: object) -> "EvidenceVote":
        """Parse strictly; raises InvalidInput."""
        fields = parse_object(value, ("evidence", "signature"))
        return cls(
            evidence=SlashingEvidence.from_json(fields["evidence"]),
            signature=parse_hex(fields["signature"], "signature"),
        )


def parse_object(value: object, keys: tuple[str, ...]) -> Mapping[str, object]:
    """Return the value as an object with exactly these keys; raises InvalidInput with the key's name."""
    if not isinstance(value, dict):
        raise InvalidInput("expected an object")
    for key in keys:
        if key not in value:
            raise InvalidInput("missing", key)
    for key in value:
        if key not in keys:
            raise InvalidInput("unknown key", str(key))
    return value


def parse_list(value: object, field: str, limit: int) -> list[object]:
    """Return the value as a list of at most `limit` items; raises InvalidInput."""
    if not isinstance(value, list) or len(value) > limit:
        raise InvalidInput(f"expected a list of at most {limit}", field)
    return value
