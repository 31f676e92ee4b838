"""From writer tokens to the text of a probe's message: the prompt before it and the clean-up rules after it.

The rules are part of the sealed generator `quiver-probes-v2`: they look at nothing but the outline and the tokens.
"""

import re
from collections.abc import Sequence

from models.load import LoadedModel, encode_text
from models.requests import ChatMessage
from scoring.errors import InvalidInput
from scoring.probe_outlines import TurnOutline

MAX_WORD_CHARACTERS = 30
FINAL_MARKS = ".?!"
FALLBACK_TEXT = "hi"
_PLACE = "\ue000"
"""A private-use character that stands for the message to be written while the template is rendered."""
_SENTENCE_END = re.compile(r"[.?!](?=\s)")
_WRITTEN = re.compile(r"[^\W\d_]")


def build_writer_prompt(loaded: LoadedModel, outline: TurnOutline, before: Sequence[ChatMessage]) -> tuple[int, ...]:
    """Return the tokens of the examples, the conversation so far and the opening of the message to be written.

    Raises InvalidInput when the model has no chat template or the template refuses such a row of messages.
    """
    if not loaded.tokenizer.chat_template:
        raise InvalidInput(f"{loaded.manifest.name} has no chat template: it cannot write requests", "model")
    from jinja2 import TemplateError

    rows = [{"role": outline.role, "content": example} for example in outline.examples]
    rows += [{"role": message.role, "content": message.content} for message in before]
    rows.append({"role": outline.role, "content": _PLACE})
    try:
        text: str = loaded.tokenizer.apply_chat_template(rows, tokenize=False)
    except (TemplateError, TypeError, ValueError) as error:
        raise InvalidInput(f"the chat template refuses a row of messages: {error}", "model") from None
    return tuple(encode_text(loaded, text[: text.rindex(_PLACE)] + outline.opening))


def is_complete(loaded: LoadedModel, outline: TurnOutline, token_ids: Sequence[int]) -> bool:
    """Tell whether writing ends after these tokens and not before: the end token, the limit, or the end of a line."""
    if not 0 < len(token_ids) <= outline.token_limit:
        return False
    return _ends(loaded, outline, token_ids) and not any(
        _ends(loaded, outline, token_ids[:count]) for count in range(1, len(token_ids))
    )


def _ends(loaded: LoadedModel, outline: TurnOutline, token_ids: Sequence[int]) -> bool:
    if len(token_ids) == outline.token_limit or token_ids[-1] in loaded.end_ids:
        return True
    return outline.is_one_line and "\n" in _decode(loaded, token_ids)


def clean_text(loaded: LoadedModel, outline: TurnOutline, attempts: Sequence[Sequence[int]]) -> str | None:
    """Return the text of the last attempt, or None when the rules refuse it and a writer seed is left."""
    token_ids = attempts[-1]
    is_cut = token_ids[-1] not in loaded.end_ids
    text = _decode(loaded, token_ids)
    if outline.is_one_line and "\n" in text:
        text, is_cut = text[: text.index("\n")], False
    text = (outline.opening + text).strip()
    is_last = len(attempts) >= len(outline.writer_seeds)
    if is_cut:
        ended = _cut_at_sentence(text, len(outline.opening))
        if ended is None and not is_last:
            return None
        text = ended or text.rpartition(" ")[0] or text
    if is_last:
        return _set_manner(text, outline) or FALLBACK_TEXT
    if _is_refused(loaded, outline, token_ids, text):
        return None
    return _set_manner(text, outline)


def _decode(loaded: LoadedModel, token_ids: Sequence[int]) -> str:
    text: str = loaded.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _cut_at_sentence(text: str, start: int) -> str | None:
    """Return the text up to its last whole sentence or line that ends after `start`, or None."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() > start + 1]
    line = text.rfind("\n")
    if line > start:
        ends.append(line)
    return text[: max(ends)].rstrip() if ends else None


def _is_refused(loaded: LoadedModel, outline: TurnOutline, token_ids: Sequence[int], text: str) -> bool:
    """Tell whether a text is one that hardly anybody would send."""
    special = set(loaded.tokenizer.all_special_ids)
    letters = len(_WRITTEN.findall(text))
    return (
        any(token in special for token in token_ids[:-1])
        or "\ufffd" in text
        or len(text) < 2
        or text == outline.opening.strip()
        or text in outline.examples
        or letters * 2 < len(text)
        or max(len(word) for word in text.split()) > MAX_WORD_CHARACTERS
    )


def _set_manner(text: str, outline: TurnOutline) -> str:
    """Return the text as this person types: many leave out the final mark, some the capital letter."""
    if text[-1:] in tuple(outline.dropped_marks) and len(text) > 2:
        text = text.rstrip(FINAL_MARKS)
    if outline.is_lower_case:
        text = text[:1].lower() + text[1:]
    return text.strip()
