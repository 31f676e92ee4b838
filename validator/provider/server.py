"""`quiver provider serve`: an OpenAI-compatible server for one model, whose every answer carries a signed receipt.

Run as `python -P -m validator.provider.server --config FILE.json`. Cheats are test instruments and say so in the log.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from scoring.errors import OracleError
from validator.provider.answering import CHEATING
from validator.provider.api_errors import ApiError
from validator.provider.chat_service import ChatService
from validator.provider.config import ProviderConfig, load_config
from validator.provider.generation import CLAIMED, GenerationThread, Shelf
from validator.provider.http_server import build_app, build_url, configure_logging, open_socket, serve_app, wait_for_end
from validator.provider.identity import Identity, load_or_create_key, open_identity
from validator.provider.receipt_desk import ReceiptDesk
from validator.provider.receipt_store import ReceiptStore

if TYPE_CHECKING:
    from models.load import LoadedModel

log = structlog.get_logger(__name__)


async def run_provider(config: ProviderConfig) -> None:
    """Serve until SIGTERM, SIGINT or (with `exit_with_parent`) the parent's end. Raises OracleError."""
    configure_logging(config.log_level)
    if config.cheats.names:
        log.warning("cheats_are_on", cheats=list(config.cheats.names), note="a test instrument: never sell this")
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(open_socket(config))
        # Before the model, which takes seconds: a bad key file should be told at once.
        load_or_create_key(config.key_path)
        generation = GenerationThread(
            lambda: load_shelf(config), max_rows=config.max_rows, max_pending=config.max_pending
        )
        stack.push_async_callback(generation.close)
        loaded = await generation.start()
        identity = open_identity(
            config,
            model=config.model_name or loaded.manifest.name,
            manifest_digest=loaded.manifest.compute_digest(),
            sampler=config.sampler,
            context_length_tokens=min(loaded.manifest.context_length, config.max_context_tokens),
            endpoint=build_url(config, listening),
        )
        store = ReceiptStore(config.receipts_path, config.max_kept_answers)
        stack.callback(store.close)
        app = build_provider_app(config, identity, store, generation)
        await stack.enter_async_context(serve_app(app, config, listening))
        log.info("serving", url=build_url(config, listening), model=identity.signed_offer.offer.model)
        await wait_for_end(config)


def build_provider_app(
    config: ProviderConfig, identity: Identity, store: ReceiptStore, generation: GenerationThread
) -> web.Application:
    """Return the application: chat completions, the model list, the offer."""
    offer = identity.signed_offer.offer
    desk = ReceiptDesk(
        identity,
        store,
        clock_s=lambda: int(time.time()),
        lifetime_s=config.receipt_lifetime_s,
        default_max_tokens=config.default_max_tokens,
    )
    app = build_app(identity.signed_offer, config.max_body_bytes)
    app.router.add_post("/v1/chat/completions", ChatService(config, offer.model, generation, desk).handle)
    model = {"id": offer.model, "object": "model", "created": offer.issued_s, "owned_by": "0x" + offer.provider.hex()}

    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [model]})

    async def get_model(request: web.Request) -> web.Response:
        if request.match_info["name"] != offer.model:
            raise ApiError(404, "this model is not served here", param="model", code="model_not_found")
        return web.json_response(model)

    app.router.add_get("/v1/models", list_models)
    app.router.add_get("/v1/models/{name:.+}", get_model)
    return app


def load_shelf(config: ProviderConfig) -> Shelf:
    """Load the claimed model and, for cheats that need them, other weights. Imports torch."""
    from models.load import load_model
    from models.packing import pack_linears

    shelf = {CLAIMED: load_model(config.model, dtype=config.dtype, device=config.device)}
    if config.cheats.has_other_weights:
        shelf[CHEATING] = _load_other_weights(config)
    # The weights that answer: a cheat's claimed ones are rarely used, and packing costs memory.
    pack_linears(shelf[CHEATING if config.cheats.has_other_weights else CLAIMED])
    return shelf


def _load_other_weights(config: ProviderConfig) -> "LoadedModel":
    from models.load import load_model
    from models.variants import apply_variant

    cheats = config.cheats
    other = load_model(cheats.other_model or config.model, dtype=config.dtype, device=config.device)
    if cheats.variant is not None:
        return apply_variant(other, cheats.variant, cheats.dropped_layer)
    if cheats.other_model == "":
        log.warning("other_model", substitute="the claimed model with every second layer left out")
        for layer in reversed(range(1, other.model.config.num_hidden_layers, 2)):
            apply_variant(other, "drop-layer", layer)
    return other


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a provider from a configuration file; return the exit code."""
    parser = argparse.ArgumentParser(prog="quiver provider serve", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a JSON file")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(run_provider(load_config(options.config, ProviderConfig)))
    except OracleError as error:
        sys.stderr.write(f"quiver provider: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
