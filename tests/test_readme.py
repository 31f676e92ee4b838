"""The README's Python runs as it is printed; its commands are checked by tools/check_docs.py, its excerpt copied."""

import re
from pathlib import Path

import httpx
import pytest

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_example_runs_and_leaves_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the example left the machine")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
    assert EXAMPLES
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), {})


def test_anchors_inside_the_page_lead_somewhere() -> None:
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in find_headings()}
    anchors = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert anchors <= headings


def find_headings() -> list[str]:
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    return [line for line in prose.splitlines() if line.startswith("#")]
