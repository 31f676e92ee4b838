"""What an audit shows while it runs: one live line on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Sequence
from typing import IO, Protocol, Self

from validator.audit.hostile_text import make_printable
from validator.audit.progress import Progress

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_POINTS = 24
PLAIN_EVERY_S = 5.0


class Screen(Protocol):
    """Shows an audit as it goes on; used in `with`. `note` tells what is being done, `show` how it stands."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def note(self, text: str) -> None: ...
    def show(self, progress: Progress) -> None: ...


def open_screen(stream: IO[str]) -> Screen:
    """Return the screen for a stream: live on a terminal, plain lines otherwise."""
    return LiveScreen(stream) if stream.isatty() else PlainScreen(stream)


class PlainScreen:
    """Lines, for logs and pipes."""

    def __init__(self, stream: IO[str], every_s: float = PLAIN_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s
        self._last_s = -every_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def show(self, progress: Progress) -> None:
        """Print how it stands, unless that was done a moment ago."""
        if time.monotonic() - self._last_s >= self._every_s:
            self._last_s = time.monotonic()
            self.note(build_line(progress))


class LiveScreen:
    """One line that is redrawn, on a terminal."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=stream), refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line above the live one."""
        from rich.text import Text

        self._live.console.print(Text(text, style="dim"))

    def show(self, progress: Progress) -> None:
        """Redraw the line."""
        from rich.text import Text

        style = {"proven": "bold red", "suspect": "yellow", "consistent": "green"}
        verdict = "" if progress.evidence is None else progress.evidence.verdict
        self._live.update(Text(build_line(progress), style=style.get(verdict, "")))


def build_line(progress: Progress) -> str:
    """Return how an audit stands, in one line: requests, tokens, the evidence growing, the likeliest explanation."""
    parts = [f"{progress.seconds:4.0f} s", f"{progress.examined} of {len(progress.entries)} answers examined"]
    if progress.in_flight:
        parts.append(f"{progress.in_flight} in flight")
    if progress.missing:
        parts.append(f"{progress.missing} missing")
    parts.append(f"{progress.spent_tokens:,} tokens")
    if progress.doing:
        parts.append(progress.doing)
    evidence = progress.evidence
    if evidence is not None:
        curve = build_sparks([point.log10_e for point in progress.points], evidence.log10_threshold)
        parts.append(f"e-value 10^{evidence.log10_e:.1f} of 10^{evidence.log10_threshold:.0f} {curve}".rstrip())
        if evidence.explanations:
            likeliest = evidence.explanations[0]
            parts.append(f"likeliest: {make_printable(likeliest.name, 60)} ({100 * likeliest.weight:.0f} %)")
    return "  ".join(parts)


def build_sparks(values: Sequence[float], top: float) -> str:
    """Return the last values as a row of bars, from nothing (0 and below) to `top` and above."""
    bars = [min(1.0, max(0.0, value / top)) for value in values[-SPARK_POINTS:]]
    return "".join(SPARKS[min(len(SPARKS) - 1, int(bar * len(SPARKS)))] for bar in bars)
