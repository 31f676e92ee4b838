"""Errors leave the node in one form, and request bodies are bounded."""

import json

import aiohttp
import pytest
from aiohttp import web

from scoring.errors import InvalidInput, MissingExtra, OracleError, RefusedToSign, Unavailable, VerificationFailed
from validator.http_errors import NotFound, RateLimited, build_app, build_json_response, read_body

ROWS = [
    (InvalidInput("too long", "name"), 400, "InvalidInput"),
    (VerificationFailed("no"), 403, "VerificationFailed"),
    (NotFound("no"), 404, "NotFound"),
    (RefusedToSign("no"), 409, "RefusedToSign"),
    (RateLimited("no"), 429, "RateLimited"),
    (OracleError("no"), 500, "OracleError"),
    (MissingExtra("no"), 501, "MissingExtra"),
    (Unavailable("no"), 503, "Unavailable"),
    (InvalidInput("a lone surrogate \ud800"), 400, "InvalidInput"),
]


async def call(app: web.Application, method: str, path: str, **options: object) -> tuple[int, dict[str, object], str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, **options) as got:
            return got.status, json.loads(await got.read()), got.headers.get("Allow", "")
    finally:
        await runner.cleanup()


def build(handler: object) -> web.Application:
    app = build_app(max_request_bytes=100)
    app.router.add_post("/x", handler)  # type: ignore[arg-type]
    return app


@pytest.mark.parametrize(("error", "status", "kind"), ROWS, ids=[row[2] for row in ROWS])
async def test_says_what_was_raised(error: OracleError, status: int, kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise error

    got, document, _ = await call(build(handler), "POST", "/x")
    assert got == status
    assert document["error"]["type"] == kind  # type: ignore[index]
    assert document["error"]["field"] == getattr(error, "field", "")  # type: ignore[index]


async def test_says_so_in_the_same_form_when_there_is_no_such_route_or_method() -> None:
    async def handler(request: web.Request) -> web.Response:
        return build_json_response({"a": 1})

    assert (await call(build(handler), "POST", "/y"))[:1] == (404,)
    status, document, allow = await call(build(handler), "GET", "/x")
    assert (status, allow) == (405, "POST")
    assert document["error"] == {"type": "Http", "message": "Method Not Allowed", "field": ""}
    assert await call(build(handler), "POST", "/x") == (200, {"a": 1}, "")


async def test_bounds_a_body_that_is_read_by_aiohttp_or_by_read_body() -> None:
    async def plain(request: web.Request) -> web.Response:
        await request.read()
        return build_json_response({})

    async def own(request: web.Request) -> web.Response:
        return build_json_response({"size": len(await read_body(request, 10))})

    async def chunks() -> object:
        for _ in range(20):
            yield b"x"

    assert (await call(build(plain), "POST", "/x", data=b"x" * 101))[0] == 413
    assert (await call(build(own), "POST", "/x", data=b"x" * 10))[1] == {"size": 10}
    assert (await call(build(own), "POST", "/x", data=b"x" * 11))[0] == 400
    assert (await call(build(own), "POST", "/x", data=chunks()))[0] == 400
