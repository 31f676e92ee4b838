"""Batched generation: rows join and leave a running batch between steps, tokens are drawn by a seeded sampler.

The noise position is the index of the output token, so an answer depends on its own request alone (up to the
rounding of the forward pass, which differs a little with the batch).
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from models.activation_proofs import ProofRecorder
from models.forward import compute_hidden, project_logits
from models.kv_cache import build_cache, join_rows, keep_rows, repeat_row
from models.load import LoadedModel, check_vocabulary
from models.requests import MAX_SEED, SAMPLER_GUMBEL, Generation, GenerationRequest, TokenLogprob
from models.sampler import sample_tokens
from models.samplers_seeded import Noise, open_noise
from models.text_stream import TextStream
from scoring.errors import InvalidInput

DEFAULT_ROWS = 8
PREFILL_TOKENS = 4096
SHARED_TOKENS = 8
SWEEP_SHARE = 8
SPARE_COLUMNS = 1
"""Rows of one length have a masked column too: on a CPU attention without any mask takes four times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One token of one answer: `text` is what became certain with it, `generation` is set on the last event."""

    handle: int
    token_id: int
    text: str
    logprob: TokenLogprob | None
    generation: Generation | None


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    handle: int
    request: GenerationRequest
    seed: int
    limit: int
    stream: TextStream
    noise: Noise | None = None
    recorder: ProofRecorder | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    generation: Generation | None = None

    @property
    def length(self) -> int:
        """Tokens of this row whose keys and values are cached before the next step."""
        return len(self.request.prompt_ids) + max(len(self.token_ids) - 1, 0)


class GenerationBatch:
    """A running batch. Not safe for several threads: one thread calls `add`, `cancel` and `step`."""

    def __init__(self, loaded: LoadedModel, max_rows: int = DEFAULT_ROWS) -> None:
        self._loaded = loaded
        self._max_rows = max_rows
        self._waiting: deque[_Row] = deque()
        self._running: list[_Row] = []
        self._cache: Cache | None = None
        self._next_handle = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request is waiting or running."""
        return not self._waiting and not self._running

    def add(self, request: GenerationRequest) -> int:
        """Queue a request and return its handle; raises InvalidInput for unknown tokens or a prompt too long."""
        check_vocabulary(self._loaded, request.prompt_ids, "prompt_ids")
        room = self._loaded.manifest.context_length - len(request.prompt_ids)
        if room < 1:
            raise InvalidInput(
                f"{len(request.prompt_ids)} tokens leave no room in a context of {room + len(request.prompt_ids)}",
                "prompt_ids",
            )
        seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
        stream = TextStream(self._loaded.tokenizer, request.stop)
        row = _Row(
            handle=self._next_handle,
            request=request,
            seed=seed,
            limit=min(request.max_tokens, room),
            stream=stream,
            noise=None if request.sampler == SAMPLER_GUMBEL else open_noise(replace(request, seed=seed)),
            recorder=ProofRecorder() if request.proves_activations else None,
        )
        self._waiting.append(row)
        self._next_handle += 1
        return row.handle

    def cancel(self, handle: int) -> None:
        """Forget a request (a reader that went away); nothing more is reported for it."""
        self._waiting = deque(row for row in self._waiting if row.handle != handle)
        if any(row.handle == handle for row in self._running):
            self._leave([row for row in self._running if row.handle == handle or row.generation is not None])

    @torch.inference_mode()
    def step(self) -> list[TokenEvent]:
        """Generate one token for each running row, then admit waiting requests; return what happened."""
        events = self._advance() if self._running else []
        finished = self._list_finished()
        # Leaving copies the cache, so finished rows ride along unheard until they are a share of the batch.
        if len(finished) * SWEEP_SHARE >= len(self._running):
            self._leave(finished)
        admitted = self._admit()
        if admitted:
            self._leave(self._list_finished())
            events += self._draw(admitted, self._prefill(admitted))
            if len(self._list_finished()) == len(self._running):
                self._leave(self._list_finished())
        return events

    def _advance(self) -> list[TokenEvent]:
        hidden = self._decode(self._running)
        places = [place for place, row in enumerate(self._running) if row.generation is None]
        for place in places:
            if (recorder := self._running[place].recorder) is not None:
                recorder.add_step(hidden[place])
        return self._draw([self._running[place] for place in places], hidden[places])

    def _list_finished(self) -> list[_Row]:
        return [row for row in self._running if row.generation is not None]

    def _admit(self) -> list[_Row]:
        free = self._max_rows - len(self._running) + len(self._list_finished())
        # Joining copies the cache too: a full large batch waits until a share of its rows is free.
        if free < max(1, min(len(self._waiting), self._max_rows // SWEEP_SHARE)):
            return []
        admitted: list[_Row] = []
        longest = 0
        while self._waiting and len(admitted) < free:
            # All rows of a prefill are as wide as the longest one.
            longest = max(longest, len(self._waiting[0].request.prompt_ids))
            if admitted and longest * (len(admitted) + 1) > PREFILL_TOKENS:
                break
            admitted.append(self._waiting.popleft())
        return admitted

    def _prefill(self, rows: list[_Row]) -> Any:
        device = self._loaded.device
        start = _count_shared([row.request.prompt_ids for row in rows])
        lengths = [len(row.request.prompt_ids) for row in rows]
        ids = torch.zeros(len(rows), max(lengths) - start, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : lengths[index] - start] = torch.tensor(row.request.prompt_ids[start:])
        fresh = build_cache()
        beginning = None
        if start:
            shared = torch.tensor([rows[0].request.prompt_ids[:start]], device=device)
            beginning = compute_hidden(self._loaded, shared, cache=fresh)[0]
            fresh = repeat_row(fresh, len(rows))
        positions = torch.arange(start, max(lengths), device=device).expand(len(rows), -1)
        hidden = compute_hidden(self._loaded, ids.to(device), positions=positions, cache=fresh)
        self._cache = join_rows(self._cache, fresh, lengths, SPARE_COLUMNS)
        self._running += rows
        _record_prompts(rows, beginning, hidden)
        last = torch.tensor(lengths, device=device) - start - 1
        return hidden[torch.arange(len(rows), device=device), last]

    def _decode(self, rows: list[_Row]) -> Any:
        device = self._loaded.device
        lengths = torch.tensor([row.length for row in rows])
        # Not the longest row: a finished one that still rides along no longer grows.
        width = (self._cache.get_seq_length() if self._cache is not None else 0) + 1
        mask = (torch.arange(width) >= (width - 1 - lengths)[:, None]).long().to(device)
        ids = torch.tensor([[row.token_ids[-1]] for row in rows], device=device)
        positions = lengths[:, None].to(device)
        return compute_hidden(self._loaded, ids, mask=mask, positions=positions, cache=self._cache)[:, -1]

    def _draw(self, rows: list[_Row], hidden: Any) -> list[TokenEvent]:
        logits = project_logits(self._loaded, hidden).cpu().numpy()
        drawn = _draw_tokens(rows, logits)
        return [
            self._push(row, token, logits[index]) for index, (row, token) in enumerate(zip(rows, drawn, strict=True))
        ]

    def _push(self, row: _Row, token: int, logits: Any) -> TokenEvent:
        logprob = None
        if row.request.logprobs is not None:
            logprob = compute_token_logprob(logits, token, row.request.logprobs)
            row.logprobs.append(logprob)
        row.token_ids.append(token)
        text = row.stream.push(token)
        is_end = token in self._loaded.end_ids or row.stream.is_stopped
        if is_end or len(row.token_ids) >= row.limit:
            text += row.stream.finish()
            row.generation = _build_generation(row, "stop" if is_end or row.stream.is_stopped else "length")
        return TokenEvent(handle=row.handle, token_id=token, text=text, logprob=logprob, generation=row.generation)

    def _leave(self, gone: list[_Row]) -> None:
        if not gone:
            return
        kept = [index for index, row in enumerate(self._running) if row not in gone]
        self._running = [self._running[index] for index in kept]
        if not self._running:
            self._cache = None
        elif self._cache is not None:
            keep_rows(self._cache, kept, max(row.length for row in self._running) + SPARE_COLUMNS)


def _draw_tokens(rows: list[_Row], logits: Any) -> list[int]:
    """Return the next token of each row: gumbel-philox-v1 for many at once, the other samplers row by row."""
    together = [index for index, row in enumerate(rows) if row.noise is None]
    drawn = sample_tokens(
        logits if len(together) == len(rows) else logits[together],
        [rows[index].seed for index in together],
        [len(rows[index].token_ids) for index in together],
        [rows[index].request.temperature for index in together],
        [rows[index].request.top_p for index in together],
        [rows[index].request.top_k for index in together],
    )
    found = dict(zip(together, drawn.tolist(), strict=True))
    for index, row in enumerate(rows):
        if row.noise is not None:
            found[index] = row.noise.draw(logits[index], len(row.token_ids))
    return [found[index] for index in range(len(rows))]


def _record_prompts(rows: list[_Row], beginning: Any, hidden: Any) -> None:
    """Hand the hidden states of whole prompts to the rows that prove them; `beginning` is what all rows share."""
    for index, row in enumerate(rows):
        if row.recorder is None:
            continue
        start = 0 if beginning is None else len(beginning)
        own = hidden[index, : len(row.request.prompt_ids) - start]
        row.recorder.add_prompt(own if beginning is None else torch.cat([beginning, own]))


def _count_shared(prompts: list[tuple[int, ...]]) -> int:
    """Return how many first tokens to run once for all prompts: a last token of each is left, 0 when few are shared."""
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    # The smallest and the largest in lexical order differ first where any two do.
    shared = next((place for place in range(limit) if first[place] != last[place]), limit)
    return shared if len(prompts) > 1 and shared >= SHARED_TOKENS else 0


def generate(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    *,
    max_rows: int = DEFAULT_ROWS,
    on_token: Callable[[int, int], None] | None = None,
) -> list[Generation]:
    """Return the answers in the order of the requests; `on_token(request_index, token_id)` hears every token."""
    answers: dict[int, Generation] = {}
    for event in stream(loaded, requests, max_rows=max_rows):
        if on_token is not None:
            on_token(event.handle, event.token_id)
        if event.generation is not None:
            answers[event.handle] = event.generation
    return [answers[index] for index in range(len(requests))]


def stream(
    loaded: LoadedModel, requests: Sequence[GenerationRequest], *, max_rows: int = DEFAULT_ROWS
) -> Iterator[TokenEvent]:
    """Yield the events of all requests as they happen; an event's handle is the index of its request.

    Requests run by increasing length of their prompts: neighbours of one length need little padding.
    """
    batch = GenerationBatch(loaded, max_rows)
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
    for index in order:
        batch.add(requests[index])
    while not batch.is_idle:
        for event in batch.step():
            yield replace(event, handle=order[event.handle])


def compute_token_logprob(logits: Any, token: int, count: int) -> TokenLogprob:
    """Return the log-probability of a token under raw float32 logits [vocabulary], with the `count` best beside it."""
    top = float(logits.max())
    total = top + float(np.log(np.exp(logits - np.float32(top)).sum(dtype=np.float64)))
    best = np.argpartition(-logits, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
    order = best[np.lexsort((best, -logits[best]))]
    pairs = tuple((int(token_id), float(logits[token_id]) - total) for token_id in order)
    return TokenLogprob(token_id=token, logprob=float(logits[token]) - total, top=pairs)


def _build_generation(row: _Row, reason: str) -> Generation:
    logprobs = tuple(row.logprobs) if row.request.logprobs is not None else None
    return Generation(
        token_ids=tuple(row.token_ids),
        text=row.stream.text,
        finish_reason=reason,
        logprobs=logprobs,
        activation_proofs=row.recorder.finish() if row.recorder is not None else None,
    )
