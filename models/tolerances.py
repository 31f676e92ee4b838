"""From a collection of honest answers to a tolerance profile: statistics, their bounds, and the hold-out."""

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from models.alternatives import SECOND_RUN
from models.collection import ACTIVATIONS, REFERENCE, Answered, Collection
from scoring.errors import InvalidInput
from scoring.evidence.bounds import compute_upper_bound_ppm
from scoring.evidence.channel_ids import CHANNEL_STATISTIC_IDS, is_sibling
from scoring.evidence.channels import AnswerColumns, compute_channel_statistics, mix_other_weights
from scoring.evidence.pit import compute_pits
from scoring.evidence.profile import ALL, Measurement
from scoring.evidence.tolerance import Moments, compute_moments_bound_ppm
from scoring.hashing import tagged_digest
from scoring.records import PPM

EMPTY: dict[str, list[Any]] = {"logprob": [], "grid_logprob": [], "entropy": [], "margin": [], "gap": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class HonestRequest:
    """What one honest request gave: its stratum and g in ppm by statistic, where the passes were run."""

    stratum: str
    statistics_ppm: Mapping[str, int]


def read_requests(
    collection: Collection,
    group: str,
    answers: Sequence[Answered],
    alternatives: Iterable[str],
    reference: str = REFERENCE,
) -> list[HonestRequest]:
    """Return the statistics of a group's answers, as far as the reference pass has come."""
    return [
        HonestRequest(stratum=answer.question.stratum, statistics_ppm=compute_channel_statistics(columns))
        for answer, columns in zip(
            answers, read_answer_columns(collection, group, answers, alternatives, reference), strict=False
        )
    ]


def read_answer_columns(
    collection: Collection,
    group: str,
    answers: Sequence[Answered],
    alternatives: Iterable[str],
    reference: str = REFERENCE,
) -> Iterator[AnswerColumns]:
    """Yield the columns of each answer with every alternative that was run on it.

    `reference` is the pass that re-ran them: of a server's there is nothing else.
    """
    count, is_local = len(answers), reference == REFERENCE
    streams = {name: collection.read_columns(group, name, count) for name in alternatives if is_local}
    second = collection.read_columns(group, SECOND_RUN.id, count if is_local else 0)
    proven = collection.read_columns(group, ACTIVATIONS, count if is_local else 0)
    for answer, tokens in zip(answers, collection.read_columns(group, reference, count), strict=False):
        found = {name: next(stream, None) for name, stream in streams.items()}
        again, error = next(second, None), next(proven, None)
        columns = AnswerColumns(
            tokens=build_tokens(tokens or EMPTY),
            alternatives={name: build_tokens(told) for name, told in found.items() if told is not None},
            max_tokens=answer.question.max_tokens,
            pits=compute_answer_pits(tokens or EMPTY, answer.question.prompt_ids, answer.output_ids),
            returned=skip_repeated(answer.logprobs, answer.question.prompt_ids, answer.output_ids),
            is_greedy=answer.question.temperature_ppm == 0,
            second_run=None if again is None else build_tokens(again),
            activation_error=None if error is None else error["error"][0],
        )
        yield mix_other_weights(columns, columns.tokens.entropy)


def compute_answer_pits(
    columns: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> tuple[float, ...] | None:
    """Return the randomised PIT of each token. The beacon is a hash of the answer: nobody else chooses it."""
    low, high = columns.get("pit_low"), columns.get("pit_high")
    if low is None or high is None:
        return None
    ids = b"".join(token.to_bytes(4, "big") for token in (*prompt_ids, *output_ids))
    # float32 columns: an interval may end a rounding beyond 1, or before its beginning
    top = [min(max(start, end), 1.0) for start, end in zip(low, high, strict=True)]
    return compute_pits([min(value, 1.0) for value in low], top, tagged_digest("quiver-answer-pit", ids), b"answer")


def skip_repeated(
    logprobs: Sequence[float] | None, prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> tuple[float | None, ...] | None:
    """Return log-probabilities with None where the token stands in the prompt or earlier in the answer.

    Servers penalise those, some by default, and some report what is left.
    """
    if logprobs is None:
        return None
    seen, found = set(prompt_ids), []
    for token, value in zip(output_ids, logprobs, strict=False):
        found.append(None if token in seen else value)
        seen.add(token)
    return tuple(found)


def build_tokens(columns: Mapping[str, Any]) -> Any:
    """Return columns as attributes; margin and gap are None where there was no seed."""
    return SimpleNamespace(**{"margin": None, "gap": None, **columns})


def measure(
    requests: Sequence[HonestRequest], strata: Sequence[str], find_log_one_over_delta: Callable[[str], float]
) -> tuple[Measurement, ...]:
    """Bound the mean of every statistic over all requests (stratum "all") and within each stratum.

    `find_log_one_over_delta` says how much error the bounds of a statistic are allowed.
    """
    found = []
    siblings = sorted({name for request in requests for name in request.statistics_ppm if is_sibling(name)})
    for statistic in (*CHANNEL_STATISTIC_IDS, *siblings):
        for stratum in (ALL, *strata):
            values = [
                request.statistics_ppm[statistic]
                for request in requests
                if stratum in (ALL, request.stratum) and statistic in request.statistics_ppm
            ]
            if values:
                found.append(build_measurement(stratum, statistic, values, find_log_one_over_delta(statistic)))
    return tuple(found)


def compute_log_share(one_over_delta: int, bounds: int) -> float:
    """Return log(1/delta) of one bound when `bounds` of them hold together with probability 1 - delta."""
    return math.log(one_over_delta * bounds)


def build_measurement(
    stratum: str, statistic: str, values_ppm: Sequence[int], log_one_over_delta: float
) -> Measurement:
    """Return what honest values say about one statistic in one stratum; raises InvalidInput when there are none."""
    if not values_ppm:
        raise InvalidInput("no request was drawn from this stratum", stratum)
    n, total = len(values_ppm), sum(values_ppm)
    return Measurement(
        stratum=stratum,
        statistic=statistic,
        n=n,
        mean_ppm=-(-total // n),
        variance_ppm=sum((value - total // n) ** 2 for value in values_ppm) // (n * PPM),
        max_ppm=max(values_ppm),
        mu_ppm=compute_upper_bound_ppm(values_ppm, log_one_over_delta),
    )


def join_measurements(first: Measurement, second: Measurement, log_one_over_delta: float) -> Measurement:
    """Return what two samples of other requests say about one statistic in one stratum, from their moments alone.

    Valid as evidence (`tolerance.compute_calibration_log_e`), however often samples are joined.
    """
    if (first.statistic, first.stratum) != (second.statistic, second.stratum):
        raise InvalidInput("are of two statistics or strata", "measurements")
    n = first.n + second.n
    mean_ppm = -(-(first.n * first.mean_ppm + second.n * second.mean_ppm) // n)
    # Within the samples, and between them. Up by 3 ppm: the parts were rounded down, and the mean once more up, which
    # takes from the squares around any mu what (2 ppm at most, for mu - mean = 1) must be in the variance then.
    within = (first.n * first.variance_ppm + second.n * second.variance_ppm) * PPM * n
    between = first.n * second.n * (first.mean_ppm - second.mean_ppm) ** 2
    moments = Moments(
        n=n,
        mean_ppm=mean_ppm,
        variance_ppm=-(-(within + between) // (n * n * PPM)) + 3,
        max_ppm=max(first.max_ppm, second.max_ppm),
    )
    return replace(
        first,
        n=n,
        mean_ppm=moments.mean_ppm,
        variance_ppm=moments.variance_ppm,
        max_ppm=moments.max_ppm,
        mu_ppm=compute_moments_bound_ppm(moments, log_one_over_delta),
    )


def describe_runtime(device: str, attention: str) -> dict[str, Any]:
    """Return the fingerprint of this runtime as a profile's cell holds it."""
    import torch
    import transformers

    return {
        "threads": torch.get_num_threads(),
        "attention": attention,
        "device": device,
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "python_version": platform.python_version(),
        "processor": describe_processor(),
    }


def describe_processor() -> str:
    """Return this machine's processor as cells name it: its architecture and the widest instructions torch uses."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
