"""A relay on loopback that serves whatever a test puts into it, and the command line in a process of its own."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

BASE_BLOCKED = ("aiohttp", "apscheduler", "numpy", "rich", "sqlite_utils", "structlog", "torch", "transformers")
WITHOUT_EXTRAS = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BASE_BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from quiver_oracle.__main__ import main
main()
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(slots=True)
class Relay:
    """What a test server answers: a body by path, anything else 404."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture
def relay() -> Iterator[Relay]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(b"nothing here" if body is None else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Relay(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run_quiver() -> Run:
    """Return a function that runs `quiver` as a process, as installed in full."""
    return lambda *arguments: _run([sys.executable, "-P", "-m", "quiver_oracle", *map(str, arguments)])


@pytest.fixture
def run_base() -> Run:
    """Return a function that runs `quiver` as if nothing but the base install were there."""
    return lambda *arguments: _run([sys.executable, "-P", "-c", WITHOUT_EXTRAS, *map(str, arguments)])


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
