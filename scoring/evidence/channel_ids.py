"""The names of an audit's statistics: `CHANNEL-ALTERNATIVE-cCAP-vVERSION`, and what a name says.

A formula never changes under the same id. What the statistics are is in `scoring.evidence.channels`.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from scoring.evidence.other_weights import OTHER_WEIGHTS_IDS, OTHER_WEIGHTS_PASSES, SKIPPED_LAYER, WEAKER
from scoring.evidence.pit import BETA_SHAPES

SEEDED, TEXT, LOGPROBS, GREEDY, ACTIVATIONS = "seeded", "text", "logprobs", "greedy", "activations"
CHANNELS = (SEEDED, TEXT, LOGPROBS, GREEDY, ACTIVATIONS)

CAPS = (20, 100)
GROSS_CAPS = (100, 1_000)
"""For an alternative that many weights gain much under: ten times the odds count in full, and few requests are needed.
"""
SEEDED_CAP = 100

GRID_POWERS = (28, 24, 22, 20, 18, 16, 14)
GRID_TOP_PS_PPM = (1_000_000, 950_000, 900_000)
GRID_IDS = tuple(f"t{100 * 20 / power:.0f}-p{top_p // 10_000}" for power in GRID_POWERS for top_p in GRID_TOP_PS_PPM)
"""The temperature x top-p points of `TokenColumns.grid_logprob`, in its order: `t91-p100` is T = 0.91, no top-p."""
PIT_IDS = tuple(f"beta-{a:g}-{b:g}" for a, b in BETA_SHAPES)
"""Beta densities of the randomised probability integral transform: they find what no alternative names."""
MARGIN_IDS = ("seeded-margin-fine-v1", "seeded-margin-coarse-v1", "seeded-excess-v1")
NOISE_ID = f"seeded-noise-c{SEEDED_CAP}-v1"
"""Wide against honest noise in the seeded scores: `statistics.compute_noise_log_ratio`."""
SEEDED_IDS = (*MARGIN_IDS, NOISE_ID)
"""The seeded statistics of the reference pass alone."""
OWN_NOISE_ID = "seeded-own-noise-v1"
"""Margins in units of the request's own numerical noise, from a second run in other numerics."""
TEXT_ANY_ID = "text-any-v1"
WEIGHTS_ALTERNATIVES = ("int8", "fp8", "int6", "int5", "int4")
PROMPT_ALTERNATIVES = (
    "hidden-prompt-safe",
    "hidden-prompt-short",
    "hidden-prompt-support",
    "hidden-prompt-markdown",
    "template-role-lines",
    "template-none",
)
_TEXT_ALTERNATIVES = (*GRID_IDS, *OTHER_WEIGHTS_IDS, *PIT_IDS, *WEIGHTS_ALTERNATIVES, *PROMPT_ALTERNATIVES)
LOGPROBS_IDS = ("logprobs-short-fine-v1", "logprobs-short-coarse-v1")
GREEDY_IDS = ("greedy-margin-fine-v1", "greedy-margin-coarse-v1")
ACTIVATIONS_IDS = ("activations-error-fine-v1", "activations-error-coarse-v1")


def get_caps(alternative: str) -> tuple[int, ...]:
    """Return the caps of the text-only ratios of an alternative."""
    return GROSS_CAPS if alternative == WEAKER else CAPS


def build_text_id(alternative: str, cap: int) -> str:
    """Return the id of the text-only ratio of an alternative under one of its caps."""
    return f"text-{alternative}-c{cap}-v1"


def list_text_ids(alternatives: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the ratios of some alternatives under every cap."""
    return tuple(build_text_id(name, cap) for name in alternatives for cap in get_caps(name))


def build_seeded_id(alternative: str) -> str:
    """Return the id of the seeded ratio of alternative weights."""
    return f"seeded-{alternative}-c{SEEDED_CAP}-v1"


def list_greedy_ids(alternatives: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the ratios of some alternatives at temperature 0 under every cap."""
    return tuple(f"greedy-{name}-c{cap}-v1" for name in alternatives for cap in CAPS)


_SIBLING = re.compile(r"sibling-[0-9a-f]{16}")
MAX_SIBLINGS = 4


def build_sibling_name(manifest_digest: bytes) -> str:
    """Return the name of the alternative that another model, told by its manifest, is served instead."""
    return f"sibling-{manifest_digest[:8].hex()}"


@lru_cache(maxsize=4096)
def is_sibling(statistic_id: str) -> bool:
    """Return whether a statistic is the ratio of another model: there is one for each that somebody names."""
    match = _SIBLING.search(statistic_id)
    return match is not None and statistic_id in list_text_ids((match[0],))


CHANNEL_STATISTIC_IDS = (
    *SEEDED_IDS,
    OWN_NOISE_ID,
    *(build_seeded_id(name) for name in WEIGHTS_ALTERNATIVES),
    *LOGPROBS_IDS,
    TEXT_ANY_ID,
    *list_text_ids(_TEXT_ALTERNATIVES),
    *GREEDY_IDS,
    *list_greedy_ids(WEIGHTS_ALTERNATIVES),
    *ACTIVATIONS_IDS,
)
"""Every statistic of an audit but those of siblings, in the order of a profile."""

_GREEDY_RATIO_IDS = list_greedy_ids(WEIGHTS_ALTERNATIVES)
_RATIO_CAPS = {
    **dict(zip(_GREEDY_RATIO_IDS, CAPS * len(WEIGHTS_ALTERNATIVES), strict=True)),
    **{build_text_id(name, cap): cap for name in _TEXT_ALTERNATIVES for cap in get_caps(name)},
}


def holds_for_all(statistic_id: str) -> bool:
    """Return whether a statistic is the same number against every sampling of the claimed weights."""
    return get_channel(statistic_id) in (LOGPROBS, ACTIVATIONS) or statistic_id in _GREEDY_RATIO_IDS


def list_statistics_of(alternative: str, is_greedy: bool) -> tuple[str, ...]:
    """Return the statistics that an alternative's pass over answers at temperature 0, or over others, is run for."""
    if is_greedy:
        return list_greedy_ids((alternative,)) if alternative in WEIGHTS_ALTERNATIVES else ()
    if alternative == SKIPPED_LAYER:
        return list_text_ids((WEAKER,))
    seeded = (build_seeded_id(alternative),) if alternative in WEIGHTS_ALTERNATIVES else ()
    return (*seeded, *list_text_ids((alternative,)))


def list_mixed_ids(alternative: str, run: Collection[str]) -> tuple[str, ...]:
    """Return the text ratios that an alternative's pass is a part of, where all their other passes are `run` too."""
    mixed = [name for name, passes in OTHER_WEIGHTS_PASSES.items() if alternative in passes and {*passes} <= {*run}]
    return list_text_ids(mixed)


def is_audited(statistic_id: str) -> bool:
    """Return whether it is a statistic of an audit."""
    return statistic_id in _AUDITED or is_sibling(statistic_id)


_AUDITED = frozenset(CHANNEL_STATISTIC_IDS)


def find_ratio_cap(statistic_id: str) -> int | None:
    """Return the cap of a likelihood ratio, None for a statistic that is none."""
    if is_sibling(statistic_id):
        return next(cap for cap in CAPS if statistic_id.endswith(f"-c{cap}-v1"))
    return _RATIO_CAPS.get(statistic_id)


def get_channel(statistic_id: str) -> str:
    """Return the channel of a statistic: `seeded` needs seed and sampler, `logprobs` what the provider says of its
    tokens, `text` the text alone."""
    return next(channel for channel in CHANNELS if statistic_id.startswith(f"{channel}-"))
