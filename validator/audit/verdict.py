"""What an audit found, in a sentence for people and in an exit code."""

import math

from validator.audit.progress import Ended, Progress
from validator.audit.records import Claim

EXIT_CODES = {"consistent": 0, "proven": 1, "suspect": 3, "unstable": 3, "uninformative": 3}
EXIT_UNDECIDED = 3
EXIT_INTERRUPTED = 130
_ENDED = {
    Ended.DECIDED: "more requests would not change the verdict",
    Ended.REQUESTS: "its number of requests was reached",
    Ended.TOKENS: "its budget of tokens was spent",
    Ended.BYTES: "its budget of bytes was spent",
    Ended.SILENCE: "the endpoint no longer answered",
    Ended.THROTTLED: "the endpoint asks to wait {wait_s:,.0f} s",
    Ended.TRANSCRIPT: "the transcript has no more lines",
    Ended.INTERRUPTED: "it was interrupted",
}


def find_verdict(progress: Progress) -> str:
    """Return the verdict; without evidence there is none but `uninformative`."""
    return "uninformative" if progress.evidence is None else progress.evidence.verdict


def find_exit_code(progress: Progress) -> int:
    """Return the exit code of the command."""
    if progress.ended is Ended.INTERRUPTED:
        return EXIT_INTERRUPTED
    # Whoever may end an audit by asking for a wait must not end it as consistent.
    least = EXIT_UNDECIDED if progress.ended is Ended.THROTTLED else 0
    return EXIT_CODES.get(find_verdict(progress), EXIT_UNDECIDED) or least


def describe_end(progress: Progress) -> str:
    """Return why the audit asked no more."""
    return _ENDED[progress.ended or Ended.INTERRUPTED].format(wait_s=progress.told_wait_s or 0)


def find_explanation(progress: Progress) -> str | None:
    """Return the likeliest explanation by name; None when nothing asks for one."""
    evidence = progress.evidence
    if evidence is None or not evidence.explanations or evidence.verdict in ("consistent", "uninformative"):
        return None
    return evidence.explanations[0].name


def build_sentence(progress: Progress, claimed: str) -> str:
    """Return the verdict in one sentence, or two; `claimed` is the model as the command names it."""
    model = claimed if progress.reference is None else progress.reference.model
    if progress.plan.claim is Claim.WEIGHTS_AND_SAMPLING:
        model = f"{model} with the sampling that was asked for"
    requests = f"{progress.examined} request{'' if progress.examined == 1 else 's'}"
    explanation = find_explanation(progress)
    because = f" Likeliest explanation: {explanation}." if explanation else ""
    verdict, evidence = find_verdict(progress), progress.evidence
    if evidence is None or verdict == "uninformative":
        return f"Not enough to tell whether {model} is served: {requests} examined, {_count_informative(progress)}."
    if verdict == "proven":
        # Ville: an honest endpoint's e-value ever reaches x with probability at most 1/x.
        largest = max(point.log10_e for point in progress.points)
        return (
            f"{model} is not what is served: an honest endpoint would ever get this far at most once in "
            f"{_power(largest)} audits, after {requests}.{because}"
        )
    if verdict == "suspect" and evidence.log10_e < evidence.log10_alarm and _has_broken_contracts(progress):
        return (
            f"What the endpoint says of its answers contradicts them: an alarm, and no proof that {model} is not "
            f"served, after {requests}.{because}"
        )
    if verdict == "suspect" and not evidence.can_prove:
        largest = max(evidence.log10_by_channel.values(), default=0.0)
        return (
            f"The text deviates from {model} with the sampling that was asked for, by an e-value of {_power(largest)} "
            f"after {requests}: no proof of other weights, because sampling that nobody named may explain a text. "
            f"--claim weights+sampling holds the endpoint to what was asked for.{because}"
        )
    if verdict == "suspect":
        return (
            f"The answers deviate from {model}, but not far enough to prove it: an e-value of "
            f"{_power(evidence.log10_e)} of {_power(evidence.log10_threshold)} after {requests}.{because}"
        )
    if verdict == "unstable":
        return f"The endpoint differs from itself more than {model} does on any machine, over {requests}.{because}"
    settled = "; each named alternative would have been noticed by now" if evidence.is_settled else ""
    return f"Nothing speaks against {model} being served: {requests} examined{settled}."


def _has_broken_contracts(progress: Progress) -> bool:
    return progress.evidence is not None and any(count.is_alarm for count in progress.evidence.contracts)


def _count_informative(progress: Progress) -> str:
    count = 0 if progress.evidence is None else progress.evidence.informative_requests
    return f"{count} of them with something to say, {progress.missing} without an answer that can be judged"


def _power(log10: float) -> str:
    if not math.isfinite(log10):
        return "a number without end"
    return f"10^{log10:.1f}" if abs(log10 - round(log10)) > 0.05 else f"10^{round(log10)}"
