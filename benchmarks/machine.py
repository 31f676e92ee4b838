"""What a machine gives and what a piece of work takes of it: time, memory, matrix products."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from models.load import LoadedModel
from models.packing import has_bf16_instructions
from models.requests import ReferenceRequest

Result = TypeVar("Result")

MATRIX_SIZES = {"cpu": 2048, "cuda": 8192}
MATRIX_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What something took: seconds on the clock, and of processors (all threads of this process together)."""

    wall_s: float
    cpu_s: float


def measure_spent(device: str, action: Callable[[], Result]) -> tuple[Spent, Result]:
    """Return what an action took, to its end on the GPU when it runs there, and its result."""
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    _wait(device)
    return Spent(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu), result


@contextmanager
def watch(device: str, module: Any, *names: str) -> Iterator[list[Spent]]:
    """Give a list that each call of some functions of a module adds to, until the end of the context."""
    calls: list[Spent] = []

    def build_watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            spent, result = measure_spent(device, lambda: function(*args))
            calls.append(spent)
            return result

        return run

    real = {name: getattr(module, name) for name in names}
    for name, function in real.items():
        setattr(module, name, build_watched(function))
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(module, name, function)


def add_up(calls: Sequence[Spent]) -> Spent:
    """Return what several calls took together."""
    return Spent(wall_s=sum(each.wall_s for each in calls), cpu_s=sum(each.cpu_s for each in calls))


def describe_device(device: str) -> str:
    """Return the name of the chip that runs a model."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


@torch.inference_mode()
def measure_matrix_tflops(device: str) -> float:
    """Return the best rate of a large square matrix product, in 10^12 operations a second.

    In bf16, or in fp32 on a processor without instructions for bf16: there models multiply in fp32 too.
    """
    size = MATRIX_SIZES[device]
    dtype = torch.bfloat16 if device != "cpu" or has_bf16_instructions() else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    torch.mm(left, right)
    spent = [measure_spent(device, lambda: torch.mm(left, right))[0] for _ in range(MATRIX_ROUNDS)]
    return 2.0 * size**3 / min(each.wall_s for each in spent) / 1e12


def count_flops(loaded: LoadedModel, items: Sequence[ReferenceRequest]) -> float:
    """Return the multiplications and additions of verifying answers: layers, causal attention, projection."""
    model, config = loaded.model, loaded.model.config
    head = model.get_output_embeddings()
    weights = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    read = [count_read(item) for item in items]
    attention = 2.0 * config.num_hidden_layers * config.num_attention_heads * head_size * sum(n * n for n in read)
    projection = 2.0 * head.weight.numel() * sum(len(item.output_ids) for item in items)
    return 2.0 * weights * sum(read) + attention + projection


def count_read(item: ReferenceRequest) -> int:
    """Return how many tokens the model is fed to verify an answer: the last one is checked, not read."""
    return len(item.prompt_ids) + len(item.output_ids) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakMeter:
    """Resets a memory peak, and reads it in bytes (None where the system does not tell)."""

    reset: Callable[[], None]
    read: Callable[[], int | None]


def _reset_process_peak() -> None:
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _read_process_peak() -> int | None:
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0]) * 1024


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


PROCESS_PEAK = PeakMeter(reset=_reset_process_peak, read=_read_process_peak)
"""Resident memory of this process; Linux alone can start a peak anew."""
GPU_PEAK = PeakMeter(reset=torch.cuda.reset_peak_memory_stats, read=torch.cuda.max_memory_allocated)
