"""`quiver provider proxy`: receipts in front of any OpenAI-compatible server, streamed answers included.

Run as `python -P -m validator.provider.proxy --config FILE.json`; see `validator.provider.proxy_service` for the rules.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from aiohttp import web

from scoring.errors import OracleError
from validator.provider.config import ProxyConfig, load_config
from validator.provider.http_server import build_app, build_url, configure_logging, open_socket, serve_app, wait_for_end
from validator.provider.identity import Identity, open_identity
from validator.provider.proxy_service import ProxyService
from validator.provider.receipt_desk import ReceiptDesk
from validator.provider.receipt_store import ReceiptStore
from validator.provider.upstream import Upstream

log = structlog.get_logger(__name__)


async def run_proxy(config: ProxyConfig) -> None:
    """Serve until SIGTERM, SIGINT or (with `exit_with_parent`) the parent's end. Raises OracleError."""
    configure_logging(config.log_level)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(open_socket(config))
        identity = open_identity(
            config,
            model=config.model,
            manifest_digest=config.manifest_digest,
            sampler=config.sampler,
            context_length_tokens=config.context_length_tokens,
            endpoint=build_url(config, listening),
        )
        store = ReceiptStore(config.receipts_path, config.max_kept_answers)
        stack.callback(store.close)
        upstream = await stack.enter_async_context(Upstream(config))
        await stack.enter_async_context(
            serve_app(build_proxy_app(config, identity, store, upstream), config, listening)
        )
        log.info("serving", url=build_url(config, listening), upstream=config.upstream, model=config.model)
        await wait_for_end(config)


def build_proxy_app(
    config: ProxyConfig, identity: Identity, store: ReceiptStore, upstream: Upstream
) -> web.Application:
    """Return the application: chat completions with receipts, the offer, all else below /v1/ as it is."""
    desk = ReceiptDesk(
        identity,
        store,
        clock_s=lambda: int(time.time()),
        lifetime_s=config.receipt_lifetime_s,
        default_max_tokens=config.default_max_tokens,
    )
    service = ProxyService(config, upstream, desk)
    app = build_app(identity.signed_offer, config.max_body_bytes)
    app.router.add_post("/v1/chat/completions", service.handle_chat)
    app.router.add_route("*", "/v1/{path:.*}", service.handle_other)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proxy from a configuration file; return the exit code."""
    parser = argparse.ArgumentParser(prog="quiver provider proxy", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a JSON file")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(run_proxy(load_config(options.config, ProxyConfig)))
    except OracleError as error:
        sys.stderr.write(f"quiver provider: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
