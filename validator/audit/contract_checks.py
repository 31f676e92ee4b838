"""The contracts of one answer after another: what the endpoint says of it, held against the answer itself.

Only what no honest server does counts as broken. Servers differ in whether they return and count the end token, trim
space, spell a token that is part of a character, and repeat a seeded answer to its end: where one of these could be
the reason, a contract is kept or cannot be checked.
"""

from collections.abc import Sequence
from typing import Protocol

from models.requests import ChatMessage
from scoring.errors import InvalidInput
from scoring.evidence.contracts import (
    ContractOutcome,
    compare_completion_tokens,
    compare_finish_reason,
    compare_logprobs,
    compare_needle,
    compare_streamed,
)
from validator.audit.needles import find_code, is_needle, parse_stratum
from validator.audit.probe_source import estimate_prompt_tokens
from validator.audit.records import Exchange, Outcome, ReturnedLogprob, ReturnedToken

SAME_SHARE = 8
"""One part in so many of the longer answer must be the same, streamed and whole: what else is in the batch moves the
last digits of a logit, and honest answers part somewhere after that."""
SMALL_CONTEXT_TOKENS = 2048
"""An answer may end by length before its limit where prompt and limit together are more: the context may be full."""
MAX_HELD_BACK = 3
"""So many tokens at the end of an answer may not be shown: the first bytes of a character that its limit cut off."""
RAW_MARKS = ("\ufffd", "\u0120", "\u010a", "\u2581", "<0x", "token_id:", "bytes:")
"""Tokens with one of these are not spelled as text: half a character, a piece of a vocabulary, an id."""


class ClaimedModel(Protocol):
    """What the checks ask of the claimed model; all raise InvalidInput on ids or messages that it cannot take."""

    def is_text_of(self, text: str, token_ids: Sequence[int]) -> bool:
        """Return whether ids spell a text."""
        ...

    def is_end(self, token_id: int) -> bool:
        """Return whether a token ends an answer."""
        ...

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        """Return the beginning of its answer at temperature 0 that no honest numerics change."""
        ...


class ContractChecker:
    """Checks the outcomes of one audit in their order."""

    def __init__(self, model: ClaimedModel) -> None:
        self._model = model
        self._first: dict[int, Exchange] = {}
        self._shows_end: set[bool] = set()

    def check(self, outcome: Outcome) -> tuple[ContractOutcome, ...]:
        """Return the contracts of an outcome that apply to it, each once; of a missing answer there are none."""
        if not isinstance(outcome, Exchange):
            return ()
        ids = self._find_ids(outcome)
        ends = ids is not None and len(ids) > 0 and self._model.is_end(ids[-1])
        logprobs = _check_logprobs(outcome)
        found = (
            _check_completion(outcome, ids, ends),
            self._check_finish(outcome, _count_tokens(outcome, ids, logprobs), ends),
            logprobs,
            self._check_streamed(outcome),
            self._check_needle(outcome),
        )
        if ends:
            self._shows_end.add(outcome.is_streamed)
        if outcome.repeat_of is None:
            self._first[outcome.index] = outcome
        return tuple(item for item in found if item is not None)

    def _find_ids(self, exchange: Exchange) -> tuple[int, ...] | None:
        """Return the token ids if they spell the text; others are no answer, and judged as such elsewhere."""
        try:
            is_spelled = exchange.token_ids is not None and self._model.is_text_of(exchange.content, exchange.token_ids)
        except InvalidInput:
            return None
        return exchange.token_ids if is_spelled else None

    def _check_finish(self, exchange: Exchange, count: int | None, ends: bool) -> ContractOutcome | None:
        if count is None:
            return None
        is_stop = exchange.finish_reason == "stop"
        if _holds_back(exchange, count):
            return None
        if is_stop and count == exchange.max_tokens + 1 and ends:
            count -= 1  # some servers count the end token apart
        if not is_stop and count < exchange.max_tokens and not _fits_small_context(exchange):
            return None
        # An end token can be missed only where this endpoint was seen to return it.
        can_miss = exchange.is_streamed in self._shows_end and exchange.token_ids is not None and not exchange.stop
        return compare_finish_reason(
            exchange.finish_reason, count, exchange.max_tokens, True if ends else False if can_miss else None
        )

    def _check_streamed(self, exchange: Exchange) -> ContractOutcome | None:
        first = None if exchange.repeat_of is None else self._first.get(exchange.repeat_of)
        if first is None or first.is_streamed == exchange.is_streamed:
            return None
        streamed, whole = (exchange, first) if exchange.is_streamed else (first, exchange)
        texts = streamed.content.strip(), whole.content.strip()
        length = -(-max(map(len, texts)) // SAME_SHARE)
        is_reproducible = exchange.temperature == 0.0 or exchange.seed is not None
        return compare_streamed(texts[0][:length], texts[1][:length], is_reproducible)

    def _check_needle(self, exchange: Exchange) -> ContractOutcome | None:
        """Return whether a needle was found, if the claimed model itself is sure to find it."""
        depth = parse_stratum(exchange.stratum)
        if depth is None or not is_needle(exchange) or exchange.probe_seed is None:
            return None
        code = find_code(exchange.probe_seed)
        try:
            is_sure = code in self._model.find_sure_answer(exchange.messages, exchange.max_tokens)
        except InvalidInput:
            is_sure = False
        return compare_needle(depth, code, exchange.content if is_sure else None)


def _check_completion(exchange: Exchange, ids: Sequence[int] | None, ends: bool) -> ContractOutcome:
    count, claimed = None if ids is None else len(ids), exchange.completion_tokens
    if count is not None and exchange.finish_reason == "stop" and claimed == count + (-1 if ends else 1):
        count = claimed  # the end token is returned and not counted, or the other way round
    if count is not None and _holds_back(exchange, count):
        count = None
    return compare_completion_tokens(count, claimed)


def _holds_back(exchange: Exchange, count: int) -> bool:
    """Return whether an answer was cut inside a character, the tokens of which its server does not show."""
    is_full = exchange.finish_reason == "length" and exchange.completion_tokens == exchange.max_tokens
    return is_full and 0 < exchange.max_tokens - count <= MAX_HELD_BACK


def _check_logprobs(exchange: Exchange) -> ContractOutcome | None:
    entries = exchange.logprobs
    if not entries:
        return None
    tokens = [_spell(entry.chosen) for entry in entries]
    if _is_same(tokens[:-1], exchange.content) and exchange.finish_reason == "stop":
        entries, tokens = entries[:-1], tokens[:-1]  # the last is the end token
    is_same = _is_same(tokens, exchange.content)
    is_raw = any(mark in token for token in tokens for mark in RAW_MARKS)
    # Tokens beyond the text are those of reasoning, or of a stop string that was cut.
    is_more = not is_same and _squeeze(exchange.content) in _squeeze("".join(tokens))
    return compare_logprobs(
        "".join(tokens) if is_same else exchange.content,
        None if is_raw or is_more else tokens,
        [entry.chosen.logprob for entry in entries],
        _list_alternatives(entries),
    )


def _list_alternatives(entries: Sequence[ReturnedLogprob]) -> list[list[tuple[str, float]]]:
    """Return the alternatives of each token; one that a server lists twice counts once."""
    return [[(_name(token, entry.chosen), token.logprob) for token in dict.fromkeys(entry.top)] for entry in entries]


def _name(token: ReturnedToken, chosen: ReturnedToken) -> str:
    """Return the spelling of an alternative.

    Where the chosen token is spelled as the whole character that it is a part of (llama.cpp), its own alternative is
    the part with its log-probability.
    """
    spelled = _spell(token)
    return _spell(chosen) if "\ufffd" in spelled and token.logprob == chosen.logprob else spelled


def _count_tokens(exchange: Exchange, ids: Sequence[int] | None, logprobs: ContractOutcome | None) -> int | None:
    """Return how many tokens the answer has, None when only the endpoint's word for it is there."""
    if ids is not None:
        return len(ids)
    is_spelled = logprobs is not None and logprobs.is_kept and exchange.token_ids is None
    return len(exchange.logprobs or ()) if is_spelled else None


def _fits_small_context(exchange: Exchange) -> bool:
    prompt = max(exchange.prompt_tokens or 0, estimate_prompt_tokens(exchange.messages))
    return prompt + exchange.max_tokens <= SMALL_CONTEXT_TOKENS


def _spell(token: ReturnedToken) -> str:
    return token.text if token.data is None else token.data.decode("utf-8", errors="replace")


def _is_same(tokens: Sequence[str], text: str) -> bool:
    # Some servers trim the text, others the space in front of every token.
    return _squeeze("".join(tokens)) == _squeeze(text)


def _squeeze(text: str) -> str:
    return "".join(text.split())
