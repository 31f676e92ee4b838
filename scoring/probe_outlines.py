"""The sealed probe generator `quiver-probes-v2`, first half: from 32 bytes, a request that nobody foresees.

An outline says everything but the words: kind of task, language, turns, how each begins, the parameters, the time. The
words are written by the reference model (`models.probe_writer`) with the writer seeds given here, so a probe has no
text of ours in it beyond the most frequent openings of requests. All draws expand the seed by keccak256.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.probe_habits import (
    BARE_MESSAGES,
    CODE_EXAMPLES,
    CODE_OPENINGS,
    FOLLOW_UP_OPENINGS,
    OTHER_EXAMPLES,
    PROSE_EXAMPLES,
    PROSE_OPENINGS,
    SYSTEM_EXAMPLES,
    SYSTEM_OPENINGS,
    TEMPERATURES_PPM,
    TOP_PS_PPM,
)
from scoring.probes import ProbeDraws, ProbeLimits

GENERATOR_ID_V2 = "quiver-probes-v2"
PROSE, CODE = "prose", "code"
STRATA_V2: tuple[str, ...] = (PROSE, CODE)
ENGLISH = "en"
ATTEMPTS = 4
"""How many writer seeds a turn has: the clean-up rules may refuse what one of them writes."""

CODE_PERCENT = 25
SYSTEM_PERCENT = 20
FOLLOW_UP_PERCENT = 12
OTHER_LANGUAGE_PERCENT = 4
BARE_PERCENT = 3
EXAMPLES_PER_TURN = 5
USER_TOKENS = {PROSE: 40, CODE: 48}
SYSTEM_TOKENS = 36
ANSWER_TOKENS = 40

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutline:
    """One message to be written: what the writer sees before it, how it begins, where it ends.

    `examples` are messages of the same role shown to the writer; `token_limit` counts what is written after the
    opening, and 0 means that the opening is the message; `writer_seeds` are tried in order. `dropped_marks` (final
    marks left out) and `is_lower_case` say how untidily this person types.
    """

    role: str
    examples: tuple[str, ...]
    opening: str
    token_limit: int
    is_one_line: bool
    dropped_marks: str
    is_lower_case: bool
    writer_seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOutline:
    """A request without its words. `sampler_seed` is below 2**53; `delay_ms` counts from the start of the epoch."""

    seed: bytes
    stratum: str
    language: str
    turns: tuple[TurnOutline, ...]
    sampler_seed: int
    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int
    nonce: bytes
    delay_ms: int


def build_outline(seed: bytes, limits: ProbeLimits) -> ProbeOutline:
    """Return the outline that follows from a 32-byte seed within a plan's envelope.

    Raises InvalidInput on a seed of another length, or when the envelope has none of the strata of this generator.
    """
    if len(seed) != 32:
        raise InvalidInput(f"expected 32 bytes, got {len(seed)}", "seed")
    draws = ProbeDraws(seed, "quiver-probe-outline")
    stratum = _draw_stratum(limits, draws)
    language = draws.pick(OTHER_EXAMPLES)[0] if draws.happens(OTHER_LANGUAGE_PERCENT) else ENGLISH
    if stratum == CODE:
        language = ENGLISH
    return ProbeOutline(
        seed=seed,
        stratum=stratum,
        language=language,
        turns=_build_turns(stratum, language, ProbeDraws(seed, "quiver-probe-turns")),
        sampler_seed=draws.below(2**53),
        temperature_ppm=_draw_round(TEMPERATURES_PPM, limits.temperature_min_ppm, limits.temperature_max_ppm, draws),
        top_p_ppm=_draw_round(TOP_PS_PPM, limits.top_p_min_ppm, limits.top_p_max_ppm, draws),
        max_tokens=_draw_max_tokens(limits.max_tokens, draws),
        nonce=tagged_digest("quiver-probe-nonce", seed),
        # Arrivals of many independent users are a Poisson process: given their number, each is uniform in the epoch.
        delay_ms=draws.below(limits.max_delay_ms + 1),
    )


def _draw_stratum(limits: ProbeLimits, draws: ProbeDraws) -> str:
    known = [stratum for stratum in STRATA_V2 if stratum in limits.strata]
    if not known:
        raise InvalidInput(f"{GENERATOR_ID_V2} has the strata {', '.join(STRATA_V2)}", "strata")
    wanted = CODE if draws.happens(CODE_PERCENT) else PROSE
    return wanted if wanted in known else known[0]


def _draw_round(values: Sequence[tuple[int, int]], low_ppm: int, high_ppm: int, draws: ProbeDraws) -> int:
    """Return one of the round values that the envelope holds, or its grid's point when it holds none."""
    inside = [(weight, value) for weight, value in values if low_ppm <= value <= high_ppm]
    return _pick_weighted(inside, draws) if inside else draws.between(low_ppm, high_ppm)


def _draw_max_tokens(limit: int, draws: ProbeDraws) -> int:
    return max(1, _pick_weighted(((70, limit), (15, limit * 3 // 4), (15, limit // 2)), draws))


def _pick_weighted(items: Sequence[tuple[int, T]], draws: ProbeDraws) -> T:
    place = draws.below(sum(weight for weight, _ in items))
    for weight, item in items:
        place -= weight
        if place < 0:
            return item
    raise RuntimeError("weights changed while they were summed")


def _build_turns(stratum: str, language: str, draws: ProbeDraws) -> tuple[TurnOutline, ...]:
    turns: list[TurnOutline] = []
    if draws.happens(SYSTEM_PERCENT):
        opening = _pick_weighted(SYSTEM_OPENINGS, draws)
        turns.append(_build_turn("system", SYSTEM_EXAMPLES, opening, SYSTEM_TOKENS, draws))
    if stratum == PROSE and language == ENGLISH and draws.happens(BARE_PERCENT):
        turns.append(_build_turn("user", (), _pick_weighted(BARE_MESSAGES, draws), 0, draws))
        return tuple(turns)
    examples, opening = _draw_manner(stratum, language, draws)
    turns.append(_build_turn("user", examples, opening, USER_TOKENS[stratum], draws))
    if draws.happens(FOLLOW_UP_PERCENT):
        turns.append(_build_turn("assistant", (), "", ANSWER_TOKENS, draws))
        opening = _pick_weighted(FOLLOW_UP_OPENINGS, draws) if language == ENGLISH else ""
        turns.append(_build_turn("user", (), opening, USER_TOKENS[stratum], draws))
    return tuple(turns)


def _draw_manner(stratum: str, language: str, draws: ProbeDraws) -> tuple[tuple[str, ...], str]:
    """Return what examples a user's turn may show and how it begins."""
    if language != ENGLISH:
        return tuple(text for code, text in OTHER_EXAMPLES if code == language), ""
    if stratum == CODE:
        return CODE_EXAMPLES, _pick_weighted(CODE_OPENINGS, draws)
    return PROSE_EXAMPLES, _pick_weighted(PROSE_OPENINGS, draws)


def _build_turn(role: str, examples: Sequence[str], opening: str, token_limit: int, draws: ProbeDraws) -> TurnOutline:
    is_user = role == "user"
    return TurnOutline(
        role=role,
        examples=_pick_some(examples, EXAMPLES_PER_TURN, draws),
        opening=opening,
        token_limit=token_limit,
        is_one_line=draws.happens(90),
        dropped_marks=_draw_dropped_marks(draws) if is_user else "",
        is_lower_case=is_user and not opening and draws.happens(37),
        writer_seeds=tuple(draws.below(2**53) for _ in range(ATTEMPTS)),
    )


def _draw_dropped_marks(draws: ProbeDraws) -> str:
    return ("." if draws.happens(65) else "") + ("?" if draws.happens(25) else "")


def _pick_some(items: Sequence[T], count: int, draws: ProbeDraws) -> tuple[T, ...]:
    """Return up to `count` different items in the order drawn."""
    left = list(items)
    return tuple(left.pop(draws.below(len(left))) for _ in range(min(count, len(left))))
