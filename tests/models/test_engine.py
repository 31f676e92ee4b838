"""The engine as its users see it: it batches, remembers, refuses, restarts, and never outlives its parent."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from models.engine_client import EngineClient
from models.engine_wire import encode_frame, receive_frame
from models.requests import ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PROMPT = tuple(b"a prompt")


def build_items(count=3, first=0):
    return [
        ReferenceRequest(
            prompt_ids=PROMPT, output_ids=(number, 7, 8), seed=number, sampler="gumbel-philox-v1", temperature=0.9
        )
        for number in range(first, first + count)
    ]


def start_engine(socket_path, folder, *extra):
    arguments = ["--socket", str(socket_path), "--model", str(folder), "--dtype", "fp32", *extra]
    return subprocess.Popen([sys.executable, "-P", "-m", "models.engine", *arguments], env=ENVIRONMENT)


def stop(process):
    process.kill()
    process.wait()


@pytest.fixture
def place():
    # Not tmp_path: a Unix socket's path has a hundred bytes.
    folder = Path(tempfile.mkdtemp(prefix="quiver-"))
    yield folder / "engine.sock"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(tiny_folder):
    """An engine for the tests that do not end it; yields its socket."""
    folder = Path(tempfile.mkdtemp(prefix="quiver-"))
    process = start_engine(folder / "engine.sock", tiny_folder)
    yield folder / "engine.sock"
    stop(process)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def client(shared):
    client = await EngineClient.connect(shared)
    yield client
    await client.close()


async def test_hello_names_the_model_and_the_runtime(client, tiny):
    info = await client.hello()
    assert info.manifest == tiny.manifest
    assert (info.dtype, info.threads, info.attention) == ("fp32", 1, "sdpa")
    assert info.torch_version and info.transformers_version and info.machine and info.device


async def test_conversations_and_texts_become_tokens_and_back(client, tiny):
    from models.load import render_prompt

    messages = [ChatMessage(role="user", content="Grüße 😀")]
    ids = await client.tokenize_chat(messages)
    assert ids == tuple(render_prompt(tiny, messages))
    assert await client.decode(ids) == "<user>Grüße 😀\n>"
    assert await client.decode(await client.encode("plain")) == "plain"


async def test_scores_are_those_of_the_model(client, tiny):
    from models.reference import score_batch

    items = build_items()
    for found, expected in zip(await client.score(items), score_batch(tiny, items), strict=True):
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert found.margin == pytest.approx(expected.margin, abs=1e-4)
        assert found.rank == expected.rank


async def test_answers_are_those_of_the_model(client, tiny):
    from models.generate import generate

    requests = [GenerationRequest(prompt_ids=PROMPT, seed=number, max_tokens=9) for number in range(10)]
    assert await client.generate(requests) == generate(tiny, requests)


async def test_many_clients_at_once_get_their_own_answers(shared):
    clients = [await EngineClient.connect(shared) for _ in range(4)]
    try:
        lots = [build_items(count=6, first=3 * number) for number in range(4)]
        together = await asyncio.gather(*(one.score(items) for one, items in zip(clients, lots, strict=True)))
        for items, found in zip(lots, together, strict=True):
            # Remembered results: equal to the last bit whoever asks.
            assert await clients[0].score(items) == found
    finally:
        for one in clients:
            await one.close()


async def test_nothing_asked_is_nothing_answered(client):
    assert await client.score([]) == []
    assert await client.generate([]) == []


async def test_texts_have_unit_vectors(client):
    vectors = await client.embed(["The cat sleeps.", "A cat is sleeping.", "Stock prices fell."])
    likeness = [sum(x * y for x, y in zip(vectors[0], other, strict=True)) for other in vectors]
    assert likeness[0] == pytest.approx(1.0, abs=1e-3)
    assert likeness[1] > likeness[2]


REFUSED = [
    ("an unknown token", lambda c: c.score([ReferenceRequest(prompt_ids=(1,), output_ids=(300,))]), "output_ids"),
    ("an answer over the context", lambda c: c.score([ReferenceRequest(prompt_ids=(1,) * 300, output_ids=())]), ""),
    ("a prompt over the context", lambda c: c.generate([GenerationRequest(prompt_ids=(1,) * 256, max_tokens=1)]), ""),
    ("a token to decode", lambda c: c.decode([300]), "token_ids"),
    ("no messages", lambda c: c.tokenize_chat([]), "messages"),
]


@pytest.mark.parametrize(("name", "call", "field"), REFUSED, ids=[name for name, _, _ in REFUSED])
async def test_the_engine_refuses_and_goes_on(client, name, call, field):
    with pytest.raises(InvalidInput) as refusal:
        await call(client)
    assert field in ("", refusal.value.field)
    assert len(await client.score(build_items(1))) == 1


HOSTILE = [
    ("garbage", b"\xff" * 64),
    ("a huge length", struct.pack(">I", 2**32 - 1)),
    ("half a frame", struct.pack(">I", 100) + b"{"),
    ("JSON that is no object", struct.pack(">I", 2) + b"[]"),
]


@pytest.mark.parametrize(("name", "data"), HOSTILE, ids=[name for name, _ in HOSTILE])
async def test_hostile_bytes_cost_only_their_own_connection(shared, client, name, data):
    with socket.socket(socket.AF_UNIX) as enemy:
        enemy.connect(str(shared))
        enemy.sendall(data)
        enemy.shutdown(socket.SHUT_WR)
        enemy.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert enemy.recv(1) == b""
    assert len(await client.score(build_items(1))) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no operation", {"id": 1, "body": {}}),
        ("an unknown operation", {"id": 1, "operation": "logits", "body": {}}),
        ("no body", {"id": 1, "operation": "hello"}),
        ("messages of another shape", {"id": 1, "operation": "tokenize_chat", "body": {"messages": [["user"]]}}),
        ("a text that is a number", {"id": 1, "operation": "encode", "body": {"text": 5}}),
        ("texts that are no list", {"id": 1, "operation": "embed", "body": {"texts": "x"}}),
        ("requests that are no list", {"id": 1, "operation": "score", "body": {"requests": 5}}),
    ],
)
def test_a_message_that_makes_no_sense_is_answered_with_an_error(shared, name, message):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(shared))
        connection.sendall(encode_frame(message))
        assert receive_frame(connection)["error"]["kind"] == "InvalidInput"


async def test_a_restarted_engine_costs_a_delay_and_no_error(place, tiny_folder):
    process = start_engine(place, tiny_folder)
    client = await EngineClient.connect(place)
    before = await client.score(build_items())
    stop(process)
    process = start_engine(place, tiny_folder)
    try:
        assert await client.score(build_items()) == before
    finally:
        await client.close()
        stop(process)


async def test_an_engine_that_is_gone_is_unavailable(place, tiny_folder):
    process = start_engine(place, tiny_folder)
    client = await EngineClient.connect(place)
    client._connect_timeout_s = 0.5
    stop(process)
    with pytest.raises(Unavailable):
        await client.score(build_items())
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await client.hello()


async def test_an_engine_that_hangs_is_unavailable(place, tiny_folder):
    process = start_engine(place, tiny_folder)
    client = await EngineClient.connect(place, call_timeout_s=0.5)
    try:
        process.send_signal(signal.SIGSTOP)
        # Its threads stop some time after the signal; until the last has, one of them may still answer.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with pytest.raises(Unavailable, match="took over"):
            await client.hello()
        process.send_signal(signal.SIGCONT)
        client._call_timeout_s = 60
        assert (await client.hello()).dtype == "fp32"
    finally:
        await client.close()
        stop(process)


async def test_nobody_listening_is_unavailable(place):
    with pytest.raises(Unavailable, match="no reference engine"):
        await EngineClient.connect(place, connect_timeout_s=0.3)


async def test_sigterm_ends_the_engine_and_removes_its_socket(place, tiny_folder):
    for _ in range(3):
        process = start_engine(place, tiny_folder)
        client = await EngineClient.connect(place)
        await client.score(build_items(1))
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert not place.exists()
        await client.close()


def test_the_engine_ends_with_its_parent(place, tiny_folder):
    arguments = [sys.executable, "-P", "-m", "models.engine", "--socket", str(place), "--model", str(tiny_folder)]
    parent_code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({arguments!r})\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, env=ENVIRONMENT)
    child = int(parent.stdout.readline())
    wait_until(place.exists, 60)
    stop(parent)
    parent.stdout.close()
    wait_until(lambda: not is_running(child), 20)
    assert not is_running(child)


def test_an_engine_that_cannot_start_says_why(place):
    arguments = ["--socket", str(place), "--model", "/nowhere/at/all"]
    found = subprocess.run(
        [sys.executable, "-P", "-m", "models.engine", *arguments], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "is not a model folder" in found.stderr
    assert "Traceback" not in found.stderr


def wait_until(is_true, timeout_s):
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
