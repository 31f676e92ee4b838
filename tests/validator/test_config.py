"""The operator's settings: read strictly, with the name of what is wrong."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from scoring.errors import InvalidInput, Unavailable
from validator.config import NodeConfig, load_config

MINIMAL = {
    "keys_dir": "keys",
    "data_dir": "data",
    "genesis_path": "genesis.json",
    "ledger_url": "http://127.0.0.1:9000",
    "engine_socket": "engine.sock",
}
TOML = """
keys_dir = "keys"
data_dir = "/var/lib/quiver"
genesis_path = "genesis.json"
ledger_url = "https://ledger.example"
engine_socket = "engine.sock"
listen_port = 0
port_file = "port"

[phases]
commit_ms = 2000
"""


def load(tmp_path: Path, text: str, name: str = "node.json") -> NodeConfig:
    (tmp_path / name).write_text(text)
    return load_config(tmp_path / name)


def test_reads_toml_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, TOML, "node.toml")
    assert config.keys_dir == tmp_path / "keys"
    assert config.data_dir == Path("/var/lib/quiver")
    assert config.port_file == tmp_path / "port"
    assert (config.phases.commit_ms, config.phases.reveal_ms) == (2000, 15_000)
    assert config.guard_path == Path("/var/lib/quiver/sign-guard.sqlite")
    assert config.store_path == Path("/var/lib/quiver/store.sqlite")


def test_reads_json_with_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, json.dumps(MINIMAL))
    assert (config.listen_host, config.listen_port, config.allows_private_endpoints) == ("127.0.0.1", 8645, False)
    assert config.port_file is None
    with pytest.raises(FrozenInstanceError):
        config.listen_port = 1  # type: ignore[misc]


REFUSED = [
    *((f"no {name}", {key: value for key, value in MINIMAL.items() if key != name}, name) for name in MINIMAL),
    ("an unknown setting", MINIMAL | {"listen": 1}, "listen"),
    ("an unknown phase", MINIMAL | {"phases": {"lunch_ms": 1}}, "phases.lunch_ms"),
    ("phases of the wrong type", MINIMAL | {"phases": 5}, "phases"),
    ("a phase of no time", MINIMAL | {"phases": {"vote_ms": 0}}, "vote_ms"),
    ("a phase with a fraction", MINIMAL | {"phases": {"vote_ms": 1.5}}, "vote_ms"),
    ("a port beyond 65535", MINIMAL | {"listen_port": 65536}, "listen_port"),
    ("a port that is true", MINIMAL | {"listen_port": True}, "listen_port"),
    ("a port in a string", MINIMAL | {"listen_port": "80"}, "listen_port"),
    ("an empty path", MINIMAL | {"keys_dir": ""}, "keys_dir"),
    ("a path that is a number", MINIMAL | {"genesis_path": 3}, "genesis_path"),
    ("a path with a zero byte", MINIMAL | {"port_file": "a\0b"}, "port_file"),
    ("keys among the data", MINIMAL | {"keys_dir": "data"}, "keys_dir"),
    ("a ledger that is no URL", MINIMAL | {"ledger_url": "ledger"}, "ledger_url"),
    ("a ledger of another scheme", MINIMAL | {"ledger_url": "ftp://x"}, "ledger_url"),
    ("a ledger with a broken port", MINIMAL | {"ledger_url": "http://x:99999"}, "ledger_url"),
    ("a ledger with a query", MINIMAL | {"ledger_url": "http://x/?a=1"}, "ledger_url"),
    ("an empty host", MINIMAL | {"listen_host": ""}, "listen_host"),
    ("a switch that is a word", MINIMAL | {"allows_private_endpoints": "yes"}, "allows_private_endpoints"),
    ("an unknown log level", MINIMAL | {"log_level": "loud"}, "log_level"),
]


@pytest.mark.parametrize(("values", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refuses(tmp_path: Path, values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput, match=rf"node\.json: {field}: "):
        load(tmp_path, json.dumps(values))


FILES = [
    ("nothing", "node.json", "", "not json"),
    ("a list", "node.json", "[]", "expected an object"),
    ("a key twice", "node.json", '{"a": 1, "a": 2}', "twice"),
    ("deep nesting", "node.json", "[" * 200_000, "nested deeper"),
    ("broken TOML", "node.toml", "a = ", "not toml"),
    ("JSON in TOML", "node.toml", "{}", "not toml"),
    ("too much", "node.json", " " * 300_000, "over 262144 bytes"),
]


@pytest.mark.parametrize(("name", "text", "message"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_refuses_a_file_with(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(tmp_path, text, name)


def test_refuses_a_file_that_is_not_text_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not toml"):
        load_config(tmp_path / "node.toml")
    with pytest.raises(Unavailable, match="cannot read"):
        load_config(tmp_path / "none.toml")
