"""What a model is, by digest: the record that an offer names and every validator checks its own copy against."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest

DTYPES = ("bf16", "fp16", "fp32")
_DIGESTS = ("weights_digest", "tokenizer_digest", "chat_template_digest")
_COUNTS = ("context_length", "vocabulary_size", "parameter_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """A model, independent of the dtype it is run in.

    `weights_digest` and `tokenizer_digest` are SHA-256 over the source files (see `compute_files_digest`, and
    `models.convert` for GGUF), `chat_template_digest` over the template's UTF-8 text; `dtypes` are those in which a
    provider may claim to run it. `context_length` is in tokens.
    """

    name: str
    weights_digest: bytes
    tokenizer_digest: bytes
    chat_template_digest: bytes
    dtypes: tuple[str, ...]
    context_length: int
    vocabulary_size: int
    parameter_count: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 200:
            raise InvalidInput("a model name has 1 to 200 characters", "name")
        for field in _DIGESTS:
            value = getattr(self, field)
            if not isinstance(value, bytes) or len(value) != 32:
                raise InvalidInput("must be 32 bytes", field)
        for field in _COUNTS:
            value = getattr(self, field)
            if type(value) is not int or not 0 < value < 2**53:
                raise InvalidInput("must be an integer above 0", field)
        if not self.dtypes or list(self.dtypes) != sorted(set(self.dtypes)) or not set(self.dtypes) <= set(DTYPES):
            raise InvalidInput(f"must be a sorted choice of {', '.join(DTYPES)}", "dtypes")

    def to_json(self) -> dict[str, Json]:
        """Return the JSON object; digests are hex with 0x."""
        digests: dict[str, Json] = {field: "0x" + getattr(self, field).hex() for field in _DIGESTS}
        counts: dict[str, Json] = {field: getattr(self, field) for field in _COUNTS}
        return {"name": self.name, "dtypes": list(self.dtypes), **digests, **counts}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Build a manifest from its JSON object; raises InvalidInput with the field's name on anything off."""
        wanted = {"name", "dtypes", *_DIGESTS, *_COUNTS}
        if not isinstance(value, dict) or set(value) != wanted:
            raise InvalidInput(f"a manifest has exactly the keys {', '.join(sorted(wanted))}", "manifest")
        if not isinstance(value["dtypes"], list) or not all(isinstance(name, str) for name in value["dtypes"]):
            raise InvalidInput("must be a list of strings", "dtypes")
        digests = {field: _parse_digest(value[field], field) for field in _DIGESTS}
        parts: dict[str, Any] = {**digests, **{field: value[field] for field in _COUNTS}}
        return cls(name=value["name"], dtypes=tuple(value["dtypes"]), **parts)

    def encode(self) -> bytes:
        """Return the canonical JSON bytes."""
        return canonical.encode(self.to_json())

    def compute_digest(self) -> bytes:
        """Return the 32 bytes by which offers and plans name this model."""
        return tagged_digest("quiver-model-manifest", self.encode())


def compute_file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file (about a second for 1.5 GB)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def compute_files_digest(paths: list[Path]) -> bytes:
    """Return the SHA-256 over the sorted (file name, SHA-256) pairs of some files, as canonical JSON."""
    rows: list[Json] = [[path.name, compute_file_digest(path).hex()] for path in sorted(paths, key=lambda p: p.name)]
    return hashlib.sha256(canonical.encode(rows)).digest()


def _parse_digest(value: object, field: str) -> bytes:
    if not isinstance(value, str) or len(value) != 66 or not value.startswith("0x") or value != value.lower():
        raise InvalidInput("must be 0x and 64 lower-case hex digits", field)
    try:
        return bytes.fromhex(value[2:])
    except ValueError:
        raise InvalidInput("must be 0x and 64 lower-case hex digits", field) from None
