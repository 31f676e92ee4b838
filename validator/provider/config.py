"""What an operator sets for one provider: a JSON file, read strictly, paths relative to the file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from models.requests import SAMPLER_GUMBEL, SEEDED_SAMPLERS
from scoring import canonical
from scoring.eip712 import Domain, parse_hex, parse_wei
from scoring.errors import InvalidInput, Unavailable
from scoring.hashing import tagged_digest
from validator.provider.cheats import HONEST, Cheats, parse_cheats

MAX_CONFIG_BYTES = 256 * 1024
NO_NETWORK = tagged_digest("quiver-no-network")
NO_NETWORK_CHAIN_ID = 0
"""The domain of a provider that stands alone: its receipts can be checked, and mean nothing on any network."""

DAY_S = 24 * 3600
C = TypeVar("C", bound="SellerConfig")
_HEX = {"network": 32}
_PATHS = ("data_dir", "key_file", "offer_file", "port_file")
_WEI = ("input_price_wei", "output_price_wei")


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerConfig:
    """What `serve` and `proxy` share: address, account, network, terms. Raises InvalidInput with the field's name.

    `port` 0 takes a free port; `port_file` is where the chosen one is written once requests are served. `network` is
    the genesis hash. Without `key_file` and `offer_file` they are made in `data_dir`. `public_url` is what the offer
    says (default: the listening address). Durations are in seconds, prices in wei per token.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    port_file: Path | None = None
    public_url: str = ""
    key_file: Path | None = None
    offer_file: Path | None = None
    network: bytes = NO_NETWORK
    chain_id: int = NO_NETWORK_CHAIN_ID
    input_price_wei: int = 0
    output_price_wei: int = 0
    advertised_ttft_ms: int = 2_000
    advertised_tokens_per_s: int = 10
    offer_lifetime_s: int = 30 * DAY_S
    receipt_lifetime_s: int = 7 * DAY_S
    default_max_tokens: int = 256
    max_pending: int = 64
    max_body_bytes: int = 1024 * 1024
    max_kept_answers: int = 10_000
    exit_with_parent: bool = False
    log_level: str = "info"

    def __post_init__(self) -> None:
        _require(isinstance(self.data_dir, Path), "expected a path", "data_dir")
        _require(isinstance(self.host, str) and bool(self.host), "expected a host", "host")
        _require(type(self.network) is bytes and len(self.network) == 32, "expected 32 bytes", "network")
        _require(isinstance(self.exit_with_parent, bool), "expected true or false", "exit_with_parent")
        levels = ("debug", "info", "warning", "error")
        _require(self.log_level in levels, f"expected one of {', '.join(levels)}", "log_level")
        if self.public_url:
            require_url(self.public_url, "public_url")
        for name, (low, high) in _BOUNDS.items():
            _require_integer(getattr(self, name), name, low, high)

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of the network."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.network[-20:])

    @property
    def key_path(self) -> Path:
        """The file with the account's secret key."""
        return self.key_file or self.data_dir / "provider-key"

    @property
    def offer_path(self) -> Path:
        """The file with the signed offer."""
        return self.offer_file or self.data_dir / "offer.json"

    @property
    def receipts_path(self) -> Path:
        """The database of receipts and counters."""
        return self.data_dir / "receipts.sqlite"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], base: Path) -> Self:
        """Build the settings from a parsed file; relative paths are relative to `base`. Raises InvalidInput."""
        known = {item.name for item in fields(cls)}
        settings: dict[str, Any] = {}
        for name, value in values.items():
            _require(name in known, "unknown setting", name)
            settings[name] = cls._parse_value(name, value, base)
        for item in fields(cls):
            is_missing = item.name not in settings and item.name in cls._required()
            _require(not is_missing, "missing from the configuration", item.name)
        return cls(**settings)

    @classmethod
    def _required(cls) -> frozenset[str]:
        return frozenset({"data_dir"})

    @classmethod
    def _parse_value(cls, name: str, value: Any, base: Path) -> Any:
        if name in _PATHS:
            _require(isinstance(value, str) and bool(value) and "\0" not in value, "expected a path", name)
            return base / Path(value).expanduser()
        if name in _HEX:
            return parse_hex(value, name)
        return parse_wei(value, name) if name in _WEI else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig(SellerConfig):
    """The settings of `quiver provider serve`.

    `model` is what is claimed: `bundled`, a folder, a GGUF file or a Hugging Face id; `model_name` is what clients call
    it (default: the manifest's name). `sampler` draws the tokens and is named in the offer. With `toploc` answers carry
    activation proofs. `max_rows` answers are generated at once. `cheats` are test instruments.
    """

    model: str = "bundled"
    model_name: str = ""
    dtype: str = "bf16"
    device: str = "auto"
    sampler: str = SAMPLER_GUMBEL
    toploc: bool = False
    max_rows: int = 16
    max_context_tokens: int = 4096
    cheats: Cheats = HONEST

    def __post_init__(self) -> None:
        super(ProviderConfig, self).__post_init__()
        _require(isinstance(self.model, str) and bool(self.model), "expected a model", "model")
        _require(isinstance(self.model_name, str) and len(self.model_name) <= 200, "expected a name", "model_name")
        _require(self.dtype in ("bf16", "fp16", "fp32"), "expected bf16, fp16 or fp32", "dtype")
        _require(self.device in ("auto", "cpu", "cuda"), "expected auto, cpu or cuda", "device")
        is_known = isinstance(self.sampler, str) and self.sampler in SEEDED_SAMPLERS
        _require(is_known, f"expected {', '.join(SEEDED_SAMPLERS)}", "sampler")
        _require(isinstance(self.toploc, bool), "expected true or false", "toploc")
        _require(isinstance(self.cheats, Cheats), "expected cheats", "cheats")
        _require_integer(self.max_rows, "max_rows", 1, 256)
        _require_integer(self.max_context_tokens, "max_context_tokens", 16, 1 << 20)

    @property
    def known_consumers_path(self) -> Path:
        """The addresses that a two-faced provider treats well, one a line."""
        return self.cheats.known_consumers_path or self.data_dir / "known-consumers"

    @classmethod
    def _parse_value(cls, name: str, value: Any, base: Path) -> Any:
        if name == "cheats":
            is_list = isinstance(value, list) and all(isinstance(text, str) for text in value)
            _require(is_list, "expected a list of NAME[=VALUE]", name)
            return parse_cheats(value)
        return super(ProviderConfig, cls)._parse_value(name, value, base)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig(SellerConfig):
    """The settings of `quiver provider proxy`.

    `model` is the name that the offer sells; answers of other models pass without a receipt. `manifest_digest` is the
    claimed model's, zero when nothing is claimed about weights; `sampler` is `none` unless the upstream's is known.
    `upstream_headers` go with every request (an API key, for instance).
    """

    upstream: str = ""
    model: str = ""
    manifest_digest: bytes = bytes(32)
    sampler: str = "none"
    context_length_tokens: int = 4096
    upstream_headers: tuple[tuple[str, str], ...] = ()
    upstream_timeout_s: int = 300
    chunk_timeout_s: int = 60
    max_answer_bytes: int = 64 * 1024 * 1024
    max_replay_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        super(ProxyConfig, self).__post_init__()
        require_url(self.upstream, "upstream")
        _require(isinstance(self.model, str) and 0 < len(self.model) <= 200, "expected a model name", "model")
        is_digest = type(self.manifest_digest) is bytes and len(self.manifest_digest) == 32
        _require(is_digest, "expected 32 bytes", "manifest_digest")
        _require(isinstance(self.sampler, str) and bool(self.sampler), "expected a sampler id", "sampler")
        _require_integer(self.context_length_tokens, "context_length_tokens", 1, 1 << 24)
        for name in ("upstream_timeout_s", "chunk_timeout_s"):
            _require_integer(getattr(self, name), name, 1, DAY_S)
        for name in ("max_answer_bytes", "max_replay_bytes"):
            _require_integer(getattr(self, name), name, 1024, 1 << 30)

    @classmethod
    def _required(cls) -> frozenset[str]:
        return frozenset({"data_dir", "upstream", "model"})

    @classmethod
    def _parse_value(cls, name: str, value: Any, base: Path) -> Any:
        if name == "manifest_digest":
            return parse_hex(value, name)
        if name == "upstream_headers":
            _require(isinstance(value, dict), "expected an object", name)
            is_text = all(isinstance(text, str) and text.isprintable() for pair in value.items() for text in pair)
            _require(is_text, "expected printable text", name)
            return tuple(value.items())
        return super(ProxyConfig, cls)._parse_value(name, value, base)


def load_config(path: Path, kind: type[C]) -> C:
    """Read a configuration file; raises Unavailable when it cannot be read, InvalidInput when it is not right."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    try:
        document = canonical.decode_lenient(data, MAX_CONFIG_BYTES)
        if not isinstance(document, dict):
            raise InvalidInput("expected an object")
        return kind.from_mapping(document, path.resolve().parent)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def require_url(value: object, name: str) -> None:
    """Raise InvalidInput unless the value is an http or https URL without query and fragment."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        is_good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        is_good = is_good and parts is not None and (parts.port is None or parts.port > 0)
        is_good = is_good and parts is not None and not parts.query and not parts.fragment
    except ValueError:
        is_good = False
    _require(is_good, "expected an http or https URL", name)


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration file from plain values (a devnet does)."""
    path.write_text(json.dumps(dict(values), indent=1, sort_keys=True) + "\n")


_BOUNDS = {
    "port": (0, 65535),
    "chain_id": (0, 2**53 - 1),
    "input_price_wei": (0, 2**128),
    "output_price_wei": (0, 2**128),
    "advertised_ttft_ms": (1, 3_600_000),
    "advertised_tokens_per_s": (1, 1_000_000),
    "offer_lifetime_s": (60, 3650 * DAY_S),
    "receipt_lifetime_s": (60, 3650 * DAY_S),
    "default_max_tokens": (1, 1 << 20),
    "max_pending": (1, 65536),
    "max_body_bytes": (1024, 1 << 30),
    "max_kept_answers": (1, 100_000_000),
}


def _require_integer(value: Any, name: str, low: int, high: int) -> None:
    _require(type(value) is int and low <= value <= high, f"expected an integer in {low}..{high}", name)


def _require(condition: bool, message: str, name: str) -> None:
    if not condition:
        raise InvalidInput(message, name)
