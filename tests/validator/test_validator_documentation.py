"""docs/validator.md says what the code does: its example loads, its tables name everything, its history parses."""

import re
from dataclasses import fields
from pathlib import Path

from validator.config import NodeConfig, PhaseTimeouts, load_config
from validator.fetch import BASE_BODY_BYTES, BODY_BYTES_PER_TOKEN, FailureReason, FetchFailure, ProviderClient
from validator.peer_envelope import MAX_BODY_BYTES, PeerKind
from validator.sign_history import SLOT_KINDS, History

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "validator.md").read_text()


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_settings_of_the_example_load(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(find_blocks("toml")[0])
    config = load_config(tmp_path / "node.toml")
    assert (config.listen_host, config.phases) == ("0.0.0.0", PhaseTimeouts())


def test_every_setting_is_in_the_table_with_its_default() -> None:
    for item in fields(NodeConfig):
        assert f"`{item.name}`" in TEXT
    for item in fields(PhaseTimeouts):
        assert f"`{item.name}` {item.default}" in TEXT


def test_every_kind_of_slot_and_every_reason_is_in_a_table() -> None:
    for name in (*SLOT_KINDS, *FailureReason):
        assert f"`{name}`" in TEXT, name


def test_the_reasons_that_count_against_a_provider_are_those_of_the_code() -> None:
    for reason in FailureReason:
        failure = FetchFailure(reason=reason, detail="", latency_ms=0, body_bytes=0)
        row = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{reason}`" in line)
        assert row.endswith("| yes |" if failure.is_provider_fault else "| no |")


def test_the_limits_are_those_of_the_code() -> None:
    assert (BASE_BODY_BYTES, BODY_BYTES_PER_TOKEN) == (64 * 1024, 64)
    assert ProviderClient()._byte_budget == 16 * 1024 * 1024
    assert (MAX_BODY_BYTES[PeerKind.COMMIT], MAX_BODY_BYTES[PeerKind.REVEAL]) == (16 * 1024, 16 * 1024 * 1024)


def test_the_history_with_a_floor_alone_is_taken() -> None:
    text = find_blocks("json")[0].replace("0xNETWORK", "0x" + "11" * 32).replace("0xPUBLICKEY", "0x" + "22" * 48)
    assert History.decode(text.encode()).floors[0].epoch == 4711
