"""Log probabilities in OpenAI's form: for every token its text, its UTF-8 bytes and the most probable others."""

from typing import Any

from models.requests import TokenLogprob

_BROKEN = "�"


def build_logprob_entry(tokenizer: Any, logprob: TokenLogprob) -> dict[str, object]:
    """Return one member of `logprobs.content`; `tokenizer` is a transformers tokenizer."""
    top = [_build_token(tokenizer, token_id, value) for token_id, value in logprob.top]
    return {**_build_token(tokenizer, logprob.token_id, logprob.logprob), "top_logprobs": top}


def _build_token(tokenizer: Any, token_id: int, value: float) -> dict[str, object]:
    text = str(tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    # A token that is part of a character has no text of its own; its bytes would be a guess.
    data = None if _BROKEN in text else list(text.encode("utf-8"))
    return {"token": text, "logprob": value, "bytes": data}
