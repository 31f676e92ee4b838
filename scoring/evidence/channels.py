"""The statistics of an audit: every channel's numbers in [0, 1] for one request, integer ppm, from columns per token.

Three kinds, each betted on as a bounded mean (`scoring.evidence.wealth`):

* *ratios* `text-...-cC`: `g = min(LR, C) / C`, LR the likelihood ratio of the answer under one alternative against the
  claim. The bet at the stake 1/mu is `min(LR, C) / U` with U = C mu: a capped likelihood ratio divided by the bound of
  its honest mean. With exact numerics `E[LR | prompt] = 1` for every prompt, so that only numerics move it. A bound
  costs about 20 C / n of U, hence two caps: the small one for alternatives that need many requests anyway, the large
  one for those that need few.
* *means*: margins and log-probabilities beyond what honest numerics cost, the error of activation proofs, clipped;
* *one-sided ratios* of seeded scores, `seeded-...-cC`: `g = max(min(LR, C) - 1, 0) / (C - 1)`, LR that of a noise
  model, and `text-any`: `g = 1 - exp(-max(llr, 0) / 2)`. Both give 0 to an answer without information and about 1 to a
  gross deviation; the honest mean is small but depends on the prompts. Of the two the first is the steeper: an answer
  that looks a little worse than it should hardly counts, and the bound is made of what counts.

A token's log ratio is at most TOKEN_LIMIT, and at most REMOVED_LIMIT where the claimed filter removed the token: at the
border of a top-p set honest numerics decide either way, for perhaps one token in three hundred, and the other tokens
of an answer pay for a wider set with some 5 % each. A smaller ratio is still an e-value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import (
    ACTIVATIONS_IDS,
    CAPS,
    GREEDY_IDS,
    GRID_IDS,
    GRID_POWERS,
    GRID_TOP_PS_PPM,
    LOGPROBS_IDS,
    MARGIN_IDS,
    NOISE_ID,
    OWN_NOISE_ID,
    SEEDED_CAP,
    TEXT_ANY_ID,
    WEIGHTS_ALTERNATIVES,
    build_seeded_id,
    build_text_id,
    get_caps,
    list_greedy_ids,
)
from scoring.evidence.greedy import compute_log_claim
from scoring.evidence.other_weights import OTHER_WEIGHTS_POWERS, SKIPPED_LAYER, compute_other_logprobs
from scoring.evidence.pit import compute_beta_log_ratios
from scoring.evidence.statistics import (
    TokenColumns,
    compute_noise_log_ratio,
    compute_statistics,
    log_mean_exp,
    squash,
    to_ppm,
)

TOKEN_LIMIT = 4.0
REMOVED_LIMIT = 1.5
SEED_NOISE = 0.1
"""Laplace scale, in logit units, of honest differences between the scores of two tokens."""
MARGIN_LIMIT = 2.0

_POWERS = tuple(power / 20 for power in GRID_POWERS)
LEAST_RATIO = -8.0
"""At temperature 0, and of a model with other tokens, no answer counts for less as an explanation: what is served may
be made otherwise than ours, and its text be cut otherwise."""
_UNFILTERED = range(0, len(GRID_IDS), len(GRID_TOP_PS_PPM))
_OTHER_PLACES = tuple(len(GRID_TOP_PS_PPM) * GRID_POWERS.index(power) for power in OTHER_WEIGHTS_POWERS)
_TEMPERATURES = (*((place, place) for place in _UNFILTERED), *pairwise(_UNFILTERED))
"""The temperatures that returned log-probabilities may be at, as two points of the grid to take the mean of."""

PIT_EDGE = 1e-3
"""No token is taken for rarer than this: the far tail of a distribution is where numerics differ most."""

ANY_ALTERNATIVES = ("t71-p100", "t143-p100", "int6", "int4")
"""What `text-any` mixes within a request: far from the claim, so that honest answers seldom favour one of them. The
weights among them must have been run."""
LOGPROBS_SCALES = ((0.1, 0.1), (0.2, 0.3))
"""Nats from which a shortfall of one log-probability counts, and over how many more it comes to count in full, in the
order of LOGPROBS_IDS. Honest bf16 against bf16 falls short by 0.02 in the mean, and hardly ever by more than the start.
"""
ACTIVATION_SCALES = ((0.12, 0.08), (0.2, 0.3))
"""Error of activation proofs from which an answer counts, and over how much more it comes to count in full, in the
order of ACTIVATIONS_IDS. Honest bf16 and fp32 stay below 0.12 in the mean; int8 weights lie at 0.16, int6 at 0.45."""
OWN_NOISE_UNITS, OWN_NOISE_FULL = 4.0, 0.1
"""A margin of so many units is a whole one, and so many of them a token, on average, count in full. On development
answers honest bf16 has 0.0032 a token, fp32 none; int8 weights have 0.010 and int4 weights 0.40."""
LEAST_OWN_NOISE, MOST_OWN_NOISE = 0.01, 1.0
"""Logit units: no request is so quiet that every margin is wild, and one wild token is not the noise of all."""
UNTOLD = -1_000.0
"""Servers that follow OpenAI write -9999 for a token that is not among the twenty likeliest: no log-probability."""


class AlternativeTokens(Protocol):
    """A claimed answer under one alternative: log-probability of each token, and margin and gap when seeded."""

    @property
    def logprob(self) -> Sequence[float]: ...
    @property
    def margin(self) -> Sequence[float] | None: ...
    @property
    def gap(self) -> Sequence[float] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerColumns:
    """What the passes say of one answer; `alternatives` by id, those that do not apply to the request left out.

    `pits` are uniform on (0, 1) when the tokens were drawn from the claim (`pit.compute_pits`). `settings` is the index
    in GRID_IDS of the sampling that the ratios are taken against; None is the claimed one, to which the seeded
    statistics and the pits belong alone. `returned` is what the provider says of its tokens (nats), from the first on,
    None where a repetition penalty may have moved it; it may lack the end token. With
    `is_greedy` temperature 0 was asked for, and the alternatives are at `greedy.GREEDY_TEMPERATURE`. Positions from
    `certain_tokens` on are in doubt (None: none is): the claim is taken to give them probability 1 under any sampling.
    `second_run` is the answer under the claimed weights in other numerics, `activation_error` in [0, 1] how far the
    provider's activation proofs are from the reference's own states; None where there is none.
    """

    tokens: TokenColumns
    alternatives: Mapping[str, AlternativeTokens]
    max_tokens: int
    pits: Sequence[float] | None = None
    settings: int | None = None
    returned: Sequence[float | None] | None = None
    is_greedy: bool = False
    certain_tokens: int | None = None
    second_run: AlternativeTokens | None = None
    activation_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedColumns:
    """A claimed answer under weights that nobody named: without a seed, the log-probability of each token alone."""

    logprob: Sequence[float]
    margin: None = None
    gap: None = None


def mix_other_weights(answer: AnswerColumns, entropy: Sequence[float]) -> AnswerColumns:
    """Return the answer with the alternatives `other_weights` that the passes run on it allow, without SKIPPED_LAYER.

    `entropy` [tokens] is in nats, of the claimed sampling before each token. At temperature 0 there are none.
    """
    if answer.is_greedy:
        return answer
    hotter = [[row[place] for place in _OTHER_PLACES] for row in answer.tokens.grid_logprob]
    told = {name: alternative.logprob for name, alternative in answer.alternatives.items()}
    mixed = {
        name: MixedColumns(logprob=values) for name, values in compute_other_logprobs(hotter, entropy, told).items()
    }
    named = {name: alternative for name, alternative in answer.alternatives.items() if name != SKIPPED_LAYER}
    return replace(answer, alternatives={**named, **mixed})


def compute_channel_statistics(answer: AnswerColumns) -> dict[str, int]:
    """Return g in ppm by statistic id; ids whose alternative was not run or does not apply are left out.

    An empty answer gives 0 for the seeded ones and LR = 1 for the ratios. Raises InvalidInput on NaN.
    """
    if answer.is_greedy:
        return _compute_greedy(answer)
    found: dict[str, int] = {}
    if answer.settings is None and answer.tokens.margin is not None and answer.tokens.gap is not None:
        found.update(zip(MARGIN_IDS, compute_statistics(answer.tokens, answer.max_tokens, MARGIN_IDS), strict=True))
        found[NOISE_ID] = _exceed(compute_noise_log_ratio(answer.tokens, answer.max_tokens))
        found.update(_compute_seeded_ratios(answer))
        found.update(_compute_own_noise(answer))
    found.update(zip(LOGPROBS_IDS, _compute_shortfalls(answer), strict=False))
    found.update(zip(ACTIVATIONS_IDS, _scale_activation_error(answer.activation_error), strict=False))
    ratios = compute_log_ratios(answer)
    # A member of the grid that is itself the claim has the ratio 1.
    mixed = [ratios.get(name, 0.0) for name in ANY_ALTERNATIVES]
    if answer.alternatives.keys() >= {"int6", "int4"}:
        found[TEXT_ANY_ID] = to_ppm(squash(log_mean_exp(mixed)))
    for name, ratio in (*ratios.items(), *_compute_pit_ratios(answer).items()):
        found.update({build_text_id(name, cap): to_ppm(_limit(ratio, cap)) for cap in get_caps(name)})
    return found


def _compute_shortfalls(answer: AnswerColumns) -> list[int]:
    """Return how far returned log-probabilities fall short of the reference's: one mean in ppm for each scale.

    Providers mean different things by a log-probability: of the raw distribution, at the temperature they used, or
    after a filter or penalty. A filter only raises it; a penalty on what was said before only raises the rest, which
    alone is looked at; and every temperature of the grid is tried for the whole answer (between its points half-way in
    1/T: the mean is never above the concave truth). So none of these makes a shortfall, and it is the same number for
    every member of the null.
    """
    if answer.returned is None or not answer.tokens.grid_logprob:
        return []
    returned = answer.returned[: answer.max_tokens]
    rows = answer.tokens.grid_logprob[: len(returned)]
    if len(rows) != len(returned) or any(value is not None and math.isnan(value) for value in returned):
        raise InvalidInput("must be a number for each token", "logprobs")
    told = [None if value is None or value < UNTOLD else value for value in returned]
    pairs = [(row, value) for row, value in zip(rows, told, strict=True) if value is not None]
    count = max(len(pairs), answer.max_tokens / 4)
    totals = [[0.0] * len(_TEMPERATURES) for _ in LOGPROBS_SCALES]
    for row, value in pairs:
        for place, (first, second) in enumerate(_TEMPERATURES):
            short = (row[first] + row[second]) / 2 - value
            for total, (start, clip) in zip(totals, LOGPROBS_SCALES, strict=True):
                total[place] += min(max(short - start, 0.0) / clip, 1.0)
    return [to_ppm(min(total) / count) for total in totals]


def _compute_own_noise(answer: AnswerColumns) -> dict[str, int]:
    """Return the mean margin in units of the request's own noise, as a share of OWN_NOISE_FULL.

    The noise is the mean distance of the claimed token's lead (gap of a winner, minus the margin of another) between
    two runs of the same weights in different numerics. A token that wins in either of them has no margin.
    """
    second = answer.second_run
    if second is None or second.margin is None or second.gap is None:
        return {}
    limit = answer.max_tokens
    own = list(zip(answer.tokens.margin or (), answer.tokens.gap or (), strict=True))[:limit]
    other = list(zip(second.margin, second.gap, strict=True))[:limit]
    if len(own) != len(other) or any(math.isnan(value) for pair in (*own, *other) for value in pair):
        raise InvalidInput("must be a number for each token in both runs", "second_run")
    pairs = [(_compute_lead(*first), _compute_lead(*again)) for first, again in zip(own, other, strict=True)]
    distances = [min(abs(first - again), MOST_OWN_NOISE) for first, again in pairs if first != again]
    noise = max(sum(distances) / max(len(pairs), 1), LEAST_OWN_NOISE)
    behind = sum(min(max(-max(pair), 0.0) / (OWN_NOISE_UNITS * noise), 1.0) for pair in pairs)
    return {OWN_NOISE_ID: to_ppm(behind / (max(len(pairs), limit / 2) * OWN_NOISE_FULL))}


def _compute_lead(margin: float, gap: float) -> float:
    return -margin if margin > 0.0 else gap


def _scale_activation_error(error: float | None) -> list[int]:
    if error is None:
        return []
    if math.isnan(error):
        raise InvalidInput("must be a number", "activation_error")
    return [to_ppm((error - start) / range_) for start, range_ in ACTIVATION_SCALES]


def _compute_greedy(answer: AnswerColumns) -> dict[str, int]:
    found: dict[str, int] = {}
    if answer.settings is None:
        margins = MARGIN_IDS[: len(GREEDY_IDS)]
        found.update(zip(GREEDY_IDS, compute_statistics(answer.tokens, answer.max_tokens, margins), strict=True))
    for name, ratio in _compute_greedy_ratios(answer).items():
        values = [to_ppm(_limit(ratio, cap)) for cap in CAPS]
        found.update(zip(list_greedy_ids((name,)), values, strict=True))
    return found


def _compute_greedy_ratios(answer: AnswerColumns) -> dict[str, float]:
    """Return the log ratio of each variant's greedy answer to the claimed weights under whatever sampling fits best."""
    limit = answer.max_tokens
    margins = (answer.tokens.margin or ())[:limit]
    certain = len(margins) if answer.certain_tokens is None else answer.certain_tokens
    claimed = compute_log_claim(margins[:certain], _get_claimed_grid(answer)[: len(margins[:certain])], _POWERS)
    return {
        name: _sum_checked(answer.alternatives[name].logprob[:limit]) - claimed
        for name in WEIGHTS_ALTERNATIVES
        if name in answer.alternatives
    }


def _sum_checked(values: Sequence[float]) -> float:
    if any(map(math.isnan, values)):
        raise InvalidInput("the token statistics hold NaN", "tokens")
    return sum(values)


def _compute_pit_ratios(answer: AnswerColumns) -> dict[str, float]:
    """Return the log product of each Beta density over the answer: the claimed sampling's own, so for it alone."""
    if answer.settings is not None or answer.pits is None:
        return {}
    pits = [min(max(value, PIT_EDGE), 1.0 - PIT_EDGE) for value in answer.pits[: answer.max_tokens]]
    return compute_beta_log_ratios(pits)


def compute_log_ratios(answer: AnswerColumns) -> dict[str, float]:
    """Return the log likelihood ratio (nats) of the answer under each text alternative against the claim."""
    if answer.is_greedy:
        return {name: max(ratio, LEAST_RATIO) for name, ratio in _compute_greedy_ratios(answer).items()}
    limit = answer.max_tokens
    rows = answer.tokens.grid_logprob[:limit]
    claimed = _get_claimed(answer)
    ratios = {
        name: sum(_compare(row[index], claim) for row, claim in zip(rows, claimed, strict=True))
        for index, name in enumerate(GRID_IDS)
        if index != answer.settings
    }
    for name, alternative in answer.alternatives.items():
        pairs = zip(alternative.logprob[:limit], claimed, strict=True)
        ratio = sum(_compare(value, claim) for value, claim in pairs)
        ratios[name] = max(ratio, LEAST_RATIO) if getattr(alternative, "is_whole", False) else ratio
    return ratios


def _get_claimed(answer: AnswerColumns) -> Sequence[float]:
    if answer.settings is None:
        return answer.tokens.logprob[: answer.max_tokens]
    rows = _get_claimed_grid(answer)[: answer.max_tokens]
    certain = len(rows) if answer.certain_tokens is None else answer.certain_tokens
    return [row[answer.settings] if place < certain else 0.0 for place, row in enumerate(rows)]


def _get_claimed_grid(answer: AnswerColumns) -> Sequence[Sequence[float]]:
    """Return the grid as what a claim gives the tokens: a reference that knows some of the logits bounds it apart."""
    bounded: Sequence[Sequence[float]] | None = getattr(answer.tokens, "grid_claimed_logprob", None)
    return answer.tokens.grid_logprob if bounded is None else bounded


def _compute_seeded_ratios(answer: AnswerColumns) -> dict[str, int]:
    limit = answer.max_tokens
    margins, gaps = answer.tokens.margin or (), answer.tokens.gap or ()
    claimed = [_explain(*pair) for pair in zip(margins[:limit], gaps[:limit], strict=True)]
    found = {}
    for name in WEIGHTS_ALTERNATIVES:
        alternative = answer.alternatives.get(name)
        if alternative is None or alternative.margin is None or alternative.gap is None:
            continue
        pairs = zip(alternative.margin[:limit], alternative.gap[:limit], strict=True)
        ratio = sum(_compare(_explain(*pair), claim) for pair, claim in zip(pairs, claimed, strict=True))
        found[build_seeded_id(name)] = _exceed(ratio)
    return found


def _explain(margin: float, gap: float) -> float:
    """Return the log-probability of a token under seeded scores with Laplace noise of scale SEED_NOISE.

    The winner with gap d is kept with 1 - exp(-d/b)/2, another token with margin m is taken with about exp(-m/b)/2.
    """
    if margin > 0.0:
        return -math.log(2.0) - min(margin, MARGIN_LIMIT) / SEED_NOISE
    return math.log1p(-0.5 * math.exp(-gap / SEED_NOISE))


def _compare(alternative: float, claimed: float) -> float:
    if math.isnan(alternative) or math.isnan(claimed):
        raise InvalidInput("the token statistics hold NaN", "tokens")
    # -inf against -inf says nothing about this alternative, and is not a number either.
    if alternative == claimed:
        return 0.0
    return min(alternative - claimed, REMOVED_LIMIT if claimed == -math.inf else TOKEN_LIMIT)


def _exceed(log_ratio: float) -> int:
    ratio = math.exp(min(log_ratio, math.log(SEEDED_CAP)))
    return to_ppm((ratio - 1.0) / (SEEDED_CAP - 1))


def _limit(log_ratio: float, cap: int) -> float:
    return min(math.exp(min(log_ratio, 700.0)), cap) / cap
