"""Model equality testing (arXiv 2410.20247) on many resampled trials: MMD with the Hamming kernel, permutation p-value.

The statistic is that of the PyPI package `model-equality-testing` (a test compares them). That package computes every
kernel again in every permutation, minutes a trial; here a prompt's kernel is computed once and permutations are matrix
products. Its p-value is kept as it is, the share of permutations at or above the observed value, which can be 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Booleans, Floats, Integers, Judge
from scoring.errors import InvalidInput

SAMPLES_PER_PROMPT = 10
PERMUTATIONS = 1000
ALPHA = 0.05
MAX_CHARACTERS = 1000
_PADDING = -1

Texts = Sequence[Sequence[str]]
"""Answers by prompt: `texts[prompt][sample]`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptKernels:
    """Hamming kernels by prompt [prompts, n, n] over reference answers, then tested ones, scaled to a diagonal of 1."""

    kernels: Floats
    reference_count: int

    @property
    def tested_count(self) -> int:
        """How many tested answers a prompt has."""
        return int(self.kernels.shape[1]) - self.reference_count


def build_kernels(reference: Texts, tested: Texts) -> PromptKernels:
    """Return the kernels of two sets of answers to the same prompts, compared by character up to MAX_CHARACTERS.

    Raises InvalidInput unless every prompt has at least SAMPLES_PER_PROMPT answers on each side, all prompts alike.
    """
    sizes = {(len(own), len(other)) for own, other in zip(reference, tested, strict=True)}
    if len(sizes) != 1 or min(min(pair) for pair in sizes) < SAMPLES_PER_PROMPT:
        raise InvalidInput(f"every prompt needs {SAMPLES_PER_PROMPT} answers on each side, all prompts alike", "texts")
    rows = [encode_characters([*own, *other]) for own, other in zip(reference, tested, strict=True)]
    kernels = np.stack([(row[:, None] == row[None]).mean(axis=-1) for row in rows])
    return PromptKernels(kernels=kernels, reference_count=len(reference[0]))


def encode_characters(texts: Sequence[str]) -> NDArray[np.int32]:
    """Return texts as code points [texts, MAX_CHARACTERS], cut or filled up with -1."""
    result = np.full((len(texts), MAX_CHARACTERS), _PADDING, dtype=np.int32)
    for row, text in enumerate(texts):
        points = [ord(character) for character in text[:MAX_CHARACTERS]]
        result[row, : len(points)] = points
    return result


def build_mmd_judge(
    kernels: PromptKernels, *, permutations: int = PERMUTATIONS, alpha: float = ALPHA, seed: int = 0
) -> Judge:
    """Return the judge of trials over prompts: each costs SAMPLES_PER_PROMPT answers of the endpoint a prompt.

    A trial names a prompt at most once: answers to the same prompt would be compared with themselves.
    """
    generator = np.random.default_rng(seed)

    def judge(trials: Integers) -> Booleans:
        return np.array([compute_p_value(kernels, trial, permutations, generator) <= alpha for trial in trials])

    return judge


def draw_prompt_trials(prompts: int, prompts_per_trial: int, trials: int, seed: int) -> Integers:
    """Return prompt numbers [trials, prompts_per_trial], no prompt twice in a trial."""
    generator = np.random.default_rng(seed)
    return np.argsort(generator.random((trials, prompts)), axis=1)[:, :prompts_per_trial]


def compute_p_value(
    kernels: PromptKernels, trial: Integers, permutations: int, generator: np.random.Generator
) -> float:
    """Return the permutation p-value of one trial, with SAMPLES_PER_PROMPT answers drawn from each side of a prompt."""
    chosen = np.stack([choose_answers(kernels, prompt, generator) for prompt in trial])
    sides = np.tile(np.repeat([True, False], SAMPLES_PER_PROMPT), len(trial))
    shuffled = generator.permuted(np.tile(sides, (permutations, 1)), axis=1)
    values = compute_statistics(chosen, np.concatenate([sides[None], shuffled]))
    # Equal sums can differ in the last digit by the order of the additions.
    return float((values[1:] >= values[0] - 1e-12).mean())


def compute_statistics(kernels: Floats, sides: Booleans) -> Floats:
    """Return the unbiased MMD of each division of some answers into two sides; only answers to one prompt are compared.

    `kernels` is [prompts, n, n], `sides` [divisions, prompts * n] in the same order.
    """
    prompts, size, _ = kernels.shape
    first = np.ascontiguousarray(sides.reshape(-1, prompts, size).transpose(1, 0, 2).astype(np.float64))
    second = 1.0 - first
    off_diagonal = 1.0 - np.eye(size)
    pairs = np.broadcast_to(off_diagonal, kernels.shape)
    own = [_sum_pairs(side, kernels * off_diagonal, side) / _sum_pairs(side, pairs, side) for side in (first, second)]
    statistics: Floats = own[0] + own[1] - 2.0 * _sum_pairs(first, kernels, second) / _sum_pairs(first, pairs, second)
    return statistics


def _sum_pairs(left: Floats, weights: Floats, right: Floats) -> Floats:
    sums: Floats = ((left @ weights) * right).sum(axis=(0, 2))
    return sums


def choose_answers(kernels: PromptKernels, prompt: int, generator: np.random.Generator) -> Floats:
    """Return the kernel [20, 20] of SAMPLES_PER_PROMPT answers from each side of a prompt, the reference's first."""
    own = generator.permutation(kernels.reference_count)[:SAMPLES_PER_PROMPT]
    other = kernels.reference_count + generator.permutation(kernels.tested_count)[:SAMPLES_PER_PROMPT]
    places = np.concatenate([own, other])
    chosen: Floats = kernels.kernels[prompt][np.ix_(places, places)]
    return chosen
