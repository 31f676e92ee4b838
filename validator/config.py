"""What an operator sets for one validator: a TOML or JSON file, read strictly, paths relative to the file.

Network parameters (epoch length, plan, ledger rules) are not here: they come from the genesis file. Nothing in the
package reads the environment; the command line hands down what it was given.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from scoring.canonical import verify_depth
from scoring.errors import InvalidInput, Unavailable

MAX_CONFIG_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseTimeouts:
    """How long a round waits, in milliseconds from the start of each phase.

    Commits of others are waited for until probing and committing together are over, however soon we are done ourselves.
    `probe_ms` is longer than any provider is waited for.
    """

    probe_ms: int = 90_000
    commit_ms: int = 15_000
    reveal_ms: int = 15_000
    proposal_ms: int = 10_000
    vote_ms: int = 10_000

    def __post_init__(self) -> None:
        for item in fields(self):
            _require_integer(getattr(self, item.name), item.name, 1, 24 * 3600 * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The settings of one validator. Raises InvalidInput with the field's name.

    `listen_port` 0 takes a free port; `port_file` is then where the chosen one is written. `engine_socket` is the
    reference engine's Unix socket. `allows_private_endpoints` lets probes go to loopback and private addresses: for
    devnets only.
    """

    keys_dir: Path
    data_dir: Path
    genesis_path: Path
    ledger_url: str
    engine_socket: Path
    listen_host: str = "127.0.0.1"
    listen_port: int = 8645
    port_file: Path | None = None
    allows_private_endpoints: bool = False
    log_level: str = "info"
    probe_concurrency: int = 32
    similarity_every: int = 4
    phases: PhaseTimeouts = field(default_factory=PhaseTimeouts)

    def __post_init__(self) -> None:
        for name in ("keys_dir", "data_dir", "genesis_path", "engine_socket"):
            _require(isinstance(getattr(self, name), Path), "expected a path", name)
        _require(isinstance(self.port_file, Path | None), "expected a path", "port_file")
        _require_url(self.ledger_url, "ledger_url")
        _require(isinstance(self.listen_host, str) and bool(self.listen_host), "expected a host", "listen_host")
        _require_integer(self.listen_port, "listen_port", 0, 65535)
        _require(isinstance(self.allows_private_endpoints, bool), "expected true or false", "allows_private_endpoints")
        _require_integer(self.probe_concurrency, "probe_concurrency", 1, 4096)
        _require_integer(self.similarity_every, "similarity_every", 1, 1_000_000)
        levels = ("debug", "info", "warning", "error")
        _require(self.log_level in levels, f"expected one of {', '.join(levels)}", "log_level")
        _require(isinstance(self.phases, PhaseTimeouts), "expected a table", "phases")
        _require(self.keys_dir != self.data_dir, "must not be data_dir: back the keys up apart", "keys_dir")

    @property
    def store_path(self) -> Path:
        """The validator's store."""
        return self.data_dir / "store.sqlite"

    @property
    def guard_path(self) -> Path:
        """The sign guard: back it up, and never restore an old copy."""
        return self.data_dir / "sign-guard.sqlite"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], base: Path) -> Self:
        """Build the settings from a parsed file; relative paths are relative to `base`. Raises InvalidInput."""
        _refuse_unknown(values, cls)
        settings = dict(values)
        phases = settings.get("phases", {})
        _require(isinstance(phases, Mapping), "expected a table", "phases")
        _refuse_unknown(phases, PhaseTimeouts, "phases.")
        settings["phases"] = PhaseTimeouts(**phases)
        for item in fields(cls):
            if item.name in settings and item.type in (Path, Path | None):
                settings[item.name] = _parse_path(settings[item.name], item.name, base)
        missing = [name for name in _REQUIRED if name not in settings]
        if missing:
            raise InvalidInput("missing from the configuration", missing[0])
        return cls(**settings)


_REQUIRED = ("keys_dir", "data_dir", "genesis_path", "ledger_url", "engine_socket")


def load_config(path: Path) -> NodeConfig:
    """Read a `.toml` or `.json` file; raises Unavailable when it cannot be read, InvalidInput when it is not right."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidInput(f"{path} is over {MAX_CONFIG_BYTES} bytes")
    try:
        return NodeConfig.from_mapping(_parse(path, data), path.resolve().parent)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", "") from None


def _parse(path: Path, data: bytes) -> Mapping[str, Any]:
    try:
        text = data.decode("utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text)
        verify_depth(text)
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"not {path.suffix.lstrip('.') or 'JSON'}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInput("expected an object")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidInput("a key stands twice")
    return result


def _refuse_unknown(values: Mapping[str, Any], cls: type, prefix: str = "") -> None:
    known = {item.name for item in fields(cls)}
    for name in values:
        _require(name in known, "unknown setting", f"{prefix}{name}")


def _parse_path(value: Any, name: str, base: Path) -> Path:
    _require(isinstance(value, str) and bool(value) and "\0" not in value, "expected a path", name)
    return base / Path(value).expanduser()


def _require_url(value: Any, name: str) -> None:
    _require(isinstance(value, str), "expected a URL", name)
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    _require(is_good and not parts.query and not parts.fragment, "expected an http or https URL", name)


def _require_integer(value: Any, name: str, low: int, high: int) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    _require(is_integer and low <= value <= high, f"expected an integer in {low}..{high}", name)


def _require(condition: bool, message: str, name: str) -> None:
    if not condition:
        raise InvalidInput(message, name)
