"""What an audit would ask and cost, from its plan alone: for `--dry-run`, which asks nobody and loads no model."""

from dataclasses import dataclass

from scoring.errors import InvalidInput
from scoring.probe_outlines import build_outline
from scoring.probes import GENERATOR_ID
from validator.audit.needles import ANSWER_TOKENS, can_afford, estimate_tokens
from validator.audit.plan import ProbingPlan
from validator.audit.probe_source import (
    CHARACTERS_PER_TOKEN,
    LONGEST_PROMPT_TOKENS,
    TOKENS_PER_MESSAGE,
    DrawnProbe,
    TemplateProbes,
    estimate_prompt_tokens,
)

SAMPLE = 64
ASSUMED_TOKENS_PER_S = 30
ASSUMED_FIRST_TOKEN_S = 0.5
DISCOVERY_REQUESTS, DISCOVERY_TOKENS = 6, 48
"""The first look, and how long its answers may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The most that an audit can cost: tokens of prompts (by their length) and of answers, seconds at an assumed speed.

    `first_look_tokens` are those of the requests before, prompts and answers together; they count towards a budget.
    `examples` are the first of its requests, none when a model has to write them.
    """

    requests: int
    first_look_tokens: int
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    examples: tuple[DrawnProbe, ...]


def estimate(plan: ProbingPlan, concurrency: int, budget_tokens: int | None) -> Estimate:
    """Return what a plan costs when it asks all of its requests, or as many as the budget allows."""
    seeds = [plan.compute_probe_seed(index) for index in range(min(plan.requests, SAMPLE))]
    examples = TemplateProbes(plan).draw(seeds[:3]) if plan.generator == GENERATOR_ID else []
    prompt = sum(_estimate_prompt(plan, seed) for seed in seeds) / len(seeds)
    each = prompt + plan.max_tokens
    needles = [cost for index in range(plan.requests) if (cost := estimate_tokens(plan, index)) is not None]
    needles = needles if can_afford(budget_tokens) else []
    first_look = DISCOVERY_REQUESTS * (_estimate_prompt(plan, plan.compute_discovery_seed(0)) + DISCOVERY_TOKENS)
    # Needles come early: what is left of a budget goes into the other requests.
    left = None if budget_tokens is None else max(budget_tokens - first_look - sum(needles), 0)
    others = plan.requests - len(needles)
    others = others if left is None else min(others, int(left // each))
    requests = others + len(needles)
    seconds_each = ASSUMED_FIRST_TOKEN_S + plan.max_tokens / ASSUMED_TOKENS_PER_S
    return Estimate(
        requests=requests,
        first_look_tokens=first_look,
        prompt_tokens=round(others * prompt) + sum(needles) - len(needles) * ANSWER_TOKENS,
        answer_tokens=others * plan.max_tokens + len(needles) * ANSWER_TOKENS,
        seconds=requests * seconds_each / concurrency,
        examples=tuple(examples),
    )


def check_budget(plan: ProbingPlan, budget_tokens: int | None) -> None:
    """Raise InvalidInput unless a budget is enough for the first look and one request, whatever is drawn."""
    least = DISCOVERY_REQUESTS * (LONGEST_PROMPT_TOKENS + DISCOVERY_TOKENS) + LONGEST_PROMPT_TOKENS + plan.max_tokens
    if budget_tokens is not None and budget_tokens < least:
        raise InvalidInput(f"the first look and one request can take {least} tokens: give so many", "--budget-tokens")


def _estimate_prompt(plan: ProbingPlan, seed: bytes) -> int:
    """Return about how many tokens the prompt of a seed has; of one that is yet to be written, at most."""
    if plan.generator == GENERATOR_ID:
        return estimate_prompt_tokens(TemplateProbes(plan).draw([seed])[0].messages)
    turns = build_outline(seed, plan).turns
    words = sum(len(turn.opening) // CHARACTERS_PER_TOKEN + turn.token_limit for turn in turns)
    return words + TOKENS_PER_MESSAGE * (len(turns) + 1)
