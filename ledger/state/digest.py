"""A digest of the whole ledger state: two machines that disagree about anything have different ones."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ledger.state.holdings import LedgerState
from scoring.canonical import Json, encode
from scoring.hashing import keccak256


def compute_state_digest(state: LedgerState) -> bytes:
    """Return keccak256 of the canonical JSON of every field; integers as strings, maps as pairs in their own order.

    The order of a map is the order in which the log made it, so it is the same for everybody (and it is the order of
    validators' seats).
    """
    return keccak256(encode(_to_json(state)))


def _to_json(value: Any) -> Json:
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, Mapping):
        return [[_to_json(key), _to_json(item)] for key, item in value.items()]
    if is_dataclass(value):
        return {field.name: _to_json(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no place in a ledger state")
