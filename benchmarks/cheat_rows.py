"""The rows of the detection benchmark: each way to serve something else, as data.

A row changes one thing in what an honest provider does, unless it says otherwise. Texts and numbers are the benchmark's
own: they equal no alternative that the engine knows (models.alternatives) and no default of `--cheat`. What a row
answers is in `benchmarks.cheat_answers`.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.gguf_weights import QUANTISED
from scoring.records import PPM

CLAIMED, OTHER = "claimed", "other"
HIDDEN_PROMPT = "Always mention that our premium plan answers faster, and never give medical or legal advice."
"""17 tokens of SmolLM2."""
GREEDY_WEIGHTS = ("int8", "int6", "int5", "int4", "drop-layer")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheatRow:
    """One way to cheat: `weights` is CLAIMED, OTHER or a variant (models.variants); what is None stays as claimed.

    `cheated_ppm` is the share of requests that are cheated at all, `honest_requests` how many come before the first.
    With `gap_below` the answers are those of `benchmarks.gated_hybrid`, `weights` being the cheap ones. With `gguf`
    they are those of llama.cpp's server on weights in that format: no seed of ours, and kernels that are not ours.
    With `asks_greedy` the row is asked at temperature 0.
    """

    name: str
    weights: str = CLAIMED
    temperature: float | None = None
    top_p: float | None = None
    hidden_prompt: str | None = None
    context_tokens: int | None = None
    has_wrong_template: bool = False
    is_canned: bool = False
    forges_usage: bool = False
    gap_below: float | None = None
    gate: str = "claimed"
    gguf: str | None = None
    cheated_ppm: int = PPM
    honest_requests: int = 0
    asks_greedy: bool = False

    @property
    def changes_prompt(self) -> bool:
        """Whether the model reads another prompt than the one that was sent."""
        return self.hidden_prompt is not None or self.context_tokens is not None or self.has_wrong_template


HONEST = CheatRow(name="honest", cheated_ppm=0)
ROWS = (
    CheatRow(name="int8", weights="int8"),
    CheatRow(name="int6", weights="int6"),
    CheatRow(name="int5", weights="int5"),
    CheatRow(name="int4", weights="int4"),
    CheatRow(name="drop-layer", weights="drop-layer"),
    CheatRow(name="drop-layer-named", weights="drop-layer"),
    CheatRow(name="other-model", weights=OTHER, forges_usage=True),
    CheatRow(name="other-model-named", weights=OTHER, forges_usage=True),
    CheatRow(name="temperature-0.9", temperature=0.9),
    CheatRow(name="temperature-1.1", temperature=1.1),
    CheatRow(name="top-p-0.9", top_p=0.9),
    CheatRow(name="hidden-prompt", hidden_prompt=HIDDEN_PROMPT),
    CheatRow(name="hidden-prompt-forged-usage", hidden_prompt=HIDDEN_PROMPT, forges_usage=True),
    CheatRow(name="truncated-context", context_tokens=40, forges_usage=True),
    CheatRow(name="wrong-template", has_wrong_template=True, forges_usage=True),
    CheatRow(name="canned", is_canned=True, forges_usage=True),
    *(CheatRow(name=f"llama.cpp-{name}", gguf=name, forges_usage=True) for name in QUANTISED),
    *(CheatRow(name=f"{name}-at-temperature-0", weights=name, asks_greedy=True) for name in GREEDY_WEIGHTS),
    CheatRow(name="hidden-prompt-at-temperature-0", hidden_prompt=HIDDEN_PROMPT, asks_greedy=True),
    CheatRow(name="int4-diluted-20", weights="int4", cheated_ppm=200_000),
    CheatRow(name="int4-diluted-5", weights="int4", cheated_ppm=50_000),
    CheatRow(name="int4-gated", weights="int4", gap_below=0.5),
    CheatRow(name="int4-gated-cheap", weights="int4", gap_below=0.5, gate="cheap"),
    CheatRow(name="int4-sleeper-500", weights="int4", honest_requests=500),
)


def find_row(name: str) -> CheatRow:
    """Return the row of a name, HONEST included; raises KeyError when there is none."""
    return {row.name: row for row in (HONEST, *ROWS)}[name]


def is_cheated(row: CheatRow, seed: int, index: int) -> bool:
    """Return whether the row cheats on the request of a seed at a place: a coin that follows from the seed alone."""
    if index < row.honest_requests:
        return False
    digest = hashlib.sha256(f"{row.name} {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PPM < row.cheated_ppm


def draw_trial(
    row: CheatRow, honest_count: int, cheated_count: int, requests: int, generator: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (is_cheated, index in its pool) for each request of one resampled life of a provider.

    The pools are answers that were made once: honest ones, and ones that were cheated throughout. Diluted and sleeping
    rows need no answers of their own then.
    """
    cheats = generator.random(requests) * PPM < row.cheated_ppm
    cheats[: row.honest_requests] = False
    places = generator.random(requests) * np.where(cheats, cheated_count, honest_count)
    return cheats, places.astype(np.int64)
