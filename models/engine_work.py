"""What the engine does with its model: one thread, requests of all clients batched, results remembered.

Scoring is a deterministic function of the request, so its result is kept by request digest: the validators of one
machine re-score each other's transcripts, and each is computed once.
"""

import hashlib
import json
import queue
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.engine_wire import encode_generation, encode_request, encode_statistics
from models.generate import GenerationBatch
from models.load import LoadedModel
from models.reference import check_reference_request, score_batch
from models.requests import GenerationRequest, ReferenceRequest
from scoring.errors import OracleError, Unavailable

COLLECT_S = 0.02
IDLE_S = 0.5
"""An idle worker looks up this often: a signal that arrives just before it waits would otherwise go unseen."""
SLICE_TOKENS = 2048
CACHED_RESULTS = 1024
QUEUED_JOBS = 1024
MAX_TEXTS = 1024

Answer = Callable[[Any], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One call of one client: the requests, where its answer goes, and whether somebody still waits for it."""

    operation: str
    requests: Sequence[Any]
    reply: Answer
    fail: Callable[[OracleError], None]
    is_wanted: Callable[[], bool]
    results: dict[int, Any] = field(default_factory=dict)

    def put(self, index: int, result: Any) -> None:
        """Note one result, and answer when all are there."""
        self.results[index] = result
        if len(self.results) == len(self.requests):
            self.reply([self.results[place] for place in range(len(self.requests))])


class Worker:
    """The thread that owns the model. Other threads only call `check`, `submit` and `stop`."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._inbox: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._pending: OrderedDict[bytes, tuple[ReferenceRequest, list[tuple[Job, int]]]] = OrderedDict()
        self._cache: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self._batch = GenerationBatch(loaded)
        self._generating: dict[int, tuple[Job, int]] = {}
        self._embedder: Any = None
        self._is_stopped = False
        self.scored_count = 0

    def check(self, requests: Sequence[ReferenceRequest]) -> None:
        """Raise InvalidInput when the model cannot hold a request (before it meets others in a batch)."""
        for request in requests:
            check_reference_request(self._loaded, request)

    def submit(self, job: Job) -> None:
        """Queue a job; raises Unavailable when QUEUED_JOBS wait already."""
        if self._inbox.qsize() >= QUEUED_JOBS:
            raise Unavailable("the reference engine is overloaded")
        self._inbox.put(job)

    def stop(self) -> None:
        """Make `run` return after what it is doing; a signal handler may call this."""
        self._is_stopped = True

    def run(self) -> None:
        """Work until `stop`."""
        while self._collect():
            self._score_slice()
            self._generate_step()

    def _collect(self) -> bool:
        """Take in what has arrived, waiting when idle; a first arrival waits COLLECT_S for company."""
        is_idle = not self._pending and self._batch.is_idle
        job = self._take(IDLE_S if is_idle else 0.0)
        end = time.monotonic() + (COLLECT_S if is_idle else 0.0)
        while job is not None:
            self._start(job)
            job = self._take(max(end - time.monotonic(), 0.0))
        return not self._is_stopped

    def _take(self, timeout_s: float) -> Job | None:
        try:
            return self._inbox.get(timeout=timeout_s) if timeout_s > 0.0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _start(self, job: Job) -> None:
        try:
            {"score": self._start_scores, "generate": self._start_generation, "embed": self._embed}[job.operation](job)
        except OracleError as error:
            job.fail(error)

    def _start_scores(self, job: Job) -> None:
        for index, request in enumerate(job.requests):
            key = compute_request_digest(request)
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                job.put(index, found)
            else:
                self._pending.setdefault(key, (request, []))[1].append((job, index))

    def _score_slice(self) -> None:
        """Score the oldest waiting requests, up to SLICE_TOKENS, so that nobody waits behind a long queue."""
        keys: list[bytes] = []
        tokens = 0
        for key, (request, waiters) in list(self._pending.items()):
            if not any(job.is_wanted() for job, _ in waiters):
                del self._pending[key]
                continue
            tokens += len(request.prompt_ids) + len(request.output_ids)
            if keys and tokens > SLICE_TOKENS:
                break
            keys.append(key)
        if not keys:
            return
        taken = [self._pending.pop(key) for key in keys]
        try:
            results = score_batch(self._loaded, [request for request, _ in taken])
        except (OracleError, RuntimeError, MemoryError) as error:
            _report(f"scoring failed: {error}")
            for job in {id(job): job for _, waiters in taken for job, _ in waiters}.values():
                job.fail(Unavailable(f"the reference engine failed: {error}"))
            return
        for key, (_, waiters), result in zip(keys, taken, results, strict=True):
            value = encode_statistics(result)
            self._remember(key, value)
            for job, index in waiters:
                job.put(index, value)

    def _remember(self, key: bytes, value: dict[str, Any]) -> None:
        self.scored_count += 1
        self._cache[key] = value
        while len(self._cache) > CACHED_RESULTS:
            self._cache.popitem(last=False)

    def _start_generation(self, job: Job) -> None:
        requests: Sequence[GenerationRequest] = job.requests
        handles = []
        try:
            for request in requests:
                handles.append(self._batch.add(request))
        except OracleError:
            for handle in handles:
                self._batch.cancel(handle)
            raise
        self._generating.update({handle: (job, index) for index, handle in enumerate(handles)})

    def _generate_step(self) -> None:
        for handle, (job, _) in list(self._generating.items()):
            if not job.is_wanted():
                self._batch.cancel(handle)
                del self._generating[handle]
        if self._batch.is_idle:
            return
        for event in self._batch.step():
            if event.generation is not None:
                job, index = self._generating.pop(event.handle)
                job.put(index, encode_generation(event.generation))

    def _embed(self, job: Job) -> None:
        if self._embedder is None:
            from models.embed import load_embedder

            self._embedder = load_embedder()
        job.reply([[float(value) for value in vector] for vector in self._embedder.embed(list(job.requests))])


def compute_request_digest(request: ReferenceRequest) -> bytes:
    """Return the key under which a request's statistics are remembered."""
    return hashlib.sha256(json.dumps(encode_request(request), sort_keys=True).encode()).digest()


def _report(line: str) -> None:
    sys.stderr.write(f"engine: {line}\n")
    sys.stderr.flush()
