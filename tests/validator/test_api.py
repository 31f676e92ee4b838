"""What a validator shows the world, over real HTTP: everything signed, nothing secret, every odd request refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from simulation.story import EPOCHS, Story, play_story

from challenges.evidence import parse_evidence_file
from scoring import canonical
from scoring.feed import ValidatorSetFile, parse_feed_proof, parse_validator_set_file
from scoring.feed_index import parse_feed_index
from validator.api import PublicApi
from validator.http_errors import build_app
from validator.metrics import Metrics
from validator.store import DocumentKind, Store

Http = TestClient[web.Request, web.Application]


@pytest.fixture(scope="module")
def story() -> Story:
    return play_story()


async def _serve(story: Story, store: Store) -> Http:
    trusted = ValidatorSetFile(domain=story.genesis.domain, validator_set=story.genesis.validator_set)
    app = build_app()
    status = {"address": "0x01", "last_error": "<script>alert(1)</script>"}
    PublicApi(store, trusted, lambda: dict(status), Metrics(CollectorRegistry()).registry, 40).add_routes(app)
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def http(story: Story) -> AsyncIterator[Http]:
    client = await _serve(story, story.stores[0])
    yield client
    await client.close()


@pytest.fixture
async def fresh(story: Story, tmp_path: Any) -> AsyncIterator[Http]:
    store = Store(tmp_path / "store.sqlite")
    client = await _serve(story, store)
    yield client
    await client.close()
    store.close()


async def fetch(http: Http, path: str) -> bytes:
    answer = await http.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.read()


async def test_the_newest_feed_leads_to_every_proof(http: Http) -> None:
    index = parse_feed_index(await fetch(http, "/v1/feed/latest"))
    assert index.epoch == EPOCHS - 1
    for entry in index.entries:
        proof = parse_feed_proof(await fetch(http, f"/v1/feed/{index.epoch}/{entry.file}"))
        assert proof.item.offer_digest == entry.offer_digest


async def test_what_never_changes_may_be_kept_for_ever_and_the_newest_may_not(http: Http) -> None:
    proof = await http.get(f"/v1/feed/{EPOCHS - 1}/index")
    assert "immutable" in proof.headers["Cache-Control"]
    for path in ("/v1/feed/latest", "/v1/checkpoints/latest", "/v1/evidence"):
        assert (await http.get(path)).headers["Cache-Control"] == "public, max-age=10"


async def test_the_validator_set_file_parses(http: Http, story: Story) -> None:
    trusted = parse_validator_set_file(await fetch(http, "/v1/validator-set"))
    assert trusted.validator_set == story.genesis.validator_set


async def test_checkpoints_are_served_by_epoch_and_as_the_latest(http: Http) -> None:
    assert await fetch(http, "/v1/checkpoints/latest") == await fetch(http, f"/v1/checkpoints/{EPOCHS - 1}")
    assert await fetch(http, "/v1/checkpoints/0") != await fetch(http, "/v1/checkpoints/1")


async def test_evidence_is_listed_and_served_as_one_file(http: Http, story: Story) -> None:
    listed = canonical.decode(await fetch(http, "/v1/evidence"))
    assert isinstance(listed, dict)
    (key,) = listed["evidence"]  # type: ignore[misc]
    for name in (key, f"0x{key}"):
        file = parse_evidence_file(await fetch(http, f"/v1/evidence/{name}"))
        assert file.evidence.provider == story.providers["liar"].offer.offer.provider


async def test_the_view_behind_an_epoch_is_served_for_those_who_catch_up(http: Http, story: Story) -> None:
    previous = story.outcomes[2][0].checkpoint.previous
    assert await fetch(http, f"/v1/views/0x{previous.hex()}")


async def test_health_status_metrics_and_dashboard_answer(http: Http) -> None:
    assert await fetch(http, "/healthz") == b'{"status":"ok"}'
    assert b"0x01" in await fetch(http, "/v1/status")
    assert b"quiver_epochs_certified_total 0.0" in await fetch(http, "/metrics")
    page = await fetch(http, "/")
    assert page.count(b"<tr>") > 10


async def test_the_dashboard_escapes_what_it_shows(http: Http) -> None:
    page = await fetch(http, "/")
    assert b"<script>" not in page
    assert b"&lt;script&gt;" in page


async def test_before_the_first_epoch_there_is_nothing_and_it_says_so(fresh: Http) -> None:
    for path in ("/v1/feed/latest", "/v1/checkpoints/latest"):
        answer = await fresh.get(path)
        assert answer.status == 404
        assert "no epoch is certified yet" in await answer.text()
    assert (await fresh.get("/")).status == 200
    assert canonical.decode(await fetch(fresh, "/v1/evidence")) == {"evidence": []}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/feed/99/index", 404),
        ("/v1/feed/1/none.json", 404),
        ("/v1/feed/1/..%2f..%2fkeys.json", 404),
        ("/v1/feed/x/index", 400),
        ("/v1/feed/-1/index", 400),
        ("/v1/feed/1e3/index", 400),
        ("/v1/feed/%D9%A1/index", 400),
        ("/v1/feed/" + "9" * 16 + "/index", 400),
        ("/v1/checkpoints/newest", 400),
        ("/v1/checkpoints/99", 404),
        ("/v1/evidence/0xabcdef", 404),
        ("/v1/evidence/" + "a" * 4000, 404),
        ("/v1/views/1", 404),
        ("/v1/own-reveal/1", 404),
        ("/v1/", 404),
    ],
)
async def test_refuses(http: Http, path: str, status: int) -> None:
    answer = await http.get(path)
    assert answer.status == status
    body = await answer.text()
    assert len(body) < 1000
    assert "error" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(http: Http, method: str) -> None:
    assert (await http.request(method, "/v1/feed/latest")).status == 405


async def test_no_secret_is_served_under_any_name(http: Http, story: Story) -> None:
    """Own reveals hold salts before they are published, own votes those of committees."""
    store = story.stores[0]
    for kind in (DocumentKind.OWN_REVEAL, DocumentKind.OWN_VOTE):
        for document in store.list_documents_between(kind, 0, EPOCHS):
            assert store.find_by_digest(document.digest) is None
            for route in ("evidence", "views", "checkpoints"):
                answer = await http.get(f"/v1/{route}/{document.key}")
                assert answer.status in (400, 404) or document.body not in await answer.read()
