"""The report of an audit: one page for people, complete in itself. Everything in it that a provider wrote is escaped.

No scripts, no resources from elsewhere, and a policy that forbids both; the only style is the one whose digest the
policy names. What the report says is what the JSON result says.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from validator.audit.measured import compute_tokens_per_s
from validator.audit.progress import Progress
from validator.audit.records import Exchange, Missing
from validator.audit.report_contracts import build_contracts
from validator.audit.report_picture import LOWEST, draw_bars, draw_martingale, draw_strip
from validator.audit.report_rows import build_rows, build_section, build_transcripts
from validator.audit.report_style import STYLE
from validator.audit.report_text import escape, escape_powers, format_number, format_power

MAX_EXPLANATIONS = 8
_MEANING = {
    "proven": "An honest endpoint is called this with a probability of at most {alpha}, however long it is watched.",
    "suspect": "The answers deviate, but the evidence is short of proof. Ask more before you conclude anything.",
    "consistent": "The answers are what this model gives. That holds for the requests that were asked, and for you: an "
    "endpoint can treat others differently.",
    "uninformative": "There was not enough to go by. This says nothing for or against the endpoint.",
    "unstable": "The endpoint's answers differ among themselves more than any machine explains; requests may be routed "
    "to several models.",
}


def build_report(progress: Progress, result: Mapping[str, Any]) -> bytes:
    """Return the page as UTF-8; `result` is what `build_result` made of the same progress."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = "".join(
        (
            _build_head(result),
            _build_picture(progress, result),
            _build_explanations(result),
            build_contracts(result),
            _build_times(progress, result),
            _build_discovered(progress),
            build_rows(result),
            build_transcripts(progress, result),
            _build_again(progress, result),
        )
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(result['verdict'])}: {escape(result['model'])}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    return page.encode("utf-8", errors="replace")


def _build_head(result: Mapping[str, Any]) -> str:
    verdict, latency, speed = result["verdict"], result["latency_ms"], result["tokens_per_s"]
    subject = result["endpoint"] or result["transcript"] or ""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(result["finished_s"]))
    alpha = f"1 in {round(1 / result['alpha']):,}"
    first = latency["first_token"] or latency["total"]
    tiles = [
        (format_power(result["log10_e"]), f"e-value; proven from {format_power(result['log10_threshold'])}"),
        (format_number(result["requests"]), f"requests examined, {format_number(result['requests_missing'])} missing"),
        (format_number(result["tokens"]), f"tokens of answers, {format_number(result['tokens_spent'])} spent in all"),
    ]
    if first is not None:
        name = "to the first token" if latency["first_token"] else "to the whole answer"
        tiles.append((f"{format_number(first['median'])} ms", f"{name} (median)"))
    if speed is not None:
        tiles.append((format_number(speed["median"], 1), "tokens a second (median)"))
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    return (
        f'<header><span class="badge {escape(verdict)}">{escape(verdict)}</span>'
        f"<h1>{escape_powers(result['sentence'])}</h1>"
        f'<p class="soft">{escape(_MEANING.get(verdict, "").format(alpha=alpha))}</p>'
        f'<p class="soft small">{escape(subject)} · claimed: {escape(result["model"])} ({escape(result["claim"])}) · '
        f'{when}</p><div class="tiles">{shown}</div></header>'
    )


def _build_picture(progress: Progress, result: Mapping[str, Any]) -> str:
    missing = [index for index in range(progress.examined) if isinstance(progress.entries[index].outcome, Missing)]
    picture = draw_martingale(
        progress.points, threshold=result["log10_threshold"], alarm=result["log10_alarm"], missing=missing
    )
    is_cut = any(point.log10_e < LOWEST for point in progress.points)
    cut = f" What lies below 10<sup>{LOWEST:.0f}</sup> is drawn there." if is_cut else ""
    marks = " Red marks at the bottom are requests without an answer that can be judged." if missing else ""
    return build_section(
        "How the evidence grew",
        f'<div class="card">{picture}</div><p class="soft small">The e-value is the capital of a bet '
        "against the endpoint being honest. If it is honest, the capital is not expected to grow, and the chance that "
        "it ever reaches the red line is at most one over its height. Dashed lines are bets on one channel alone."
        f"{marks}{cut} It stopped after {progress.seconds:,.0f} s: {escape(result['ended_because'])}.</p>",
    )


def _build_explanations(result: Mapping[str, Any]) -> str:
    found = result["explanations"][:MAX_EXPLANATIONS]
    # When nothing is wrong, a share of the belief in each cheat explains nothing.
    if not found or result["explanation"] is None:
        return ""
    bars = draw_bars([(item["name"], item["weight"] or 0.0) for item in found])
    note = "How well each named alternative explains the answers, as shares. Another cheat may be the true one."
    return build_section("What would explain it", f'<div class="card">{bars}</div><p class="soft small">{note}</p>')


def _build_times(progress: Progress, result: Mapping[str, Any]) -> str:
    exchanges = [entry.outcome for entry in progress.entries.values() if isinstance(entry.outcome, Exchange)]
    quantiles = [
        ("to the first token, ms", result["latency_ms"]["first_token"], 0),
        ("to the whole answer, ms", result["latency_ms"]["total"], 0),
        ("tokens a second", result["tokens_per_s"], 1),
    ]
    known = [(name, found, digits) for name, found, digits in quantiles if found is not None]
    if not known:
        return ""
    head = _row(("", "answers", "least", "median", "95 in 100 within", "most"), "th")
    rows = "".join(
        _row(
            (
                escape(name),
                found["count"],
                *(format_number(found[key], digits) for key in ("low", "median", "p95", "high")),
            )
        )
        for name, found, digits in known
    )
    strip = {
        "first token": [t for e in exchanges if (t := e.timing.first_token_ms) is not None],
        "whole answer": [t for e in exchanges if (t := e.timing.total_ms) is not None],
    }
    speeds = [speed for exchange in exchanges if (speed := compute_tokens_per_s(exchange)) is not None]
    pictures = draw_strip({name: values for name, values in strip.items() if values}, "ms")
    if speeds:
        pictures += draw_strip({"tokens a second": speeds}, "tokens/s")
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    return build_section("Latency and throughput", f'<div class="card">{table}{pictures}</div>')


def _build_discovered(progress: Progress) -> str:
    if progress.facts is None:
        return ""
    rows = [(name, escape(value)) for name, value in progress.facts.describe().items()]
    rows += [(f"refuses {name}", escape(said)) for name, said in progress.facts.refused]
    return build_section("What the endpoint offers", f'<div class="card">{_build_table(rows)}</div>')


def _build_again(progress: Progress, result: Mapping[str, Any]) -> str:
    plan = json.dumps(progress.plan.to_json(), indent=2)
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in result["versions"].items())
    rows = [
        ("manifest of the claimed model", _code(result["manifest_digest"])),
        ("tolerance profile", _code(result["profile_digest"])),
        ("reference", escape(result["reference_cell"] or "–")),
        ("calibration", escape(result["calibration"] or "–")),
        ("e-value that stake may be taken for", format_power(result["log10_e_slash_grade"])),
        ("alternatives that were tried", escape(", ".join(result["alternatives"]) or "–")),
        ("digest of the plan", _code(result["plan_digest"])),
        ("versions", escape(versions)),
    ]
    return build_section(
        "How to do this again",
        f'<div class="card code"><pre>{escape(result["command"])}</pre></div>'
        "<p>To ask the very same requests, save the plan as a file and add <code>--plan FILE</code>. To judge answers "
        "that were saved, without asking: <code>quiver audit --transcript FILE --model MODEL</code>.</p>"
        f"<details><summary>The plan</summary><div class=code><pre>{escape(plan)}</pre></div></details>"
        f'<div class="card">{_build_table(rows)}</div>',
    )


def _code(value: str | None) -> str:
    return f"<code>{escape(value)}</code>" if value else "–"


def _build_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<table class="facts">{cells}</table>'


def _row(values: Iterable[object], cell: str = "td") -> str:
    cells = (f"<{cell}{' class=number' if place else ''}>{value}</{cell}>" for place, value in enumerate(values))
    return f"<tr>{''.join(cells)}</tr>"
