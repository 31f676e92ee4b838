"""What the list of models, the first thing that is asked for, says about an endpoint before any model is loaded."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web
from audit_fakes import Handler, refuse

from scoring.errors import InvalidInput, Unavailable
from validator.audit import asker


def answers(status: int, text: str, kind: str = "application/json", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return handler


ANOTHER = "this does not look like an OpenAI-compatible API: .*is the path right"
FATAL = [
    ("a web page", answers(200, "<html>", "text/html"), InvalidInput, ANOTHER),
    ("a server that is broken", answers(500, "oops"), Unavailable, "HTTP status 500.*try again later"),
    ("a limit", answers(429, "slow", **{"Retry-After": "0.01"}), Unavailable, "is limiting you"),
    ("an hour of waiting", answers(503, "no", **{"Retry-After": "3600"}), Unavailable, "try again in 3,600 s"),
    ("a key that is refused", answers(401, "no"), InvalidInput, "--api-key-env"),
]


@pytest.mark.parametrize(("handler", "kind", "advice"), [row[1:] for row in FATAL], ids=[row[0] for row in FATAL])
def test_ends_before_the_reference_is_loaded(run, served, opener, monkeypatch, handler, kind, advice) -> None:
    monkeypatch.setattr(asker, "FIRST_PAUSE_S", 0.01)
    served.fake.models_handler = handler
    with pytest.raises(kind, match=advice):
        run(served_model=None)
    assert (opener.examiner, served.fake.asked) == (None, [])


MISSING = [
    ("404", answers(404, "no such route")),
    ("405", answers(405, "not allowed")),
    ("501", answers(501, "not implemented")),
    ("a list without the object around it", answers(200, '[{"id": "fake-model"}]')),
    ("a page that is no HTML", answers(200, "OK", "text/plain")),
]


@pytest.mark.parametrize("handler", [row[1] for row in MISSING], ids=[row[0] for row in MISSING])
def test_an_endpoint_without_a_list_is_audited(run, served, handler) -> None:
    served.fake.models_handler = handler
    _, result = run(max_requests=2)
    assert result["requests"] == 2


def test_an_endpoint_whose_list_is_broken_is_audited_by_the_name_that_is_given(run, served, monkeypatch) -> None:
    monkeypatch.setattr(asker, "FIRST_PAUSE_S", 0.01)
    served.fake.models_handler = answers(500, "oops")
    _, result = run(max_requests=2, served_model="fake-model")
    assert result["requests"] == 2


def test_a_list_that_is_refused_for_a_moment_is_asked_for_again(run, served) -> None:
    asked: list[str] = []

    async def busy_once(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if len(asked) == 1:
            return refuse(429, "slow down", **{"Retry-After": "0.01"})
        return web.json_response({"data": [{"id": "fake-model", "quiver_sampler": "gumbel-philox-v1"}]})

    served.fake.models_handler = busy_once
    _, result = run(max_requests=2)
    assert (len(asked), result["discovered"]["sampler_source"]) == (2, "the model list")


@pytest.fixture
def greet() -> Iterator[Callable[[bytes], str]]:
    """Return a function that starts a server which says the same to everybody, and returns its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(words: bytes) -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(words)

        def start(words: bytes) -> str:
            threading.Thread(target=serve, args=(words,), daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("words", "kind", "advice"),
    [(b"SSH-2.0-OpenSSH\r\n\r\n", InvalidInput, ANOTHER), (b"SSH-2.0-OpenSSH\r\n", Unavailable, "scheme and port")],
    ids=["a head that is none", "half a head"],
)
def test_a_server_that_speaks_no_http_is_told(run, opener, greet, monkeypatch, words, kind, advice) -> None:
    monkeypatch.setattr(asker, "FIRST_PAUSE_S", 0.01)
    with pytest.raises(kind, match=advice):
        run(endpoint=greet(words))
    assert opener.examiner is None
