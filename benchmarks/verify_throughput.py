"""What verification costs beside generation: `python -m benchmarks.verify_throughput [--model bundled] [--json]`.

Answers are generated in one batch; then they are verified as a validator has it done: conversations tokenised, requests
and statistics carried over the engine's socket, all in this process. Meanwhile a stopwatch runs in the model's forward
pass (decoder and projection) and in scoring: on a machine that others use too, two runs one after the other would tell
more of the machine. The share outside of the model is what is left of the whole. The reference leaves logits unrounded,
which on a CPU makes its projection dearer than the model's own: that is part of its forward pass, and what it adds is
shown beside it. Medians over rounds with new questions are shown. Tokens per second count answer tokens, so that both
sides of the ratio do the same job.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

import models.engine_work
import models.reference
from benchmarks.generate import QUESTIONS
from benchmarks.local_engine import Conversation, LocalEngine
from benchmarks.machine import (
    GPU_PEAK,
    PROCESS_PEAK,
    PeakMeter,
    Spent,
    add_up,
    count_flops,
    count_read,
    describe_device,
    measure_matrix_tflops,
    measure_spent,
    watch,
)
from benchmarks.random_model import SHAPES, build_random_model
from models.forward import project_logits, project_unrounded
from models.generate import generate
from models.load import DEVICES, LoadedModel, load_model, render_prompt
from models.manifest import DTYPES
from models.packing import pack_linears
from models.reference import CHUNK_POSITIONS, compute_answer_states, score_batch
from models.requests import SAMPLER_GUMBEL, ChatMessage, GenerationRequest, ReferenceRequest

FLOAT_BYTES = 4
PROJECTIONS = 15
"""Times that a chunk of states is projected in each way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What generation took and what verification did: `forward` is part of `scored`, and that of `whole`."""

    generated: Spent
    forward: Spent
    scored: Spent
    whole: Spent
    items: tuple[ReferenceRequest, ...]

    @property
    def output_tokens(self) -> int:
        """Answer tokens."""
        return sum(len(item.output_ids) for item in self.items)

    @property
    def read_tokens(self) -> int:
        """Tokens that the model is fed to verify them, prompts included."""
        return sum(count_read(item) for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak memory while one round's answers, and while two rounds' are verified in one call."""

    before_bytes: int
    peak_bytes: int
    peak_of_double_bytes: int
    growth_bytes_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures: answer tokens per second, shares of the time (or processor time) of the whole verification."""

    model: str
    parameters: int
    device: str
    dtype: str
    threads: int
    batch: int
    rounds: int
    output_tokens: int
    read_tokens: int
    generated_tokens_per_s: float
    verified_tokens_per_s: float
    verified_over_generated: float
    forward_tokens_per_s: float
    read_tokens_per_s: float
    outside_share: float
    statistics_share: float
    tokenising_and_socket_share: float
    outside_cpu_share: float
    statistics_cpu_share: float
    unrounded_cpu_share: float
    matrix_tflops: float
    whole_matrix_share: float
    forward_matrix_share: float
    memory: Memory | None
    gpu_memory: Memory | None
    logits_bytes_per_token: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parse(arguments)
    loaded = open_model(options.model, options.dtype, options.device)
    report = measure(loaded, batch=options.batch, tokens=options.tokens, rounds=options.rounds)
    print(json.dumps(asdict(report), indent=2) if options.json else render(report))


def measure(loaded: LoadedModel, *, batch: int, tokens: int, rounds: int) -> Report:
    """Return the figures of a model that is ready to run: `rounds` times `batch` answers of up to `tokens` tokens."""
    with LocalEngine(loaded) as engine:
        # The first round warms up and is not counted.
        done = [_run_round(loaded, engine, batch, tokens, number) for number in range(rounds + 1)]
    counted = done[1:]
    tflops = measure_matrix_tflops(loaded.device)
    unrounded = measure_unrounded(loaded, counted[0].items)

    def middle(figure: Callable[[Round], float]) -> float:
        return median(figure(each) for each in counted)

    def reach(figure: Callable[[Round], Spent]) -> float:
        return middle(lambda each: count_flops(loaded, each.items) / figure(each).wall_s) / tflops / 1e12

    generated = middle(lambda each: each.output_tokens / each.generated.wall_s)
    verified = middle(lambda each: each.output_tokens / each.whole.wall_s)
    return Report(
        model=loaded.manifest.name,
        parameters=loaded.manifest.parameter_count,
        device=describe_device(loaded.device),
        dtype=loaded.dtype,
        threads=torch.get_num_threads(),
        batch=batch,
        rounds=rounds,
        output_tokens=sum(each.output_tokens for each in counted),
        read_tokens=sum(each.read_tokens for each in counted),
        generated_tokens_per_s=generated,
        verified_tokens_per_s=verified,
        verified_over_generated=verified / generated,
        forward_tokens_per_s=middle(lambda each: each.output_tokens / each.forward.wall_s),
        read_tokens_per_s=middle(lambda each: each.read_tokens / each.whole.wall_s),
        outside_share=middle(lambda each: 1.0 - each.forward.wall_s / each.whole.wall_s),
        statistics_share=middle(lambda each: (each.scored.wall_s - each.forward.wall_s) / each.whole.wall_s),
        tokenising_and_socket_share=middle(lambda each: 1.0 - each.scored.wall_s / each.whole.wall_s),
        outside_cpu_share=middle(lambda each: 1.0 - each.forward.cpu_s / each.whole.cpu_s),
        statistics_cpu_share=middle(lambda each: (each.scored.cpu_s - each.forward.cpu_s) / each.whole.cpu_s),
        unrounded_cpu_share=middle(lambda each: unrounded * each.output_tokens / each.whole.cpu_s),
        matrix_tflops=tflops,
        whole_matrix_share=reach(lambda each: each.whole),
        forward_matrix_share=reach(lambda each: each.forward),
        memory=measure_memory(loaded, done[0].items, done[1].items, PROCESS_PEAK),
        gpu_memory=measure_memory(loaded, done[0].items, done[1].items, GPU_PEAK) if loaded.device == "cuda" else None,
        logits_bytes_per_token=loaded.manifest.vocabulary_size * FLOAT_BYTES,
    )


def render(report: Report) -> str:
    """Return the figures as text."""
    lines = [
        f"{report.model}, {report.parameters / 1e6:,.0f} M parameters, {report.dtype} on {report.device}, "
        f"{report.threads} threads",
        f"{report.rounds} rounds of {report.batch} answers: {report.output_tokens} answer tokens, "
        f"{report.read_tokens} with the prompts",
        f"generated      {report.generated_tokens_per_s:9,.0f} answer tokens/s",
        f"verified       {report.verified_tokens_per_s:9,.0f} answer tokens/s, "
        f"{report.verified_over_generated:.1f} times generation ({report.read_tokens_per_s:,.0f} with the prompts)",
        f"forward alone  {report.forward_tokens_per_s:9,.0f} answer tokens/s",
        f"outside of the model's forward pass: {report.outside_share:.1%} of the time (statistics and noise "
        f"{report.statistics_share:.1%}, tokenising and socket {report.tokenising_and_socket_share:.1%}), "
        f"{report.outside_cpu_share:.1%} of processor time ({report.statistics_cpu_share:.1%} statistics and noise)",
        f"in that pass, unrounded logits take {report.unrounded_cpu_share:.1%} of processor time more than rounded",
        f"matrices: {report.matrix_tflops:,.2f} TFLOP/s measured in bf16; verification reaches "
        f"{report.whole_matrix_share:.1%} of that, the forward pass alone {report.forward_matrix_share:.1%}",
    ]
    for name, memory in (("process", report.memory), ("GPU", report.gpu_memory)):
        if memory is not None:
            lines.append(
                f"peak memory, {name}: {memory.peak_bytes / 1e6:,.0f} MB ({memory.before_bytes / 1e6:,.0f} before), "
                f"{memory.peak_of_double_bytes / 1e6:,.0f} MB for twice the answers: "
                f"{memory.growth_bytes_per_token / 1e3:,.1f} kB a token more (its logits: "
                f"{report.logits_bytes_per_token / 1e3:,.0f} kB)"
            )
    return "\n".join(lines)


def _run_round(loaded: LoadedModel, engine: LocalEngine, batch: int, tokens: int, number: int) -> Round:
    device = loaded.device
    conversations = [_build_conversation(number * batch + row) for row in range(batch)]
    requests = [
        GenerationRequest(
            prompt_ids=tuple(render_prompt(loaded, messages)), seed=number * batch + row, max_tokens=tokens
        )
        for row, messages in enumerate(conversations)
    ]
    generated, answers = measure_spent(device, lambda: generate(loaded, requests, max_rows=batch))
    items = tuple(
        ReferenceRequest(
            prompt_ids=request.prompt_ids, output_ids=answer.token_ids, seed=request.seed, sampler=SAMPLER_GUMBEL
        )
        for request, answer in zip(requests, answers, strict=True)
    )
    with (
        watch(device, models.engine_work, "score_batch") as scored,
        watch(device, models.reference, "compute_answer_states", "project_unrounded") as forward,
    ):
        whole, _ = measure_spent(device, lambda: engine.verify(conversations, items))
    return Round(generated=generated, forward=add_up(forward), scored=add_up(scored), whole=whole, items=items)


def _build_conversation(number: int) -> Conversation:
    # No question twice: the engine remembers what it has scored.
    text = f"{QUESTIONS[number % len(QUESTIONS)]} Keep in mind that this is question number {number} of a long list."
    return [ChatMessage(role="user", content=text)]


@torch.inference_mode()
def measure_unrounded(loaded: LoadedModel, items: Sequence[ReferenceRequest]) -> float:
    """Return the processor seconds that unrounded logits take more than the dtype's own, for each position."""
    states = torch.cat([compute_answer_states(loaded, [item]) for item in items])[:CHUNK_POSITIONS]
    taken: dict[Any, list[float]] = {project_logits: [], project_unrounded: []}
    for _ in range(PROJECTIONS):
        for project, seconds in taken.items():
            seconds.append(measure_spent(loaded.device, lambda run=project: run(loaded, states))[0].cpu_s)
    rounded, unrounded = (median(seconds) for seconds in taken.values())
    return (unrounded - rounded) / len(states)


def measure_memory(
    loaded: LoadedModel, single: Sequence[ReferenceRequest], more: Sequence[ReferenceRequest], meter: PeakMeter
) -> Memory | None:
    """Return the peaks of verifying some answers, and those and as many more in one call; None where unknown."""
    peaks: list[int] = []
    for batch in ([], single, [*single, *more]):
        meter.reset()
        kept = score_batch(loaded, batch) if batch else []
        peak = meter.read()
        del kept
        if peak is None:
            return None
        peaks.append(peak)
    added = sum(len(item.output_ids) for item in more)
    return Memory(
        before_bytes=peaks[0],
        peak_bytes=peaks[1],
        peak_of_double_bytes=peaks[2],
        growth_bytes_per_token=(peaks[2] - peaks[1]) / added,
    )


def open_model(name: str, dtype: str = "bf16", device: str = "auto") -> LoadedModel:
    """Return a model by the names that quiver knows, or one of random weights, laid out as the engine has it."""
    if name not in SHAPES:
        loaded = load_model(name, dtype=dtype, device=device)
    else:
        chosen = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        loaded = build_random_model(name, dtype=dtype, device=chosen)
    pack_linears(loaded)
    return loaded


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verify_throughput", description="What verification costs beside generation."
    )
    parser.add_argument("--model", default="bundled", help=f"as for quiver, or {', '.join(SHAPES)}")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--batch", type=int, default=32, help="answers at a time")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
