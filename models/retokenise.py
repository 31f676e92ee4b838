"""From a text back to token ids, when a provider returns no ids: what is in doubt is said, and never helps evidence.

The tokens that were sampled need not be the canonical ones of their text, the end may or may not have been a token,
stop strings and trimming cut text away. Rules kept here, and why they are right:

* A text stands for one sequence of ids, chosen by the tokenizer and the claimed model alone. With N(text) the
  alternative's probability of that one sequence, N sums to at most 1 over all texts, so N / D is an e-value for every D
  that is at least the claim's probability of the text. The claim's probability of the canonical ids alone is a little
  less than that (other ways to cut the text are missing), so the honest mean of the ratio is the alternative's mean of
  1 / P(canonical | text), slightly above 1. The calibrated bound U covers it when it is measured on answers that took
  this same way back from text.
* Never take the better of several sequences for the alternative, nor leave out the end of an answer: where to stop
  depends on the answer, and ratios cut off there are no e-values. At positions in doubt the claim's probability is
  replaced by 1 (`limit_logprobs`) while the alternative's stays, and margins count as 0 (`limit_margins`).
* An answer of which a part is unknown (broken or impossible characters, another number of tokens than there should be)
  can only count against the evidence: `is_settled` is False, and its factor is at most 1.

For seeded requests see `models.retokenise_seeded`, which looks for the sequence that the seed explains best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.load import LoadedModel
from models.token_bytes import TokenBytes

FINISH_STOP = "stop"
FINISH_LENGTH = "length"
BROKEN_CHARACTER = "\ufffd"

DOUBT_END = "the end may be a stop string"
DOUBT_FINISH = "the reason to finish is not known"
DOUBT_TRIMMED = "space around the text may be missing"
DOUBT_BROKEN = "characters are broken, or no tokens of this model spell them"
DOUBT_COUNT = "the number of tokens is another"
_TRIMMED = (" ", "\n", "\n\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer:
    """An answer as text. `finish_reason` is the provider's word, `stop` what the request asked for.

    `completion_tokens` is the provider's count (None: not said; with or without the end token are both understood).
    `may_be_trimmed` says that this provider is not known to keep space at both ends: the last words are then in doubt.
    Space that is missing in front is found with a seed alone; without one the first token is taken as it stands.
    """

    text: str
    finish_reason: str | None
    stop: tuple[str, ...] = ()
    completion_tokens: int | None = None
    may_be_trimmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retokenised:
    """The token ids to score for an answer that came as text.

    The first `certain_tokens` ids are beyond doubt if the text was cut canonically. `is_canonical` says that the ids
    are the canonical ones, `is_settled` that they account for the whole answer. `doubts` are for people.
    """

    answer: TextAnswer
    token_ids: tuple[int, ...]
    certain_tokens: int
    is_canonical: bool
    is_settled: bool
    doubts: tuple[str, ...]


def retokenise(loaded: LoadedModel, answer: TextAnswer, tokens: TokenBytes | None = None) -> Retokenised:
    """Return the canonical token ids of an answer, with its end token unless it ended by length.

    `tokens` saves building the table again. Raises InvalidInput for a tokenizer that we cannot spell.
    """
    tokens = tokens or TokenBytes.build(loaded)
    text, broken, _ = answer.text.partition(BROKEN_CHARACTER)
    ids = tokens.encode(text)
    is_whole = not broken and tokens.is_spelled(text, ids)
    doubts = _list_doubts(answer, is_whole)
    certain = len(ids)
    if {DOUBT_END, DOUBT_TRIMMED, DOUBT_BROKEN} & set(doubts):
        # The last token seen may have gone on into what was cut off.
        shared = [_count_shared(ids, tokens.encode(text + more)) for more in _list_continuations(answer)]
        certain = max(min([certain - 1, *shared]), 0)
    if answer.finish_reason != FINISH_LENGTH and is_whole:
        ids = [*ids, _choose_end(loaded)]
        certain += not doubts and len(loaded.end_ids) == 1
    if not doubts and not is_count_possible(answer, len(ids)):
        doubts.append(DOUBT_COUNT)
    return Retokenised(
        answer=answer,
        token_ids=tuple(ids),
        certain_tokens=certain,
        is_canonical=True,
        is_settled=not {DOUBT_BROKEN, DOUBT_COUNT} & set(doubts),
        doubts=tuple(doubts),
    )


def read_tokens(
    loaded: LoadedModel, answer: TextAnswer, pieces: Sequence[bytes], tokens: TokenBytes
) -> Retokenised | None:
    """Return the ids of an answer whose tokens the provider spelled one by one, None when they do not settle it.

    `pieces` are the bytes of each token, the end token left out or spelled as its name. Every piece must be the bytes
    of exactly one token, and together they must be the text. As with ids, that it was cut so is the provider's word.
    """
    names = {loaded.tokenizer.decode([token]).encode() for token in loaded.end_ids}
    body = pieces[:-1] if pieces and pieces[-1] in names | {b""} else pieces
    found = [tokens.find_ids(piece) for piece in body]
    if any(len(ids) != 1 for ids in found) or b"".join(body).strip() != answer.text.encode().strip():
        return None
    ids = [token for (token,) in found]
    certain = len(ids)
    if answer.finish_reason != FINISH_LENGTH:
        if answer.stop:
            return None
        ids.append(_choose_end(loaded))
        certain += len(loaded.end_ids) == 1
    return Retokenised(
        answer=answer,
        token_ids=tuple(ids),
        certain_tokens=certain,
        is_canonical=False,
        is_settled=True,
        doubts=(),
    )


def is_count_possible(answer: TextAnswer, count: int) -> bool:
    """Return whether a provider may honestly state its number of tokens for `count` ids: not all count the end."""
    given = answer.completion_tokens
    return given is None or given == count or (given == count - 1 and answer.finish_reason != FINISH_LENGTH)


def limit_logprobs(found: Retokenised, logprobs: Sequence[float]) -> tuple[float, ...]:
    """Return the claim's log-probabilities for the denominator of a ratio: 0 at positions in doubt."""
    return tuple(value if place < found.certain_tokens else 0.0 for place, value in enumerate(logprobs))


def limit_margins(found: Retokenised, margins: Sequence[float]) -> tuple[float, ...]:
    """Return the margins that may count: 0 at positions in doubt."""
    return tuple(value if place < found.certain_tokens else 0.0 for place, value in enumerate(margins))


def _list_doubts(answer: TextAnswer, is_whole: bool) -> list[str]:
    doubts = {
        DOUBT_BROKEN: not is_whole,
        DOUBT_END: answer.finish_reason != FINISH_LENGTH and bool(answer.stop),
        DOUBT_FINISH: answer.finish_reason not in (FINISH_STOP, FINISH_LENGTH),
        DOUBT_TRIMMED: answer.may_be_trimmed,
    }
    return [doubt for doubt, applies in doubts.items() if applies]


def _list_continuations(answer: TextAnswer) -> list[str]:
    """Return what may have been cut off behind the text."""
    stops = list(answer.stop) if answer.finish_reason != FINISH_LENGTH else []
    return stops + list(_TRIMMED if answer.may_be_trimmed else ())


def _count_shared(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _choose_end(loaded: LoadedModel) -> int:
    """Return the token that most likely ended an answer: the tokenizer's own, where the model has several."""
    own: int | None = loaded.tokenizer.eos_token_id
    return own if own is not None and own in loaded.end_ids else min(loaded.end_ids)
