"""Audit a provider that serves int4 weights, and keep what the README shows: the printed lines and the picture.

`make demo-audit` starts `quiver provider serve --cheat int4` on this machine, points `quiver audit` at it, and writes
docs/audit.txt and docs/audit.svg.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

DOCS = Path(__file__).resolve().parent.parent / "docs"
QUIVER = (sys.executable, "-P", "-m", "quiver_oracle")
START_S = 300.0
PORT = 8000
URL = f"http://127.0.0.1:{PORT}"
PICTURE = re.compile(r'<svg viewBox="([^"]+)" role="img".*?</svg>', re.DOTALL)
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
PROVEN = 1


def main() -> int:
    """Run both, write the two files and return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serve = [*QUIVER, "provider", "serve", "--cheat", "int4", "--port", str(PORT)]
        provider = subprocess.Popen(serve, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait_until_served(provider)
            code, printed, page = _audit(folder)
        finally:
            provider.terminate()
            provider.wait()
    if code != PROVEN:
        print(printed, f"the audit ended with {code}, not with {PROVEN}: nothing is kept", file=sys.stderr, sep="\n")
        return 1
    (DOCS / "audit.txt").write_text(printed)
    (DOCS / "audit.svg").write_text(extract_picture(page))
    print(printed)
    return 0


def extract_picture(page: str) -> str:
    """Return the first picture of a report as a file of its own; raises ValueError when there is none."""
    picture, style = PICTURE.search(page), STYLE.search(page)
    if picture is None or style is None:
        raise ValueError("the report has no picture")
    _, _, width, height = picture.group(1).split()
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    paper = f'<style>{style.group(1)}</style><rect width="{width}" height="{height}" fill="var(--card)"/>'
    whole = picture.group(0)
    start = whole.index(">") + 1
    return head + whole[len("<svg ") : start] + paper + whole[start:] + "\n"


def _audit(folder: Path) -> tuple[int, str, str]:
    arguments = ["audit", "--endpoint", URL, "--model", "bundled", "--html", "report.html"]
    done = subprocess.run(
        [*QUIVER, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    command = f"$ quiver {shlex.join(arguments)}"
    return done.returncode, f"{command}\n{done.stdout}", (folder / "report.html").read_text()


def _wait_until_served(provider: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and provider.poll() is None:
        try:
            httpx.get(f"{URL}/v1/models")
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the provider did not start")


if __name__ == "__main__":
    raise SystemExit(main())
