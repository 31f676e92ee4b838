"""Where the audit's prompts come from: everything about a request follows from its 32-byte seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.requests import ChatMessage
from scoring.probes import build_probe
from scoring.records import PPM
from validator.audit.asked import Asked
from validator.audit.plan import ProbingPlan

# Between English prose (4 to 5 characters a token) and code; a message costs its role and two marks.
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnProbe:
    """One request as its seed says, whichever generator made it."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float
    top_p: float
    sampler_seed: int
    stratum: str

    def build_asked(self, *, sends_seed: bool = True, is_streamed: bool = False) -> Asked:
        """Return the request to send."""
        return Asked(
            messages=self.messages,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.sampler_seed if sends_seed else None,
            is_streamed=is_streamed,
        )


class ProbeSource(Protocol):
    """Draws probes; called from the worker thread, because a model may have to write them.

    The same seeds give the same probes, whatever they are drawn together with.
    """

    def draw(self, seeds: Sequence[bytes]) -> list[DrawnProbe]:
        """Return the probes of these seeds, in their order."""
        ...


class TemplateProbes:
    """The generator `quiver-probes-v1`: templates over word lists, no model needed."""

    def __init__(self, plan: ProbingPlan) -> None:
        self._plan = plan

    def draw(self, seeds: Sequence[bytes]) -> list[DrawnProbe]:
        """Return the probes of these seeds."""
        return [self._draw(seed) for seed in seeds]

    def _draw(self, seed: bytes) -> DrawnProbe:
        probe = build_probe(seed, self._plan)
        return DrawnProbe(
            messages=tuple(ChatMessage(role=message.role, content=message.content) for message in probe.messages),
            max_tokens=probe.max_tokens,
            temperature=probe.temperature_ppm / PPM,
            top_p=probe.top_p_ppm / PPM,
            sampler_seed=probe.sampler_seed,
            stratum=probe.stratum,
        )


def estimate_prompt_tokens(messages: Sequence[ChatMessage]) -> int:
    """Return about how many tokens a prompt has, without a tokenizer."""
    characters = sum(len(message.content) for message in messages)
    return characters // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * (len(messages) + 1)
