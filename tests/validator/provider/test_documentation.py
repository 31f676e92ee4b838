"""The provider's document names every setting and every cheat, and nothing that does not exist."""

import re
from dataclasses import fields
from pathlib import Path

from validator.provider.cheats import CHEAT_USAGES
from validator.provider.config import ProviderConfig, ProxyConfig

TEXT = (Path(__file__).parents[3] / "docs" / "provider.md").read_text()


def names_in_tables(after: str, before: str) -> set[str]:
    part = TEXT.partition(after)[2].partition(before)[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_tables_list_exactly_the_settings() -> None:
    known = {item.name for kind in (ProviderConfig, ProxyConfig) for item in fields(kind)}
    assert names_in_tables("## Settings", "## The proxy") == known


def test_the_table_lists_exactly_the_cheats() -> None:

    assert names_in_tables("## Cheats", "Weights are exchanged") == set(CHEAT_USAGES)
