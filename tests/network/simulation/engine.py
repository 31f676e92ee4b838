"""A reference engine without a model: made-up tokens carry their own verdict.

Tokens below LIE_TOKEN are the claimed model's own words and cost no margin, but for the few of which honest arithmetic
is unsure; tokens from LIE_TOKEN on are somebody else's. `test_engine_contract.py` holds its answers to those of the
real client.
"""

import hashlib
import math
from collections.abc import Sequence

from models.requests import GRID, ChatMessage, Generation, GenerationRequest, ReferenceRequest, TokenStatistics
from scoring.errors import InvalidInput, Unavailable

VOCABULARY = 1000
LIE_TOKEN = 500
UNSURE_EVERY = 250
"""One honest token in so many differs by a small margin between two honest machines."""


class FakeEngine:
    """The methods of `models.engine_client.EngineClient` that a validator uses."""

    def __init__(self) -> None:
        self.is_down = False
        self.scored = 0

    async def tokenize_chat(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        self._require_up()
        text = "\n".join(f"{message.role}: {message.content}" for message in messages)
        return tuple(hashlib.sha256(text.encode()).digest()[:8])

    async def decode(self, token_ids: Sequence[int]) -> str:
        self._require_up()
        if any(not 0 <= token < VOCABULARY for token in token_ids):
            raise InvalidInput("out of the vocabulary", "token_ids")
        return decode_tokens(token_ids)

    async def score(self, requests: Sequence[ReferenceRequest]) -> list[TokenStatistics]:
        self._require_up()
        self.scored += len(requests)
        return [_compute_statistics(request) for request in requests]

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self._require_up()
        return [_generate(request) for request in requests]

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self._require_up()
        return [_embed(text) for text in texts]

    def _require_up(self) -> None:
        if self.is_down:
            raise Unavailable("the fake engine is down")


def decode_tokens(token_ids: Sequence[int]) -> str:
    """Return the text of made-up tokens."""
    return " ".join(f"w{token}" for token in token_ids)


def draw_tokens(seed: bytes, count: int, lies: bool) -> tuple[int, ...]:
    """Return made-up tokens that follow from the seed: the claimed model's, or another one's."""
    stream = b"".join(hashlib.sha256(seed + bytes([block])).digest() for block in range(count // 16 + 1))
    drawn = [int.from_bytes(stream[2 * at : 2 * at + 2], "big") % LIE_TOKEN for at in range(count)]
    return tuple(token + (LIE_TOKEN if lies else 0) for token in drawn)


def _compute_statistics(request: ReferenceRequest) -> TokenStatistics:
    tokens = request.output_ids
    count = len(tokens)
    is_seeded = request.seed is not None
    return TokenStatistics(
        logprob=(-1.0,) * count,
        raw_logprob=(-1.0,) * count,
        rank=(0,) * count,
        entropy=(1.0,) * count,
        pit_low=(0.0,) * count,
        pit_high=(0.5,) * count,
        grid_logprob=((-1.0,) * len(GRID),) * count,
        margin=tuple(_compute_margin(token) for token in tokens) if is_seeded else None,
        gap=(3.0,) * count if is_seeded else None,
    )


def _compute_margin(token: int) -> float:
    if token >= LIE_TOKEN:
        return 2.0
    return 0.1 if token % UNSURE_EVERY == 0 else 0.0


def _generate(request: GenerationRequest) -> Generation:
    tokens = draw_tokens(repr((request.prompt_ids, request.seed)).encode(), request.max_tokens, lies=False)
    return Generation(token_ids=tokens, text=decode_tokens(tokens), finish_reason="length")


def _embed(text: str) -> list[float]:
    angle = hashlib.sha256(text.encode()).digest()[0] / 255
    return [math.cos(angle), math.sin(angle)]
