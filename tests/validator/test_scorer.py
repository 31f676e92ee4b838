"""From an answer to statistics, or to the word that says why there are none and whose fault that is."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from simulation.engine import VOCABULARY, FakeEngine, decode_tokens
from simulation.setting import build_simulation_plan

from models.requests import ChatMessage, ReferenceRequest, TokenStatistics
from scoring.errors import InvalidInput, MissingExtra
from validator.scorer import ClaimedAnswer, Scorer, Unscored, build_chat_messages

TOKENS = (1, 2, 3)
ANSWER = ClaimedAnswer(
    messages=(ChatMessage(role="user", content="hello"),),
    temperature_ppm=1_000_000,
    top_p_ppm=1_000_000,
    max_tokens=16,
    seed=5,
    content=decode_tokens(TOKENS),
    token_ids=TOKENS,
    completion_tokens=3,
)


class BrokenEngine(FakeEngine):
    """Its numbers are none."""

    async def score(self, requests: Sequence[ReferenceRequest]) -> list[TokenStatistics]:
        (found,) = await super().score(requests)
        return [replace(found, margin=(math.nan,) * 3)]


class BlindEngine(FakeEngine):
    """It has no embedder."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise MissingExtra("no embedder")


def build_scorer(engine: FakeEngine | None = None) -> Scorer:
    return Scorer(engine or FakeEngine(), build_simulation_plan())  # type: ignore[arg-type]


async def test_an_answer_is_scored_in_the_order_of_the_plan() -> None:
    assert await build_scorer().score(ANSWER) == (0, 0)
    lies = replace(ANSWER, token_ids=(501, 502, 503), content=decode_tokens((501, 502, 503)))
    fine, coarse = await build_scorer().score(lies)  # type: ignore[misc]
    assert fine == 1_000_000
    assert coarse > 500_000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"token_ids": None}, "no-token-ids", id="no token ids"),
        pytest.param({"completion_tokens": 4}, "usage-mismatch", id="more tokens billed than sent"),
        pytest.param({"content": "something else"}, "text-mismatch", id="another text than that of its tokens"),
        pytest.param({"token_ids": (1, 2, VOCABULARY)}, "refused-by-reference", id="a token out of the vocabulary"),
    ],
)
async def test_what_cannot_be_scored_is_the_providers_fault(changes: dict[str, object], reason: str) -> None:
    expected = Unscored(reason=reason, is_provider_fault=True)
    assert await build_scorer().score(replace(ANSWER, **changes)) == expected


async def test_an_engine_that_is_down_or_talks_nonsense_is_our_own_fault() -> None:
    down = FakeEngine()
    down.is_down = True
    for engine in (down, BrokenEngine()):
        assert await build_scorer(engine).score(ANSWER) == Unscored(reason="own-engine", is_provider_fault=False)


async def test_similarity_is_measured_or_absent_and_never_zero_for_want_of_an_engine() -> None:
    measured = await build_scorer().compute_similarity(ANSWER)
    assert measured is not None
    assert 0 <= measured <= 1_000_000
    down = FakeEngine()
    down.is_down = True
    assert await build_scorer(down).compute_similarity(ANSWER) is None
    assert await build_scorer(BlindEngine()).compute_similarity(ANSWER) is None


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="an object"),
        pytest.param([], id="none at all"),
        pytest.param("hello", id="a text"),
        pytest.param([5], id="a number"),
        pytest.param([{}], id="an empty message"),
        pytest.param([{"role": "user"}], id="no content"),
        pytest.param([{"role": "user", "content": None}], id="null for content"),
        pytest.param([{"role": "user", "content": "x", "name": "y"}], id="a key too many"),
        pytest.param([{"role": 5, "content": "x"}], id="a number for a role"),
    ],
)
def test_messages_that_are_none_are_refused(messages: object) -> None:
    with pytest.raises(InvalidInput):
        build_chat_messages(messages)
