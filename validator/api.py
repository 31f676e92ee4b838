"""What a validator shows the world: the feed, checkpoints, evidence, its health. Read-only, immutable where possible.

Every byte of the feed is signed, so a relay or a cache in front is as good as this server. Nothing here reveals open
cases, probes to come or keys.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput
from scoring.feed import ValidatorSetFile
from validator.dashboard import render_dashboard
from validator.http_errors import NotFound, build_json_response
from validator.publishing import INDEX_FILE
from validator.store import DocumentKind, Store

IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
LIST_LIMIT = 1000


class PublicApi:
    """Serves from the store. `get_status` returns the node's own word about itself."""

    def __init__(
        self,
        store: Store,
        validator_set_file: ValidatorSetFile,
        get_status: Callable[[], dict[str, Json]],
        registry: CollectorRegistry,
        epoch_s: int,
    ) -> None:
        self._store = store
        self._validator_set_file = validator_set_file
        self._get_status = get_status
        self._registry = registry
        self._fresh = {"Cache-Control": f"public, max-age={max(1, epoch_s // 4)}"}

    def add_routes(self, app: web.Application) -> None:
        """Add every public route."""
        app.router.add_get("/", self._dashboard)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/validator-set", self._validator_set)
        app.router.add_get("/v1/feed/latest", self._latest_index)
        app.router.add_get("/v1/feed/{epoch}/{file}", self._feed_file)
        app.router.add_get("/v1/checkpoints/{epoch}", self._checkpoint)
        app.router.add_get("/v1/views/{previous}", self._view)
        app.router.add_get("/v1/evidence", self._evidence_list)
        app.router.add_get("/v1/evidence/{key}", self._evidence)

    async def _health(self, request: web.Request) -> web.Response:
        return build_json_response({"status": "ok"})

    async def _status(self, request: web.Request) -> web.Response:
        return build_json_response(self._get_status())

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), content_type="text/plain")

    async def _dashboard(self, request: web.Request) -> web.Response:
        return web.Response(text=render_dashboard(self._store, self._get_status()), content_type="text/html")

    async def _validator_set(self, request: web.Request) -> web.Response:
        return web.Response(body=self._validator_set_file.encode(), content_type="application/json")

    async def _latest_index(self, request: web.Request) -> web.Response:
        latest = self._store.find_latest(DocumentKind.AGGREGATION)
        if latest is None:
            raise NotFound("no epoch is certified yet")
        return self._serve(DocumentKind.FEED_PROOF, f"{latest.epoch}:{INDEX_FILE}", self._fresh)

    async def _feed_file(self, request: web.Request) -> web.Response:
        key = f"{_parse_epoch(request)}:{request.match_info['file']}"
        return self._serve(DocumentKind.FEED_PROOF, key, IMMUTABLE)

    async def _checkpoint(self, request: web.Request) -> web.Response:
        if request.match_info["epoch"] == "latest":
            latest = self._store.find_latest(DocumentKind.CHECKPOINT)
            if latest is None:
                raise NotFound("no epoch is certified yet")
            return web.Response(body=latest.body, content_type="application/json", headers=self._fresh)
        return self._serve(DocumentKind.CHECKPOINT, str(_parse_epoch(request)), IMMUTABLE)

    async def _view(self, request: web.Request) -> web.Response:
        return self._serve(DocumentKind.LEDGER_VIEW, request.match_info["previous"].removeprefix("0x"), IMMUTABLE)

    async def _evidence_list(self, request: web.Request) -> web.Response:
        documents = self._store.list_documents_between(DocumentKind.EVIDENCE, 0, canonical.MAX_SAFE_INTEGER)
        keys: list[Json] = [document.key for document in documents[-LIST_LIMIT:]]
        return build_json_response({"evidence": keys}, self._fresh)

    async def _evidence(self, request: web.Request) -> web.Response:
        return self._serve(DocumentKind.EVIDENCE, request.match_info["key"].removeprefix("0x"), IMMUTABLE)

    def _serve(self, kind: DocumentKind, key: str, headers: dict[str, str]) -> web.Response:
        body = self._store.get_document(kind, key)
        if body is None:
            raise NotFound(f"no {kind.value} {key[:120]} here")
        return web.Response(body=body, content_type="application/json", headers=headers)


def _parse_epoch(request: web.Request) -> int:
    text = request.match_info["epoch"]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput("expected an epoch number", "epoch")
    return int(text)
