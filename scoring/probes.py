"""The sealed probe generator `quiver-probes-v1`: a prompt and its parameters from 32 bytes, and from nothing else.

The seed is a hash of the validator's verifiable random function output, so nobody can predict a probe, the validator
cannot choose it, and the transcript proves it. All draws expand the seed by keccak256; there is no other randomness.
Prompts are templates filled from lists, with the variety of consumer traffic in tasks, tones and turns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.probe_texts import CLOSINGS, FIRST_TURNS, LISTS, OPENINGS, SYSTEM_PROMPTS, TEMPLATES
from scoring.records import PPM

GENERATOR_ID = "quiver-probes-v1"
STRATA: tuple[str, ...] = tuple(TEMPLATES)
"""The families of tasks; mu is calibrated for each."""
TEMPERATURE_STEP_PPM = 10_000

T = TypeVar("T")


class ProbeLimits(Protocol):
    """The envelope of a plan that probes stay in (a `Plan` is one): bounds in ppm, tokens, milliseconds."""

    @property
    def strata(self) -> tuple[str, ...]: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def temperature_min_ppm(self) -> int: ...
    @property
    def temperature_max_ppm(self) -> int: ...
    @property
    def top_p_min_ppm(self) -> int: ...
    @property
    def top_p_max_ppm(self) -> int: ...
    @property
    def max_delay_ms(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PointEnvelope:
    """The envelope of a calibration: one temperature, one top-p, no delays (a `ProbeLimits`)."""

    strata: tuple[str, ...]
    max_tokens: int
    temperature_ppm: int = PPM
    top_p_ppm: int = PPM
    max_delay_ms: int = 0

    @property
    def temperature_min_ppm(self) -> int:
        return self.temperature_ppm

    @property
    def temperature_max_ppm(self) -> int:
        return self.temperature_ppm

    @property
    def top_p_min_ppm(self) -> int:
        return self.top_p_ppm

    @property
    def top_p_max_ppm(self) -> int:
        return self.top_p_ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeMessage:
    """One chat message: role `system`, `user` or `assistant`, and its text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One request to a provider. `sampler_seed` is below 2**53; `delay_ms` counts from the start of the epoch."""

    messages: tuple[ProbeMessage, ...]
    sampler_seed: int
    temperature_ppm: int
    top_p_ppm: int
    max_tokens: int
    nonce: bytes
    delay_ms: int
    stratum: str


def compute_probe_seed(vrf_output: bytes, provider: bytes, manifest_digest: bytes, index: int) -> bytes:
    """Return the 32-byte seed of probe `index` of one validator, provider and model in the epoch of the VRF output.

    Raises InvalidInput on wrong lengths or a negative index.
    """
    for name, value, length in (
        ("vrf_output", vrf_output, 32),
        ("provider", provider, 20),
        ("manifest_digest", manifest_digest, 32),
    ):
        if len(value) != length:
            raise InvalidInput(f"expected {length} bytes, got {len(value)}", name)
    if not 0 <= index < 2**64:
        raise InvalidInput("must be from 0 to 2**64 - 1", "index")
    return tagged_digest("quiver-probe", vrf_output, provider, manifest_digest, index.to_bytes(8, "big"))


def build_probe(seed: bytes, limits: ProbeLimits) -> Probe:
    """Return the probe that follows from a 32-byte seed within a plan's envelope."""
    if len(seed) != 32:
        raise InvalidInput(f"expected 32 bytes, got {len(seed)}", "seed")
    parameters, text = ProbeDraws(seed, "quiver-probe-parameters"), ProbeDraws(seed, "quiver-probe-text")
    stratum = parameters.pick(limits.strata)
    return Probe(
        messages=_build_messages(stratum, text),
        sampler_seed=parameters.below(2**53),
        temperature_ppm=parameters.between(limits.temperature_min_ppm, limits.temperature_max_ppm),
        top_p_ppm=parameters.between(limits.top_p_min_ppm, limits.top_p_max_ppm),
        max_tokens=limits.max_tokens,
        nonce=tagged_digest("quiver-probe-nonce", seed),
        delay_ms=parameters.below(limits.max_delay_ms + 1),
        stratum=stratum,
    )


class ProbeDraws:
    """A stream of uniform draws from keccak256(tag, seed, counter)."""

    def __init__(self, seed: bytes, tag: str) -> None:
        self._seed = seed
        self._tag = tag
        self._counter = 0

    def below(self, bound: int) -> int:
        """Return a uniform integer in [0, bound), bound up to 2**64: the bias of reducing 256 bits is below 2**-192."""
        digest = tagged_digest(self._tag, self._seed, self._counter.to_bytes(8, "big"))
        self._counter += 1
        return int.from_bytes(digest, "big") % bound

    def between(self, low_ppm: int, high_ppm: int) -> int:
        """Return a point of the grid low, low + 1 %, ... that does not exceed high."""
        return low_ppm + TEMPERATURE_STEP_PPM * self.below((high_ppm - low_ppm) // TEMPERATURE_STEP_PPM + 1)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def happens(self, percent: int) -> bool:
        return self.below(100) < percent


def _build_messages(stratum: str, draws: ProbeDraws) -> tuple[ProbeMessage, ...]:
    messages: list[ProbeMessage] = []
    if draws.happens(25):
        messages.append(ProbeMessage(role="system", content=draws.pick(SYSTEM_PROMPTS)))
    if draws.happens(15):
        asked, answered = draws.pick(FIRST_TURNS)
        messages += [ProbeMessage(role="user", content=asked), ProbeMessage(role="assistant", content=answered)]
    return (*messages, ProbeMessage(role="user", content=_build_request(stratum, draws)))


def _build_request(stratum: str, draws: ProbeDraws) -> str:
    template = draws.pick(TEMPLATES[stratum])
    text = re.sub(r"\{(\w+)\}", lambda match: draws.pick(LISTS[match.group(1)]), template)
    if draws.happens(15):
        text = draws.pick(OPENINGS) + text[0].lower() + text[1:]
    if draws.happens(20):
        text += draws.pick(CLOSINGS)
    # People who type in a hurry; code keeps its case.
    return text.lower() if stratum != "code" and draws.happens(12) else text
