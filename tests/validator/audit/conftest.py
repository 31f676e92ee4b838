"""An endpoint on loopback in a thread of its own, because a command owns the event loop of its thread."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from audit_fakes import FakeEndpoint, Opener

from validator.audit.command import run_audit
from validator.audit.options import AuditOptions


@dataclass
class Served:
    """A running endpoint: what it does, and where it is."""

    fake: FakeEndpoint
    url: str


@pytest.fixture
def served() -> Iterator[Served]:
    fake = FakeEndpoint()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        runner = web.AppRunner(fake.build_app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield Served(fake=fake, url=f"http://127.0.0.1:{port}")
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def run(served, opener, tmp_path):
    """Return a function that audits the fake endpoint and returns the exit code and the result."""

    def run_one(**changes: object) -> tuple[int, dict]:
        options = {
            "model": "bundled",
            "endpoint": served.url + "/v1",
            "served_model": "fake-model",
            "json_path": tmp_path / "result.json",
            **changes,
        }
        screen = io.StringIO()
        code = run_audit(AuditOptions(**options), opener.instruments, screen)
        run_one.screen = screen.getvalue()
        return code, json.loads((tmp_path / "result.json").read_text())

    return run_one
