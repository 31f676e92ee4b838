"""What an audit would ask and cost, from its plan alone: for `--dry-run`, which asks nobody."""

from dataclasses import dataclass

from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import DrawnProbe, TemplateProbes, estimate_prompt_tokens

SAMPLE = 64
ASSUMED_TOKENS_PER_S = 30
ASSUMED_FIRST_TOKEN_S = 0.5
DISCOVERY_REQUESTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The most that an audit can cost: tokens of prompts (by their length) and of answers, seconds at an assumed speed.

    `examples` are the first of its requests.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    examples: tuple[DrawnProbe, ...]


def estimate(plan: ProbingPlan, concurrency: int, budget_tokens: int | None) -> Estimate:
    """Return what a plan costs when it asks all of its requests, or as many as the budget allows."""
    count = min(plan.requests, SAMPLE)
    sample = TemplateProbes(plan).draw([plan.compute_probe_seed(index) for index in range(count)])
    prompt = sum(estimate_prompt_tokens(probe.messages) for probe in sample) / count
    each = prompt + plan.max_tokens
    requests = plan.requests if budget_tokens is None else min(plan.requests, int(budget_tokens // each))
    seconds_each = ASSUMED_FIRST_TOKEN_S + plan.max_tokens / ASSUMED_TOKENS_PER_S
    return Estimate(
        requests=requests,
        prompt_tokens=round(requests * prompt),
        answer_tokens=requests * plan.max_tokens,
        seconds=requests * seconds_each / concurrency,
        examples=tuple(sample[:3]),
    )
