"""From a chat request to what the model is asked, honestly or with the cheats that are switched on.

The honest path is `prepare_honest`: the claimed model, its chat template, the request's own sampling, and a usage that
counts the tokens of the rendered prompt. `prepare_cheated` is a TEST INSTRUMENT; see `validator.provider.cheats`.
"""

from collections.abc import Sequence
from dataclasses import replace

from models.load import LoadedModel, encode_text, render_prompt
from models.requests import ChatMessage, Generation, GenerationRequest
from scoring.errors import InvalidInput
from validator.provider.api_errors import ApiError
from validator.provider.chat_request import ChatRequest
from validator.provider.cheats import Cheats
from validator.provider.generation import CLAIMED, Prepared, Shelf

CHEATING = "cheating"
CANNED_TEXT = "That is a great question! There are many aspects to consider, and the best answer depends on your needs."
FORGED_SURCHARGE_PERCENT = 25


def prepare_honest(shelf: Shelf, request: ChatRequest, *, default_max_tokens: int, max_context: int) -> Prepared:
    """Return what an honest provider runs; raises ApiError 400 when prompt and answer do not fit the context."""
    prompt_ids = render_honestly(shelf[CLAIMED], request)
    limit = check_context(len(prompt_ids), request, default_max_tokens, _context_length(shelf[CLAIMED], max_context))
    return Prepared(
        model_key=CLAIMED,
        request=_build_generation_request(request, prompt_ids, limit, request.temperature, request.top_p),
        prompt_tokens=len(prompt_ids),
    )


def prepare_cheated(
    shelf: Shelf, request: ChatRequest, cheats: Cheats, *, default_max_tokens: int, max_context: int
) -> Prepared:
    """Return what a cheating provider runs; refuses what the honest one would refuse."""
    honest = prepare_honest(shelf, request, default_max_tokens=default_max_tokens, max_context=max_context)
    if cheats.is_canned:
        return _build_canned(shelf[CLAIMED], honest)
    key = CHEATING if cheats.has_other_weights else CLAIMED
    served = shelf[key]
    prompt_ids = _render_cheating(served, request, cheats)
    temperature = request.temperature if cheats.temperature is None else cheats.temperature
    top_p = request.top_p if cheats.top_p is None else min(request.top_p, cheats.top_p)
    is_foreign = served.manifest.tokenizer_digest != shelf[CLAIMED].manifest.tokenizer_digest
    is_altered = cheats.hidden_prompt is not None or cheats.context_tokens is not None or cheats.has_wrong_template
    prompt_tokens = honest.prompt_tokens if is_foreign else len(prompt_ids)
    if cheats.forges_usage:
        # Either it hides the altered prompt, or there is nothing to hide and it bills more than it used.
        surcharge = 0 if is_altered else honest.prompt_tokens * FORGED_SURCHARGE_PERCENT // 100
        prompt_tokens = honest.prompt_tokens + surcharge
    return Prepared(
        model_key=key,
        request=_build_generation_request(request, prompt_ids, honest.request.max_tokens, temperature, top_p),
        prompt_tokens=prompt_tokens,
        translates_tokens=is_foreign,
    )


def apply_terms(prepared: Prepared, *, sampler: str, proves_activations: bool) -> Prepared:
    """Return the same answer to be drawn by the offer's sampler, with activation proofs when they are wanted."""
    request = replace(prepared.request, sampler=sampler, proves_activations=proves_activations)
    return replace(prepared, request=request)


def render_honestly(loaded: LoadedModel, request: ChatRequest) -> list[int]:
    """Return the prompt's token ids in the claimed template; raises ApiError 400 when the template refuses."""
    try:
        return render_prompt(loaded, request.messages)
    except InvalidInput as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None


def check_context(prompt_tokens: int, request: ChatRequest, default_max_tokens: int, context_length: int) -> int:
    """Return how many tokens may be generated; raises ApiError 400 when they do not fit beside the prompt."""
    room = context_length - prompt_tokens
    wanted = request.max_tokens
    if room < 1 or (wanted is not None and wanted > room):
        asked = "" if wanted is None else f" and {wanted} tokens of answer were asked for"
        raise ApiError(
            400,
            f"the context holds {context_length} tokens; your messages have {prompt_tokens}{asked}",
            param="messages",
            code="context_length_exceeded",
        )
    return min(default_max_tokens, room) if wanted is None else wanted


def _context_length(loaded: LoadedModel, max_context: int) -> int:
    return min(loaded.manifest.context_length, max_context)


def _build_generation_request(
    request: ChatRequest, prompt_ids: Sequence[int], max_tokens: int, temperature: float, top_p: float
) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=tuple(prompt_ids),
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=request.seed,
        stop=request.stop,
        logprobs=request.logprobs,
    )


def _render_cheating(served: LoadedModel, request: ChatRequest, cheats: Cheats) -> list[int]:
    messages = request.messages
    if cheats.hidden_prompt is not None:
        messages = _hide_prompt(messages, cheats.hidden_prompt)
    if cheats.has_wrong_template or not served.tokenizer.chat_template:
        turns = "".join(f"### {message.role.capitalize()}:\n{message.content}\n\n" for message in messages)
        prompt_ids = encode_text(served, turns + "### Assistant:\n")
    else:
        prompt_ids = render_prompt(served, messages)
    return prompt_ids if cheats.context_tokens is None else prompt_ids[-cheats.context_tokens :]


def _hide_prompt(messages: tuple[ChatMessage, ...], text: str) -> tuple[ChatMessage, ...]:
    """Return the messages with the text before the system prompt, or as one."""
    if messages[0].role == "system":
        return (ChatMessage(role="system", content=f"{text}\n\n{messages[0].content}"), *messages[1:])
    return (ChatMessage(role="system", content=text), *messages)


def _build_canned(loaded: LoadedModel, honest: Prepared) -> Prepared:
    token_ids = tuple(encode_text(loaded, CANNED_TEXT))
    kept = token_ids[: honest.request.max_tokens]
    text = CANNED_TEXT if kept == token_ids else str(loaded.tokenizer.decode(list(kept)))
    reason = "stop" if kept == token_ids else "length"
    fixed = Generation(token_ids=kept, text=text, finish_reason=reason)
    return Prepared(model_key=CLAIMED, request=honest.request, prompt_tokens=honest.prompt_tokens, fixed=fixed)
