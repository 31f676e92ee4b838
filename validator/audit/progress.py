"""The state of an audit as it runs: what was asked and answered, what it cost, how the evidence grew. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from validator.audit.facts import EndpointFacts
from validator.audit.needles import parse_stratum
from validator.audit.outcomes import Entry
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import estimate_prompt_tokens
from validator.audit.records import Appraisal, Evidence, Exchange, Missing, ReferenceFacts

BYTES_PER_TOKEN = 4


class Ended(StrEnum):
    """Why an audit asks no more."""

    DECIDED = "decided"
    REQUESTS = "requests"
    TOKENS = "tokens"
    BYTES = "bytes"
    SILENCE = "silence"
    THROTTLED = "throttled"
    TRANSCRIPT = "transcript"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The evidence after the request `index`: log10 of the e-value, in all and by channel."""

    index: int
    log10_e: float
    log10_by_channel: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class Progress:
    """What is known so far. `entries` by index; `appraisals` and `points` follow the index without gaps.

    `spent_tokens` are those of prompts and answers, the discovery's included; `longest_request_tokens` is the most that
    one request but a needle can have cost so far. `doing` is what takes time just now. `told_wait_s` is how long the
    endpoint asks us to wait, where an audit does not.
    """

    plan: ProbingPlan
    facts: EndpointFacts | None = None
    reference: ReferenceFacts | None = None
    evidence: Evidence | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    appraisals: list[Appraisal] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    spent_tokens: int = 0
    missing: int = 0
    longest_request_tokens: int = 0
    in_flight: int = 0
    doing: str = ""
    told_wait_s: float | None = None
    received_bytes: int = 0
    seconds: float = 0.0
    ended: Ended | None = None

    @property
    def examined(self) -> int:
        """How many requests the evidence is made of."""
        return len(self.points)

    @property
    def decided_after(self) -> int | None:
        """After how many requests the evidence first reached its threshold, None when it never did."""
        if self.evidence is None:
            return None
        crossed = [point.index for point in self.points if point.log10_e >= self.evidence.log10_threshold]
        return crossed[0] + 1 if crossed else None

    def add(self, entry: Entry) -> None:
        """Take in a request and what became of it."""
        self.entries[entry.origin.index] = entry
        self.spent_tokens += count_tokens(entry)
        self.missing += isinstance(entry.outcome, Missing)
        if parse_stratum(entry.origin.stratum) is None:
            # What the endpoint puts before our prompt is paid for too.
            told = entry.outcome.prompt_tokens if isinstance(entry.outcome, Exchange) else None
            prompt = max(estimate_prompt_tokens(entry.asked.messages), told or 0)
            self.longest_request_tokens = max(self.longest_request_tokens, prompt + (entry.asked.max_tokens or 0))

    def take_ready(self, limit: int) -> list[Entry]:
        """Return the next entries that can be examined: those that follow the examined ones without a gap."""
        ready: list[Entry] = []
        while len(ready) < limit and (entry := self.entries.get(self.examined + len(ready))) is not None:
            ready.append(entry)
        return ready

    def fold(self, appraisal: Appraisal) -> None:
        """Add one appraisal to the evidence; they come in the order of their index."""
        if self.evidence is None or appraisal.index != self.examined:
            raise RuntimeError("appraisals are folded in the order of the requests")
        self.evidence = self.evidence.add(appraisal)
        self.appraisals.append(appraisal)
        by_channel = dict(self.evidence.log10_by_channel)
        self.points.append(Point(index=appraisal.index, log10_e=self.evidence.log10_e, log10_by_channel=by_channel))


def count_tokens(entry: Entry) -> int:
    """Return what a request cost: as the provider says, else an estimate; a missing answer costs its prompt."""
    outcome = entry.outcome
    estimated = estimate_prompt_tokens(entry.asked.messages)
    if not isinstance(outcome, Exchange):
        return estimated
    prompt = estimated if outcome.prompt_tokens is None else outcome.prompt_tokens
    return prompt + count_answer_tokens(outcome)


def count_answer_tokens(exchange: Exchange) -> int:
    """Return how many tokens an answer has, as the provider says, else an estimate from its length."""
    for count in (exchange.completion_tokens, _length(exchange.token_ids), _length(exchange.logprobs)):
        if count is not None:
            return count
    return max(1, len(exchange.content.encode()) // BYTES_PER_TOKEN)


def _length(column: Sequence[object] | None) -> int | None:
    return None if column is None else len(column)
