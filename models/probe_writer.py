"""The sealed probe generator `quiver-probes-v2`, second half: the reference model writes the requests of some outlines.

Each turn is the continuation of a conversation that ends inside the message to be written (the way of Magpie, Xu et
al., arXiv 2406.08464, with a few messages of the same role before it that set the tone), drawn at temperature 1 by
gumbel-philox-v1 with the outline's writer seeds. Written in fp32, a seed gives one text; where the rounding of another
machine tips a token, the seeded margin of `verify_written_probe` still shows that the text follows from the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.generate import generate
from models.load import LoadedModel, render_prompt
from models.probe_text import build_writer_prompt, clean_text, is_complete
from models.reference import score_batch
from models.requests import SAMPLER_GUMBEL, ChatMessage, GenerationRequest, ReferenceRequest
from scoring.errors import VerificationFailed
from scoring.probe_outlines import ProbeOutline, TurnOutline

WRITER_TEMPERATURE = 1.0
WRITER_TOP_P = 0.95
DEFAULT_WRITER_ROWS = 48
MARGIN_TOLERANCE_LOGITS = 0.01
"""How far a written token may lie below the seeded winner: thousands of times the rounding of fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTurn:
    """One message and how it came: the output tokens of each attempt, the last of which gave the text."""

    role: str
    text: str
    attempts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenProbe:
    """A request to a provider: the outline with its words."""

    outline: ProbeOutline
    turns: tuple[WrittenTurn, ...]

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The conversation that is sent."""
        return tuple(ChatMessage(role=turn.role, content=turn.text) for turn in self.turns)

    @property
    def stratum(self) -> str:
        return self.outline.stratum

    @property
    def sampler_seed(self) -> int:
        """The seed that the request names, below 2**53."""
        return self.outline.sampler_seed

    @property
    def temperature(self) -> float:
        return self.outline.temperature_ppm / 1_000_000

    @property
    def top_p(self) -> float:
        return self.outline.top_p_ppm / 1_000_000

    @property
    def max_tokens(self) -> int:
        return self.outline.max_tokens


def write_probes(
    loaded: LoadedModel, outlines: Sequence[ProbeOutline], *, max_rows: int = DEFAULT_WRITER_ROWS
) -> list[WrittenProbe]:
    """Return the probes of the outlines, in their order; turn by turn, all probes at once.

    Raises InvalidInput when the model has no chat template, or one that refuses several messages of one role in a row.
    """
    written: list[list[WrittenTurn]] = [[] for _ in outlines]
    for position in range(max((len(outline.turns) for outline in outlines), default=0)):
        open_indices = [index for index, outline in enumerate(outlines) if position < len(outline.turns)]
        jobs = [(outlines[index].turns[position], tuple(written[index])) for index in open_indices]
        for index, turn in zip(open_indices, _write_turns(loaded, jobs, max_rows), strict=True):
            written[index].append(turn)
    return [WrittenProbe(outline=outline, turns=tuple(turns)) for outline, turns in zip(outlines, written, strict=True)]


def _write_turns(
    loaded: LoadedModel, jobs: Sequence[tuple[TurnOutline, tuple[WrittenTurn, ...]]], max_rows: int
) -> list[WrittenTurn]:
    """Return the next message of some conversations; a refused attempt is made again with the next writer seed."""
    done = {index: _build_bare(outline) for index, (outline, _) in enumerate(jobs) if outline.token_limit == 0}
    prompts = [() if index in done else _build_prompt(loaded, *job) for index, job in enumerate(jobs)]
    attempts: list[list[tuple[int, ...]]] = [[] for _ in jobs]
    while len(done) < len(jobs):
        left = [index for index in range(len(jobs)) if index not in done]
        requests = [_build_request(jobs[index][0], prompts[index], len(attempts[index])) for index in left]
        for index, generation in zip(left, generate(loaded, requests, max_rows=max_rows), strict=True):
            attempts[index].append(generation.token_ids)
            outline = jobs[index][0]
            text = clean_text(loaded, outline, attempts[index])
            if text is not None:
                done[index] = WrittenTurn(role=outline.role, text=text, attempts=tuple(attempts[index]))
    return [done[index] for index in range(len(jobs))]


def _build_bare(outline: TurnOutline) -> WrittenTurn:
    return WrittenTurn(role=outline.role, text=outline.opening, attempts=())


def _build_prompt(loaded: LoadedModel, outline: TurnOutline, before: Sequence[WrittenTurn]) -> tuple[int, ...]:
    messages = [ChatMessage(role=turn.role, content=turn.text) for turn in before]
    if outline.role == "assistant":
        return tuple(render_prompt(loaded, messages))
    return build_writer_prompt(loaded, outline, messages)


def _build_request(outline: TurnOutline, prompt_ids: tuple[int, ...], attempt: int) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=prompt_ids,
        max_tokens=outline.token_limit,
        temperature=WRITER_TEMPERATURE,
        top_p=WRITER_TOP_P,
        seed=outline.writer_seeds[attempt],
        stop=("\n",) if outline.is_one_line else (),
    )


def verify_written_probe(
    loaded: LoadedModel, probe: WrittenProbe, *, tolerance_logits: float = MARGIN_TOLERANCE_LOGITS
) -> None:
    """Raise VerificationFailed unless every message of a probe follows from its outline.

    Each attempt is run again through the model (fp32): every token must be the seeded winner up to `tolerance_logits`,
    end where writing ends, be refused by the clean-up rules if another attempt follows, and give the text otherwise.
    That the outline follows from its seed is for the caller: `build_outline(seed, limits)` must equal it.
    """
    outline = probe.outline
    if [turn.role for turn in probe.turns] != [turn.role for turn in outline.turns]:
        raise VerificationFailed("the turns are not those of the outline")
    items: list[ReferenceRequest] = []
    for position, (turn, planned) in enumerate(zip(probe.turns, outline.turns, strict=True)):
        if planned.token_limit == 0:
            _verify_bare(turn, planned, position)
            continue
        _verify_text(loaded, turn, planned, position)
        prompt_ids = _build_prompt(loaded, planned, probe.turns[:position])
        items += [
            ReferenceRequest(
                prompt_ids=prompt_ids,
                output_ids=attempt,
                temperature=WRITER_TEMPERATURE,
                top_p=WRITER_TOP_P,
                seed=seed,
                sampler=SAMPLER_GUMBEL,
            )
            for attempt, seed in zip(turn.attempts, planned.writer_seeds, strict=False)
        ]
    worst = max((max(found.margin or (0.0,)) for found in score_batch(loaded, items)), default=0.0)
    if not worst <= tolerance_logits:
        raise VerificationFailed(f"a token lies {worst:.4f} logits below the seeded winner")


def _verify_bare(turn: WrittenTurn, planned: TurnOutline, position: int) -> None:
    if turn != _build_bare(planned):
        raise VerificationFailed(f"turn {position} is not its opening alone")


def _verify_text(loaded: LoadedModel, turn: WrittenTurn, planned: TurnOutline, position: int) -> None:
    if not 1 <= len(turn.attempts) <= len(planned.writer_seeds):
        raise VerificationFailed(f"turn {position} has {len(turn.attempts)} attempts")
    if not all(is_complete(loaded, planned, attempt) for attempt in turn.attempts):
        raise VerificationFailed(f"an attempt at turn {position} ends where writing does not end")
    for count in range(1, len(turn.attempts)):
        if clean_text(loaded, planned, turn.attempts[:count]) is not None:
            raise VerificationFailed(f"turn {position} was written again although attempt {count} was good")
    if clean_text(loaded, planned, turn.attempts) != turn.text:
        raise VerificationFailed(f"the text of turn {position} is not what its tokens say")
