"""An endpoint with a text of its own for every seed, and an examiner that can read those texts: no model anywhere.

An answer is made of words that follow from the messages and the seed; an endpoint that cheats says "lie" among them.
"""

import asyncio
import hashlib
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from models.requests import ChatMessage
from scoring.evidence.contract_alarm import ContractAlarm, ContractCount, build_contract_alarm
from scoring.evidence.contracts import ContractOutcome
from scoring.records import PPM
from validator.audit.command import Instruments
from validator.audit.contract_checks import ContractChecker
from validator.audit.needles import is_needle
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import DrawnProbe
from validator.audit.records import ExaminerSettings, Exchange, Outcome, ReferenceFacts

WORDS = ("sea", "hill", "tree", "cloud", "stone", "bird", "lamp", "road")
CODE = re.compile(r"secret code of the \w+ is (\d{4})")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeEndpoint:
    """What the endpoint does; tests change it as they like. `asked` are the bodies that it got; `failures` are answered
    one after the other, after `fails_after` answers.
    """

    model: str = "fake-model"
    share_of_lies: float = 0.0
    repeats_seed: bool = True
    streams: bool = True
    has_token_ids: bool = True
    has_logprobs: bool = True
    has_usage: bool = True
    refuses: tuple[str, ...] = ()
    names_refused: bool = True
    sampler: str | None = "gumbel-philox-v1"
    key: str | None = None
    delay_s: float = 0.0
    failures: list[web.Response] = field(default_factory=list)
    fails_after: int = 0
    handler: Handler | None = None
    models_handler: Handler | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    counter: int = 0
    reach: int | None = None

    def build_app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.models_handler is not None:
            return await self.models_handler(request)
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return refuse(401, f"Incorrect API key provided: {request.headers.get('Authorization', 'none')}")
        entry = {"id": self.model, "object": "model"}
        if self.sampler is not None:
            entry["quiver_sampler"] = self.sampler
        return web.json_response({"object": "list", "data": [entry]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if self.failures and len(self.asked) > self.fails_after:
            return self.failures.pop(0)
        if self.handler is not None:
            return await self.handler(request)
        for name in self.refuses:
            if name in body:
                return refuse(400, f"Unrecognized request argument supplied: {name}" if self.names_refused else "no")
        if not 0 < body.get("top_p", 1) <= 1:
            return refuse(400, "top_p must be between 0 and 1")
        await asyncio.sleep(self.delay_s)
        words = self.write(body)
        if body.get("stream") and self.streams:
            return await self._stream(request, body, words)
        return web.json_response(self.build_answer(body, words))

    def write(self, body: Mapping[str, Any]) -> list[str]:
        """Return the words of an answer."""
        self.counter += 1
        salt = body.get("seed") if self.repeats_seed and body.get("seed") is not None else self.counter
        digest = hashlib.sha256(json.dumps([body["messages"], salt]).encode()).digest()
        if (code := self.find_code(body)) is not None:
            return ["it ", "is ", code]
        count = min(body.get("max_tokens", 16), 16)
        words = [WORDS[digest[place % 32] % len(WORDS)] + " " for place in range(count)]
        if digest[31] < 256 * self.share_of_lies:
            words[-1] = "lie "
        return words

    def find_code(self, body: Mapping[str, Any]) -> str | None:
        """Return the code that a needle request hides, "lost " when it is not in reach, None for other requests."""
        text = body["messages"][-1]["content"]
        if "What is the secret code" not in text:
            return None
        found = CODE.search(text if self.reach is None else text[-self.reach :])
        return "lost " if found is None else found.group(1)

    def build_answer(self, body: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
        """Return the whole answer."""
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(words)},
            "finish_reason": self.find_finish(body, words),
            "logprobs": self._logprobs(body, words),
        }
        if body.get("return_token_ids") and self.has_token_ids:
            choice["token_ids"] = find_ids("".join(words))
        answer = {"id": "x", "object": "chat.completion", "model": self.model, "choices": [choice]}
        return {**answer, "usage": self._usage(body, words)} if self.has_usage else answer

    def find_finish(self, body: Mapping[str, Any], words: Sequence[str]) -> str:
        """Return why an answer ends."""
        return "length" if len(words) == body.get("max_tokens", 16) else "stop"

    def _usage(self, body: Mapping[str, Any], words: Sequence[str]) -> dict[str, int]:
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        return {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}

    def _logprobs(self, body: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any] | None:
        if not body.get("logprobs") or not self.has_logprobs:
            return None
        names = WORDS[: body.get("top_logprobs", 0)]
        top = [{"token": name + " ", "logprob": -2.0, "bytes": list(name.encode() + b" ")} for name in names]
        return {"content": [{"token": word, "logprob": -2.0, "bytes": None, "top_logprobs": top} for word in words]}

    async def _stream(self, request: web.Request, body: dict[str, Any], words: list[str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for place, word in enumerate(words):
            whole = self.build_answer(body, [word])["choices"][0]
            chunk = {**whole, "delta": {"content": word}, "finish_reason": None}
            del chunk["message"]
            if place == len(words) - 1:
                chunk["finish_reason"] = self.find_finish(body, words)
            await response.write(event({"model": self.model, "choices": [chunk]}))
        if (body.get("stream_options") or {}).get("include_usage") and self.has_usage:
            await response.write(event({"model": self.model, "choices": [], "usage": self._usage(body, words)}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def find_ids(text: str) -> list[int]:
    """Return the token ids of a text: the first letter of each word."""
    return [ord(word[0]) for word in text.split()]


def event(document: object) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def refuse(status: int, message: str, **headers: str) -> web.Response:
    """Return an error in OpenAI's format."""
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


class FakeClaimedModel:
    """The model of FakeEndpoint, as the contract checks ask it. `is_sure` says whether it finds needles."""

    is_sure = True

    def is_text_of(self, text: str, token_ids: Sequence[int]) -> bool:
        return find_ids(text) == list(token_ids)

    def is_end(self, token_id: int) -> bool:
        return token_id == 0

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        found = CODE.search(messages[-1].content)
        return found.group(1) if found is not None and self.is_sure else ""


@dataclass(frozen=True)
class FakeAppraisal:
    index: int
    log10_by_channel: Mapping[str, float]
    note: str = ""
    verified_tokens: int = 0
    contracts: tuple[ContractOutcome, ...] = ()


@dataclass(frozen=True)
class FakeExplanation:
    name: str
    weight: float


@dataclass(frozen=True)
class FakeEvidence:
    """Two orders of magnitude for each lie, a little less for each honest answer."""

    channels: tuple[str, ...]
    log10_threshold: float = 6.0
    log10_alarm: float = 2.0
    settles_after: int = 40
    log10_e: float = 0.0
    log10_slash_e: float | None = None
    largest: float = 0.0
    informative_requests: int = 0
    examined: int = 0
    log10_by_channel: Mapping[str, float] = field(default_factory=dict)
    contract_alarm: ContractAlarm = field(default_factory=build_contract_alarm)
    can_prove: bool = True

    @property
    def contracts(self) -> tuple[ContractCount, ...]:
        return self.contract_alarm.list_counts()

    @property
    def verdict(self) -> str:
        if self.largest >= self.log10_threshold:
            return "proven"
        if not self.informative_requests:
            return "uninformative"
        is_alarm = self.largest >= self.log10_alarm or self.contract_alarm.raised
        return "suspect" if is_alarm else "consistent"

    @property
    def explanations(self) -> tuple[FakeExplanation, ...]:
        share = 1 / (1 + math.exp(-self.log10_e))
        if self.contract_alarm.raised:
            return tuple(FakeExplanation(name, 1.0) for name in self.contract_alarm.describe())
        return FakeExplanation("int4 weights", share), FakeExplanation("temperature near 0.9", 1 - share)

    @property
    def is_settled(self) -> bool:
        return self.verdict == "proven" or (self.verdict == "consistent" and self.examined >= self.settles_after)

    def add(self, appraisal: FakeAppraisal) -> "FakeEvidence":
        assert appraisal.index == self.examined, "in order, each once"
        gain = sum(appraisal.log10_by_channel.values()) / max(1, len(appraisal.log10_by_channel))
        by_channel = {
            name: self.log10_by_channel.get(name, 0.0) + value for name, value in appraisal.log10_by_channel.items()
        }
        return replace(
            self,
            log10_e=self.log10_e + gain,
            largest=max(self.largest, self.log10_e + gain),
            examined=self.examined + 1,
            informative_requests=self.informative_requests + (appraisal.note == ""),
            log10_by_channel={**self.log10_by_channel, **by_channel},
            contract_alarm=self.contract_alarm.add(appraisal.contracts),
        )


FACTS = ReferenceFacts(
    model="fake",
    manifest_digest=bytes(32),
    profile_digest=None,
    cell="bf16 on cpu",
    calibration="none",
    alternatives=("int4 weights",),
)


@dataclass
class FakeExaminer:
    """Reads the words of FakeEndpoint. `batches` are the sizes of what it was given."""

    settings: ExaminerSettings
    sampler: str | None = None
    delay_s: float = 0.0
    channels: tuple[str, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    checker: ContractChecker = field(default_factory=lambda: ContractChecker(FakeClaimedModel()))
    facts: ReferenceFacts = FACTS

    def begin(self, channels: Sequence[str]) -> FakeEvidence:
        self.channels = tuple(channels)
        return FakeEvidence(channels=self.channels, log10_threshold=-math.log10(self.settings.alpha))

    def identify_sampler(self, exchanges: Sequence[Exchange]) -> str | None:
        return self.sampler

    def examine(self, outcomes: Sequence[Outcome]) -> list[FakeAppraisal]:
        time.sleep(self.delay_s)
        self.outcomes += outcomes
        self.batches.append(len(outcomes))
        return [replace(self._examine(outcome), contracts=self.checker.check(outcome)) for outcome in outcomes]

    def _examine(self, outcome: Outcome) -> FakeAppraisal:
        named = [name for name in self.channels if name in ("seeded", "text")]
        if not isinstance(outcome, Exchange):
            return FakeAppraisal(index=outcome.index, log10_by_channel=dict.fromkeys(named, -0.1), note="no answer")
        if outcome.repeat_of is not None or is_needle(outcome):
            return FakeAppraisal(index=outcome.index, log10_by_channel={}, note="serves contracts only")
        gain = 2.0 if "lie" in outcome.content else -0.05
        by_channel = {name: gain * (1 if name == "seeded" else 0.8) for name in named}
        return FakeAppraisal(index=outcome.index, log10_by_channel=by_channel, verified_tokens=16)


@dataclass
class Opener:
    """Opens fake examiners; the last one is kept for a look at what it saw."""

    sampler: str | None = None
    delay_s: float = 0.0
    examiner: FakeExaminer | None = None
    source: "FakeSource | None" = None

    @contextmanager
    def __call__(self, settings: ExaminerSettings) -> Iterator[FakeExaminer]:
        self.examiner = FakeExaminer(settings=settings, sampler=self.sampler, delay_s=self.delay_s)
        yield self.examiner

    @property
    def instruments(self) -> Instruments:
        """What `run_audit` needs."""
        return Instruments(open_examiner=self, open_source=self.open_source)

    def open_source(self, plan: ProbingPlan, model: str) -> "FakeSource":
        """Return a fake source; the last one is kept."""
        self.source = FakeSource(plan=plan)
        return self.source


@dataclass
class FakeSource:
    """Prompts that say nothing but their seed. `drawn` counts what was asked for at once."""

    plan: ProbingPlan
    drawn: list[int] = field(default_factory=list)

    def draw(self, seeds: Sequence[bytes]) -> list[DrawnProbe]:
        self.drawn.append(len(seeds))
        return [
            DrawnProbe(
                messages=(ChatMessage(role="user", content=f"Please say {seed.hex()[:12]}"),),
                max_tokens=self.plan.max_tokens,
                temperature=self.plan.temperature_max_ppm / PPM,
                top_p=1.0,
                sampler_seed=int.from_bytes(seed[:6], "big"),
                stratum=self.plan.strata[seed[0] % len(self.plan.strata)],
            )
            for seed in seeds
        ]
