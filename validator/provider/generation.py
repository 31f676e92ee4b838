"""The thread that owns the models: requests join the running batch between two steps, tokens go back as they come.

Everything that touches a model or its tokenizer happens in this one thread, rendering included; the event loop only
sends jobs and receives pieces. torch is imported in there and nowhere else in the provider.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from scoring.errors import OracleError, Unavailable
from validator.provider.api_errors import ApiError
from validator.provider.logprobs import build_logprob_entry

if TYPE_CHECKING:
    from models.generate import GenerationBatch, TokenEvent
    from models.load import LoadedModel
    from models.requests import Generation, GenerationRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request ready to run on the model `model_key`; `prompt_tokens` is what the usage will say.

    `fixed` is an answer that needs no model (a canned one). `translates_tokens` when the ids that are returned must be
    those of the claimed model's tokenizer although another model answers.
    """

    model_key: str
    request: "GenerationRequest"
    prompt_tokens: int
    fixed: "Generation | None" = None
    translates_tokens: bool = False


Shelf = Mapping[str, "LoadedModel"]
"""The loaded models by key; CLAIMED is always there."""
CLAIMED = "claimed"
Prepare = Callable[[Shelf], Prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one step added to an answer; `finish_reason` and any `activation_proofs` are set on the last piece."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[dict[str, object], ...]
    finish_reason: str | None
    activation_proofs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accepted:
    prompt_tokens: int


_Message = _Accepted | Piece | OracleError


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """One request on its way: the event loop's end of it."""

    prepare: Prepare
    inbox: "asyncio.Queue[_Message]" = field(default_factory=asyncio.Queue)
    prompt_tokens: int = 0
    is_over: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    """The thread's end of a request that is in a batch."""

    ticket: Ticket
    prepared: Prepared


class GenerationThread:
    """Generates answers for many requests at once.

    `load` is called in the thread and returns the models; `max_rows` bounds the rows of one batch, `max_pending` all
    requests that wait or run: more are refused with 429.
    """

    def __init__(self, load: Callable[[], Shelf], *, max_rows: int, max_pending: int) -> None:
        self._load = load
        self._max_rows = max_rows
        self._max_pending = max_pending
        self._orders: queue.SimpleQueue[tuple[str, Ticket | None]] = queue.SimpleQueue()
        self._tickets: set[Ticket] = set()
        self._runs: dict[tuple[str, int], _Run] = {}
        self._batches: dict[str, GenerationBatch] = {}
        self._shelf: Shelf = {}
        self._thread: threading.Thread | None = None
        self._is_closing = False

    @property
    def pending(self) -> int:
        """How many requests wait or run."""
        return len(self._tickets)

    async def start(self) -> "LoadedModel":
        """Load the models and return the claimed one; raises what loading raises."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[LoadedModel] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="generation", daemon=True)
        self._thread.start()
        return await ready

    async def close(self) -> None:
        """Stop after the current step; requests that still run end with Unavailable."""
        self._is_closing = True
        if self._thread is not None:
            self._orders.put(("stop", None))
            await asyncio.to_thread(self._thread.join)

    async def submit(self, prepare: Prepare) -> Ticket:
        """Queue a request and return its ticket once it is accepted.

        Raises ApiError 429 when too much is pending, Unavailable while closing, and what `prepare` raises.
        """
        if self._is_closing:
            raise Unavailable("this provider is shutting down")
        if len(self._tickets) >= self._max_pending:
            raise ApiError(429, "too many requests are pending: try again", code="overloaded", retry_after_s=1)
        ticket = Ticket(prepare=prepare)
        self._tickets.add(ticket)
        self._orders.put(("add", ticket))
        try:
            message = await ticket.inbox.get()
        except asyncio.CancelledError:
            self.cancel(ticket)
            raise
        if isinstance(message, OracleError):
            self.cancel(ticket)
            raise message
        if not isinstance(message, _Accepted):
            raise RuntimeError("the generation thread answered before it accepted")
        ticket.prompt_tokens = message.prompt_tokens
        return ticket

    async def read(self, ticket: Ticket) -> AsyncIterator[Piece]:
        """Yield the pieces of an answer until it is complete; whoever leaves early cancels. Raises Unavailable."""
        while not ticket.is_over:
            message = await ticket.inbox.get()
            if isinstance(message, OracleError):
                raise message
            if isinstance(message, Piece):
                ticket.is_over = message.finish_reason is not None
                yield message
        self._tickets.discard(ticket)

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request; harmless when it is complete."""
        self._tickets.discard(ticket)
        if not ticket.is_over:
            ticket.is_over = True
            self._orders.put(("cancel", ticket))

    # From here on: the generation thread.

    def _run(self, ready: "asyncio.Future[LoadedModel]") -> None:
        try:
            self._shelf = self._load()
        except Exception as error:  # noqa: BLE001  # handed to whoever awaits start()
            self._call_loop(_set_exception, ready, error)
            return
        self._call_loop(_set_result, ready, self._shelf[CLAIMED])
        while self._take_orders():
            self._step()
        for ticket in list(self._tickets):
            self._send(ticket, Unavailable("this provider is shutting down"))

    def _take_orders(self) -> bool:
        """Carry out what was ordered, waiting only when there is nothing to generate; False to stop."""
        is_idle = all(batch.is_idle for batch in self._batches.values())
        while is_idle or not self._orders.empty():
            order, ticket = self._orders.get()
            if ticket is None:
                return False
            if order == "cancel":
                self._drop(ticket)
            else:
                self._add(ticket)
            is_idle = is_idle and all(batch.is_idle for batch in self._batches.values())
        return True

    def _add(self, ticket: Ticket) -> None:
        if ticket.is_over:
            return
        try:
            prepared = ticket.prepare(self._shelf)
            self._send(ticket, _Accepted(prompt_tokens=prepared.prompt_tokens))
            if prepared.fixed is not None:
                self._send(ticket, _build_fixed_piece(prepared.fixed))
                return
            handle = self._batch(prepared.model_key).add(prepared.request)
        except OracleError as error:
            self._send(ticket, error)
        except Exception as error:  # a tokenizer's surprise costs this request only
            log.error("prepare_failed", error_type=type(error).__name__, exc_info=error)
            self._send(ticket, Unavailable("the request could not be prepared"))
        else:
            self._runs[prepared.model_key, handle] = _Run(ticket=ticket, prepared=prepared)

    def _batch(self, key: str) -> "GenerationBatch":
        from models.generate import GenerationBatch  # torch: only in this thread

        if key not in self._batches:
            self._batches[key] = GenerationBatch(self._shelf[key], self._max_rows)
        return self._batches[key]

    def _drop(self, ticket: Ticket) -> None:
        for place, run in list(self._runs.items()):
            if run.ticket is ticket:
                self._batches[place[0]].cancel(place[1])
                del self._runs[place]

    def _step(self) -> None:
        for key, batch in list(self._batches.items()):
            if batch.is_idle:
                continue
            try:
                events = batch.step()
            except Exception as error:  # out of memory, for one: this batch is lost, the server is not
                log.error("generation_failed", error_type=type(error).__name__, exc_info=error)
                self._fail(key)
                continue
            for event in events:
                self._report(key, event)

    def _report(self, key: str, event: "TokenEvent") -> None:
        run = self._runs.get((key, event.handle))
        if run is None:
            return
        self._send(run.ticket, self._build_piece(run.prepared, event))
        if event.generation is not None:
            del self._runs[key, event.handle]

    def _build_piece(self, prepared: Prepared, event: "TokenEvent") -> Piece:
        token_ids: tuple[int, ...] = (event.token_id,)
        if prepared.translates_tokens:
            from models.load import encode_text

            token_ids = tuple(encode_text(self._shelf[CLAIMED], event.text)) if event.text else ()
        tokenizer: Any = self._shelf[prepared.model_key].tokenizer
        entries = () if event.logprob is None else (build_logprob_entry(tokenizer, event.logprob),)
        whole = event.generation
        return Piece(
            text=event.text,
            token_ids=token_ids,
            logprobs=entries,
            finish_reason=None if whole is None else whole.finish_reason,
            activation_proofs=None if whole is None else whole.activation_proofs,
        )

    def _fail(self, key: str) -> None:
        del self._batches[key]
        for place, run in list(self._runs.items()):
            if place[0] == key:
                self._send(run.ticket, Unavailable("generation failed: try again"))
                del self._runs[place]

    def _send(self, ticket: Ticket, message: _Message) -> None:
        self._call_loop(ticket.inbox.put_nowait, message)

    def _call_loop(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop has ended: nobody is left to tell.
            self._is_closing = True


def _build_fixed_piece(generation: "Generation") -> Piece:
    empty: dict[str, object] = {"token": "", "logprob": 0.0, "bytes": None, "top_logprobs": []}
    entries = tuple(empty for _ in generation.token_ids)
    return Piece(
        text=generation.text,
        token_ids=generation.token_ids,
        logprobs=entries,
        finish_reason=generation.finish_reason,
    )


def _set_result(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
