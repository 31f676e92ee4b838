"""Claimed answers under an alternative: one prefill each, then one exp-sum a position, logits never kept.

Answers are sorted by length and padded on the right; the projection to the vocabulary runs over CHUNK_POSITIONS at a
time, so that memory does not grow with tokens times vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.alternatives import (
    KIND_SIBLING,
    KIND_WEIGHTS,
    Alternative,
    AlternativeColumns,
    SkippedAlternative,
    build_alternative_prompt,
)
from models.forward import compute_hidden, project_logits
from models.load import LoadedModel, check_vocabulary
from models.requests import SAMPLER_GUMBEL, ChatMessage, ReferenceRequest
from models.sampler import compute_gumbel_noise, filter_logits, find_winner
from models.variant_weights import WeightsShelf
from scoring.errors import InvalidInput

BATCH_TOKENS = 2048
CHUNK_POSITIONS = 64
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedPosition:
    """One output position of one request: what was claimed there and how it says it was drawn."""

    request: ReferenceRequest
    position: int

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
        _check_request(loaded, request)
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
    if isinstance(served, SkippedAlternative):
        return [served] * len(requests)
    found = dict(zip(changed, compute_columns(served, list(changed.values())), strict=True))
    return [prompt if isinstance(prompt, SkippedAlternative) else found[at] for at, prompt in enumerate(prompts)]


def compute_columns(loaded: LoadedModel, requests: Sequence[ReferenceRequest]) -> list[AlternativeColumns]:
    """Return the columns of each request under a model as it stands, in the order of the requests."""
    found: dict[int, AlternativeColumns] = {}
    for group in _group_by_length(requests):
        columns = _score_group(loaded, [requests[place] for place in group])
        found.update(zip(group, columns, strict=True))
    return [found[place] for place in range(len(requests))]


def compute_chunk(logits: Any, places: Sequence[ClaimedPosition]) -> list[PositionColumns]:
    """Return the numbers of some positions from their float32 logits [positions, vocabulary]: all work a row costs."""
    logprobs = _compute_plain_logprobs(logits, places)
    result = []
    for row, place in enumerate(places):
        request, logprob = place.request, logprobs[row]
        if not (_is_filtered(request) or has_margin(request)):
            result.append(PositionColumns(logprob=logprob, margin=None, gap=None))
            continue
        values = logits[row].cpu().numpy()
        kept = filter_logits(values, request.temperature, request.top_p, request.top_k)
        if _is_filtered(request):
            logprob = _compute_filtered_logprob(kept, place)
        margin, gap = _compute_margin(kept, place) if has_margin(request) else (None, None)
        result.append(PositionColumns(logprob=logprob, margin=margin, gap=gap))
    return result


def has_margin(request: ReferenceRequest) -> bool:
    """Return whether a request has a winner to compare with: temperature 0, or a seed of our sampler."""
    return request.temperature == 0.0 or (request.sampler == SAMPLER_GUMBEL and request.seed is not None)


def _is_filtered(request: ReferenceRequest) -> bool:
    return request.temperature == 0.0 or request.top_p < 1.0 or request.top_k > 0


def _compute_plain_logprobs(logits: Any, places: Sequence[ClaimedPosition]) -> list[float]:
    temperatures = [place.request.temperature or 1.0 for place in places]
    if any(temperature != 1.0 for temperature in temperatures):
        logits = logits / torch.tensor(temperatures, device=logits.device)[:, None]
    tokens = torch.tensor([place.token for place in places], device=logits.device)
    own = logits.gather(1, tokens[:, None])[:, 0]
    values: list[float] = (own - torch.logsumexp(logits, dim=1)).tolist()
    return values


def _compute_filtered_logprob(kept: Any, place: ClaimedPosition) -> float:
    """Return the log-probability under a row of logits where -inf marks what the filter removed."""
    temperature = place.request.temperature
    if temperature == 0.0:
        return 0.0 if int(kept.argmax()) == place.token else -math.inf
    values = torch.from_numpy(kept[kept > -math.inf]).double() / temperature
    return float(kept[place.token]) / temperature - float(torch.logsumexp(values, dim=0))


def _compute_margin(kept: Any, place: ClaimedPosition) -> tuple[float, float]:
    """Return how far the claimed token is from winning, and how far the winner is from the runner-up."""
    seed, temperature = place.request.seed or 0, place.request.temperature
    winner = find_winner(kept, seed, place.position, temperature)
    score = winner.best
    if place.token != winner.token_id:
        score = float(kept[place.token])
        if temperature > 0.0:
            score += temperature * float(compute_gumbel_noise(seed, place.position, [place.token])[0])
    return winner.best - score, winner.best - winner.second


def _open_weights(
    loaded: LoadedModel, alternative: Alternative, shelf: WeightsShelf | None
) -> LoadedModel | SkippedAlternative:
    shelf = shelf or WeightsShelf(loaded)
    value = str(alternative.parameters[0][1])
    if alternative.kind == KIND_WEIGHTS:
        return shelf.open_variant(value)
    if alternative.kind == KIND_SIBLING:
        try:
            return shelf.open_sibling(value)
        except InvalidInput as error:
            return SkippedAlternative(reason=str(error))
    return loaded


def _check_request(loaded: LoadedModel, request: ReferenceRequest) -> None:
    check_vocabulary(loaded, request.prompt_ids, "prompt_ids")
    check_vocabulary(loaded, request.output_ids, "output_ids")
    if _compute_length(request) > loaded.manifest.context_length:
        raise InvalidInput(
            f"{_compute_length(request)} tokens do not fit a context of {loaded.manifest.context_length}", "output_ids"
        )


def _compute_length(request: ReferenceRequest) -> int:
    return len(request.prompt_ids) + len(request.output_ids)


def _group_by_length(requests: Sequence[ReferenceRequest]) -> list[list[int]]:
    """Return indices in groups of similar length and at most BATCH_TOKENS padded tokens (or one request)."""
    groups: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(requests)), key=lambda index: -_compute_length(requests[index])):
        if not groups or (len(groups[-1]) + 1) * longest > BATCH_TOKENS:
            groups.append([])
            longest = _compute_length(requests[place])
        groups[-1].append(place)
    return groups


@torch.inference_mode()
def _score_group(loaded: LoadedModel, requests: list[ReferenceRequest]) -> list[AlternativeColumns]:
    # The last output token is scored but never fed.
    width = max(_compute_length(request) for request in requests) - 1 or 1
    ids = torch.zeros(len(requests), width, dtype=torch.long)
    for row, request in enumerate(requests):
        tokens = (request.prompt_ids + request.output_ids)[:width]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    hidden = compute_hidden(loaded, ids.to(loaded.device))
    places = [(row, position) for row, request in enumerate(requests) for position in range(len(request.output_ids))]
    rows: list[list[PositionColumns]] = [[] for _ in requests]
    for start in range(0, len(places), CHUNK_POSITIONS):
        chunk = places[start : start + CHUNK_POSITIONS]
        columns = [len(requests[row].prompt_ids) - 1 + position for row, position in chunk]
        logits = project_logits(loaded, hidden[[row for row, _ in chunk], columns])
        claimed = [ClaimedPosition(request=requests[row], position=position) for row, position in chunk]
        for (row, _), numbers in zip(chunk, compute_chunk(logits, claimed), strict=True):
            rows[row].append(numbers)
    return [_join(rows[row], request) for row, request in enumerate(requests)]


def _join(rows: list[PositionColumns], request: ReferenceRequest) -> AlternativeColumns:
    is_seeded = has_margin(request)
    return AlternativeColumns(
        logprob=tuple(round(row.logprob, _DECIMALS) for row in rows),
        margin=tuple(round(row.margin or 0.0, _DECIMALS) for row in rows) if is_seeded else None,
        gap=tuple(round(row.gap or 0.0, _DECIMALS) for row in rows) if is_seeded else None,
    )
