"""What a consumer files: up to eight consecutive receipts with their requests and answers, in document form.

The dossier is one canonical JSON document, `[{"receipt": {...signed}, "request": {...}, "response": {...}}, ...]`; a
filing names it by keccak256 of its bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from challenges.receipt import (
    build_request_document,
    build_response_document,
    verify_receipt_content,
    verify_receipt_terms,
)
from challenges.signed import SignedOffer, SignedReceipt
from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256

MAX_RECEIPTS = 8
MAX_DOSSIER_BYTES = 1024 * 1024
_ENTRY_KEYS = {"receipt", "request", "response"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierEntry:
    """One receipted answer: what was asked, what came back, what the provider signed about it."""

    receipt: SignedReceipt
    request: Mapping[str, Json]
    response: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """The receipts of one filing in the order of their counters."""

    entries: tuple[DossierEntry, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.entries) <= MAX_RECEIPTS:
            raise InvalidInput(f"expected 1 to {MAX_RECEIPTS} receipts, got {len(self.entries)}", "dossier")

    @property
    def window_count(self) -> int:
        """How many windows the consumer could have picked: see `compute_window_count`."""
        return compute_window_count(self.entries[-1].receipt.receipt.counter)

    def to_json(self) -> list[Json]:
        """Return the wire form."""
        return [
            {"receipt": entry.receipt.to_json(), "request": dict(entry.request), "response": dict(entry.response)}
            for entry in self.entries
        ]

    def encode(self) -> bytes:
        """Return the canonical bytes that are filed."""
        return canonical.encode(self.to_json())

    @property
    def digest(self) -> bytes:
        """Return keccak256 of the canonical bytes."""
        return keccak256(self.encode())


def build_dossier(answers: Sequence[tuple[SignedReceipt, Mapping[str, object], Mapping[str, object]]]) -> Dossier:
    """Build the dossier of (receipt, request as sent, response as received), in the order of the counters."""
    ordered = sorted(answers, key=lambda answer: answer[0].receipt.counter)
    return Dossier(
        entries=tuple(
            DossierEntry(
                receipt=receipt, request=build_request_document(request), response=build_response_document(response)
            )
            for receipt, request, response in ordered
        )
    )


def parse_dossier(value: object) -> Dossier:
    """Parse the JSON value of a dossier; requests and responses must be in document form. Raises InvalidInput."""
    if not isinstance(value, list):
        raise InvalidInput("expected a list of receipts", "dossier")
    return Dossier(entries=tuple(_parse_entry(entry, f"dossier[{index}]") for index, entry in enumerate(value)))


def compute_window_count(last_counter: int) -> int:
    """Return how many windows the consumer could have picked: one ending at each receipt that it ever got.

    Windows that start and end elsewhere share almost all of their receipts with one of these; a consumer who shops
    among lengths, or among accounts of its own, stakes a bond on each try, and nobody's stake depends on the result.
    """
    if last_counter < 1:
        raise InvalidInput("a receipt's counter starts at 1", "counter")
    return last_counter


def verify_dossier(
    dossier: Dossier, *, domain: Domain, offer: SignedOffer, consumer: bytes, ledger_time_s: int
) -> None:
    """Raise VerificationFailed unless every receipt holds, is the consumer's own, unexpired and next to the last one.

    `ledger_time_s` is the time of the last certified checkpoint: the only clock of a ledger.
    """
    for index, entry in enumerate(dossier.entries):
        try:
            _verify_entry(entry, domain=domain, offer=offer, consumer=consumer, ledger_time_s=ledger_time_s)
        except (InvalidInput, VerificationFailed) as error:
            raise VerificationFailed(f"receipt {index} of the dossier: {error}") from None
    counters = [entry.receipt.receipt.counter for entry in dossier.entries]
    if counters != list(range(counters[0], counters[0] + len(counters))):
        raise VerificationFailed(f"the receipts' counters {counters} are not consecutive")


def _verify_entry(
    entry: DossierEntry, *, domain: Domain, offer: SignedOffer, consumer: bytes, ledger_time_s: int
) -> None:
    receipt = entry.receipt.receipt
    verify_receipt_terms(entry.receipt, domain=domain, offer=offer)
    if receipt.consumer != consumer:
        raise VerificationFailed("it is made out to another consumer than the one who files")
    if receipt.expires_s <= ledger_time_s:
        raise VerificationFailed(f"it expired at {receipt.expires_s}")
    verify_receipt_content(receipt, request=entry.request, response=entry.response)


def _parse_entry(value: object, field: str) -> DossierEntry:
    if not isinstance(value, dict) or set(value) != _ENTRY_KEYS:
        raise InvalidInput("expected an object with exactly receipt, request and response", field)
    request, response = value["request"], value["response"]
    if not isinstance(request, dict) or build_request_document(request) != request:
        raise InvalidInput("expected a request document", f"{field}.request")
    if not isinstance(response, dict) or build_response_document(response) != response:
        raise InvalidInput("expected a response document", f"{field}.response")
    return DossierEntry(receipt=SignedReceipt.from_json(value["receipt"]), request=request, response=response)
