"""The interchange form of a sign guard: a JSON file that carries what was signed to another machine or out of a backup.

The idea is that of EIP-3076 (https://eips.ethereum.org/EIPS/eip-3076): a list of signed roots by key and slot, and
floors below which nothing may be signed because history may be missing.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Bytes32, PublicKey, Record, Text, Uint64
from scoring.errors import InvalidInput

HISTORY_KIND = "quiver-sign-history-v1"
SLOT_KINDS = frozenset({"commit", "reveal", "checkpoint", "evidence", "vrf"})
MAX_HISTORY_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry(Record):
    """One signed root: its slot (network, public_key, kind, number), its epoch, when it was recorded (unix seconds)."""

    network: Bytes32
    public_key: PublicKey
    kind: Text
    number: Uint64
    epoch: Uint64
    signing_root: Bytes32
    time_s: Uint64

    def __post_init__(self) -> None:
        super(HistoryEntry, self).__post_init__()
        if self.kind not in SLOT_KINDS:
            raise InvalidInput(f"expected one of {', '.join(sorted(SLOT_KINDS))}", "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFloor(Record):
    """Nothing of this key at or below `epoch` may be signed unless an entry shows the same root."""

    network: Bytes32
    public_key: PublicKey
    epoch: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Entries and floors, written as canonical JSON."""

    entries: tuple[HistoryEntry, ...]
    floors: tuple[HistoryFloor, ...]

    KEYS: ClassVar[frozenset[str]] = frozenset({"kind", "entries", "floors"})

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        document: dict[str, Json] = {
            "kind": HISTORY_KIND,
            "entries": [entry.to_json() for entry in self.entries],
            "floors": [floor.to_json() for floor in self.floors],
        }
        return canonical.encode(document)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse an export; raises InvalidInput with the field's name."""
        document = canonical.decode_lenient(data, MAX_HISTORY_BYTES)
        if not isinstance(document, dict) or set(document) != cls.KEYS or document["kind"] != HISTORY_KIND:
            raise InvalidInput(f"expected {HISTORY_KIND} with entries and floors")
        entries, floors = document["entries"], document["floors"]
        if not isinstance(entries, list) or not isinstance(floors, list):
            raise InvalidInput("expected lists", "entries")
        return cls(
            entries=tuple(HistoryEntry.from_json(entry) for entry in entries),
            floors=tuple(HistoryFloor.from_json(floor) for floor in floors),
        )
