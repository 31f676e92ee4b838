"""From a request and its answer to an `Exchange`, or to `Missing` when the answer is none that can be judged."""

from dataclasses import dataclass

from models.requests import SAMPLER_NONE
from validator.audit.answered import Answered
from validator.audit.asked import Asked
from validator.audit.records import FINISH_REASONS, NO_TIMING, Exchange, Missing, Outcome, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request comes from: its number, and for a drawn one the generator's seed and stratum."""

    index: int
    sampler: str = SAMPLER_NONE
    is_drawn: bool = False
    stratum: str | None = None
    probe_seed: bytes | None = None
    repeat_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request of an audit and what became of it: a row of the journal, a line of a transcript."""

    origin: Origin
    asked: Asked
    outcome: Outcome


def build_outcome(origin: Origin, asked: Asked, answered: Answered, timing: Timing = NO_TIMING) -> Outcome:
    """Return the exchange, or why there is none; raises InvalidInput when a sampler lacks its seed."""
    problem = _find_problem(asked, answered)
    if problem is not None:
        reason, detail, is_fault = problem
        return Missing(index=origin.index, reason=reason, detail=detail, is_provider_fault=is_fault, timing=timing)
    return Exchange(
        index=origin.index,
        messages=asked.messages,
        max_tokens=asked.max_tokens or _bound_tokens(answered),
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        seed=asked.seed,
        sampler=origin.sampler,
        is_drawn=origin.is_drawn,
        stratum=origin.stratum if origin.is_drawn else None,
        content=answered.content,
        token_ids=answered.token_ids,
        logprobs=answered.logprobs,
        finish_reason=answered.finish_reason,
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        stop=asked.stop,
        timing=timing,
        is_streamed=asked.is_streamed,
        repeat_of=origin.repeat_of,
        answered_model=answered.model,
        receipt=answered.receipt,
        proofs=answered.proofs,
        probe_seed=origin.probe_seed,
    )


def _find_problem(asked: Asked, answered: Answered) -> tuple[str, str, bool] | None:
    """Return a reason, a sentence and whether the provider caused it; None when the answer can be judged."""
    if asked.unjudged:
        return "not-judged", asked.unjudged, False
    if answered.has_refusal:
        return "refusal", "the answer is a refusal in place of text", True
    if answered.has_reasoning and answered.token_ids is None:
        return "reasoning", "the answer was preceded by reasoning, and without token ids that cannot be re-run", False
    if answered.finish_reason not in FINISH_REASONS:
        return "finish-reason", f"the answer ended because of {answered.finish_reason!r}", True
    return None


def _bound_tokens(answered: Answered) -> int:
    """Return a limit for a request that named none: what the answer took; no token is shorter than a byte."""
    counted = answered.count_tokens()
    return max(1, len(answered.content.encode()) + 1 if counted is None else counted)
