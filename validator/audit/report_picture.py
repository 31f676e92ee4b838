"""The pictures of a report, as SVG without scripts or styles of its own: classes that the page's style sheet knows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from validator.audit.progress import Point
from validator.audit.report_text import escape

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 52, 96, 20, 58
LABEL_HEIGHT = 21
MAX_POINTS = 800
MAX_CHANNELS = 6
LOWEST = -8.0
"""Evidence below 10^LOWEST is drawn there: how far an honest endpoint falls says nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From requests and powers of ten to the picture's coordinates."""

    requests: int
    low: float
    high: float

    def x(self, request: float) -> float:
        """Return the place of a number of requests; 0 is before the first."""
        return LEFT + (WIDTH - LEFT - RIGHT) * request / max(1, self.requests)

    def y(self, log10: float) -> float:
        """Return the height of an e-value."""
        share = (min(max(log10, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def draw_martingale(
    points: Sequence[Point], *, threshold: float, alarm: float | None, missing: Sequence[int] = ()
) -> str:
    """Return the e-value against the requests: in all and by channel, with threshold, alarm and missing answers."""
    values = [value for point in points for value in (point.log10_e, *point.log10_by_channel.values())]
    known = [value for value in values if math.isfinite(value)]
    low = max(LOWEST, min([0.0, *known])) - 0.4
    scale = Scale(requests=len(points), low=low, high=max([threshold, *known]) + 0.6)
    channels = sorted({name for point in points for name in point.log10_by_channel})[:MAX_CHANNELS]
    parts = [_draw_grid(scale), _draw_level(scale, threshold, "threshold", "proven")]
    if alarm is not None and 0 < alarm < threshold:
        parts.append(_draw_level(scale, alarm, "alarm", "alarm"))
    ends: dict[str, tuple[float, str]] = {}
    for number, name in enumerate(channels):
        series = [(point.index + 1, point.log10_by_channel.get(name, 0.0)) for point in points]
        parts.append(_draw_line(scale, series, f"line channel c{number}"))
        ends[name] = (series[-1][1], f"channel c{number}")
    if points:
        parts.append(_draw_line(scale, [(point.index + 1, point.log10_e) for point in points], "line total"))
        ends["all"] = (points[-1].log10_e, "total")
    parts += [
        f'<line class="missing" x1="{scale.x(index + 1):.1f}" x2="{scale.x(index + 1):.1f}" '
        f'y1="{HEIGHT - BOTTOM - 7}" y2="{HEIGHT - BOTTOM}"/>'
        for index in list(missing)[:MAX_POINTS]
    ]
    parts.append(_draw_labels(scale, ends))
    title = "The e-value after each request, as a power of ten, against the threshold for proven"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )


def draw_bars(weights: Sequence[tuple[str, float]]) -> str:
    """Return a table of named shares in [0, 1] with bars."""
    rows = []
    for name, weight in weights:
        share = 100 * min(1.0, max(0.0, weight))
        bar = (
            '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="track" width="100" height="8"/><rect class="bar" width="{share:.1f}" height="8"/></svg>'
        )
        rows.append(f'<tr><th>{escape(name[:80])}</th><td>{bar}</td><td class="number">{share:.0f} %</td></tr>')
    return f'<table class="bars">{"".join(rows)}</table>'


def draw_strip(rows: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return a table with one line of dots for each named list of values, all on one scale from 0."""
    largest = max((value for values in rows.values() for value in values), default=0.0) or 1.0
    shown = []
    for name, values in rows.items():
        dots = "".join(
            f'<circle class="dot" cx="{6 + 588 * v / largest:.1f}" cy="9" r="6"/>' for v in values[:MAX_POINTS]
        )
        line = f'<svg viewBox="0 0 600 18" aria-hidden="true"><line class="grid" x2="600" y1="9" y2="9"/>{dots}</svg>'
        shown.append(
            f'<tr><th>{escape(name)}</th><td>{line}</td><td class="number">0 to {largest:,.0f} {escape(unit)}</td></tr>'
        )
    return f'<table class="bars">{"".join(shown)}</table>'


def _draw_grid(scale: Scale) -> str:
    parts = []
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if (scale.high - scale.low) / step <= 8)
    for power in range(math.ceil(scale.low / step) * step, math.floor(scale.high) + 1, step):
        y = scale.y(power)
        kind = "axis-line" if power == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">10<tspan dy="-5" '
            f'font-size="9">{power}</tspan></text>'
        )
    width = next(
        width for width in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 10**9) if scale.requests <= 10 * width
    )
    for count in range(0, scale.requests + 1, width):
        parts.append(
            f'<text class="axis" x="{scale.x(count):.1f}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">'
            f"{count}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">requests examined</text>')
    return "".join(parts)


def _draw_level(scale: Scale, log10: float, kind: str, label: str) -> str:
    y = scale.y(log10)
    return (
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="level {kind}-text" x="{LEFT + 6}" y="{y - 6:.1f}">{label}</text>'
    )


def _draw_line(scale: Scale, series: Sequence[tuple[int, float]], classes: str) -> str:
    every = max(1, -(-len(series) // MAX_POINTS))
    kept = [(0, 0.0), *series[: len(series) - 1 : every], series[-1]]
    path = " ".join(f"{scale.x(request):.1f},{scale.y(_real(value)):.1f}" for request, value in kept)
    return f'<polyline class="{classes}" points="{path}"/>'


def _draw_labels(scale: Scale, ends: Mapping[str, tuple[float, str]]) -> str:
    """Return the names of the lines at their ends, moved apart where they would overlap."""
    ordered = sorted(ends.items(), key=lambda item: -_real(item[1][0]))
    heights = [scale.y(_real(value)) + 4 for _, (value, _) in ordered]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + LABEL_HEIGHT)
    lowest: float = HEIGHT - BOTTOM
    for place in reversed(range(len(heights))):
        heights[place] = lowest = min(heights[place], lowest)
        lowest -= LABEL_HEIGHT
    x = WIDTH - RIGHT + 8
    return "".join(
        f'<text class="name {classes}-text" x="{x}" y="{y:.1f}">{escape(name[:14])}</text>'
        for (name, (_, classes)), y in zip(ordered, heights, strict=True)
    )


def _real(value: float) -> float:
    return value if math.isfinite(value) else (1e9 if value > 0 else LOWEST)
