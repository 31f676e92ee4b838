"""One exchange with nothing special about it: tests change what they are about."""

from models.requests import ChatMessage
from validator.audit.records import Exchange

PLAIN = Exchange(
    index=0,
    messages=(ChatMessage(role="user", content="Name a colour."),),
    max_tokens=16,
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    seed=7,
    sampler="none",
    is_drawn=False,
    stratum=None,
    content="Blue is a colour.",
    token_ids=None,
    logprobs=None,
    finish_reason="stop",
    prompt_tokens=None,
    completion_tokens=None,
)
