"""The teacher-forced reference pass: claimed answers in, per-token statistics out, logits never.

Answers are sorted by length and padded on the right, so that causal attention needs no mask; the projection to the
vocabulary runs over some positions at a time, which bounds the memory whatever the batch. The statistics of
these positions are shared out over as many threads as torch has (numpy lets go of the interpreter on long rows).
"""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from models.claimed_noise import open_claimed_noise
from models.forward import compute_hidden, project_unrounded
from models.load import LoadedModel, check_vocabulary
from models.requests import ReferenceRequest, TokenStatistics
from models.token_statistics import (
    PositionStatistics,
    compute_position_statistics,
    has_free_noise,
    has_noise,
    join_statistics,
)
from scoring.errors import InvalidInput

BATCH_TOKENS = 2048
CHUNK_POSITIONS = 128
"""With half as many, the projection takes a fifth longer: weights are read for each chunk. 25 MB of 49,152 logits."""


def score_batch(loaded: LoadedModel, items: Sequence[ReferenceRequest]) -> list[TokenStatistics]:
    """Return the statistics of each claimed answer, in the order of the items.

    Raises InvalidInput when a token is not in the vocabulary or an answer does not fit the context.
    """
    for item in items:
        check_reference_request(loaded, item)
    found: dict[int, TokenStatistics] = {}
    for group in group_by_length(items):
        chosen = [items[index] for index in group]
        scored = score_states(loaded, chosen, compute_answer_states(loaded, chosen))
        found.update(zip(group, scored, strict=True))
    return [found[index] for index in range(len(items))]


def check_reference_request(loaded: LoadedModel, item: ReferenceRequest) -> None:
    """Raise InvalidInput when a request names tokens or a length that the model does not have."""
    check_vocabulary(loaded, item.prompt_ids, "prompt_ids")
    check_vocabulary(loaded, item.output_ids, "output_ids")
    if _compute_length(item) > loaded.manifest.context_length:
        raise InvalidInput(
            f"{_compute_length(item)} tokens do not fit a context of {loaded.manifest.context_length}", "output_ids"
        )


def _compute_length(item: ReferenceRequest) -> int:
    return len(item.prompt_ids) + len(item.output_ids)


def group_by_length(items: Sequence[ReferenceRequest]) -> list[list[int]]:
    """Return indices of the items in groups of similar length and at most BATCH_TOKENS padded tokens (or one item)."""
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(items)), key=lambda place: -_compute_length(items[place])):
        if not groups or (len(groups[-1]) + 1) * longest > BATCH_TOKENS:
            groups.append([])
            longest = _compute_length(items[index])
        groups[-1].append(index)
    return groups


@torch.inference_mode()
def score_states(loaded: LoadedModel, items: Sequence[ReferenceRequest], hidden: Any) -> list[TokenStatistics]:
    """Return the statistics of claimed answers from their hidden states, [all output positions in order, size].

    The states depend on the tokens alone: one answer can be scored under many samplings for one pass of the decoder.
    """
    places = [(item, position) for item in items for position in range(len(item.output_ids))]
    streams = [open_claimed_noise(item) if has_noise(item) and not has_free_noise(item) else None for item in items]
    sources = [stream for stream, item in zip(streams, items, strict=True) for _ in item.output_ids]
    rows: list[PositionStatistics] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(places), CHUNK_POSITIONS):
            logits = project_unrounded(loaded, hidden[start : start + CHUNK_POSITIONS]).cpu().numpy()
            chunk = places[start : start + CHUNK_POSITIONS]
            fresh = _compute_rows(pool, logits, chunk)
            rows += _add_streamed_margins(fresh, logits, chunk, sources[start : start + CHUNK_POSITIONS])
    found = iter(rows)
    return [join_statistics([next(found) for _ in item.output_ids], item) for item in items]


@torch.inference_mode()
def compute_answer_states(loaded: LoadedModel, items: Sequence[ReferenceRequest]) -> Any:
    """Return the hidden states that the output tokens were drawn from, [all output positions in order, size]."""
    # The last output token is scored but never fed.
    ids = torch.zeros(len(items), max(_compute_length(item) for item in items) - 1 or 1, dtype=torch.long)
    for row, item in enumerate(items):
        tokens = (item.prompt_ids + item.output_ids)[: ids.shape[1]]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    hidden = compute_hidden(loaded, ids.to(loaded.device))
    rows = [row for row, item in enumerate(items) for _ in item.output_ids]
    columns = [len(item.prompt_ids) - 1 + position for item in items for position in range(len(item.output_ids))]
    return hidden[rows, columns]


def _compute_rows(pool: Executor, logits: Any, places: list[tuple[ReferenceRequest, int]]) -> list[PositionStatistics]:
    def compute(start: int) -> list[PositionStatistics]:
        return [
            compute_position_statistics(logits[index], item.output_ids[position], item, position)
            for index, (item, position) in enumerate(places[start : start + share], start)
        ]

    # One hand-over for each thread: for each row it would cost a fifth of the row's own work.
    share = -(-len(places) // torch.get_num_threads())
    if share == len(places):
        # Another thread may be another core, with none of these logits in its cache.
        return compute(0)
    return [row for rows in pool.map(compute, range(0, len(places), share)) for row in rows]


def _add_streamed_margins(
    rows: list[PositionStatistics], logits: Any, places: list[tuple[ReferenceRequest, int]], sources: list[Any]
) -> list[PositionStatistics]:
    """Return the rows with margins of samplers whose noise must be read position by position, in order."""
    result = []
    for row, values, (item, position), noise in zip(rows, logits, places, sources, strict=True):
        if noise is not None:
            margin, gap = noise.compute_margin(values, item.output_ids[position], position)
            row = replace(row, margin=margin, gap=gap)
        result.append(row)
    return result
