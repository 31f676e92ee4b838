"""How close an answer's meaning is to reference answers, measured against how close those are to each other.

A raw cosine says nothing: two honest answers to "write a poem" are further apart than a wrong and a right answer to
"what is 2 + 2". So the answer is ranked among the references: cosines become integers at the door (ppm), and from
there on every validator that has the same integers gets the same result.
"""

import math
from collections.abc import Sequence
from itertools import combinations

from scoring.errors import InvalidInput
from scoring.records import PPM

MIN_REFERENCES = 2
RAMP_PPM = 200_000
"""A comparison is won or lost in full when the cosines differ by this much, in proportion when by less: with two or
three references a hard rank would be a coin toss, and near-identical references would condemn every paraphrase."""


def compute_cosine_ppm(left: Sequence[float], right: Sequence[float]) -> int:
    """Return the cosine of two vectors in ppm, between -1,000,000 and 1,000,000.

    Raises InvalidInput on different lengths, a zero vector or numbers that are not finite.
    """
    if not left or len(left) != len(right):
        raise InvalidInput(f"vectors of {len(left)} and {len(right)} dimensions", "vector")
    norms = math.sqrt(math.fsum(x * x for x in left)) * math.sqrt(math.fsum(x * x for x in right))
    dot = math.fsum(x * y for x, y in zip(left, right, strict=True))
    if not math.isfinite(dot) or not math.isfinite(norms) or norms == 0.0:
        raise InvalidInput("a zero vector or a number that is not finite", "vector")
    return max(-PPM, min(PPM, round(dot / norms * PPM)))


def compute_similarity_percentile_ppm(answer_ppm: Sequence[int], references_ppm: Sequence[int]) -> int:
    """Return how often the answer is as close to a reference as references are to each other, in ppm, rounded down.

    `answer_ppm` are the cosines of the answer to each reference, `references_ppm` those of all pairs of references.
    The value is the Mann-Whitney share P(answer cosine > reference cosine), each comparison softened over RAMP_PPM: an
    answer that is drawn like the references has 500,000 on average, because exchanging it with a reference turns
    every comparison round. Raises InvalidInput when either list is empty.
    """
    if not answer_ppm or not references_ppm:
        raise InvalidInput(f"at least {MIN_REFERENCES} reference answers are needed", "references")
    won = sum(min(max(RAMP_PPM + mine - theirs, 0), 2 * RAMP_PPM) for mine in answer_ppm for theirs in references_ppm)
    return won * PPM // (2 * RAMP_PPM * len(answer_ppm) * len(references_ppm))


def compute_similarity_ppm(answer: Sequence[float], references: Sequence[Sequence[float]]) -> int:
    """Return the similarity score of an answer's embedding to those of k >= 2 reference answers, 0 to 1,000,000.

    It is twice the percentile, capped: an answer as close to the references as they are to each other scores full.
    Raises InvalidInput with fewer than two references or vectors that do not fit together.
    """
    if len(references) < MIN_REFERENCES:
        raise InvalidInput(f"at least {MIN_REFERENCES} reference answers are needed", "references")
    to_answer = [compute_cosine_ppm(answer, reference) for reference in references]
    among = [compute_cosine_ppm(left, right) for left, right in combinations(references, 2)]
    return min(PPM, 2 * compute_similarity_percentile_ppm(to_answer, among))
