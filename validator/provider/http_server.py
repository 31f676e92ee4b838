"""What `serve` and `proxy` share: an aiohttp application on a port, the offer's route, an orderly end."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from challenges.signed import SignedOffer
from scoring import canonical
from scoring.errors import Unavailable
from validator.processes import write_port_file
from validator.provider.api_errors import map_errors
from validator.provider.config import SellerConfig

SHUTDOWN_S = 2.0
_PARENT_POLL_S = 1.0

log = structlog.get_logger(__name__)


def configure_logging(level: str) -> None:
    """Log events as JSON lines on standard output, from a level up."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )


def open_socket(config: SellerConfig) -> socket.socket:
    """Return a listening socket on the configured address; raises Unavailable when it is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=256)
    except OSError as error:
        raise Unavailable(f"cannot listen on {config.host}:{config.port}: {error.strerror or error}") from error


def build_url(config: SellerConfig, listening: socket.socket) -> str:
    """Return the URL that the offer names."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return config.public_url or f"http://{host}:{listening.getsockname()[1]}"


def build_app(signed_offer: SignedOffer, max_body_bytes: int) -> web.Application:
    """Return an application with the error middleware, GET /quiver/offer and GET /healthz."""
    app = web.Application(middlewares=[map_errors], client_max_size=max_body_bytes)
    body = canonical.encode(signed_offer.to_json())

    async def get_offer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def get_health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app.router.add_get("/quiver/offer", get_offer)
    app.router.add_get("/healthz", get_health)
    return app


@asynccontextmanager
async def serve_app(app: web.Application, config: SellerConfig, listening: socket.socket) -> AsyncIterator[None]:
    """Serve an application until the block is left; the port file appears when requests are answered."""
    # Cancelling a handler when its client hangs up is what frees the client's row of the batch.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        if config.port_file is not None:
            write_port_file(config.port_file, listening.getsockname()[1])
        yield
    finally:
        await runner.cleanup()


async def wait_for_end(config: SellerConfig) -> None:
    """Return on SIGTERM or SIGINT, and with `exit_with_parent` when the parent process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    parent_pid = os.getppid()
    while not ended.is_set():
        if config.exit_with_parent and os.getppid() != parent_pid:
            log.warning("parent_ended")
            return
        try:
            await asyncio.wait_for(ended.wait(), _PARENT_POLL_S)
        except TimeoutError:
            continue
