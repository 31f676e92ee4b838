"""Scoring answers with the reference engine: token statistics in ppm, and similarity to what the claimed model says.

What cannot be scored is `Unscored(reason)`, never a number. The engine runs in another process; when it is gone, that
is our fault, not the provider's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.engine_client import EngineClient
from models.requests import ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import InvalidInput, MissingExtra, Unavailable
from scoring.evidence.plan import Plan
from scoring.evidence.statistics import compute_statistics
from scoring.hashing import tagged_digest
from scoring.records import PPM
from scoring.similarity import compute_similarity_ppm

SIMILARITY_REFERENCES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """There is no score, and why; `is_provider_fault` when the provider caused it."""

    reason: str
    is_provider_fault: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedAnswer:
    """An answer with what was asked: chat messages, sampling, and what came back."""

    messages: tuple[ChatMessage, ...]
    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int
    seed: int | None
    content: str
    token_ids: tuple[int, ...] | None
    completion_tokens: int


class Scorer:
    """Turns claimed answers into the plan's statistics."""

    def __init__(self, engine: EngineClient, plan: Plan) -> None:
        self._engine = engine
        self._plan = plan

    async def score(self, answer: ClaimedAnswer) -> tuple[int, ...] | Unscored:
        """Return the statistics in ppm in plan order, or why there are none."""
        if answer.token_ids is None:
            return Unscored(reason="no-token-ids", is_provider_fault=True)
        if answer.completion_tokens != len(answer.token_ids):
            return Unscored(reason="usage-mismatch", is_provider_fault=True)
        try:
            if await self._engine.decode(answer.token_ids) != answer.content:
                return Unscored(reason="text-mismatch", is_provider_fault=True)
            prompt_ids = await self._engine.tokenize_chat(answer.messages)
            tokens = await self._engine.score([self._build_request(answer, prompt_ids, answer.token_ids)])
        except InvalidInput:
            return Unscored(reason="refused-by-reference", is_provider_fault=True)
        except Unavailable:
            return Unscored(reason="own-engine", is_provider_fault=False)
        try:
            return compute_statistics(tokens[0], answer.max_tokens, self._plan.statistic_ids)
        except InvalidInput:
            # Numbers that are none: our engine's trouble.
            return Unscored(reason="own-engine", is_provider_fault=False)

    async def compute_similarity(self, answer: ClaimedAnswer) -> int | None:
        """Return the similarity of the answer to fresh reference answers in ppm, None when it cannot be measured."""
        try:
            prompt_ids = await self._engine.tokenize_chat(answer.messages)
            references = await self._engine.generate(
                [self._build_reference(answer, prompt_ids, number) for number in range(SIMILARITY_REFERENCES)]
            )
            vectors = await self._engine.embed([answer.content, *(reference.text for reference in references)])
        except (InvalidInput, MissingExtra, Unavailable):
            return None
        return compute_similarity_ppm(vectors[0], vectors[1:])

    def _build_request(
        self, answer: ClaimedAnswer, prompt_ids: Sequence[int], output_ids: Sequence[int]
    ) -> ReferenceRequest:
        is_seeded = answer.seed is not None and self._plan.sampler != "none"
        return ReferenceRequest(
            prompt_ids=tuple(prompt_ids),
            output_ids=tuple(output_ids),
            temperature=answer.temperature_ppm / PPM,
            top_p=answer.top_p_ppm / PPM,
            seed=answer.seed if is_seeded else None,
            sampler=self._plan.sampler if is_seeded else "none",
        )

    def _build_reference(self, answer: ClaimedAnswer, prompt_ids: Sequence[int], number: int) -> GenerationRequest:
        # Seeds other than the answer's own: an honest seeded answer would be its own reference.
        digest = tagged_digest("quiver-similarity-seed", answer.content.encode(), number.to_bytes(8, "big"))
        return GenerationRequest(
            prompt_ids=tuple(prompt_ids),
            max_tokens=answer.max_tokens,
            temperature=answer.temperature_ppm / PPM,
            top_p=answer.top_p_ppm / PPM,
            seed=int.from_bytes(digest[:6], "big"),
        )


def build_chat_messages(messages: object) -> tuple[ChatMessage, ...]:
    """Return chat messages from their JSON form; raises InvalidInput."""
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("expected a list of messages", "messages")
    return tuple(_build_chat_message(item) for item in messages)


def _build_chat_message(item: object) -> ChatMessage:
    if not isinstance(item, Mapping) or set(item) != {"role", "content"}:
        raise InvalidInput("expected role and content", "messages")
    role, content = item["role"], item["content"]
    if not isinstance(role, str) or not isinstance(content, str):
        raise InvalidInput("expected strings", "messages")
    return ChatMessage(role=role, content=content)
