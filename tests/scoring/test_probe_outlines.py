"""Outlines of probes: everything follows from the seed, stays in the envelope, and varies as people's requests do."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from scoring.errors import InvalidInput
from scoring.hashing import keccak256
from scoring.probe_habits import OTHER_EXAMPLES
from scoring.probe_outlines import ATTEMPTS, CODE, ENGLISH, PROSE, STRATA_V2, ProbeOutline, build_outline


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    strata: tuple[str, ...] = STRATA_V2
    max_tokens: int = 64
    temperature_min_ppm: int = 700_000
    temperature_max_ppm: int = 1_100_000
    top_p_min_ppm: int = 900_000
    top_p_max_ppm: int = 1_000_000
    max_delay_ms: int = 60_000


def draw(count: int, limits: Limits | None = None) -> list[ProbeOutline]:
    return [build_outline(keccak256(b"outline %d" % index), limits or Limits()) for index in range(count)]


@pytest.fixture(scope="module")
def outlines() -> list[ProbeOutline]:
    return draw(1500)


def test_the_same_seed_gives_the_same_outline() -> None:
    assert draw(20) == draw(20)


def test_a_seed_keeps_its_outline_for_ever() -> None:
    # The generator is sealed: a change here is a new generator id.
    text = repr([build_outline(keccak256(b"sealed %d" % index), Limits()) for index in range(50)])
    assert keccak256(text.encode()).hex() == "0f94cae819d50f92ddb7d626727a3b0477fc00e5563718b6a48528ee8edfd3d3"


def test_two_seeds_share_neither_words_nor_writer_seeds(outlines: list[ProbeOutline]) -> None:
    seeds = [seed for outline in outlines for turn in outline.turns for seed in turn.writer_seeds]
    assert len(set(seeds)) == len(seeds)


def test_outlines_stay_in_the_envelope(outlines: list[ProbeOutline]) -> None:
    limits = Limits()
    for outline in outlines:
        assert outline.stratum in limits.strata
        assert limits.temperature_min_ppm <= outline.temperature_ppm <= limits.temperature_max_ppm
        assert limits.top_p_min_ppm <= outline.top_p_ppm <= limits.top_p_max_ppm
        assert 1 <= outline.max_tokens <= limits.max_tokens
        assert 0 <= outline.delay_ms <= limits.max_delay_ms
        assert 0 <= outline.sampler_seed < 2**53


def test_an_envelope_without_round_values_is_kept_too() -> None:
    limits = Limits(temperature_min_ppm=730_000, temperature_max_ppm=770_000)
    assert all(730_000 <= outline.temperature_ppm <= 770_000 for outline in draw(50, limits))


def test_an_envelope_with_one_stratum_gives_that_stratum() -> None:
    assert {outline.stratum for outline in draw(50, Limits(strata=(CODE,)))} == {CODE}


@pytest.mark.parametrize(
    ("seed", "limits", "field"),
    [
        pytest.param(b"\x00" * 31, Limits(), "seed", id="a seed of 31 bytes"),
        pytest.param(b"", Limits(), "seed", id="no seed"),
        pytest.param(b"\x00" * 32, Limits(strata=("ask", "write")), "strata", id="strata of another generator"),
    ],
)
def test_refuses(seed: bytes, limits: Limits, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build_outline(seed, limits)
    assert caught.value.field == field


def test_conversations_have_the_shapes_that_chat_templates_take(outlines: list[ProbeOutline]) -> None:
    shapes = {tuple(turn.role for turn in outline.turns) for outline in outlines}
    assert shapes == {
        start + rest for start in ((), ("system",)) for rest in (("user",), ("user", "assistant", "user"))
    }


def test_a_quarter_is_code_and_a_few_are_in_other_languages(outlines: list[ProbeOutline]) -> None:
    count = len(outlines)
    strata = Counter(outline.stratum for outline in outlines)
    languages = Counter(outline.language for outline in outlines)
    assert 0.20 < strata[CODE] / count < 0.30
    assert strata[PROSE] + strata[CODE] == count
    assert 0.01 < 1 - languages[ENGLISH] / count < 0.06
    assert set(languages) == {ENGLISH, *(language for language, _ in OTHER_EXAMPLES)}


def test_every_turn_to_be_written_has_distinct_examples_and_all_its_attempts(outlines: list[ProbeOutline]) -> None:
    for turn in (turn for outline in outlines for turn in outline.turns):
        assert len(set(turn.examples)) == len(turn.examples)
        assert len(turn.writer_seeds) == ATTEMPTS
        assert turn.token_limit > 0 or turn.opening


def test_the_stratum_does_not_depend_on_the_rest_of_the_envelope() -> None:
    wide = draw(50, replace(Limits(), max_delay_ms=1, max_tokens=200, top_p_min_ppm=1_000_000))
    assert [outline.stratum for outline in wide] == [outline.stratum for outline in draw(50)]
    assert [outline.turns for outline in wide] == [outline.turns for outline in draw(50)]
