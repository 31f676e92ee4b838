"""How the engine and its clients talk: frames of plain JSON over a Unix socket, torch-free.

A frame is 4 bytes of big-endian length and that many bytes of JSON: `{"id", "operation", "body"}` one way,
`{"id", "body"}` or `{"id", "error": {"kind", "message", "field"}}` the other. Both ends are ours and on one machine, so
floats are plain; an infinite number travels as null, and its sign follows from the field.
"""

import asyncio
import json
import math
import socket
import struct
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from models.manifest import ModelManifest
from models.requests import Generation, GenerationRequest, ReferenceRequest, TokenLogprob, TokenStatistics
from scoring.canonical import verify_depth
from scoring.errors import InvalidInput, MissingExtra, OracleError, Unavailable

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_ITEMS = 4096
_LENGTH = struct.Struct(">I")
_POSITIVE_INFINITY = ("margin", "gap")

Record = TypeVar("Record", GenerationRequest, ReferenceRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine runs and on what: the manifest, and the runtime fingerprint that names its calibration cell."""

    manifest: ModelManifest
    dtype: str
    device: str
    attention: str
    threads: int
    torch_version: str
    transformers_version: str
    machine: str


def encode_frame(value: dict[str, Any]) -> bytes:
    """Return the bytes of one frame; raises InvalidInput when it is over MAX_FRAME_BYTES."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )
    if len(data) > MAX_FRAME_BYTES:
        raise InvalidInput(f"a message of {len(data)} bytes is over the limit of {MAX_FRAME_BYTES}", "engine")
    return _LENGTH.pack(len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next frame; raises asyncio.IncompleteReadError at the end and InvalidInput on anything off."""
    size = _check_size(await reader.readexactly(_LENGTH.size))
    return _parse(await reader.readexactly(size))


def receive_frame(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next frame of a blocking socket, None at its end; raises InvalidInput on anything off."""
    head = _receive(connection, _LENGTH.size)
    if head is None:
        return None
    data = _receive(connection, _check_size(head))
    return None if data is None else _parse(data)


def encode_request(request: GenerationRequest | ReferenceRequest) -> dict[str, Any]:
    """Return a request as a JSON object."""
    return {field.name: getattr(request, field.name) for field in fields(request)}


def decode_requests(kind: type[Record], values: object) -> list[Record]:
    """Return requests from a JSON list; raises InvalidInput with the field's name."""
    if not isinstance(values, list) or not 0 < len(values) <= MAX_ITEMS:
        raise InvalidInput(f"expected a list of 1 to {MAX_ITEMS} requests", "requests")
    names = {field.name for field in fields(kind)}
    for value in values:
        if not isinstance(value, dict) or set(value) != names:
            raise InvalidInput(f"a request has exactly the keys {', '.join(sorted(names))}", "requests")
    return [kind(**{name: _freeze(item) for name, item in value.items()}) for value in values]


def encode_statistics(statistics: TokenStatistics) -> dict[str, Any]:
    """Return statistics as a JSON object, infinite numbers as null."""
    return {field.name: _hide_infinity(getattr(statistics, field.name)) for field in fields(statistics)}


def decode_statistics(value: dict[str, Any]) -> TokenStatistics:
    """Return statistics from what `encode_statistics` wrote."""
    columns: dict[str, Any] = {}
    for name, column in value.items():
        missing = math.inf if name in _POSITIVE_INFINITY else -math.inf
        columns[name] = None if column is None else _show_infinity(column, missing)
    return TokenStatistics(**columns)


def encode_generation(generation: Generation) -> dict[str, Any]:
    """Return an answer as a JSON object."""
    logprobs = generation.logprobs
    return {
        "token_ids": generation.token_ids,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "logprobs": None if logprobs is None else [[row.token_id, row.logprob, row.top] for row in logprobs],
        "activation_proofs": generation.activation_proofs,
    }


def decode_generation(value: dict[str, Any]) -> Generation:
    """Return an answer from what `encode_generation` wrote."""
    rows, proofs = value["logprobs"], value["activation_proofs"]
    logprobs = None
    if rows is not None:
        logprobs = tuple(TokenLogprob(token_id=token, logprob=own, top=_freeze(top)) for token, own, top in rows)
    return Generation(
        token_ids=tuple(value["token_ids"]),
        text=value["text"],
        finish_reason=value["finish_reason"],
        logprobs=logprobs,
        activation_proofs=None if proofs is None else tuple(proofs),
    )


def encode_info(info: EngineInfo) -> dict[str, Any]:
    """Return engine information as a JSON object."""
    return {**{field.name: getattr(info, field.name) for field in fields(info)}, "manifest": info.manifest.to_json()}


def decode_info(value: dict[str, Any]) -> EngineInfo:
    """Return engine information from its JSON object."""
    return EngineInfo(**{**value, "manifest": ModelManifest.from_json(value["manifest"])})


def encode_error(error: OracleError) -> dict[str, str]:
    """Return an error as a JSON object that `build_error` turns back."""
    return {"kind": type(error).__name__, "message": str(error), "field": getattr(error, "field", "")}


def build_error(value: dict[str, str]) -> OracleError:
    """Return the error that the engine answered with: InvalidInput, MissingExtra, or Unavailable for all others."""
    if value["kind"] == "InvalidInput":
        return InvalidInput(value["message"].removeprefix(f"{value['field']}: "), value["field"])
    return MissingExtra(value["message"]) if value["kind"] == "MissingExtra" else Unavailable(value["message"])


def _check_size(head: bytes) -> int:
    (size,) = _LENGTH.unpack(head)
    if size > MAX_FRAME_BYTES:
        raise InvalidInput(f"a message of {size} bytes is over the limit of {MAX_FRAME_BYTES}", "engine")
    return int(size)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8", "surrogatepass")
        verify_depth(text)
        value = json.loads(text)
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f"not JSON: {error}", "engine") from None
    if not isinstance(value, dict):
        raise InvalidInput("expected an object", "engine")
    return value


def _receive(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def _hide_infinity(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_hide_infinity(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _show_infinity(column: list[Any], missing: float) -> tuple[Any, ...]:
    if column and isinstance(column[0], list):
        return tuple(_show_infinity(row, missing) for row in column)
    return tuple(column) if None not in column else tuple(missing if item is None else item for item in column)
