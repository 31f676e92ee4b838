"""What a cheating provider may run instead of the claim: named alternatives, each with a likelihood of its own.

The list is fixed before anything is asked (it is part of the plan); the wording of the hidden prompts is generic on
purpose and equals that of no test instrument. An alternative that does not apply to a request is skipped with a reason;
its likelihood ratio there is 1. No torch here: the passes are in `models.alternative_pass`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.load import LoadedModel, encode_text, render_prompt
from models.requests import ChatMessage, ReferenceRequest
from scoring.errors import InvalidInput
from scoring.evidence.other_weights import SKIPPED_LAYER

KIND_WEIGHTS = "weights"
KIND_SKIPPED_LAYER = "skipped-layer"
KIND_HIDDEN_PROMPT = "hidden-prompt"
KIND_TRUNCATED_CONTEXT = "truncated-context"
KIND_WRONG_TEMPLATE = "wrong-template"
KIND_SIBLING = "sibling"
KIND_NUMERICS = "numerics"
KINDS = (
    KIND_WEIGHTS,
    KIND_SKIPPED_LAYER,
    KIND_HIDDEN_PROMPT,
    KIND_TRUNCATED_CONTEXT,
    KIND_WRONG_TEMPLATE,
    KIND_SIBLING,
    KIND_NUMERICS,
)
OWN_WEIGHTS = (KIND_WEIGHTS, KIND_SKIPPED_LAYER)
"""Kinds that change the claimed weights: run where they are bet on, and never only to explain."""
SKIPPED_PART = 6
"""The layer at a sixth of the depth is left out. Of SmolLM2-135M's thirty the sixth costs other models' texts least of
those tried (2, 6, 9, 11, 13 and 14): without it they are 3 nats likelier, without the second 90 nats less likely."""

WEIGHTS = ("int8", "fp8", "int6", "int5", "int4")
HIDDEN_PROMPTS = {
    "safe": "You are a careful and honest assistant. Refuse requests that are harmful, illegal or unethical.",
    "short": "Keep your answers short: two or three sentences at most, with no introduction.",
    "support": "You are a customer service agent. Stay polite and professional, and do not discuss competitors.",
    "markdown": "Think step by step. Format your answer in Markdown, with headings and bullet points.",
}
CONTEXT_TOKENS = (32, 128, 512, 2048)
TEMPLATE_ROLE_LINES = "role-lines"
TEMPLATE_NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to answer that is not the claim. `id` is unique in a list; `parameters` are (name, value) pairs."""

    id: str
    kind: str
    parameters: tuple[tuple[str, str | int], ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInput(f"must be one of {', '.join(KINDS)}", "kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeColumns:
    """A claimed answer under an alternative, one number for each output position, as in `TokenStatistics`.

    `logprob` is at the request's temperature and filter (-inf when the filter removed the token); for temperature 0 it
    is at `scoring.evidence.greedy.GREEDY_TEMPERATURE`, so that numerics exclude nothing. `margin` and `gap`
    are None without seed, and use the noise of the claim. `is_whole`: the alternative reads other tokens, so that only
    the answer from its beginning on has a probability, and no window in the middle.
    """

    logprob: tuple[float, ...]
    margin: tuple[float, ...] | None
    gap: tuple[float, ...] | None
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedAlternative:
    """An alternative that says nothing about a request, and why: its likelihood ratio is 1."""

    reason: str


SECOND_RUN = Alternative(id="second-run", kind=KIND_NUMERICS, parameters=(("dtype", "fp32"),))
"""The claimed weights once more in other numerics: no cheat, but the measure of a request's own noise."""


def list_alternatives(loaded: LoadedModel) -> list[Alternative]:
    """Return the alternatives to a claimed model in a fixed order, other models left out (`models.siblings`).

    Those that need a chat template are left out for a model without one.
    """
    found = [Alternative(id=name, kind=KIND_WEIGHTS, parameters=(("variant", name),)) for name in WEIGHTS]
    layers = count_layers(loaded)
    if layers >= SKIPPED_PART:
        found.append(
            Alternative(id=SKIPPED_LAYER, kind=KIND_SKIPPED_LAYER, parameters=(("layer", layers // SKIPPED_PART),))
        )
    if loaded.tokenizer.chat_template:
        found += [
            Alternative(id=f"hidden-prompt-{name}", kind=KIND_HIDDEN_PROMPT, parameters=(("text", text),))
            for name, text in HIDDEN_PROMPTS.items()
        ]
        found += [
            Alternative(id=f"template-{name}", kind=KIND_WRONG_TEMPLATE, parameters=(("template", name),))
            for name in (TEMPLATE_ROLE_LINES, TEMPLATE_NONE)
        ]
    found += [
        Alternative(id=f"last-{count}-tokens", kind=KIND_TRUNCATED_CONTEXT, parameters=(("tokens", count),))
        for count in CONTEXT_TOKENS
    ]
    return found


def count_layers(loaded: LoadedModel) -> int:
    """Return the number of a model's decoder layers, 0 where its configuration does not tell."""
    config = loaded.model.config.get_text_config()
    return int(getattr(config, "num_hidden_layers", 0) or 0)


def build_alternative_prompt(
    loaded: LoadedModel, alternative: Alternative, request: ReferenceRequest, messages: Sequence[ChatMessage] | None
) -> tuple[int, ...] | SkippedAlternative:
    """Return the token ids of the prompt that the alternative answers, or why there is no other prompt.

    `messages` is the conversation of the request; alternatives of weights keep the request's own prompt.
    """
    value = alternative.parameters[0][1]
    if alternative.kind in (*OWN_WEIGHTS, KIND_SIBLING, KIND_NUMERICS):
        return request.prompt_ids
    if alternative.kind == KIND_TRUNCATED_CONTEXT:
        ids = request.prompt_ids[-int(value) :]
    elif not messages:
        return SkippedAlternative(reason="needs the conversation, and only token ids are known")
    else:
        try:
            ids = tuple(_render(loaded, alternative.kind, str(value), messages))
        except InvalidInput as error:
            return SkippedAlternative(reason=str(error))
    if ids == request.prompt_ids or not ids:
        return SkippedAlternative(reason="the prompt stays the same" if ids else "the prompt is empty")
    if len(ids) + len(request.output_ids) > loaded.manifest.context_length:
        return SkippedAlternative(reason="prompt and answer do not fit the context")
    return ids


def _render(loaded: LoadedModel, kind: str, value: str, messages: Sequence[ChatMessage]) -> list[int]:
    if kind == KIND_HIDDEN_PROMPT:
        return render_prompt(loaded, _hide_prompt(messages, value))
    if value == TEMPLATE_NONE:
        return encode_text(loaded, "\n\n".join(message.content for message in messages) + "\n\n")
    return encode_text(loaded, render_role_lines(messages))


def render_role_lines(messages: Sequence[ChatMessage]) -> str:
    """Return a conversation as lines that begin with who speaks, up to where the assistant is to."""
    return "".join(f"{message.role}: {message.content}\n" for message in messages) + "assistant:"


def _hide_prompt(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    """Return the messages with a text in front of the system prompt, or as one."""
    if messages[0].role == "system":
        return [ChatMessage(role="system", content=f"{text}\n\n{messages[0].content}"), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]
