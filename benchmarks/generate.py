"""How fast the bundled model answers and is checked here: `python -m benchmarks.generate [--dtype bf16] [--tokens 48]`.

Prints tokens per second of generation by batch size, of the reference pass, and the share of that pass that
the statistics take beside the forward pass.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from models.forward import compute_hidden
from models.generate import generate
from models.load import LoadedModel, load_model, render_prompt
from models.manifest import DTYPES
from models.reference import score_batch
from models.requests import SAMPLER_GUMBEL, ChatMessage, GenerationRequest, ReferenceRequest

Result = TypeVar("Result")

QUESTIONS = (
    "Tell me a story about a fox.",
    "What is the capital of France?",
    "Write a Python function that sorts a list.",
    "Explain photosynthesis to a child.",
    "How do magnets work?",
    "Give me a recipe for bread.",
    "Why is the sky blue?",
    "Write a letter to a neighbour.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args(arguments)
    loaded = load_model("bundled", dtype=options.dtype)
    print(f"{loaded.manifest.name} in {loaded.dtype} on {loaded.device}, {torch.get_num_threads()} threads")
    requests = _build_requests(loaded, options.tokens)
    for rows in (1, 4, 8, 16):
        seconds, answers = _measure(lambda rows=rows: generate(loaded, requests[:rows], max_rows=rows))
        print(f"generate, batch {rows:2d}: {sum(len(a.token_ids) for a in answers) / seconds:8.0f} tokens/s")
    _measure_reference(loaded, requests)


def _build_requests(loaded: LoadedModel, tokens: int) -> list[GenerationRequest]:
    prompts = [tuple(render_prompt(loaded, [ChatMessage(role="user", content=text)])) for text in QUESTIONS]
    return [
        GenerationRequest(prompt_ids=prompts[number % len(prompts)], seed=number, max_tokens=tokens)
        for number in range(16)
    ]


def _measure_reference(loaded: LoadedModel, requests: list[GenerationRequest]) -> None:
    answers = generate(loaded, requests, max_rows=16)
    items = [
        ReferenceRequest(
            prompt_ids=request.prompt_ids, output_ids=answer.token_ids, seed=request.seed, sampler=SAMPLER_GUMBEL
        )
        for request, answer in zip(requests, answers, strict=True)
    ]
    tokens = sum(len(item.prompt_ids) + len(item.output_ids) for item in items)
    positions = sum(len(item.output_ids) for item in items)
    seconds, _ = _measure(lambda: score_batch(loaded, items))
    forward, _ = _measure(lambda: _run_forward(loaded, items))
    print(f"reference pass: {tokens / seconds:8.0f} tokens/s, {1000 * seconds / positions:.2f} ms per scored position")
    print(f"  of which the forward pass alone: {tokens / forward:8.0f} tokens/s")
    print(f"  projection and statistics: {100 * (1 - forward / seconds):.0f} % of the time")


@torch.inference_mode()
def _run_forward(loaded: LoadedModel, items: list[ReferenceRequest]) -> None:
    width = max(len(item.prompt_ids) + len(item.output_ids) for item in items) - 1
    ids = torch.ones(len(items), width, dtype=torch.long, device=loaded.device)
    compute_hidden(loaded, ids).sum().item()


def _measure(action: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
