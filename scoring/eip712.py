"""EIP-712 typed structs from frozen dataclasses: one function maps a record class to its type string and struct hash.

A record's fields are annotated with the aliases below; the alias carries the Solidity type, the wire form and the
limits. Source: EIP-712 (https://eips.ethereum.org/EIPS/eip-712).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.errors import InvalidInput
from scoring.hashing import keccak256

MAX_STRING_BYTES = 4096
MAX_BYTES = 1024
MAX_ITEMS = 65536


@dataclass(frozen=True, slots=True)
class Sol:
    """The Solidity type of a field: how it is hashed, checked and written as JSON. `length` fixes dynamic bytes."""

    name: str
    length: int = 0


Address = Annotated[bytes, Sol("address")]
Bytes32 = Annotated[bytes, Sol("bytes32")]
PublicKey = Annotated[bytes, Sol("bytes", 48)]
Signature = Annotated[bytes, Sol("bytes", 96)]
Bytes = Annotated[bytes, Sol("bytes")]
Uint64 = Annotated[int, Sol("uint64")]
Wei = Annotated[int, Sol("uint256")]
Text = Annotated[str, Sol("string")]
Bool = Annotated[bool, Sol("bool")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The EIP-712 domain: what keeps a signature of one network from meaning anything on another."""

    chain_id: int
    verifying_contract: bytes

    NAME: ClassVar[str] = "QUIVer Oracle"
    VERSION: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        _check_value(self.chain_id, Sol("uint64"), "chain_id")
        _check_value(self.verifying_contract, Sol("address"), "verifying_contract")

    def compute_separator(self) -> bytes:
        """Return the 32-byte domain separator."""
        type_hash = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        return keccak256(
            type_hash
            + keccak256(self.NAME.encode())
            + keccak256(self.VERSION.encode())
            + self.chain_id.to_bytes(32, "big")
            + self.verifying_contract.rjust(32, b"\0")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The base of every signed record: checked on construction, hashed by EIP-712, written as canonical JSON."""

    def __post_init__(self) -> None:
        for name, kind in _fields(type(self)):
            _check_value(getattr(self, name), kind, name)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object: hex with 0x for bytes, decimal strings for wei, integers otherwise."""
        return {name: _to_json(getattr(self, name), kind) for name, kind in _fields(type(self))}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Build the record from a JSON object; raises InvalidInput with the field's name on anything off."""
        if not isinstance(value, dict):
            raise InvalidInput(f"expected an object of type {cls.__name__}")
        kinds = dict(_fields(cls))
        for key in value:
            if key not in kinds:
                raise InvalidInput(f"unknown key in {cls.__name__}", str(key))
        parsed = {}
        for name, kind in kinds.items():
            if name not in value:
                raise InvalidInput(f"missing from {cls.__name__}", name)
            parsed[name] = _from_json(value[name], kind, name)
        return cls(**parsed)

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical.encode(self.to_json())

    @classmethod
    def decode(cls, data: bytes, max_bytes: int = canonical.MAX_DOCUMENT_BYTES) -> Self:
        """Parse canonical JSON bytes; raises InvalidInput."""
        return cls.from_json(canonical.decode(data, max_bytes))


Kind = Sol | tuple[str, Any]
"""A Solidity scalar, ("list", Kind) or ("struct", record class)."""


def compute_type_string(cls: type[Record]) -> str:
    """Return the EIP-712 encodeType string, referenced structs appended in alphabetical order."""
    referenced: dict[str, type[Record]] = {}
    _collect(cls, referenced)
    referenced.pop(cls.__name__, None)
    return _own_type_string(cls) + "".join(_own_type_string(referenced[name]) for name in sorted(referenced))


def compute_struct_hash(record: Record) -> bytes:
    """Return the 32-byte EIP-712 struct hash."""
    encoded = [_type_hash(type(record))]
    encoded += [_encode(getattr(record, name), kind) for name, kind in _fields(type(record))]
    return keccak256(b"".join(encoded))


def compute_signing_root(record: Record, domain: Domain) -> bytes:
    """Return the 32-byte digest that is signed: keccak256(0x1901 || domain separator || struct hash)."""
    return keccak256(b"\x19\x01" + domain.compute_separator() + compute_struct_hash(record))


def compute_typed_data(record: Record, domain: Domain) -> dict[str, Any]:
    """Return the document a wallet shows (`eth_signTypedData_v4`); big integers as decimal strings."""
    referenced: dict[str, type[Record]] = {}
    _collect(type(record), referenced)
    types: dict[str, Any] = {
        name: [{"name": field, "type": _solidity_name(kind)} for field, kind in _fields(cls)]
        for name, cls in referenced.items()
    }
    types["EIP712Domain"] = [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ]
    return {
        "types": types,
        "primaryType": type(record).__name__,
        "domain": {
            "name": Domain.NAME,
            "version": Domain.VERSION,
            "chainId": domain.chain_id,
            "verifyingContract": "0x" + domain.verifying_contract.hex(),
        },
        "message": record.to_json(),
    }


_field_cache: dict[type[Record], tuple[tuple[str, Kind], ...]] = {}
_type_hash_cache: dict[type[Record], bytes] = {}


def _fields(cls: type[Record]) -> tuple[tuple[str, Kind], ...]:
    if cls not in _field_cache:
        hints = get_type_hints(cls, include_extras=True)
        _field_cache[cls] = tuple((f.name, _kind(hints[f.name], f"{cls.__name__}.{f.name}")) for f in fields(cls))
    return _field_cache[cls]


def _kind(hint: Any, place: str) -> Kind:
    if get_origin(hint) is Annotated:
        return next(extra for extra in get_args(hint)[1:] if isinstance(extra, Sol))
    if get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,):
        return ("list", _kind(get_args(hint)[0], place))
    if isinstance(hint, type) and issubclass(hint, Record):
        return ("struct", hint)
    raise TypeError(f"{place}: {hint} has no Solidity type")


def _collect(cls: type[Record], found: dict[str, type[Record]]) -> None:
    if cls.__name__ in found:
        return
    found[cls.__name__] = cls
    for _, kind in _fields(cls):
        while isinstance(kind, tuple) and kind[0] == "list":
            kind = kind[1]
        if isinstance(kind, tuple):
            _collect(kind[1], found)


def _solidity_name(kind: Kind) -> str:
    if isinstance(kind, Sol):
        return kind.name
    return f"{_solidity_name(kind[1])}[]" if kind[0] == "list" else str(kind[1].__name__)


def _own_type_string(cls: type[Record]) -> str:
    return f"{cls.__name__}({','.join(f'{_solidity_name(kind)} {name}' for name, kind in _fields(cls))})"


def _type_hash(cls: type[Record]) -> bytes:
    if cls not in _type_hash_cache:
        _type_hash_cache[cls] = keccak256(compute_type_string(cls).encode())
    return _type_hash_cache[cls]


def _encode(value: Any, kind: Kind) -> bytes:
    if isinstance(kind, tuple):
        if kind[0] == "struct":
            return compute_struct_hash(value)
        return keccak256(b"".join(_encode(item, kind[1]) for item in value))
    match kind.name:
        case "bytes":
            return keccak256(value)
        case "string":
            return keccak256(value.encode())
        case "bytes32":
            return bytes(value)
        case "address":
            return bytes(value).rjust(32, b"\0")
        case _:
            return int(value).to_bytes(32, "big")


def _check_value(value: Any, kind: Kind, field: str) -> None:
    if isinstance(kind, tuple):
        _check_nested(value, kind, field)
    elif kind.name == "bool":
        _require(isinstance(value, bool), "expected true or false", field)
    elif kind.name in ("uint64", "uint256"):
        limit = MAX_SAFE_INTEGER if kind.name == "uint64" else 2**256 - 1
        _require(isinstance(value, int) and not isinstance(value, bool), "expected an integer", field)
        _require(0 <= value <= limit, f"{value} is outside 0..{limit}", field)
    elif kind.name == "string":
        _require(isinstance(value, str), "expected a string", field)
        _require(value.replace("\n", "").isprintable(), "holds control characters", field)
        _require(len(value.encode(errors="replace")) <= MAX_STRING_BYTES, f"over {MAX_STRING_BYTES} bytes", field)
    else:
        _check_bytes(value, kind, field)


def _check_nested(value: Any, kind: tuple[str, Any], field: str) -> None:
    if kind[0] == "struct":
        _require(type(value) is kind[1], f"expected {kind[1].__name__}", field)
        return
    _require(isinstance(value, tuple) and len(value) <= MAX_ITEMS, f"expected at most {MAX_ITEMS} items", field)
    for index, item in enumerate(value):
        _check_value(item, kind[1], f"{field}[{index}]")


def _check_bytes(value: Any, kind: Sol, field: str) -> None:
    _require(type(value) is bytes, "expected bytes", field)
    exact = {"address": 20, "bytes32": 32}.get(kind.name, kind.length)
    if exact:
        _require(len(value) == exact, f"expected {exact} bytes, got {len(value)}", field)
    else:
        _require(len(value) <= MAX_BYTES, f"over {MAX_BYTES} bytes", field)


def _require(condition: bool, message: str, field: str) -> None:
    if not condition:
        raise InvalidInput(message, field)


def _to_json(value: Any, kind: Kind) -> Json:
    if isinstance(kind, tuple):
        if kind[0] == "struct":
            nested: dict[str, Json] = value.to_json()
            return nested
        return [_to_json(item, kind[1]) for item in value]
    if kind.name == "uint256":
        return str(value)
    if kind.name in ("bytes", "bytes32", "address"):
        return f"0x{value.hex()}"
    scalar: str | int | bool = value
    return scalar


def _from_json(value: object, kind: Kind, field: str) -> Any:
    if isinstance(kind, tuple):
        if kind[0] == "struct":
            return _nested(kind[1].from_json, value, field)
        _require(isinstance(value, list) and len(value) <= MAX_ITEMS, f"expected a list of up to {MAX_ITEMS}", field)
        assert isinstance(value, list)
        return tuple(_from_json(item, kind[1], f"{field}[{index}]") for index, item in enumerate(value))
    if kind.name == "uint256":
        return parse_wei(value, field)
    if kind.name in ("bytes", "bytes32", "address"):
        return parse_hex(value, field)
    return value


def _nested(parse: Callable[[object], Any], value: object, field: str) -> Any:
    try:
        return parse(value)
    except InvalidInput as error:
        raise InvalidInput(str(error), field) from None


def parse_hex(value: object, field: str) -> bytes:
    """Parse lower-case hex with 0x; raises InvalidInput."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) % 2:
        raise InvalidInput("expected hex with 0x", field)
    digits = value[2:]
    if len(digits) > 2 * canonical.MAX_DOCUMENT_BYTES or not set(digits) <= set("0123456789abcdef"):
        raise InvalidInput("expected lower-case hex with 0x", field)
    return bytes.fromhex(digits)


def parse_wei(value: object, field: str) -> int:
    """Parse a decimal string without sign or leading zeros, below 2**256; raises InvalidInput."""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 78:
        raise InvalidInput("expected wei as a decimal string", field)
    if value != "0" and value.startswith("0"):
        raise InvalidInput("decimal string with a leading zero", field)
    return int(value)
