"""What a validator shows of one probe: the request, the answer, the provider's receipt, the times. Named by its digest.

Canonical bytes: {"kind": "quiver-transcript-v1", "probe_index", "receipt", "request", "response", "timing":
{"latency_ms", "ttft_ms"}}. The request is in document form (`challenges.exchange`): integers only, the same request
digest; nonce and consumer are in the receipt. Log probabilities are dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from challenges.exchange import Answer, build_request_document, parse_answer
from challenges.signed import SignedReceipt
from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.errors import InvalidInput
from scoring.hashing import keccak256
from validator.provider_answer import ProviderAnswer

TRANSCRIPT_KIND = "quiver-transcript-v1"
MAX_TRANSCRIPT_BYTES = 1024 * 1024
_KEYS = frozenset({"kind", "probe_index", "receipt", "request", "response", "timing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One probe as it went. `request` and `response` are kept as canonical JSON bytes, so that nothing can change them.

    Raises InvalidInput when one of them is not what a receipt could speak about. Whether the receipt does speak about
    them is `challenges.receipt.verify_receipt`'s to say.
    """

    probe_index: int
    request: bytes
    response: bytes
    receipt: SignedReceipt
    ttft_ms: int
    latency_ms: int

    def __post_init__(self) -> None:
        for name in ("probe_index", "ttft_ms", "latency_ms"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
                raise InvalidInput("expected an integer in 0..2**53 - 1", name)
        request = self.to_request()
        if build_request_document(request) != request:
            raise InvalidInput("is not in document form (no transport keys, numbers in ppm)", "request")
        parse_answer(self.to_response())

    @property
    def answer(self) -> Answer:
        """The parts of the response that receipt and score speak about."""
        return parse_answer(self.to_response())

    @property
    def digest(self) -> bytes:
        """keccak256 of the canonical bytes: the transcript's name in a ProbeOutcome."""
        return keccak256(self.encode())

    def to_request(self) -> dict[str, Json]:
        """Return the request document."""
        return _object(canonical.decode(self.request, MAX_TRANSCRIPT_BYTES), "request")

    def to_response(self) -> dict[str, Json]:
        """Return the response as JSON, in final, unstreamed form."""
        return _object(canonical.decode(self.response, MAX_TRANSCRIPT_BYTES), "response")

    def to_json(self) -> dict[str, Json]:
        """Return the wire form."""
        return {
            "kind": TRANSCRIPT_KIND,
            "probe_index": self.probe_index,
            "receipt": self.receipt.to_json(),
            "request": self.to_request(),
            "response": self.to_response(),
            "timing": {"latency_ms": self.latency_ms, "ttft_ms": self.ttft_ms},
        }

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.to_json())

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Parse the wire form strictly; raises InvalidInput with the field's name."""
        document = _object(value, "transcript")
        _require_keys(document, _KEYS, "transcript")
        if document["kind"] != TRANSCRIPT_KIND:
            raise InvalidInput(f"expected {TRANSCRIPT_KIND}", "kind")
        timing = _object(document["timing"], "timing")
        _require_keys(timing, frozenset({"latency_ms", "ttft_ms"}), "timing")
        return cls(
            probe_index=document["probe_index"],  # type: ignore[arg-type]  # checked by the record
            request=canonical.encode(_object(document["request"], "request")),
            response=canonical.encode(_object(document["response"], "response")),
            receipt=SignedReceipt.from_json(document["receipt"]),
            ttft_ms=timing["ttft_ms"],  # type: ignore[arg-type]
            latency_ms=timing["latency_ms"],  # type: ignore[arg-type]
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse canonical bytes; raises InvalidInput."""
        return cls.from_json(canonical.decode(data, MAX_TRANSCRIPT_BYTES))


def build_transcript(
    *, probe_index: int, request: Mapping[str, object], answer: ProviderAnswer, ttft_ms: int, latency_ms: int
) -> Transcript:
    """Build the transcript of a request as it was sent and the answer that was fetched.

    Raises InvalidInput when the answer's receipt is missing or malformed.
    """
    if answer.receipt is None:
        raise InvalidInput("the answer carries no receipt", "quiver_receipt")
    return Transcript(
        probe_index=probe_index,
        request=canonical.encode(build_request_document(request)),
        response=canonical.encode(answer.to_response()),
        receipt=SignedReceipt.from_json(canonical.decode(answer.receipt)),
        ttft_ms=ttft_ms,
        latency_ms=latency_ms,
    )


def _object(value: object, field: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", field)
    return value


def _require_keys(document: dict[str, Json], keys: frozenset[str], field: str) -> None:
    for name in sorted(keys ^ set(document)):
        raise InvalidInput("missing" if name in keys else "unknown key", f"{field}.{name}")
