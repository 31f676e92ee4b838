"""What a discovery found out about an endpoint, and how it is told and kept."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from models.requests import SAMPLER_NONE
from scoring.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSource:
    """A sampler of ours and who says that the endpoint uses it."""

    sampler: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """What an endpoint offers. `sampler` is what the seeded channel assumes ("none": there is no such channel).

    `repeats_seed` and `stream_agrees` are None when it could not be told. `refused` are pairs of an optional parameter
    and what the endpoint said; `wrong_parameter` is what became of one that must be refused.
    """

    served_model: str
    sampler: str = SAMPLER_NONE
    sampler_source: str | None = None
    declared_sampler: str | None = None
    repeats_seed: bool | None = None
    has_token_ids: bool = False
    has_logprobs: bool = False
    top_logprobs: int = 0
    has_usage: bool = False
    has_receipts: bool = False
    has_activation_proofs: bool = False
    streams: bool = False
    has_stream_usage: bool = False
    has_stream_token_ids: bool = False
    stream_agrees: bool | None = None
    refused: tuple[tuple[str, str], ...] = ()
    wrong_parameter: str = ""

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels that this endpoint leaves open; with a seed nothing is gained by temperature 0."""
        is_seeded = self.sampler != SAMPLER_NONE
        offered = {"seeded": is_seeded, "text": True, "logprobs": self.has_logprobs}
        offered |= {"greedy": not is_seeded, "activations": self.has_activation_proofs, "usage": self.has_usage}
        return tuple(name for name, is_open in offered.items() if is_open)

    def describe(self) -> dict[str, str]:
        """Return what was found, in words, by what it is about."""
        seed = {True: "repeats an answer", False: "does not repeat an answer", None: "cannot be told"}
        sampler = f"{self.sampler} ({self.sampler_source})" if self.sampler_source else "unknown"
        stream = "no"
        if self.streams:
            stream = "yes, usage included" if self.has_stream_usage else "yes, without usage"
            if self.stream_agrees is False:
                stream += "; the streamed answer DIFFERS from the whole one"
        refused = ", ".join(name for name, _ in self.refused)
        return {
            "model asked for": self.served_model,
            "seed": "refused" if "seed" in dict(self.refused) else seed[self.repeats_seed],
            "sampler": sampler,
            "token ids": "returned" if self.has_token_ids else "not returned",
            "log-probabilities": f"yes, the {self.top_logprobs} most probable" if self.has_logprobs else "not returned",
            "usage": "reported" if self.has_usage else "not reported",
            "streaming": stream,
            "signed receipts": "yes" if self.has_receipts else "no",
            "activation proofs": "yes" if self.has_activation_proofs else "no",
            "refused parameters": refused or "none of those we use",
            "a wrong parameter": self.wrong_parameter or "not tried",
            "channels": self._describe_channels(),
        }

    def _describe_channels(self) -> str:
        """Return what is judged."""
        words = {"usage": "usage (alarm only)", "logprobs": "log-probabilities", "greedy": "temperature 0"}
        words["activations"] = "activation proofs"
        return ", ".join(words.get(name, name) for name in self.channels)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the journal and the result."""
        return {**asdict(self), "refused": [list(pair) for pair in self.refused]}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote; raises InvalidInput."""
        if not isinstance(value, dict) or set(value) != set(cls.__slots__):
            raise InvalidInput("is not what a discovery writes", "discovered")
        try:
            return cls(**{**value, "refused": tuple((str(name), str(said)) for name, said in value["refused"])})
        except (TypeError, ValueError):
            raise InvalidInput("is not what a discovery writes", "discovered") from None
