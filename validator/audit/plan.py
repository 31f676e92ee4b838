"""What an audit will ask, fixed before it asks anything: its seed, how many requests, their envelope, the alternatives.

A plan file can be published (or its digest) before an audit, so that nobody can say that prompts or seeds were picked
afterwards. Without a file the plan is made from a fresh random seed and kept in the journal.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from models.alternatives import CONTEXT_TOKENS
from models.requests import MAX_TEMPERATURE
from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import MAX_SIBLINGS, PROMPT_ALTERNATIVES, WEIGHTS_ALTERNATIVES
from scoring.evidence.other_weights import SKIPPED_LAYER
from scoring.hashing import tagged_digest
from scoring.probe_outlines import GENERATOR_ID_V2, STRATA_V2
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import PPM
from validator.audit.records import Claim

FORMAT = "quiver-audit-plan-v1"
MAX_PLAN_BYTES = 64 * 1024
MAX_REQUESTS = 10_000
MAX_ANSWER_TOKENS = 4096
MAX_NAME = 1000
"""Characters of a model's name, which may be a path."""
DEFAULT_REQUESTS = 200
DEFAULT_MAX_TOKENS = 64
REPEAT_EVERY = 16
"""One request in so many is the one before it, asked again the other way: streamed equals whole."""
GREEDY_EVERY = 4
"""Without a seed one request in so many is asked at temperature 0: it tells other weights apart, and nothing else."""
MAX_ONE_OVER_ALPHA = 10**12
GENERATORS: Mapping[str, tuple[str, ...]] = {GENERATOR_ID_V2: STRATA_V2, GENERATOR_ID: STRATA}
"""The generators of prompts and their strata; the first, whose prompts the model writes, is the default."""
ALTERNATIVES = (
    *WEIGHTS_ALTERNATIVES,
    SKIPPED_LAYER,
    *PROMPT_ALTERNATIVES,
    *(f"last-{count}-tokens" for count in CONTEXT_TOKENS),
)
"""The names that a plan may choose from; a model may lack some of them."""
_MEMBERS = (
    "format", "generator", "seed", "requests", "max_tokens", "temperature_ppm", "top_p_ppm", "strata", "claim",
    "one_over_alpha", "alternatives",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbingPlan:
    """The plan of one audit. It is the envelope (`ProbeLimits`) of the probe generator; `alternatives` None means all
    that the model has; `siblings` are other models that may be served, by name, each an alternative besides.
    Probabilities in ppm, `requests` repeats and failures included.
    """

    seed: bytes
    requests: int = DEFAULT_REQUESTS
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature_min_ppm: int = PPM
    temperature_max_ppm: int = PPM
    top_p_min_ppm: int = PPM
    top_p_max_ppm: int = PPM
    strata: tuple[str, ...] = STRATA_V2
    claim: Claim = Claim.WEIGHTS
    one_over_alpha: int = 1_000_000
    alternatives: tuple[str, ...] | None = None
    siblings: tuple[str, ...] = ()
    generator: str = GENERATOR_ID_V2

    def __post_init__(self) -> None:
        if len(self.seed) != 32:
            raise InvalidInput("expected 0x and 64 hex digits", "seed")
        _check_range(self.requests, 1, MAX_REQUESTS, "requests")
        _check_range(self.max_tokens, 1, MAX_ANSWER_TOKENS, "max_tokens")
        _check_range(self.one_over_alpha, 2, MAX_ONE_OVER_ALPHA, "one_over_alpha")
        _check_interval(
            (self.temperature_min_ppm, self.temperature_max_ppm), 0, int(MAX_TEMPERATURE * PPM), "temperature_ppm"
        )
        _check_interval((self.top_p_min_ppm, self.top_p_max_ppm), 1, PPM, "top_p_ppm")
        if len(self.siblings) > MAX_SIBLINGS or len(set(self.siblings)) != len(self.siblings):
            raise InvalidInput(f"expected at most {MAX_SIBLINGS} models, each once", "siblings")
        for name in self.alternatives or ():
            if name not in ALTERNATIVES:
                raise InvalidInput(f"{name[:40]!r} is none of {', '.join(ALTERNATIVES)}", "alternatives")
        if self.generator not in GENERATORS:
            raise InvalidInput(f"there are {', '.join(GENERATORS)}", "generator")
        known = GENERATORS[self.generator]
        if not self.strata or not set(self.strata) <= set(known) or len(set(self.strata)) != len(self.strata):
            raise InvalidInput(f"expected some of {', '.join(known)}", "strata")

    @property
    def max_delay_ms(self) -> int:
        """Audits ask at once."""
        return 0

    @property
    def alpha(self) -> float:
        """Return the chance that an honest endpoint is ever called proven."""
        return 1 / self.one_over_alpha

    def compute_probe_seed(self, index: int) -> bytes:
        """Return the 32-byte seed of request `index`."""
        return tagged_digest("quiver-audit-probe", self.seed, index.to_bytes(8, "big"))

    def is_greedy(self, index: int) -> bool:
        """Return whether request `index` is asked at temperature 0, in an audit that asks so at all."""
        return index % GREEDY_EVERY == GREEDY_EVERY - 1

    def compute_discovery_seed(self, index: int) -> bytes:
        """Return the seed of a request that only finds out what the endpoint offers; never one of the audit's own."""
        return tagged_digest("quiver-audit-discovery", self.seed, index.to_bytes(8, "big"))

    def compute_digest(self) -> bytes:
        """Return the digest to publish before an audit."""
        return tagged_digest("quiver-audit-plan", canonical.encode(self.to_json()))

    def to_json(self) -> dict[str, Json]:
        """Return the plan file's document."""
        return {
            "format": FORMAT,
            "generator": self.generator,
            "seed": "0x" + self.seed.hex(),
            "requests": self.requests,
            "max_tokens": self.max_tokens,
            "temperature_ppm": [self.temperature_min_ppm, self.temperature_max_ppm],
            "top_p_ppm": [self.top_p_min_ppm, self.top_p_max_ppm],
            "strata": list(self.strata),
            "claim": self.claim.value,
            "one_over_alpha": self.one_over_alpha,
            "alternatives": None if self.alternatives is None else list(self.alternatives),
            # Left out when there are none: a plan without them has the digest that it had before there were any.
            **({"siblings": list(self.siblings)} if self.siblings else {}),
        }

    def encode(self) -> bytes:
        """Return the plan file, indented for people."""
        return json.dumps(self.to_json(), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a plan's document strictly; raises InvalidInput with the field's name."""
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise InvalidInput(f"expected {FORMAT!r}", "format")
        for name in (*(set(value) - {*_MEMBERS, "siblings"}), *(set(_MEMBERS) - set(value))):
            raise InvalidInput("unknown member" if name in value else "is missing", name[:80])
        temperature, top_p = (_parse_interval(value[name], name) for name in ("temperature_ppm", "top_p_ppm"))
        if value["claim"] not in list(Claim):
            raise InvalidInput(f"expected one of {', '.join(Claim)}", "claim")
        return cls(
            seed=parse_hex(value["seed"], "seed"),
            requests=value["requests"],
            max_tokens=value["max_tokens"],
            temperature_min_ppm=temperature[0],
            temperature_max_ppm=temperature[1],
            top_p_min_ppm=top_p[0],
            top_p_max_ppm=top_p[1],
            strata=_parse_names(value["strata"], "strata") or (),
            claim=Claim(value["claim"]),
            one_over_alpha=value["one_over_alpha"],
            alternatives=_parse_names(value["alternatives"], "alternatives"),
            siblings=_parse_names(value.get("siblings", []), "siblings", MAX_NAME) or (),
            generator=value["generator"],
        )


def parse_plan(data: bytes) -> ProbingPlan:
    """Read a plan file; raises InvalidInput with the field's name."""
    return ProbingPlan.from_json(canonical.decode_lenient(data, MAX_PLAN_BYTES))


def draw_seed() -> bytes:
    """Return a fresh random seed."""
    return secrets.token_bytes(32)


def parse_alpha(alpha: float) -> int:
    """Return the least n with 1/n at most alpha; raises InvalidInput unless alpha is in [1e-12, 0.5]."""
    if not 1 / MAX_ONE_OVER_ALPHA <= alpha <= 0.5:
        raise InvalidInput("must be between 1e-12 and 0.5", "--alpha")
    nearest = round(1 / alpha)
    # Compared as floats: of 1e-6, which no float is exactly, 1/1000000 is the same float.
    return nearest if 1 / nearest <= alpha else nearest + 1


def _parse_interval(value: object, field: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or any(type(item) is not int for item in value):
        raise InvalidInput("expected a list of two integers, the least and the largest", field)
    return value[0], value[1]


def _parse_names(value: object, field: str, longest: int = 80) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or any(not isinstance(item, str) or not 0 < len(item) <= longest for item in value):
        raise InvalidInput("expected a list of names or null", field)
    return tuple(value)


def _check_range(value: object, low: int, high: int, field: str) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InvalidInput(f"must be an integer from {low} to {high}", field)


def _check_interval(values: Sequence[int], low: int, high: int, field: str) -> None:
    for value in values:
        _check_range(value, low, high, field)
    if values[0] > values[1]:
        raise InvalidInput("the least is above the largest", field)
