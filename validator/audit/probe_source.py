"""Where the audit's prompts come from: everything about a request follows from its 32-byte seed."""

from collections.abc import Sequence
from typing import Protocol

from models.requests import ChatMessage
from scoring.probes import Probe, build_probe
from scoring.records import PPM
from validator.audit.asked import Asked
from validator.audit.plan import ProbingPlan

# Between English prose (4 to 5 characters a token) and code; a message costs its role and two marks.
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 5


class ProbeSource(Protocol):
    """Draws probes; called from the worker thread, because a model may have to write them.

    The same seeds give the same probes, whatever they are drawn together with.
    """

    def draw(self, seeds: Sequence[bytes]) -> list[Probe]:
        """Return the probes of these seeds, in their order."""
        ...


class TemplateProbes:
    """The generator `quiver-probes-v1`: templates over word lists, no model needed."""

    def __init__(self, plan: ProbingPlan) -> None:
        self._plan = plan

    def draw(self, seeds: Sequence[bytes]) -> list[Probe]:
        """Return the probes of these seeds."""
        return [build_probe(seed, self._plan) for seed in seeds]


def build_asked(probe: Probe, *, sends_seed: bool, is_streamed: bool) -> Asked:
    """Return the request of a probe."""
    return Asked(
        messages=tuple(ChatMessage(role=message.role, content=message.content) for message in probe.messages),
        max_tokens=probe.max_tokens,
        temperature=probe.temperature_ppm / PPM,
        top_p=probe.top_p_ppm / PPM,
        seed=probe.sampler_seed if sends_seed else None,
        is_streamed=is_streamed,
    )


def estimate_prompt_tokens(messages: Sequence[ChatMessage]) -> int:
    """Return about how many tokens a prompt has, without a tokenizer."""
    characters = sum(len(message.content) for message in messages)
    return characters // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * (len(messages) + 1)
