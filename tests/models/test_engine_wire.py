"""The wire between engine and client: what goes in comes out, and hostile frames are refused."""

import asyncio
import math
import socket
import struct
import subprocess
import sys

import pytest

from models.engine_wire import (
    MAX_FRAME_BYTES,
    build_error,
    decode_generation,
    decode_requests,
    decode_statistics,
    encode_error,
    encode_frame,
    encode_generation,
    encode_request,
    encode_statistics,
    read_frame,
    receive_frame,
)
from models.requests import Generation, GenerationRequest, ReferenceRequest, TokenLogprob, TokenStatistics
from scoring.errors import InvalidInput, MissingExtra, OracleError, Unavailable

GRID_ROW = (-1.5,) * 20 + (-math.inf,)
STATISTICS = TokenStatistics(
    logprob=(-math.inf, -0.25),
    raw_logprob=(-9.0, -0.5),
    rank=(4, 0),
    entropy=(1.0, 0.0),
    pit_low=(1.0, 0.0),
    pit_high=(1.0, 0.75),
    grid_logprob=(GRID_ROW, GRID_ROW),
    margin=(math.inf, 0.0),
    gap=(0.5, math.inf),
)


def pass_over_the_wire(value):
    frame = encode_frame({"id": 1, "body": value})
    here, there = socket.socketpair()
    with here, there:
        here.sendall(frame)
        return receive_frame(there)["body"]


def test_statistics_travel_with_their_infinities():
    assert decode_statistics(pass_over_the_wire(encode_statistics(STATISTICS))) == STATISTICS


def test_requests_travel():
    generation = GenerationRequest(prompt_ids=(1, 2), max_tokens=3, stop=("a", "b"), logprobs=2, seed=5, top_k=3)
    reference = ReferenceRequest(prompt_ids=(1,), output_ids=(2, 3), seed=7, sampler="gumbel-philox-v1", top_p=0.5)
    assert decode_requests(GenerationRequest, pass_over_the_wire([encode_request(generation)])) == [generation]
    assert decode_requests(ReferenceRequest, pass_over_the_wire([encode_request(reference)])) == [reference]


def test_answers_travel():
    row = TokenLogprob(token_id=4, logprob=-0.5, top=((4, -0.5), (1, -2.0)))
    for logprobs in (None, (row,)):
        answer = Generation(token_ids=(4,), text="é\ud800", finish_reason="stop", logprobs=logprobs)
        assert decode_generation(pass_over_the_wire(encode_generation(answer))) == answer


def test_errors_keep_their_kind():
    refused = build_error(encode_error(InvalidInput("too long", "prompt_ids")))
    assert isinstance(refused, InvalidInput)
    assert (str(refused), refused.field) == ("prompt_ids: too long", "prompt_ids")
    assert isinstance(build_error(encode_error(MissingExtra("pip install x"))), MissingExtra)
    assert isinstance(build_error(encode_error(OracleError("anything else"))), Unavailable)


HOSTILE_REQUESTS = [
    ("no list", {}),
    ("an empty list", []),
    ("a request that is no object", [1]),
    ("a missing key", [{"prompt_ids": [1]}]),
    ("an unknown key", [{**encode_request(ReferenceRequest(prompt_ids=(1,), output_ids=())), "logits": True}]),
    ("a wrong type", [{**encode_request(ReferenceRequest(prompt_ids=(1,), output_ids=())), "seed": "1"}]),
    ("a nested prompt", [{**encode_request(ReferenceRequest(prompt_ids=(1,), output_ids=())), "prompt_ids": [[1]]}]),
    ("too many requests", [1] * 4097),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE_REQUESTS, ids=[name for name, _ in HOSTILE_REQUESTS])
def test_decoding_requests_refuses(name, value):
    with pytest.raises(InvalidInput):
        decode_requests(ReferenceRequest, value)


HOSTILE_FRAMES = [
    ("a length over the limit", struct.pack(">I", MAX_FRAME_BYTES + 1)),
    ("bytes that are no JSON", struct.pack(">I", 3) + b"\xff\xff\xff"),
    ("a value that is no object", struct.pack(">I", 2) + b"[]"),
    ("deep nesting", struct.pack(">I", 200_000) + b"[" * 200_000),
]


@pytest.mark.parametrize(("name", "data"), HOSTILE_FRAMES, ids=[name for name, _ in HOSTILE_FRAMES])
async def test_reading_refuses(name, data):
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(10)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(data))
        here.sendall(data)
        with pytest.raises(InvalidInput):
            receive_frame(there)
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    with pytest.raises(InvalidInput):
        await read_frame(reader)


def test_a_connection_that_ends_in_a_frame_is_an_end():
    here, there = socket.socketpair()
    with there:
        here.sendall(struct.pack(">I", 100) + b"{")
        here.close()
        assert receive_frame(there) is None


def test_the_client_needs_no_torch():
    code = "import sys, models.engine_client; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
