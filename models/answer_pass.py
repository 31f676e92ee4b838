"""Everything that the reference model says of claimed answers: the claim, its alternatives, and the noise of seeds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from models.activation_format import ActivationProof
from models.alternatives import KIND_SIBLING, KIND_WEIGHTS, OWN_WEIGHTS, SECOND_RUN, AlternativeColumns
from models.load import decode_tokens, render_prompt
from models.passes import Passes
from models.requests import SAMPLER_NONE, SEEDED_SAMPLERS, ChatMessage, ReferenceRequest
from models.retokenise import Retokenised, TextAnswer, limit_logprobs, limit_margins, read_tokens, retokenise
from models.token_bytes import TokenBytes
from models.tolerances import compute_answer_pits, skip_repeated
from scoring.evidence.channels import AnswerColumns, mix_other_weights

FIT_STEPS = 6
FIT_BORDER = 0.005
GOLDEN = 0.618
MARGIN_LIMIT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An answer to examine: the conversation, the claimed sampling, and the tokens that are to be accounted for.

    `found` is how a text became tokens, None when the provider gave ids. `returned` are the provider's own
    log-probabilities (nats) of the first tokens, None when it gave none that belong to them. `proofs` are its
    activation proofs, None when there are none.
    """

    messages: tuple[ChatMessage, ...]
    request: ReferenceRequest
    found: Retokenised | None = None
    returned: tuple[float, ...] | None = None
    proofs: tuple[ActivationProof, ...] | None = None


class ReferenceModel:
    """The claimed model with its alternatives, wherever it runs. Not safe for several threads."""

    def __init__(self, passes: Passes, *, alternatives: Sequence[str] | None) -> None:
        self.passes = passes
        self.loaded = passes.loaded
        # Other models were named one by one: no list of names of the engine's own leaves them out.
        self.alternatives = [
            item
            for item in passes.alternatives
            if alternatives is None or item.id in alternatives or item.kind == KIND_SIBLING
        ]
        self._tokens: TokenBytes | None = None

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the prompt ids in the claimed template; raises InvalidInput when it refuses the messages."""
        return tuple(render_prompt(self.loaded, messages))

    def check(self, request: ReferenceRequest) -> None:
        """Raise InvalidInput when a request names tokens or a length that the model does not have."""
        self.passes.check(request)

    def is_text_of(self, text: str, token_ids: Sequence[int]) -> bool:
        """Return whether ids spell a text; servers may leave out space at its ends."""
        return decode_tokens(self.loaded, token_ids).strip() == text.strip()

    def is_end(self, token_id: int) -> bool:
        """Return whether a token ends an answer."""
        return token_id in self.loaded.end_ids

    @property
    def only_end(self) -> int | None:
        """The token that ends an answer, None where the model has several."""
        return next(iter(self.loaded.end_ids)) if len(self.loaded.end_ids) == 1 else None

    def find_sure_answer(self, messages: Sequence[ChatMessage], max_tokens: int) -> str:
        """Return the beginning of the answer at temperature 0 that is sure; raises Unavailable when that fails."""
        return self.passes.find_sure_answer(messages, max_tokens)

    def can_belong(self, logprobs: Sequence[float], token_ids: Sequence[int]) -> bool:
        """Return whether there is one log-probability for each token; that of the end token may be left out."""
        ends = bool(token_ids) and token_ids[-1] in self.loaded.end_ids
        return len(logprobs) in (len(token_ids), len(token_ids) - ends)

    def read_tokens(self, answer: TextAnswer, pieces: Sequence[bytes]) -> Retokenised | None:
        """Return the ids of an answer whose tokens came one by one as bytes, None when they say no single ids."""
        self._tokens = self._tokens or TokenBytes.build(self.loaded)
        return read_tokens(self.loaded, answer, pieces, self._tokens)

    def retokenise(self, claims: Sequence[ReferenceRequest], texts: Sequence[TextAnswer]) -> list[Retokenised]:
        """Return the ids of answers that came as text: canonical, or those that the seed of the request explains."""
        self._tokens = self._tokens or TokenBytes.build(self.loaded)
        found = [retokenise(self.loaded, text, self._tokens) for text in texts]
        seeded = [place for place, claim in enumerate(claims) if claim.sampler in SEEDED_SAMPLERS]
        requests = [replace(claims[place], output_ids=found[place].token_ids) for place in seeded]
        better = self.passes.find_sampled_tokens(requests, [found[place] for place in seeded], self._tokens)
        for place, item in zip(seeded, better, strict=True):
            found[place] = item
        return found

    def examine(self, claims: Sequence[Claim], bounded: Collection[str], explained: int) -> list[AnswerColumns]:
        """Return the columns of each claim, with the alternatives that apply to it; one prefill each.

        `bounded` alternatives are bet on and run on every claim. Other prompts and models only help to explain, and are
        run on the first `explained` claims; other weights without a bound are left out. With SECOND_RUN among the
        bounded ones every seeded claim is run once more in other numerics.
        """
        requests = [claim.request for claim in claims]
        tokens = [
            limit_tokens(columns, claim.found)
            for columns, claim in zip(self.passes.score(requests), claims, strict=True)
        ]
        found: list[dict[str, Any]] = [{} for _ in claims]
        for alternative in self.alternatives:
            is_bounded = alternative.id in bounded
            count = len(claims) if is_bounded else 0 if alternative.kind in OWN_WEIGHTS else explained
            # Only other weights are compared with the seed: the noise of a prompt's alternatives costs as much again.
            asked = requests if alternative.kind == KIND_WEIGHTS else [_forget_seed(request) for request in requests]
            messages = [claim.messages for claim in claims[:count]]
            rows = self.passes.run_alternative(alternative, asked[:count], messages)
            for place, row in enumerate(rows):
                if isinstance(row, AlternativeColumns):
                    found[place][alternative.id] = row
        second = self.passes.run_second(requests) if SECOND_RUN.id in bounded else [None] * len(claims)
        return [
            mix_other_weights(
                AnswerColumns(
                    tokens=columns,
                    alternatives=alternatives,
                    max_tokens=len(claim.request.output_ids) or 1,
                    pits=_compute_pits(columns, claim),
                    is_greedy=claim.request.temperature == 0.0,
                    certain_tokens=None if claim.found is None else claim.found.certain_tokens,
                    returned=skip_repeated(claim.returned, claim.request.prompt_ids, claim.request.output_ids),
                    second_run=again,
                    activation_error=self._measure_proofs(claim),
                ),
                columns.entropy,
            )
            for columns, alternatives, claim, again in zip(tokens, found, claims, second, strict=True)
        ]

    def _measure_proofs(self, claim: Claim) -> float | None:
        """Return the error of a claim's activation proofs, None without proofs or when they are of another answer."""
        # Of a text that was cut anew the tokens may be others than those that the proofs are of.
        if claim.proofs is None or claim.found is not None or not claim.request.output_ids:
            return None
        return self.passes.measure_proofs(claim.request, claim.proofs)

    def examine_settings(self, claims: Sequence[Claim], temperature: float, top_p: float) -> list[Any]:
        """Return the reference columns of claims as if other sampling had been asked for.

        The same answers are looked at under some thirty samplings: what these share is remembered.
        """
        if not claims:
            return []
        requests = [replace(claim.request, temperature=temperature, top_p=top_p, top_k=0) for claim in claims]
        columns = self.passes.score_again(requests)
        return [limit_tokens(item, claim.found) for item, claim in zip(columns, claims, strict=True)]

    def fit_settings(self, claims: Sequence[Claim], near: float) -> tuple[float, float]:
        """Return the temperature and top-p under which seeded answers have the smallest margins.

        A golden-section search around `near`; the top-p is the smallest set that holds every token, where that
        explains more than none.
        """
        low, high = 0.8 * near, 1.25 * near
        for _ in range(FIT_STEPS):
            first, second = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            if self._sum_margins(claims, first, 1.0) <= self._sum_margins(claims, second, 1.0):
                high = second
            else:
                low = first
        temperature = (low + high) / 2
        columns = self.examine_settings(claims, temperature, 1.0)
        before = (value for item in columns for value in _get_mass_before(item))
        top_p = min(max(before, default=1.0) + FIT_BORDER, 1.0)
        filtered = self._sum_margins(claims, temperature, top_p)
        return (temperature, top_p if filtered < self._sum_margins(claims, temperature, 1.0) else 1.0)

    def _sum_margins(self, claims: Sequence[Claim], temperature: float, top_p: float) -> float:
        columns = self.examine_settings(claims, temperature, top_p)
        return sum(min(margin, MARGIN_LIMIT) for item in columns for margin in item.margin or ())

    def count_winners(self, claim: Claim, sampler: str) -> tuple[int, int]:
        """Return how many tokens of an answer are the seeded winners of a sampler, and how many tokens there are."""
        margins = self.passes.score([replace(claim.request, sampler=sampler)])[0].margin or ()
        return sum(margin < 0.5 for margin in margins), len(margins)


def limit_tokens(columns: Any, found: Retokenised | None) -> Any:
    """Return reference columns with positions in doubt in the provider's favour."""
    if found is None:
        return columns
    return SimpleNamespace(
        logprob=limit_logprobs(found, columns.logprob),
        # The claim's probability is taken for 1 in doubt; an alternative's stays, or the ratio would be no e-value.
        grid_logprob=columns.grid_logprob,
        grid_claimed_logprob=getattr(columns, "grid_claimed_logprob", None),
        mass_before=getattr(columns, "mass_before", None),
        margin=None if columns.margin is None else limit_margins(found, columns.margin),
        gap=columns.gap,
        entropy=columns.entropy,
        pit_low=columns.pit_low,
        pit_high=columns.pit_high,
    )


def _get_mass_before(columns: Any) -> Sequence[float]:
    """Return the probability of the tokens before each claimed one, or what it is at least."""
    bounded: Sequence[float] | None = getattr(columns, "mass_before", None)
    return columns.pit_low if bounded is None else bounded  # type: ignore[no-any-return]


def _compute_pits(columns: Any, claim: Claim) -> tuple[float, ...] | None:
    # Where a text could be cut otherwise nothing is left out, and nothing is bet on the transform. Nor with a filter: a
    # token that it removes here and not there, as honest numerics decide, would lie at the far end.
    request = claim.request
    is_filtered = request.top_p < 1.0 or request.top_k > 0
    if claim.found is not None or request.temperature == 0.0 or is_filtered:
        return None
    limits = {"pit_low": columns.pit_low, "pit_high": columns.pit_high}
    return compute_answer_pits(limits, request.prompt_ids, request.output_ids)


def cut_columns(columns: AnswerColumns, start: int, size: int, max_tokens: int) -> AnswerColumns:
    """Return a window of an answer's columns."""
    stop = start + size

    def cut(item: Any) -> Any:
        names = ("logprob", "grid_logprob", "grid_claimed_logprob", "margin", "gap")
        values = {name: getattr(item, name, None) for name in names}
        return SimpleNamespace(**{name: None if value is None else value[start:stop] for name, value in values.items()})

    return AnswerColumns(
        tokens=cut(columns.tokens),
        alternatives={
            name: cut(item)
            for name, item in columns.alternatives.items()
            if start == 0 or not getattr(item, "is_whole", False)
        },
        max_tokens=max_tokens,
        pits=None if columns.pits is None else columns.pits[start:stop],
        returned=None if columns.returned is None else columns.returned[start:stop],
        is_greedy=columns.is_greedy,
        certain_tokens=None if columns.certain_tokens is None else max(columns.certain_tokens - start, 0),
        second_run=None if columns.second_run is None else cut(columns.second_run),
        # One number for the whole answer, which the first window has.
        activation_error=None if start else columns.activation_error,
    )


def _forget_seed(request: ReferenceRequest) -> ReferenceRequest:
    return replace(request, seed=None, sampler=SAMPLER_NONE)
