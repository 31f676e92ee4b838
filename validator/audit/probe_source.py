"""Where the audit's prompts come from: everything about a request follows from its 32-byte seed."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.requests import ChatMessage
from scoring.probe_outlines import build_outline
from scoring.probes import GENERATOR_ID, build_probe
from scoring.records import PPM
from validator.audit.asked import PLAIN, Asked
from validator.audit.plan import ProbingPlan

if TYPE_CHECKING:
    from models.load import LoadedModel

WRITER_DTYPE = "fp32"
# Between English prose (4 to 5 characters a token) and code; a message costs its role and two marks.
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 5
LONGEST_PROMPT_TOKENS = 256
"""No drawn prompt is estimated at more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnProbe:
    """One request as its seed says, whichever generator made it."""

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    temperature: float
    top_p: float
    sampler_seed: int
    stratum: str

    def build_asked(
        self, *, leaves_out: Container[str] = (), is_streamed: bool = False, is_greedy: bool = False
    ) -> Asked:
        """Return the request to send, at temperature 0 when `is_greedy`, without what the endpoint refuses."""
        return Asked(
            messages=self.messages,
            max_tokens=self.max_tokens,
            temperature=0.0 if is_greedy else self.temperature,
            top_p=self.top_p,
            seed=self.sampler_seed if "seed" not in leaves_out else None,
            is_streamed=is_streamed,
            plain=tuple(name for name in PLAIN if name not in leaves_out),
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


class WrittenProbes:
    """The generator `quiver-probes-v2`: the claimed model writes the words, in fp32, so that a seed gives one text.

    The model is loaded with the first draw.
    """

    def __init__(self, plan: ProbingPlan, model: str) -> None:
        self._plan = plan
        self._model = model
        self._loaded: LoadedModel | None = None

    def draw(self, seeds: Sequence[bytes]) -> list[DrawnProbe]:
        """Return the probes of these seeds; raises InvalidInput when the model cannot write them."""
        from models.load import load_model
        from models.probe_writer import write_probes

        if self._loaded is None:
            self._loaded = load_model(self._model, dtype=WRITER_DTYPE)
        written = write_probes(self._loaded, [build_outline(seed, self._plan) for seed in seeds])
        return [
            DrawnProbe(
                messages=probe.messages,
                max_tokens=probe.max_tokens,
                temperature=probe.temperature,
                top_p=probe.top_p,
                sampler_seed=probe.sampler_seed,
                stratum=probe.stratum,
            )
            for probe in written
        ]


OpenSource = Callable[[ProbingPlan, str], ProbeSource]


def open_source(plan: ProbingPlan, model: str) -> ProbeSource:
    """Return the source of a plan's generator; `model` writes the prompts if that generator needs one."""
    return TemplateProbes(plan) if plan.generator == GENERATOR_ID else WrittenProbes(plan, model)


def estimate_prompt_tokens(messages: Sequence[ChatMessage]) -> int:
    """Return about how many tokens a prompt has, without a tokenizer."""
    characters = sum(len(message.content) for message in messages)
    return characters // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * (len(messages) + 1)
