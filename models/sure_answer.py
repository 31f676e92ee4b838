"""The beginning of the answer that a model is sure to give at temperature 0: what honest numerics do not change."""

import math
from collections.abc import Sequence

from models.generate import generate
from models.load import LoadedModel, decode_tokens, render_prompt
from models.requests import ChatMessage, GenerationRequest

LOG_SURE = math.log(0.5)
"""A token as probable as this is ahead of all others together: the last digits of a logit do not move it."""


def find_sure_answer(loaded: LoadedModel, messages: Sequence[ChatMessage], max_tokens: int) -> str:
    """Return the answer at temperature 0 up to its first token that is not sure.

    Raises InvalidInput when the template refuses the messages or the context has no room for them.
    """
    request = GenerationRequest(
        prompt_ids=tuple(render_prompt(loaded, messages)), max_tokens=max_tokens, temperature=0.0, logprobs=0
    )
    (found,) = generate(loaded, [request])
    return decode_tokens(loaded, found.token_ids[: count_sure([entry.logprob for entry in found.logprobs or ()])])


def count_sure(logprobs: Sequence[float]) -> int:
    """Return how many tokens of an answer come before the first that is not sure."""
    return next((place for place, logprob in enumerate(logprobs) if logprob < LOG_SURE), len(logprobs))
