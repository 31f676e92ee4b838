"""Checking a peer's reveal: the right seat, the promise kept, just the drawn probes, a receipt for each answer."""

from challenges.evidence import verify_transcript
from challenges.exchange import build_request_document
from challenges.probing import DrawnProbe, build_probe_request
from scoring import bls, canonical
from scoring.eip712 import Domain, compute_signing_root, compute_struct_hash
from scoring.errors import VerificationFailed
from scoring.records import Commit, ProbeOutcome, ValidatorEntry
from scoring.schedule import compute_vrf_alpha
from scoring.vrf import compute_vrf_output, verify_vrf
from validator.epoch import EpochContext
from validator.messages import RevealMessage
from validator.transcript import Transcript

MAX_REASON_CHARACTERS = 64
BASE_TRANSCRIPT_BYTES = 96 * 1024
TRANSCRIPT_BYTES_PER_TOKEN = 1600
"""What a provider may send within the limits of `validator.fetch`, escaped, and the request: evidence holds it all."""


def verify_reveal(
    message: RevealMessage, commit: Commit, entry: ValidatorEntry, context: EpochContext, domain: Domain
) -> None:
    """Raise VerificationFailed or InvalidInput, with a sentence, unless the reveal counts in this epoch."""
    _require(compute_struct_hash(message.reveal) == commit.reveal_digest, "the reveal does not match its commit")
    verify_observations(message, entry, context, domain)


def verify_observations(message: RevealMessage, entry: ValidatorEntry, context: EpochContext, domain: Domain) -> None:
    """Raise VerificationFailed or InvalidInput unless the reveal is its seat's and accounts for the drawn probes.

    Whether it was promised in time is the commit's to say, or a certificate's.
    """
    reveal = message.reveal
    _require(reveal.validator == entry.address, "the reveal is of another seat")
    _require(reveal.epoch == context.epoch, "the reveal is of another epoch")
    root = compute_signing_root(reveal, domain)
    _require(bls.verify(entry.public_key, root, message.signature), "the reveal is not signed by its seat")
    alpha = compute_vrf_alpha(context.network, context.epoch, context.inputs.beacon)
    verify_vrf(entry.public_key, alpha, reveal.vrf_proof)
    drawn = context.draw(compute_vrf_output(reveal.vrf_proof))
    keys = [(outcome.provider, outcome.offer_digest, outcome.index) for outcome in reveal.outcomes]
    _require(keys == [probe.key for probe in drawn], "the reveal does not account for just the drawn probes")
    _verify_transcripts(message, drawn, context, domain)


def _verify_transcripts(
    message: RevealMessage, drawn: tuple[DrawnProbe, ...], context: EpochContext, domain: Domain
) -> None:
    by_digest = {transcript.digest: transcript for transcript in message.transcripts}
    scored = [outcome for outcome in message.reveal.outcomes if not outcome.reason]
    _require(
        len(by_digest) == len(message.transcripts) == len(scored), "transcripts and scored probes differ in number"
    )
    for outcome, probe in zip(message.reveal.outcomes, drawn, strict=True):
        if outcome.reason:
            _require(len(outcome.reason) <= MAX_REASON_CHARACTERS, "a reason is longer than a word")
        else:
            _verify_scored(outcome, probe, by_digest.get(outcome.transcript_digest), context, domain)


def _verify_scored(
    outcome: ProbeOutcome, probe: DrawnProbe, transcript: Transcript | None, context: EpochContext, domain: Domain
) -> None:
    if transcript is None:
        raise VerificationFailed("a scored probe has no transcript")
    _require(len(outcome.statistics_ppm) == len(context.plan.statistics), "a score has not the statistics of the plan")
    limit = BASE_TRANSCRIPT_BYTES + TRANSCRIPT_BYTES_PER_TOKEN * context.plan.max_tokens
    _require(len(transcript.encode()) <= limit, "a transcript is larger than any answer that is taken")
    request = canonical.encode(build_request_document(build_probe_request(probe)))
    _require((transcript.probe_index, transcript.request) == (probe.index, request), "a transcript is of another probe")
    times = (transcript.ttft_ms, transcript.latency_ms)
    _require((outcome.ttft_ms, outcome.latency_ms) == times, "a score has other times than its transcript")
    answer = verify_transcript(probe, transcript.to_json(), domain)
    _require(outcome.output_tokens == answer.completion_tokens, "a score counts other tokens than the receipt")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise VerificationFailed(sentence)
