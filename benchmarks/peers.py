"""Other people's tests on the same answers, each at its own published settings, for the detection benchmark.

A test becomes a judge: it is given trials, each a list of request numbers, and says which trials it rejects. Judges
over an honest and a cheated pool of answers then give false alarms and power (`measure`). None of the four controls its
error over repeated looks: each is asked once, at a fixed number of requests. PEERS says what of their settings is
published and what had to be chosen here. The judge of model equality testing is in `benchmarks.peer_mmd`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.requests import TokenStatistics
from scoring.errors import InvalidInput

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

Judge = Callable[[Integers], Booleans]
"""Takes request numbers [trials, requests] of one pool and returns which trials are rejected [trials]."""

TRIALS = 1000
DIFR_CLIP = 0.5
DIFR_FALSE_POSITIVE_RATE = 0.01
DIFR_CALIBRATION_DRAWS = 10_000
RUT_ALPHA = 0.05
RUT_LOCAL_SAMPLES = 100
RANK_LIMITS = (10, 40.0, 3.0, 0.5)
RANK_END_LIMITS = (300, 50.0)
MAX_BAD_TOKENS = 5
MAX_CHECKED_POSITIONS = 5
MAX_MEAN_DISTANCE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDescription:
    """A test: where it is published, what it needs beside text, its published settings, and what was chosen here."""

    name: str
    source: str
    needs: str
    published: str
    chosen_here: str


PEERS = (
    PeerDescription(
        name="token-difr-mean-margin",
        source="arXiv 2511.20621; github.com/adamkarvonen/difr",
        needs="seed and sampler",
        published="mean over all tokens of the post-Gumbel margin clipped at 0.5, an infinite one counting 0.5; "
        "judged at false positive rates below 1 % (the charts of providers clip at the 99.9th percentile instead)",
        chosen_here="the threshold, which the paper leaves to the reader (it gives AUC): the 99th percentile of the "
        "mean over as many requests of honest calibration answers; tokens stay with their request",
    ),
    PeerDescription(
        name="model-equality-testing",
        source="arXiv 2410.20247; PyPI model-equality-testing 0.0.2",
        needs="10 answers to each prompt from the endpoint and from the reference",
        published="MMD with the Hamming kernel on characters, permutation p-value of 1,000 permutations, alpha 0.05",
        chosen_here="exactly 10 answers to each prompt (the paper: 10 on average), as many prompts as the trial pays, "
        "no prompt twice; the reference's 10 are drawn from the local answers of rank uniformity; beside the published "
        "permutations those within each prompt (benchmarks.repeated_mmd), which keep alpha with fixed numbers",
    ),
    PeerDescription(
        name="rank-uniformity",
        source="arXiv 2506.06975",
        needs="about 100 local answers to each prompt",
        published="one answer a prompt, mean log rank of its tokens, its place among local answers, Cramer-von Mises "
        "test of uniformity, alpha 0.05",
        chosen_here="40 local answers to each prompt (benchmarks.repeated_peers), no prompt twice in a trial; ties "
        "broken so that the place is exactly uniform for any number of local answers: "
        "(below + U (equal + 1)) / (m + 1)",
    ),
    PeerDescription(
        name="subnet-rank-thresholds",
        source="github.com/rayonlabs/vision-workers (Bittensor subnet 19), checking/functions/text.py, August 2025",
        needs="token ids; log-probabilities where they are returned",
        published="an answer scores 0 with more than 5 tokens of rank 70 or worse at temperature 1 (10 up to "
        "temperature 0.5), with an early end token of rank over 375, or when the mean difference of probability at "
        "5 positions is over 0.25",
        chosen_here="a trial is rejected when any answer of it scores 0 (no rule over several answers is published); "
        "the check for avoided end tokens is left out: it needs their probability at every position",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestColumns:
    """One answer as the reference sees it, an array of one number for each token.

    `ids` and `rank` (0 is the best) are integers; `margin` is None without a seeded sampler. `returned_logprob` is what
    the endpoint says of its own tokens, None when it says nothing; `is_ended` whether the last id is an end token.
    """

    ids: Integers
    rank: Integers
    logprob: Floats
    pit_low: Floats
    pit_high: Floats
    margin: Floats | None = None
    returned_logprob: Floats | None = None
    is_ended: bool = False

    def __post_init__(self) -> None:
        columns = (self.rank, self.logprob, self.pit_low, self.pit_high, self.margin, self.returned_logprob)
        if any(len(column) != len(self.ids) for column in columns if column is not None) or not len(self.ids):
            raise InvalidInput("columns of one answer have one length, above 0", "columns")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """What a test did: shares of rejected trials, cheated (`power`) and honest, at a mean number of tokens a trial."""

    name: str
    requests: int
    tokens: float
    trials: int
    power: float
    false_alarms: float


def build_columns(
    statistics: TokenStatistics,
    token_ids: Sequence[int],
    *,
    returned_logprob: Sequence[float] | None = None,
    is_ended: bool = False,
) -> RequestColumns:
    """Return the columns of an answer from the reference's statistics."""
    return RequestColumns(
        ids=np.asarray(token_ids, dtype=np.int64),
        rank=np.asarray(statistics.rank, dtype=np.int64),
        logprob=np.asarray(statistics.logprob, dtype=np.float64),
        pit_low=np.asarray(statistics.pit_low, dtype=np.float64),
        pit_high=np.asarray(statistics.pit_high, dtype=np.float64),
        margin=None if statistics.margin is None else np.asarray(statistics.margin, dtype=np.float64),
        returned_logprob=None if returned_logprob is None else np.asarray(returned_logprob, dtype=np.float64),
        is_ended=is_ended,
    )


def draw_trials(pool: int, requests: int, trials: int, seed: int) -> Integers:
    """Return request numbers [trials, requests] drawn from a pool with replacement."""
    return np.random.default_rng(seed).integers(0, pool, size=(trials, requests))


def measure(
    name: str,
    *,
    cheated: tuple[Judge, Integers],
    honest: tuple[Judge, Integers],
    lengths: Integers,
) -> PeerResult:
    """Return power and false alarms of a test from a judge and its trials for each pool.

    `lengths` are the tokens of each request of the cheated pool.
    """
    judge, trials = cheated
    return PeerResult(
        name=name,
        requests=trials.shape[1],
        tokens=float(lengths[trials].sum(axis=1).mean()),
        trials=len(trials),
        power=float(judge(trials).mean()),
        false_alarms=float(honest[0](honest[1]).mean()),
    )


def compute_difr_clip(honest: Sequence[RequestColumns]) -> float:
    """Return the other published clip: the 99.9th percentile of the finite margins of honest answers."""
    margins = np.concatenate([_get_margin(columns) for columns in honest])
    return float(np.percentile(margins[np.isfinite(margins)], 99.9))


def build_difr_judge(
    calibration: Sequence[RequestColumns],
    pool: Sequence[RequestColumns],
    requests: int,
    *,
    clip: float = DIFR_CLIP,
    seed: int = 0,
) -> Judge:
    """Return Token-DiFR's judge of trials of so many requests, its threshold set on honest calibration answers."""
    honest_sums, honest_counts = _sum_margins(calibration, clip)
    draws = draw_trials(len(calibration), requests, DIFR_CALIBRATION_DRAWS, seed)
    means = honest_sums[draws].sum(axis=1) / honest_counts[draws].sum(axis=1)
    threshold = float(np.quantile(means, 1.0 - DIFR_FALSE_POSITIVE_RATE))
    sums, counts = _sum_margins(pool, clip)
    return lambda trials: sums[trials].sum(axis=1) / counts[trials].sum(axis=1) > threshold


def _sum_margins(pool: Sequence[RequestColumns], clip: float) -> tuple[Floats, Floats]:
    sums = np.array([np.minimum(_get_margin(columns), clip).sum() for columns in pool])
    return sums, np.array([float(len(columns.ids)) for columns in pool])


def _get_margin(columns: RequestColumns) -> Floats:
    if columns.margin is None:
        raise InvalidInput("Token-DiFR needs the seeded margin", "margin")
    return columns.margin


def compute_log_rank(columns: RequestColumns) -> float:
    """Return the score of the rank-uniformity test: the mean natural logarithm of the tokens' ranks from 1."""
    return float(np.log1p(columns.rank).mean())


def compute_places(scores: Floats, local_scores: Floats, seed: int = 0) -> Floats:
    """Return each answer's place among local answers to its own prompt, uniform on [0, 1] when it is one of them.

    `scores` [prompts] are of the endpoint's answers, `local_scores` [prompts, m] of the reference's.
    """
    below = (local_scores < scores[:, None]).sum(axis=1)
    equal = (local_scores == scores[:, None]).sum(axis=1)
    breaks = np.random.default_rng(seed).random(len(scores))
    places: Floats = (below + breaks * (equal + 1)) / (local_scores.shape[1] + 1)
    return places


def build_uniformity_judge(places: Floats, alpha: float = RUT_ALPHA) -> Judge:
    """Return the rank-uniformity judge over the places of a pool of answers; of one answer it says nothing."""
    from scipy.stats import cramervonmises

    def judge(trials: Integers) -> Booleans:
        if trials.shape[1] < 2:
            return np.zeros(len(trials), dtype=bool)
        statistics = compute_uniformity_statistics(places[trials])
        order = np.argsort(-statistics)
        # The p-value falls as the statistic grows, so a few p-values tell where the rejected trials end.
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            is_rejected = cramervonmises(places[trials[order[middle]]], "uniform").pvalue < alpha
            low, high = (middle + 1, high) if is_rejected else (low, middle)
        rejected = np.zeros(len(order), dtype=bool)
        rejected[order[:low]] = True
        return rejected

    return judge


def compute_uniformity_statistics(places: Floats) -> Floats:
    """Return the Cramer-von Mises statistic against the uniform distribution of each row [trials, n]."""
    count = places.shape[1]
    expected = (2.0 * np.arange(count) + 1.0) / (2.0 * count)
    statistics: Floats = 1.0 / (12.0 * count) + ((np.sort(places, axis=1) - expected) ** 2).sum(axis=1)
    return statistics


def build_rank_judge(pool: Sequence[RequestColumns], *, temperature: float, max_tokens: int, seed: int = 0) -> Judge:
    """Return the subnet validator's judge: a trial is rejected when any of its answers scores 0."""
    generator = np.random.default_rng(seed)
    failed = np.array([is_answer_failed(columns, temperature, max_tokens, generator) for columns in pool])
    return lambda trials: failed[trials].any(axis=1)


def is_answer_failed(
    columns: RequestColumns, temperature: float, max_tokens: int, generator: np.random.Generator
) -> bool:
    """Return whether the subnet validator scores an answer 0."""
    lowest, step, slope, start = RANK_LIMITS
    scale = (temperature - start) * slope if temperature > start else 0.5
    limit = int(lowest + scale * step) if temperature > start else lowest
    ranks = columns.rank + 1
    end_lowest, end_step = RANK_END_LIMITS
    is_early = columns.is_ended and len(ranks) < max_tokens - 1
    if int((ranks >= limit).sum()) > MAX_BAD_TOKENS or (is_early and ranks[-1] > end_lowest + scale * end_step):
        return True
    if columns.returned_logprob is None:
        return False
    inner = generator.permutation(np.arange(1, len(ranks) - 1))[: MAX_CHECKED_POSITIONS - 2]
    checked = sorted({0, len(ranks) - 1, *inner.tolist()})
    distances = np.abs(np.exp(columns.logprob[checked]) - np.exp(columns.returned_logprob[checked]))
    return bool(distances.mean() > MAX_MEAN_DISTANCE)
