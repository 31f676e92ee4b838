"""An adversary who knows our statistic: cheap weights, but the claimed ones wherever a cheap token would be noticed.

Both models read the same growing answers. Where the seeded race of the gating model is close (the winner leads by less
than `gap_below` logit units) the claimed model's winner is taken, elsewhere the cheap model's. With `gate` "claimed"
the adversary runs the claimed model everywhere and saves nothing: the hardest case. With `gate` "cheap" it runs the
claimed model only at the close tokens, which is the one that pays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache

from models.forward import compute_hidden, project_logits
from models.load import LoadedModel
from models.requests import GenerationRequest
from models.sampler import Winner, filter_logits, find_winner
from scoring.errors import InvalidInput

GATES = ("claimed", "cheap")
BATCH_ROWS = 32

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridAnswer:
    """One answer and how many of its tokens were the claimed model's to choose."""

    token_ids: tuple[int, ...]
    claimed_tokens: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    request: GenerationRequest
    seed: int
    token_ids: list[int] = field(default_factory=list)
    claimed_tokens: int = 0
    is_done: bool = False


class _Runner:
    """One model's view of a batch: prompts padded on the left, a cache that grows by one column a step."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> None:
        width = max(len(prompt) for prompt in prompts)
        self._loaded = loaded
        self._cache: Cache = DynamicCache()
        self._mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self._next = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])

    def compute_logits(self) -> Logits:
        """Return float32 logits [rows, vocabulary] after everything fed so far."""
        device, columns = self._loaded.device, self._next.shape[1]
        positions = (self._mask.cumsum(dim=1) - 1).clamp_min(0)[:, -columns:]
        hidden = compute_hidden(
            self._loaded,
            self._next.to(device),
            mask=self._mask.to(device),
            positions=positions.to(device),
            cache=self._cache,
        )
        logits: Logits = project_logits(self._loaded, hidden[:, -1]).cpu().numpy()
        return logits

    def feed(self, token_ids: Sequence[int]) -> None:
        """Append one token to each row."""
        self._next = torch.tensor(token_ids)[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._next)], dim=1)


def answer_hybrid(
    claimed: LoadedModel,
    cheap: LoadedModel,
    requests: Sequence[GenerationRequest],
    *,
    gap_below: float,
    gate: str = "claimed",
) -> list[HybridAnswer]:
    """Return the answers in the order of the requests, which need a seed each.

    Stop strings are not looked at. Raises InvalidInput for a request without seed or an unknown gate.
    """
    if gate not in GATES:
        raise InvalidInput(f"must be one of {', '.join(GATES)}", "gate")
    if any(request.seed is None for request in requests):
        raise InvalidInput("a hybrid follows the seeded race: every request needs a seed", "seed")
    answers: list[HybridAnswer] = []
    for start in range(0, len(requests), BATCH_ROWS):
        answers += _answer_batch(claimed, cheap, requests[start : start + BATCH_ROWS], gap_below, gate)
    return answers


@torch.inference_mode()
def _answer_batch(
    claimed: LoadedModel, cheap: LoadedModel, requests: Sequence[GenerationRequest], gap_below: float, gate: str
) -> list[HybridAnswer]:
    rows = [_Row(request=request, seed=request.seed or 0) for request in requests]
    runners = [_Runner(loaded, [request.prompt_ids for request in requests]) for loaded in (claimed, cheap)]
    while not all(row.is_done for row in rows):
        claimed_logits, cheap_logits = (runner.compute_logits() for runner in runners)
        for row, own, other in zip(rows, claimed_logits, cheap_logits, strict=True):
            if not row.is_done:
                _take_token(row, _race(row, own), _race(row, other), gap_below, gate)
                row.is_done = row.token_ids[-1] in claimed.end_ids or len(row.token_ids) >= row.request.max_tokens
        for runner in runners:
            runner.feed([row.token_ids[-1] for row in rows])
    return [HybridAnswer(token_ids=tuple(row.token_ids), claimed_tokens=row.claimed_tokens) for row in rows]


def _take_token(row: _Row, claimed: Winner, cheap: Winner, gap_below: float, gate: str) -> None:
    judge = claimed if gate == "claimed" else cheap
    is_close = judge.best - judge.second < gap_below
    row.token_ids.append(claimed.token_id if is_close else cheap.token_id)
    row.claimed_tokens += is_close


def _race(row: _Row, logits: Any) -> Winner:
    request = row.request
    kept = filter_logits(logits, request.temperature, request.top_p, request.top_k)
    return find_winner(kept, row.seed, len(row.token_ids), request.temperature)
