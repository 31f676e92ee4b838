"""The made-up engine answers in the form of the real one: what holds here for both is all that the networks rely on."""

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulation.engine import FakeEngine

from models.engine_client import EngineClient
from models.requests import GRID, ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput, MissingExtra
from scoring.evidence.statistics import compute_statistics

MESSAGES = (ChatMessage(role="user", content="Name a colour."),)


@pytest.fixture(scope="module")
def engine_socket() -> Iterator[Path]:
    """The socket of a real engine with the bundled model, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="quiver-") as folder:
        socket = Path(folder) / "engine.sock"
        command = [sys.executable, "-P", "-m", "models.engine", "--socket", str(socket), "--model", "bundled"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen([*command, "--dtype", "bf16"], env=environment, cwd=Path.cwd()) as process:
            yield socket
            process.terminate()


@pytest.fixture(params=["made-up", pytest.param("real", marks=pytest.mark.slow)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "made-up":
        yield FakeEngine()
        return
    client = await EngineClient.connect(request.getfixturevalue("engine_socket"))
    yield client
    await client.close()


def build_reference(prompt: tuple[int, ...], output: tuple[int, ...], seed: int | None) -> ReferenceRequest:
    sampler = "none" if seed is None else "gumbel-philox-v1"
    return ReferenceRequest(
        prompt_ids=prompt, output_ids=output, temperature=1.0, top_p=1.0, seed=seed, sampler=sampler
    )


async def test_a_conversation_becomes_token_ids(engine: Any) -> None:
    tokens = await engine.tokenize_chat(MESSAGES)
    assert isinstance(tokens, tuple)
    assert tokens
    assert all(type(token) is int and token >= 0 for token in tokens)


async def test_a_generated_answer_decodes_to_its_text(engine: Any) -> None:
    prompt = await engine.tokenize_chat(MESSAGES)
    (answer,) = await engine.generate([GenerationRequest(prompt_ids=prompt, max_tokens=6, seed=5)])
    assert isinstance(answer.token_ids, tuple)
    assert 1 <= len(answer.token_ids) <= 6
    assert answer.finish_reason in ("stop", "length")
    assert await engine.decode(answer.token_ids) == answer.text


async def test_token_ids_beyond_the_vocabulary_are_refused(engine: Any) -> None:
    with pytest.raises(InvalidInput):
        await engine.decode((2**31,))


async def test_a_seeded_honest_answer_has_margins_near_zero(engine: Any) -> None:
    # As long as a probe's answer: in six tokens one honest flip fills the fine scale.
    prompt = await engine.tokenize_chat(MESSAGES)
    (answer,) = await engine.generate([GenerationRequest(prompt_ids=prompt, max_tokens=40, seed=5)])
    (tokens,) = await engine.score([build_reference(prompt, answer.token_ids, seed=5)])
    assert len(tokens.margin) == len(tokens.gap) == len(tokens.logprob) == len(answer.token_ids)
    assert all(len(row) == len(GRID) for row in tokens.grid_logprob)
    assert all(0.0 <= margin < 0.5 for margin in tokens.margin)
    assert max(compute_statistics(tokens, 40, ("seeded-margin-fine-v1",))) < 1_000_000


async def test_without_a_seed_there_are_no_margins(engine: Any) -> None:
    prompt = await engine.tokenize_chat(MESSAGES)
    (tokens,) = await engine.score([build_reference(prompt, (1, 2, 3), seed=None)])
    assert tokens.margin is None
    assert tokens.gap is None
    assert len(tokens.logprob) == 3


async def test_requests_are_answered_in_order_and_none_with_none(engine: Any) -> None:
    prompt = await engine.tokenize_chat(MESSAGES)
    lengths = (1, 4, 2)
    found = await engine.score([build_reference(prompt, tuple(range(1, 1 + count)), seed=9) for count in lengths])
    assert isinstance(found, list)
    assert tuple(len(item.logprob) for item in found) == lengths
    assert await engine.score([]) == []
    assert await engine.generate([]) == []


async def test_texts_become_unit_vectors(engine: Any) -> None:
    try:
        vectors = await engine.embed(["one text", "another"])
    except MissingExtra:
        pytest.skip("no embedder is installed")
    assert len(vectors) == 2
    assert all(abs(sum(value * value for value in vector) - 1) < 1e-3 for vector in vectors)
