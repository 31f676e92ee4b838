"""The probability of an answer's text under a model that reads other tokens than the claimed one.

The text is cut into that model's own tokens, and the product of their probabilities is a lower bound of what it gives
the text, a sub-probability over texts: ended answers are told apart by the end token. Of an answer that was cut off,
the next tokens are left open; two such texts of which one begins the other overlap by what the longer one has, which is
in the measured honest mean of the ratio like all else. Two answers of the claimed model may spell one text: only the
canonical cut has a probability, all others have none, so that each text counts once.

Each probability stands at the claimed position where its token begins: a token that reaches beyond a window is paid for
in the window where it begins, so that the beginning of an answer has no more than its due.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.alternatives import AlternativeColumns, SkippedAlternative, render_role_lines
from models.load import LoadedModel, decode_tokens, encode_text, render_prompt
from models.requests import ChatMessage, ReferenceRequest
from scoring.errors import InvalidInput

LOG_END, LOG_ON = -3.5, -0.031
"""A model without a chat template has no end of an answer: it ends after each token with e^-3.5 = 0.03."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAnswer:
    """An answer in another model's tokens. `places` [output tokens] are the claimed positions where these begin.

    `constants` are log-probabilities by claimed position that no token stands for.
    """

    request: ReferenceRequest
    places: tuple[int, ...]
    constants: tuple[tuple[int, float], ...]


def compute_text_columns(
    claimed: LoadedModel,
    other: LoadedModel,
    requests: Sequence[ReferenceRequest],
    messages: Sequence[Sequence[ChatMessage] | None],
) -> list[AlternativeColumns | SkippedAlternative]:
    """Return the columns of each answer as a text of another model, `is_whole`, without margins and gaps."""
    from models.alternative_pass import compute_columns

    found = [_translate(claimed, other, *pair) for pair in zip(requests, messages, strict=True)]
    known = {place: item for place, item in enumerate(found) if isinstance(item, ForeignAnswer)}
    scored = compute_columns(other, [item.request for item in known.values()])
    columns = {
        place: _spread(item, row.logprob, len(requests[place].output_ids))
        for (place, item), row in zip(known.items(), scored, strict=True)
    }
    return [columns.get(place) or _get_impossible(item, requests[place]) for place, item in enumerate(found)]


def _get_impossible(
    item: ForeignAnswer | SkippedAlternative | None, request: ReferenceRequest
) -> AlternativeColumns | SkippedAlternative:
    if isinstance(item, SkippedAlternative):
        return item
    return _build((-math.inf, *(0.0,) * (len(request.output_ids) - 1)))


def _translate(
    claimed: LoadedModel, other: LoadedModel, request: ReferenceRequest, messages: Sequence[ChatMessage] | None
) -> ForeignAnswer | SkippedAlternative | None:
    """Return an answer of the claimed model in the tokens of another, None when that gives it no probability.

    Only what is known before the answer (or that there is none) is a reason to leave a request out.
    """
    if not messages or not request.output_ids:
        return SkippedAlternative(reason="needs the conversation and an answer")
    try:
        prompt = _render(other, messages)
    except InvalidInput as error:
        return SkippedAlternative(reason=str(error))
    ids = request.output_ids
    has_ended = ids[-1] in claimed.end_ids
    body = ids[:-1] if has_ended else ids
    text = decode_tokens(claimed, body)
    if tuple(encode_text(claimed, text)) != body:
        return None
    has_template = bool(other.tokenizer.chat_template)
    # Servers leave out the space that follows a speaker's name.
    said = text if has_template else f" {text}"
    pieces = encode_text(other, said)
    if decode_tokens(other, pieces) != said:
        return None
    ends = [len(decode_tokens(claimed, body[: place + 1])) for place in range(len(body))]
    begins = [len(decode_tokens(other, pieces[:place])) - len(said) + len(text) for place in range(len(pieces))]
    last = len(ids) - 1
    places = tuple(min(bisect_right(ends, max(begin, 0)), last) for begin in begins)
    constants: list[tuple[int, float]] = []
    if not has_template:
        constants += [(place, LOG_ON) for place in places]
        constants += [(last, LOG_END)] if has_ended else []
    elif has_ended:
        if not other.end_ids:
            return None
        pieces, places = [*pieces, _get_end(other)], (*places, last)
    if len(prompt) + len(pieces) > other.manifest.context_length:
        return None
    return ForeignAnswer(
        request=replace(request, prompt_ids=prompt, output_ids=tuple(pieces)),
        places=places,
        constants=tuple(constants),
    )


def _get_end(other: LoadedModel) -> int:
    own = other.tokenizer.eos_token_id
    return own if own in other.end_ids else min(other.end_ids)


def _spread(answer: ForeignAnswer, logprobs: Sequence[float], length: int) -> AlternativeColumns:
    values = [0.0] * length
    for place, logprob in (*zip(answer.places, logprobs, strict=True), *answer.constants):
        values[place] += logprob
    return _build(tuple(values))


def _build(logprob: tuple[float, ...]) -> AlternativeColumns:
    return AlternativeColumns(logprob=logprob, margin=None, gap=None, is_whole=True)


def _render(other: LoadedModel, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    if other.tokenizer.chat_template:
        return tuple(render_prompt(other, messages))
    # A base model has seen every text begin with its first special token.
    begin = other.tokenizer.bos_token_id
    return (*((begin,) if begin is not None else ()), *encode_text(other, render_role_lines(messages)))
