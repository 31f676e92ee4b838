"""Model equality testing with permutations within each prompt, for trials with as many answers to every prompt.

The published permutations exchange answers across prompts, which is exact where the number of answers to a prompt is
left to chance on both sides. Where it is fixed, the permuted divisions are uneven and the observed one is not: prompts
whose answers resemble each other more than others' widen the permuted values alone, and the test rejects too seldom.
Exchanging answers to the same prompt alone is exact there. Statistic and p-value are those of `benchmarks.peer_mmd`.
"""

import numpy as np

from benchmarks.peer_mmd import (
    ALPHA,
    PERMUTATIONS,
    SAMPLES_PER_PROMPT,
    PromptKernels,
    choose_answers,
    compute_statistics,
)
from benchmarks.peers import Booleans, Integers, Judge


def build_within_judge(
    kernels: PromptKernels, *, permutations: int = PERMUTATIONS, alpha: float = ALPHA, seed: int = 0
) -> Judge:
    """Return the judge of trials over prompts, no prompt twice in a trial."""
    generator = np.random.default_rng(seed)

    def judge(trials: Integers) -> Booleans:
        return np.array([compute_within_p_value(kernels, trial, permutations, generator) <= alpha for trial in trials])

    return judge


def compute_within_p_value(
    kernels: PromptKernels, trial: Integers, permutations: int, generator: np.random.Generator
) -> float:
    """Return the p-value of one trial, with SAMPLES_PER_PROMPT answers drawn from each side of a prompt."""
    chosen = np.stack([choose_answers(kernels, prompt, generator) for prompt in trial])
    sides = np.repeat([True, False], SAMPLES_PER_PROMPT)
    shuffled = generator.permuted(np.tile(sides, (permutations * len(trial), 1)), axis=1)
    divisions = np.concatenate([np.tile(sides, len(trial))[None], shuffled.reshape(permutations, -1)])
    values = compute_statistics(chosen, divisions)
    # Equal sums can differ in the last digit by the order of the additions.
    return float((values[1:] >= values[0] - 1e-12).mean())
