"""The probe generator: everything follows from the seed, stays in the envelope, and looks like traffic."""

import re
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from scoring import probe_texts
from scoring.errors import InvalidInput
from scoring.probes import STRATA, build_probe, compute_probe_seed


@dataclass(frozen=True)
class Limits:
    strata: tuple[str, ...] = STRATA
    max_tokens: int = 48
    temperature_min_ppm: int = 1_000_000
    temperature_max_ppm: int = 1_000_000
    top_p_min_ppm: int = 1_000_000
    top_p_max_ppm: int = 1_000_000
    max_delay_ms: int = 2_000


VRF, PROVIDER, MODEL = b"\x01" * 32, b"\x02" * 20, b"\x03" * 32
SEEDS = [compute_probe_seed(VRF, PROVIDER, MODEL, index) for index in range(2000)]
PROBES = [build_probe(seed, Limits()) for seed in SEEDS]


def test_the_same_seed_gives_the_same_probe():
    assert [build_probe(seed, Limits()) for seed in SEEDS[:50]] == PROBES[:50]


def test_golden_probe():
    # A change of any list, template or draw must come with a new generator id.
    probe = build_probe(bytes(range(32)), Limits())
    assert (probe.stratum, probe.sampler_seed, probe.delay_ms) == GOLDEN[:3]
    assert [(message.role, message.content) for message in probe.messages] == GOLDEN[3]
    assert probe.nonce.hex() == GOLDEN[4]


@pytest.mark.parametrize(
    "change",
    [
        (b"\x09" * 32, PROVIDER, MODEL, 0),
        (VRF, b"\x09" * 20, MODEL, 0),
        (VRF, PROVIDER, b"\x09" * 32, 0),
        (VRF, PROVIDER, MODEL, 1),
    ],
    ids=["another output", "another provider", "another model", "another index"],
)
def test_every_part_of_the_seed_counts(change):
    assert compute_probe_seed(*change) != compute_probe_seed(VRF, PROVIDER, MODEL, 0)


def test_probes_stay_in_the_envelope():
    wide = Limits(temperature_min_ppm=700_000, temperature_max_ppm=1_200_000, top_p_min_ppm=900_000)
    probes = [build_probe(seed, wide) for seed in SEEDS[:300]]
    assert {probe.temperature_ppm for probe in probes} <= set(range(700_000, 1_200_001, 10_000))
    assert {probe.top_p_ppm for probe in probes} == set(range(900_000, 1_000_001, 10_000))
    assert all(0 <= probe.sampler_seed < 2**53 and len(probe.nonce) == 32 for probe in probes)
    assert 0 <= min(probe.delay_ms for probe in PROBES) < max(probe.delay_ms for probe in PROBES) <= 2_000


def test_a_point_envelope_fixes_the_parameters():
    assert {(probe.temperature_ppm, probe.top_p_ppm, probe.max_tokens) for probe in PROBES} == {(10**6, 10**6, 48)}


def test_strata_are_drawn_evenly_and_only_those_of_the_plan():
    counts = Counter(probe.stratum for probe in PROBES)
    assert set(counts) == set(STRATA)
    assert min(counts.values()) > 0.8 * len(PROBES) / len(STRATA)
    assert {build_probe(seed, replace(Limits(), strata=("code",))).stratum for seed in SEEDS[:50]} == {"code"}


def test_probes_hardly_repeat():
    prompts = {probe.messages[-1].content for probe in PROBES}
    assert len(prompts) > 0.85 * len(PROBES)
    assert len({probe.sampler_seed for probe in PROBES}) == len({probe.nonce for probe in PROBES}) == len(PROBES)


def test_probes_vary_as_traffic_does():
    assert 0.15 < sum(probe.messages[0].role == "system" for probe in PROBES) / len(PROBES) < 0.35
    assert 0.08 < sum(len(probe.messages) > 2 for probe in PROBES) / len(PROBES) < 0.25
    assert all(probe.messages[-1].role == "user" for probe in PROBES)


def test_prompts_are_short_and_whole():
    for probe in PROBES:
        text = probe.messages[-1].content
        assert 5 < len(text) < 420
        assert not re.search(r"\{(" + "|".join(probe_texts.LISTS) + r")\}", text), (
            "a place of the template is left open"
        )


def test_every_list_is_used_and_its_entries_are_distinct():
    templates = " ".join(template for group in probe_texts.TEMPLATES.values() for template in group)
    for name, entries in probe_texts.LISTS.items():
        assert f"{{{name}}}" in templates
        assert len(set(entries)) == len(entries)
        assert all(entry == entry.strip() and entry for entry in entries)


REFUSED_SEEDS = {
    "a short output": (VRF[1:], PROVIDER, MODEL, 0),
    "a long provider": (VRF, PROVIDER + b"\0", MODEL, 0),
    "a short model": (VRF, PROVIDER, MODEL[1:], 0),
    "a negative index": (VRF, PROVIDER, MODEL, -1),
    "an index beyond 64 bits": (VRF, PROVIDER, MODEL, 2**64),
}


@pytest.mark.parametrize("arguments", REFUSED_SEEDS.values(), ids=REFUSED_SEEDS.keys())
def test_refuses_seeds_of(arguments):
    with pytest.raises(InvalidInput):
        compute_probe_seed(*arguments)


def test_refuses_a_short_probe_seed():
    with pytest.raises(InvalidInput, match="seed"):
        build_probe(b"\0" * 31, Limits())


GOLDEN = (
    "code",
    7397515867914061,
    314,
    [
        (
            "user",
            "Rewrite this so that it is easier to read:\n"
            "while n != 1:\n    if n % 2 == 0: n = n / 2\n    n = 3 * n + 1",
        )
    ],
    "fec1829f50b00074cfdaf2b44808512d1bcb67b9945d8282199d36290bd3d5fc",
)
