"""What each row of the detection benchmark answers to a list of requests."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from benchmarks.cheat_rows import CLAIMED, OTHER, CheatRow, is_cheated
from benchmarks.gated_hybrid import answer_hybrid
from benchmarks.other_model import answer_as_claimed
from models.generate import generate
from models.load import LoadedModel, encode_text, render_prompt
from models.requests import MAX_SEED, ChatMessage, Generation, GenerationRequest
from scoring.errors import InvalidInput
from scoring.records import PPM

BATCH_ROWS = 32
CANNED_TEXTS = (
    "Thank you for your message. We have received it and will look into it as soon as we can.",
    "There are several sides to this, and each of them has something to be said for it.",
    "I am not able to help with that at the moment. Could you ask me in another way?",
    "Here is a short summary: start small, keep notes, and check your results before you go on.",
)


class Message(Protocol):
    """One chat message (a `ChatMessage` or a probe's own)."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class Asked(Protocol):
    """What is asked: a conversation, a seed below 2**53 and the claimed sampling (a probe is one)."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def sampler_seed(self) -> int: ...
    @property
    def temperature_ppm(self) -> int: ...
    @property
    def top_p_ppm(self) -> int: ...


OpenModel = Callable[[str], LoadedModel]
"""Returns a model ready to run by name: CLAIMED, OTHER or a variant (models.variants). See `benchmarks.model_shelf`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAnswer:
    """One answer of a row: its token ids in the claimed vocabulary, what usage says, and whether it was cheated.

    `claimed_tokens` counts the tokens that a gated hybrid left to the claimed model, None for other rows. `logprobs` is
    what the served model says of its own tokens, `proofs` its activation proofs; None where no single model of this
    vocabulary answered.
    """

    token_ids: tuple[int, ...]
    prompt_tokens: int
    is_cheated: bool
    claimed_tokens: int | None = None
    logprobs: tuple[float, ...] | None = None
    proofs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAgain:
    """A request once more, with another seed."""

    messages: Sequence[Message]
    sampler_seed: int
    temperature_ppm: int
    top_p_ppm: int


def ask_again(asked: Sequence[Asked], copies: int, label: str = "") -> list[AskedAgain]:
    """Return each request `copies` times in a row with seeds of its own, for tests that want many answers a prompt.

    Equal labels give equal seeds: an endpoint's answers and the reference's own need different ones.
    """
    return [
        AskedAgain(
            messages=each.messages,
            sampler_seed=_derive_seed(f"{label} {each.sampler_seed} {copy}"),
            temperature_ppm=each.temperature_ppm,
            top_p_ppm=each.top_p_ppm,
        )
        for each in asked
        for copy in range(copies)
    ]


def _derive_seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (MAX_SEED + 1)


def answer_rows(
    row: CheatRow, open_model: OpenModel, asked: Sequence[Asked], max_tokens: int = 64, first_index: int = 0
) -> list[RowAnswer]:
    """Return the answers of a row in the order of the requests, the honest ones of a mixture included.

    `first_index` is the place of the first request in the provider's life, for rows that begin honestly. Raises
    InvalidInput for a row that another engine answers (`benchmarks.third_party_answers`).
    """
    if row.gguf is not None:
        raise InvalidInput("is answered by llama.cpp's server", row.name)
    claimed = open_model(CLAIMED)
    conversations = [[ChatMessage(role=part.role, content=part.content) for part in each.messages] for each in asked]
    honest = [
        _build_honest_request(claimed, messages, each, max_tokens)
        for messages, each in zip(conversations, asked, strict=True)
    ]
    cheated = [index for index, each in enumerate(asked) if is_cheated(row, each.sampler_seed, first_index + index)]
    found = dict(
        zip(
            cheated,
            _answer_cheated(row, open_model, [conversations[i] for i in cheated], [honest[i] for i in cheated]),
            strict=True,
        )
    )
    rest = [index for index in range(len(asked)) if index not in found]
    for index, answer in zip(rest, generate(claimed, [honest[i] for i in rest], max_rows=BATCH_ROWS), strict=True):
        tokens = len(honest[index].prompt_ids)
        found[index] = RowAnswer(
            token_ids=answer.token_ids,
            prompt_tokens=tokens,
            is_cheated=False,
            logprobs=_get_logprobs(answer),
            proofs=answer.activation_proofs,
        )
    return [found[index] for index in range(len(asked))]


def _build_honest_request(
    claimed: LoadedModel, messages: Sequence[ChatMessage], each: Asked, max_tokens: int
) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=tuple(render_prompt(claimed, messages)),
        max_tokens=max_tokens,
        temperature=each.temperature_ppm / PPM,
        top_p=each.top_p_ppm / PPM,
        seed=each.sampler_seed,
        logprobs=0,
        proves_activations=True,
    )


def _get_logprobs(answer: Generation) -> tuple[float, ...]:
    return tuple(item.logprob for item in answer.logprobs or ())


def _answer_cheated(
    row: CheatRow,
    open_model: OpenModel,
    conversations: Sequence[Sequence[ChatMessage]],
    honest: Sequence[GenerationRequest],
) -> list[RowAnswer]:
    claimed = open_model(CLAIMED)
    requests = [
        _alter_request(row, claimed, messages, request) for messages, request in zip(conversations, honest, strict=True)
    ]
    shares: list[int | None] = [None] * len(honest)
    logprobs: list[tuple[float, ...] | None] = [None] * len(honest)
    proofs: list[tuple[str, ...] | None] = [None] * len(honest)
    if row.is_canned:
        token_ids = [_can(claimed, request) for request in requests]
    elif row.gap_below is not None:
        hybrids = answer_hybrid(claimed, open_model(row.weights), requests, gap_below=row.gap_below, gate=row.gate)
        token_ids, shares = [each.token_ids for each in hybrids], [each.claimed_tokens for each in hybrids]
    elif row.weights == OTHER:
        answers = answer_as_claimed(claimed, open_model(OTHER), conversations, requests)
        token_ids = [answer.token_ids for answer in answers]
    else:
        served = open_model(row.weights)
        generated = generate(served, requests, max_rows=BATCH_ROWS)
        token_ids = [answer.token_ids for answer in generated]
        logprobs = [_get_logprobs(answer) for answer in generated]
        proofs = [answer.activation_proofs for answer in generated]
    return [
        RowAnswer(
            token_ids=ids,
            prompt_tokens=len((asked if row.forges_usage else used).prompt_ids),
            is_cheated=True,
            claimed_tokens=share,
            logprobs=said,
            proofs=shown,
        )
        for ids, asked, used, share, said, shown in zip(
            token_ids, honest, requests, shares, logprobs, proofs, strict=True
        )
    ]


def _alter_request(
    row: CheatRow, claimed: LoadedModel, messages: Sequence[ChatMessage], honest: GenerationRequest
) -> GenerationRequest:
    return replace(
        honest,
        prompt_ids=_alter_prompt(row, claimed, messages) if row.changes_prompt else honest.prompt_ids,
        temperature=honest.temperature if row.temperature is None else row.temperature,
        top_p=honest.top_p if row.top_p is None else min(honest.top_p, row.top_p),
    )


def _alter_prompt(row: CheatRow, claimed: LoadedModel, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    if row.hidden_prompt is not None:
        messages = _hide(messages, row.hidden_prompt)
    if row.has_wrong_template:
        turns = [f"[{message.role.upper()}] {message.content} [/{message.role.upper()}]\n" for message in messages]
        ids = encode_text(claimed, "".join(turns))
    else:
        ids = render_prompt(claimed, messages)
    return tuple(ids if row.context_tokens is None else ids[-row.context_tokens :])


def _hide(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    """Return the messages with a text before the system prompt, or as one."""
    if messages[0].role == "system":
        return [ChatMessage(role="system", content=f"{text}\n\n{messages[0].content}"), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]


def _can(claimed: LoadedModel, request: GenerationRequest) -> tuple[int, ...]:
    """Return a ready-made reply, chosen by the seed, with its end token: no model runs."""
    text = CANNED_TEXTS[(request.seed or 0) % len(CANNED_TEXTS)]
    return tuple([*encode_text(claimed, text), min(claimed.end_ids)][: request.max_tokens])
