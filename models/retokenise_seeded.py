"""The ids that a seed explains best among those that spell a text: found by splitting again where the seed says so.

The noise of an output position is fixed by the seed, so one token that was sampled otherwise than the canonical way
moves all later ones to other noise, and an honest answer would look like a cheat from there on. The canonical ids are
scored; where the seeded winner is another token with which the text can go on too, the text is split there, encoded
again behind it and scored again. The walk goes on from the split when the tokens behind it are explained, and the ids
of smallest total margin that were met are returned. That is the provider's best case, so it only lowers the evidence; a
cheat gains little, because a wrong split spoils what is behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.alternative_pass import ClaimedPosition, iterate_logits
from models.load import LoadedModel
from models.requests import ReferenceRequest
from models.retokenise import DOUBT_BROKEN, DOUBT_COUNT, Retokenised, is_count_possible
from models.token_bytes import TokenBytes

MARGIN_CAP = 1.0
"""No position counts for more: one token that the filter removed must not outweigh a whole answer."""
NOISE_MARGIN = 0.25
"""Margins below this are rounding (two honest numerics hardly ever differ by more): no reason to split again."""
MAX_PASSES = 16
MAX_REFUSED = 4
"""Splits in a row that explain nothing, after which an answer is left as it is."""
_EXPLAINED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """Another token with which the text can go on at a position; `used` bytes of the text are then behind it."""

    position: int
    token: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A request whose output spells the text, its margins (those beyond doubt), and the splits to try, in order."""

    request: ReferenceRequest
    margins: tuple[float, ...]
    splits: tuple[_Split, ...]

    @property
    def total(self) -> float:
        """The total margin."""
        return compute_total_margin(self.margins)

    def find_bad(self, start: int) -> int:
        """Return the first position from `start` on whose margin is more than noise, or the number of positions."""
        places = range(start, len(self.margins))
        return next((place for place in places if self.margins[place] > NOISE_MARGIN), len(self.margins))


@dataclass(slots=True, kw_only=True, eq=False)
class _Search:
    """One answer on the way: the best ids so far, and where the walk is.

    `doubtful_bytes` are the text's last ones that may be anything.
    """

    index: int
    found: Retokenised
    doubtful_bytes: int
    best: _Scored
    walk: _Scored
    refused: int = 0

    def count_certain(self, ids: Sequence[int], tokens: TokenBytes) -> int:
        """Return how many leading ids are beyond doubt when the text is cut into `ids`."""
        if self.found.certain_tokens == len(self.found.token_ids):
            return len(ids)
        left = len(tokens.join(ids)) - self.doubtful_bytes
        count = 0
        for token in ids:
            left -= len(tokens.values[token])
            if left < 0 or (token in tokens.special and token == ids[-1]):
                break
            count += 1
        return count


def find_sampled_tokens(
    loaded: LoadedModel,
    requests: Sequence[ReferenceRequest],
    found: Sequence[Retokenised],
    *,
    tokens: TokenBytes | None = None,
    margins: Sequence[Sequence[float] | None] | None = None,
) -> list[Retokenised]:
    """Return for each seeded request the ids of smallest total margin that were found, at worst the given ones.

    `requests` carry the ids of `found` as output. `margins` are theirs where known: answers without one above
    NOISE_MARGIN cost no pass. At most MAX_PASSES more passes are made over what is left.
    """
    tokens = tokens or TokenBytes.build(loaded)
    searches = [
        _open_search(index, requests[index], found[index], tokens)
        for index in range(len(requests))
        if margins is None or _is_worth_a_pass(margins[index])
    ]
    for search, scored in zip(searches, _score(loaded, searches, None, tokens), strict=True):
        search.best = search.walk = scored
    for _ in range(MAX_PASSES):
        active = [search for search in searches if search.walk.splits and search.refused < MAX_REFUSED]
        if not active:
            break
        _try_next_splits(loaded, active, tokens)
    chosen = {search.index: _build_result(search, tokens) for search in searches}
    return [chosen.get(index, old) for index, old in enumerate(found)]


def compute_total_margin(margins: Sequence[float]) -> float:
    """Return the sum of margins, each at most MARGIN_CAP."""
    return sum(min(margin, MARGIN_CAP) for margin in margins)


def _is_worth_a_pass(margins: Sequence[float] | None) -> bool:
    return margins is None or max(margins, default=0.0) > NOISE_MARGIN


def _open_search(index: int, request: ReferenceRequest, found: Retokenised, tokens: TokenBytes) -> _Search:
    start = _Scored(request=replace(request, output_ids=found.token_ids), margins=(), splits=())
    doubtful_bytes = len(tokens.join(found.token_ids[found.certain_tokens :]))
    return _Search(index=index, found=found, doubtful_bytes=doubtful_bytes, best=start, walk=start)


def _try_next_splits(loaded: LoadedModel, active: list[_Search], tokens: TokenBytes) -> None:
    """Score the first open split of each walk; go on from it where it explains what follows, else strike it."""
    trials = [_split_again(loaded, search.walk, tokens) for search in active]
    for search, scored in zip(active, _score(loaded, active, trials, tokens), strict=True):
        tried = search.walk.splits[0]
        if scored.total < search.best.total:
            search.best = scored
        if _is_progress(search.walk, scored, tried.position):
            later = tuple(split for split in scored.splits if split.position > tried.position)
            search.walk, search.refused = replace(scored, splits=later), 0
        else:
            search.walk = replace(search.walk, splits=search.walk.splits[1:])
            search.refused += 1


def _is_progress(before: _Scored, after: _Scored, position: int) -> bool:
    """Return whether a split moves the first token without explanation, by some tokens or to another split."""
    bad = after.find_bad(position)
    is_open = bad > position + _EXPLAINED or any(split.position == bad for split in after.splits)
    return bad > before.find_bad(position) and (is_open or bad == len(after.margins))


def _split_again(loaded: LoadedModel, walk: _Scored, tokens: TokenBytes) -> ReferenceRequest:
    """Return the request with its first open split made, or as it is when that cannot be encoded or does not fit."""
    ids, split = walk.request.output_ids, walk.splits[0]
    rest = tokens.join(ids[split.position :])[split.used :]
    behind = tokens.encode_rest(rest)
    end = ids[-1:] if ids[-1] in loaded.end_ids else ()
    output = (*ids[: split.position], split.token, *behind, *end)
    room = loaded.manifest.context_length - len(walk.request.prompt_ids)
    is_possible = tokens.join(behind) == rest and len(output) <= room
    return replace(walk.request, output_ids=output) if is_possible else walk.request


def _score(
    loaded: LoadedModel, searches: list[_Search], trials: list[ReferenceRequest] | None, tokens: TokenBytes
) -> list[_Scored]:
    """Return the scores of the searches' trials, or of what they hold, in one pass over all."""
    requests = [search.walk.request for search in searches] if trials is None else trials
    counts = [
        search.count_certain(request.output_ids, tokens) for search, request in zip(searches, requests, strict=True)
    ]
    margins: list[list[float]] = [[] for _ in requests]
    splits: list[list[_Split]] = [[] for _ in requests]
    for places, logits in iterate_logits(loaded, requests):
        for place, row in zip(places, logits.cpu().numpy(), strict=True):
            if place.position >= counts[place.index] or place.noise is None:
                continue
            margin = place.noise.compute_margin(row, place.token, place.position)[0]
            margins[place.index].append(margin)
            if margin > 0.0:
                is_trimmed = searches[place.index].found.answer.may_be_trimmed
                splits[place.index] += _find_split(loaded, place, row, margin, tokens, is_trimmed)
    return [
        _Scored(request=request, margins=tuple(margins[index]), splits=tuple(splits[index]))
        for index, request in enumerate(requests)
    ]


def _find_split(
    loaded: LoadedModel, place: ClaimedPosition, row: Any, margin: float, tokens: TokenBytes, is_trimmed: bool
) -> list[_Split]:
    """Return the split at a position whose token is not the winner: none, or to the token that the seed prefers."""
    assert place.noise is not None
    rest = tokens.join(place.request.output_ids[place.position :])
    is_first = place.position == 0
    winner = place.noise.draw(row, place.position)
    used = None if winner in loaded.end_ids else _count_used(winner, rest, tokens, is_first, is_first and is_trimmed)
    if used is not None:
        return [_Split(position=place.position, token=winner, used=used)]
    others = [token for token in tokens.find_prefixes(rest) if token != place.token]
    measured = [(place.noise.compute_margin(row, token, place.position)[0], token) for token in others]
    best = min(measured, default=(margin, place.token))
    if best[0] >= min(margin, NOISE_MARGIN):
        return []
    return [_Split(position=place.position, token=best[1], used=len(tokens.values[best[1]]))]


def _count_used(token: int, rest: bytes, tokens: TokenBytes, is_first: bool, is_trimmed: bool) -> int | None:
    """Return how many bytes of the rest a token accounts for, None when the text cannot go on with it.

    Special tokens account for none. At the beginning, space may have been dropped by decoding or by the provider.
    """
    if token >= len(tokens.values) or (not tokens.values[token] and token not in tokens.special):
        return None
    value = tokens.values[token]
    if rest.startswith(value):
        return len(value)
    if is_trimmed and rest.startswith(value.lstrip()):
        return len(value.lstrip())
    if is_first and tokens.drops_first_space and rest.startswith(b" " + value):
        return len(value) + 1
    return None


def _build_result(search: _Search, tokens: TokenBytes) -> Retokenised:
    old, ids = search.found, search.best.request.output_ids
    if ids == old.token_ids:
        return old
    doubts = tuple(doubt for doubt in old.doubts if doubt != DOUBT_COUNT)
    if DOUBT_COUNT in old.doubts and not is_count_possible(old.answer, len(ids)):
        doubts = old.doubts
    return replace(
        old,
        token_ids=ids,
        certain_tokens=search.count_certain(ids, tokens),
        is_canonical=False,
        is_settled=not {DOUBT_BROKEN, DOUBT_COUNT} & set(doubts),
        doubts=doubts,
    )
