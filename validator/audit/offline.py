"""An audit of a transcript: the same judgement on answers that somebody has already got."""

import time
from collections.abc import Sequence
from itertools import chain, repeat

from models.requests import SAMPLER_NONE
from validator.audit.loop import MAX_BATCH
from validator.audit.online import OpenExaminer
from validator.audit.outcomes import Entry
from validator.audit.progress import Ended, Progress
from validator.audit.records import ExaminerSettings, Exchange
from validator.audit.screen import Screen

FIRST_BATCHES = (4, 4, 8)
"""A gross cheat is seen in a few answers; later a batch costs the alternatives' weights once, whatever its size."""


def audit_transcript(
    entries: Sequence[Entry],
    settings: ExaminerSettings,
    progress: Progress,
    screen: Screen,
    open_examiner: OpenExaminer,
) -> None:
    """Examine the lines of a transcript in their order until the model is disproven or there are no more.

    A sleeper may wake late, so `consistent` is said of the whole. Raises Unavailable when the reference fails.
    """
    start_s = time.monotonic()
    for entry in entries:
        progress.add(entry)
    screen.note(f"loading {settings.model}, the reference")
    with open_examiner(settings) as examiner:
        progress.reference = examiner.facts
        progress.evidence = examiner.begin(find_channels(entries))
        sizes = chain(FIRST_BATCHES, repeat(MAX_BATCH))
        while ready := progress.take_ready(next(sizes)):
            for appraisal in examiner.examine([entry.outcome for entry in ready]):
                progress.fold(appraisal)
            progress.seconds = time.monotonic() - start_s
            screen.show(progress)
            if progress.evidence.verdict == "proven":
                progress.ended = Ended.DECIDED
                return
    progress.ended = Ended.TRANSCRIPT


def find_channels(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the channels that a transcript leaves open: known before any answer is judged."""
    exchanges = [entry.outcome for entry in entries if isinstance(entry.outcome, Exchange)]
    seeded = any(exchange.sampler != SAMPLER_NONE for exchange in exchanges)
    logprobs = any(exchange.logprobs for exchange in exchanges)
    greedy = any(exchange.temperature == 0.0 for exchange in exchanges)
    usage = any(exchange.prompt_tokens is not None for exchange in exchanges)
    proofs = any(exchange.proofs for exchange in exchanges)
    offered = {"seeded": seeded, "text": True, "logprobs": logprobs, "greedy": greedy}
    offered |= {"activations": proofs, "usage": usage}
    return tuple(name for name, is_open in offered.items() if is_open)
