"""The parts of a report that go request by request: the table and the folded transcript."""

from collections.abc import Mapping, Sequence
from typing import Any

from validator.audit.outcomes import Entry
from validator.audit.progress import Progress
from validator.audit.records import Exchange
from validator.audit.report_text import escape, escape_long, format_number, format_power

MAX_TRANSCRIPTS = 2000


def build_rows(result: Mapping[str, Any]) -> str:
    """Return the table of a result's rows."""
    channels = sorted({name for row in result["rows"] for name in row["log10_by_channel"]})
    names = ("#", "kind", "tokens", "first ms", "total ms", "tokens/s", *channels, "e-value so far", "note")
    head = "".join(f"<th{'' if name in ('kind', 'note') else ' class=number'}>{escape(name)}</th>" for name in names)
    rows = "".join(_build_table_row(row, channels) for row in result["rows"])
    caption = "Evidence is log10 of the factor by which a request alone changes the e-value of a channel."
    return build_section(
        "Request by request",
        f'<p class="soft small">{caption}</p><div class="card tall"><table class="rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>",
    )


def _build_table_row(row: Mapping[str, Any], channels: Sequence[str]) -> str:
    kind = [row["stratum"] or "", "streamed" if row["is_streamed"] else "whole"]
    if row["repeat_of"] is not None:
        kind.append(f"repeats {row['repeat_of'] + 1}")
    numbers = [
        format_number(row["answer_tokens"]),
        format_number(row["first_token_ms"]),
        format_number(row["total_ms"]),
    ]
    numbers.append(format_number(row["tokens_per_s"], 1))
    evidence = "".join(_build_evidence(row["log10_by_channel"].get(name)) for name in channels)
    note = f"missing ({row['missing']}): {row['note']}" if row["missing"] else row["note"]
    return (
        f'<tr><td class="number">{row["index"] + 1}</td><td>{escape(", ".join(part for part in kind if part))}</td>'
        + "".join(f'<td class="number">{value}</td>' for value in numbers)
        + f'{evidence}<td class="number">{format_power(row["log10_e"])}</td><td class="note">{escape(note)}</td></tr>'
    )


def _build_evidence(value: float | None) -> str:
    if value is None:
        return '<td class="number">–</td>'
    direction = " up" if value > 0.05 else " down" if value < -0.05 else ""
    return f'<td class="number{direction}">{value:+.2f}</td>'


def build_transcripts(progress: Progress, result: Mapping[str, Any]) -> str:
    """Return what was asked and answered, folded."""
    indices = sorted(progress.entries)
    shown = "".join(
        _build_transcript(progress.entries[index], result["rows"][place])
        for place, index in enumerate(indices[:MAX_TRANSCRIPTS])
    )
    more = len(indices) - MAX_TRANSCRIPTS
    note = f'<p class="soft small">{more:,} more requests are in the transcript file only.</p>' if more > 0 else ""
    return build_section("Transcript", f'<div class="card">{shown}</div>{note}')


def _build_transcript(entry: Entry, row: Mapping[str, Any]) -> str:
    outcome, asked = entry.outcome, entry.asked
    turns = [(message.role, message.content, "") for message in asked.messages]
    if isinstance(outcome, Exchange):
        turns.append((f"answer ({outcome.finish_reason})", outcome.content, " answer"))
        state = f"{row['answer_tokens']} tokens"
    else:
        turns.append(("no answer", f"{outcome.reason}: {outcome.detail}", " answer"))
        state = "missing"
    settings = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_tokens": asked.max_tokens,
        "seed": asked.seed,
    }
    listed = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    body = "".join(
        f'<div class="turn{kind}"><h3>{escape(role)}</h3><pre>{escape_long(text)}</pre></div>'
        for role, text, kind in turns
    )
    start = asked.messages[-1].content[:80]
    return (
        f"<details><summary>{entry.origin.index + 1} · {escape(state)} · "
        f'<span class="soft">{escape(start)}</span></summary>'
        f'<p class="soft small">{escape(listed)}</p>{body}</details>'
    )


def build_section(title: str, body: str) -> str:
    """Return a part of the page with its heading."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"
