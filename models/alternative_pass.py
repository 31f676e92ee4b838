"""Claimed answers under an alternative: one prefill each, then one exp-sum a position, logits never kept.

Answers of similar length are padded on the right; the projection to the vocabulary runs over CHUNK_POSITIONS at a time,
so that memory does not grow with tokens times vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.alternatives import (
    KIND_NUMERICS,
    KIND_SIBLING,
    KIND_SKIPPED_LAYER,
    KIND_WEIGHTS,
    Alternative,
    AlternativeColumns,
    SkippedAlternative,
    build_alternative_prompt,
)
from models.claimed_noise import has_noise, open_claimed_noise
from models.foreign_text import compute_text_columns
from models.forward import project_alternative
from models.load import LoadedModel
from models.reference import CHUNK_POSITIONS, check_reference_request, compute_answer_states, group_by_length
from models.requests import ChatMessage, ReferenceRequest
from models.sampler import filter_logits
from models.samplers_seeded import Noise
from models.token_statistics import round_column
from models.variant_weights import WeightsShelf, has_same_tokens
from scoring.errors import InvalidInput
from scoring.evidence.greedy import GREEDY_TEMPERATURE

_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClaimedPosition:
    """One output position of one request: what was claimed there and how it says it was drawn.

    `index` is the request's place in the batch, `noise` that of the request, None when it has no winner.
    """

    index: int
    request: ReferenceRequest
    position: int
    noise: Noise | None

    @property
    def token(self) -> int:
        """The claimed token."""
        return self.request.output_ids[self.position]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionColumns:
    """The numbers of one position; margin and gap are None where the request has none."""

    logprob: float
    margin: float | None
    gap: float | None


def compute_alternative_columns(
    loaded: LoadedModel,
    alternative: Alternative,
    requests: Sequence[ReferenceRequest],
    messages: Sequence[Sequence[ChatMessage] | None] | None = None,
    *,
    shelf: WeightsShelf | None = None,
) -> list[AlternativeColumns | SkippedAlternative]:
    """Return the columns of each request under one alternative, in the order of the requests.

    `messages` holds each request's conversation where known. `shelf` keeps the weights between calls; ask for one
    alternative with many requests rather than the other way round. Raises InvalidInput for tokens that the model does
    not have or an answer that does not fit its context, and what `WeightsShelf` raises for damaged caches.
    """
    if messages is not None and len(messages) != len(requests):
        raise InvalidInput("one conversation (or None) for each request", "messages")
    for request in requests:
        check_reference_request(loaded, request)
    conversations = messages if messages is not None else [None] * len(requests)
    prompts = [
        build_alternative_prompt(loaded, alternative, request, conversation)
        for request, conversation in zip(requests, conversations, strict=True)
    ]
    changed = {
        place: replace(requests[place], prompt_ids=prompt)
        for place, prompt in enumerate(prompts)
        if not isinstance(prompt, SkippedAlternative)
    }
    served = _open_weights(loaded, alternative, shelf) if changed else loaded
    if alternative.kind == KIND_SIBLING and not has_same_tokens(loaded, served):
        return compute_text_columns(loaded, served, requests, conversations)
    found = dict(zip(changed, compute_columns(served, list(changed.values())), strict=True))
    return [prompt if isinstance(prompt, SkippedAlternative) else found[at] for at, prompt in enumerate(prompts)]


def compute_columns(loaded: LoadedModel, requests: Sequence[ReferenceRequest]) -> list[AlternativeColumns]:
    """Return the columns of each request under a model as it stands, in the order of the requests."""
    rows: list[list[PositionColumns]] = [[] for _ in requests]
    for places, logits in iterate_logits(loaded, requests):
        for place, numbers in zip(places, compute_chunk(logits, places), strict=True):
            rows[place.index].append(numbers)
    return [_join(rows[index], request) for index, request in enumerate(requests)]


@torch.inference_mode()
def iterate_logits(
    loaded: LoadedModel, requests: Sequence[ReferenceRequest]
) -> Iterator[tuple[list[ClaimedPosition], Any]]:
    """Yield up to CHUNK_POSITIONS positions and their float32 logits [positions, vocabulary], until all were had.

    The positions of one request come in ascending order. The logits are gone after the next step.
    """
    for group in group_by_length(requests):
        hidden = compute_answer_states(loaded, [requests[index] for index in group])
        places = [place for index in group for place in _list_places(index, requests[index])]
        for start in range(0, len(places), CHUNK_POSITIONS):
            logits = project_alternative(loaded, hidden[start : start + CHUNK_POSITIONS])
            yield places[start : start + CHUNK_POSITIONS], logits


def compute_chunk(logits: Any, places: Sequence[ClaimedPosition]) -> list[PositionColumns]:
    """Return the numbers of some positions from their float32 logits [positions, vocabulary]: all work a row costs."""
    logprobs = _compute_plain_logprobs(logits, places)
    result = []
    for row, place in enumerate(places):
        logprob, margin, gap = logprobs[row], None, None
        if place.noise is not None or _is_filtered(place.request):
            values = logits[row].cpu().numpy()
            if _is_filtered(place.request):
                logprob = _compute_filtered_logprob(values, place)
            if place.noise is not None:
                margin, gap = place.noise.compute_margin(values, place.token, place.position)
        result.append(PositionColumns(logprob=logprob, margin=margin, gap=gap))
    return result


def _list_places(index: int, request: ReferenceRequest) -> list[ClaimedPosition]:
    noise = open_claimed_noise(request)
    return [
        ClaimedPosition(index=index, request=request, position=position, noise=noise)
        for position in range(len(request.output_ids))
    ]


def _is_filtered(request: ReferenceRequest) -> bool:
    # At temperature 0 no filter decides anything.
    return request.temperature > 0.0 and (request.top_p < 1.0 or request.top_k > 0)


def _compute_plain_logprobs(logits: Any, places: Sequence[ClaimedPosition]) -> list[float]:
    temperatures = [place.request.temperature or GREEDY_TEMPERATURE for place in places]
    if any(temperature != 1.0 for temperature in temperatures):
        logits = logits / torch.tensor(temperatures, device=logits.device)[:, None]
    tokens = torch.tensor([place.token for place in places], device=logits.device)
    # The fused kernel takes a third of the time of gather and logsumexp.
    values: list[float] = (-torch.nn.functional.cross_entropy(logits, tokens, reduction="none")).tolist()
    return values


def _compute_filtered_logprob(logits: Any, place: ClaimedPosition) -> float:
    request = place.request
    kept = filter_logits(logits, request.temperature, request.top_p, request.top_k)
    values = torch.from_numpy(kept[kept > -math.inf]).double() / request.temperature
    return float(kept[place.token]) / request.temperature - float(torch.logsumexp(values, dim=0))


def _open_weights(loaded: LoadedModel, alternative: Alternative, shelf: WeightsShelf | None) -> LoadedModel:
    shelf = shelf or WeightsShelf(loaded)
    value = str(alternative.parameters[0][1])
    if alternative.kind == KIND_WEIGHTS:
        return shelf.open_variant(value)
    if alternative.kind == KIND_SKIPPED_LAYER:
        return shelf.open_without_layer(int(value))
    if alternative.kind == KIND_NUMERICS:
        return shelf.open_numerics(value)
    if alternative.kind == KIND_SIBLING:
        return shelf.open_sibling(value)
    return loaded


def _join(rows: list[PositionColumns], request: ReferenceRequest) -> AlternativeColumns:
    is_seeded = has_noise(request)
    return AlternativeColumns(
        logprob=tuple(round(row.logprob, _DECIMALS) for row in rows),
        margin=round_column([row.margin for row in rows]) if is_seeded else None,
        gap=round_column([row.gap for row in rows]) if is_seeded else None,
    )
