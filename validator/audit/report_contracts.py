"""The part of a report about contracts: what the endpoint says of its answers, and how often they contradict it."""

from collections.abc import Mapping
from typing import Any

from validator.audit.report_rows import build_section
from validator.audit.report_text import escape, format_number

_NAMES = ("contract", "checked", "broken", "expected", "found")


def build_contracts(result: Mapping[str, Any]) -> str:
    """Return the table of a result's contracts, nothing when none could be checked."""
    if not result["contracts"]:
        return ""
    head = "".join(f"<th{' class=number' if name in ('checked', 'broken') else ''}>{name}</th>" for name in _NAMES)
    rows = "".join(_build_row(count) for count in result["contracts"])
    return build_section(
        "What it says of its answers",
        f'<div class="card scroll"><table class="rows"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        '</div><p class="soft small">Of a broken contract the first example is shown. '
        "Broken again and again they raise an alarm; they never prove anything.</p>",
    )


def _build_row(count: Mapping[str, Any]) -> str:
    example = count["example"] or {"expected": "", "found": ""}
    name = escape(count["id"]) + (" <b>alarm</b>" if count["is_alarm"] else "")
    return (
        f'<tr><td>{name}</td><td class="number">{format_number(count["checked"])}</td>'
        f'<td class="number">{format_number(count["broken"])}</td>'
        f'<td class="note">{escape(example["expected"])}</td><td class="note">{escape(example["found"])}</td></tr>'
    )
