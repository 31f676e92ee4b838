"""What a reveal must be to count: every row is one thing that a seat could do to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from simulation.provider import build_response
from simulation.setting import NOW_S, build_validator_keys, provider_key
from simulation.story import Story, play_story

from challenges.probing import build_probe_request
from challenges.receipt import build_receipt, build_request_document, sign_receipt
from challenges.signed import SignedReceipt
from scoring import bls, canonical
from scoring.eip712 import Record, compute_signing_root, compute_struct_hash
from scoring.errors import InvalidInput, VerificationFailed
from scoring.hashing import keccak256
from scoring.records import ZERO_DIGEST, Commit, ProbeOutcome, Reveal
from scoring.schedule import compute_vrf_alpha
from scoring.vrf import compute_vrf_output, compute_vrf_proof
from validator.epoch import EpochContext
from validator.messages import RevealMessage
from validator.reveals import MAX_REASON_CHARACTERS, verify_observations, verify_reveal
from validator.transcript import Transcript

SEAT, EPOCH = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One honest reveal and what it is judged by."""

    story: Story
    context: EpochContext
    message: RevealMessage

    def verify(self, message: RevealMessage, commit: Commit | None = None) -> None:
        entry = self.story.genesis.validator_set.validators[SEAT]
        promise = commit or build_commit(message.reveal)
        verify_reveal(message, promise, entry, self.context, self.story.genesis.domain)

    def sign(self, record: Record, seat: int = SEAT) -> bytes:
        root = compute_signing_root(record, self.story.genesis.domain)
        return bls.sign(build_validator_keys(4)[seat].bls_sk, root)

    def with_reveal(self, **changes: object) -> RevealMessage:
        """Return the message with its reveal changed, promised and signed as changed."""
        reveal = replace(self.message.reveal, **changes)
        return replace(self.message, reveal=reveal, signature=self.sign(reveal))

    def with_outcome(self, **changes: object) -> RevealMessage:
        """Return the message with its first scored outcome changed."""
        outcomes = list(self.message.reveal.outcomes)
        at = next(number for number, outcome in enumerate(outcomes) if not outcome.reason)
        outcomes[at] = replace(outcomes[at], **changes)
        return self.with_reveal(outcomes=tuple(outcomes))

    def find_scored(self) -> tuple[int, ProbeOutcome, Transcript]:
        """Return the place of the first scored outcome, it, and its transcript."""
        by_digest = {transcript.digest: transcript for transcript in self.message.transcripts}
        for number, outcome in enumerate(self.message.reveal.outcomes):
            if not outcome.reason:
                return number, outcome, by_digest[outcome.transcript_digest]
        raise AssertionError("nothing was scored")

    def with_transcript(self, changed: Transcript) -> RevealMessage:
        """Return the message with the first scored outcome's transcript changed, digest and all."""
        number, outcome, transcript = self.find_scored()
        kept = tuple(item for item in self.message.transcripts if item != transcript)
        outcomes = list(self.message.reveal.outcomes)
        outcomes[number] = replace(outcome, transcript_digest=changed.digest)
        message = self.with_reveal(outcomes=tuple(outcomes))
        return replace(message, transcripts=(*kept, changed))


@pytest.fixture(scope="module")
def scene() -> Scene:
    story = play_story()
    return Scene(story=story, context=story.outcomes[EPOCH][SEAT].context, message=story.own_reveals[EPOCH][SEAT])


def build_commit(reveal: Reveal) -> Commit:
    return Commit(validator=reveal.validator, epoch=reveal.epoch, reveal_digest=compute_struct_hash(reveal))


def test_an_honest_reveal_counts(scene: Scene) -> None:
    scene.verify(scene.message)


def test_the_honest_reveals_of_all_seats_count(scene: Scene) -> None:
    for seat, message in scene.story.own_reveals[EPOCH].items():
        entry = scene.story.genesis.validator_set.validators[seat]
        verify_observations(message, entry, scene.context, scene.story.genesis.domain)


def choose_probes(scene: Scene) -> RevealMessage:
    """Another key's random function, that is other probes."""
    alpha = compute_vrf_alpha(scene.context.network, EPOCH, scene.context.inputs.beacon)
    return scene.with_reveal(vrf_proof=compute_vrf_proof(build_validator_keys(4)[0].bls_sk, alpha))


def prove_other_epoch(scene: Scene) -> RevealMessage:
    alpha = compute_vrf_alpha(scene.context.network, EPOCH + 1, scene.context.inputs.beacon)
    return scene.with_reveal(vrf_proof=compute_vrf_proof(build_validator_keys(4)[SEAT].bls_sk, alpha))


def drop_scored(scene: Scene) -> RevealMessage:
    number, _, transcript = scene.find_scored()
    outcomes = tuple(item for at, item in enumerate(scene.message.reveal.outcomes) if at != number)
    message = scene.with_reveal(outcomes=outcomes)
    return replace(message, transcripts=tuple(item for item in message.transcripts if item != transcript))


def add_probe(scene: Scene) -> RevealMessage:
    extra = replace(scene.message.reveal.outcomes[-1], index=9, reason="timeout", statistics_ppm=())
    return scene.with_reveal(outcomes=(*scene.message.reveal.outcomes, extra))


def forge_receipt(scene: Scene) -> RevealMessage:
    _, _, transcript = scene.find_scored()
    forged = sign_receipt(transcript.receipt.receipt, scene.story.genesis.domain, keccak256(b"forger"))
    return scene.with_transcript(replace(transcript, receipt=forged))


def answer_by_ourselves(scene: Scene) -> RevealMessage:
    """A whole answer that its provider never gave, with a receipt that the validator made up."""
    return scene.with_transcript(_make_up(scene, keccak256(b"forger"), build_response((1, 2, 3))))


def bloat(scene: Scene) -> RevealMessage:
    """An answer beyond every limit, receipted by a provider that plays along."""
    response = build_response(tuple(range(16)))
    response["choices"][0]["message"]["content"] = "x" * 200_000
    return scene.with_transcript(_make_up(scene, _find_key(scene), response))


def _make_up(scene: Scene, key: bytes, response: dict[str, object]) -> Transcript:
    number, outcome, _ = scene.find_scored()
    proof = scene.message.reveal.vrf_proof
    drawn = scene.context.draw(compute_vrf_output(proof))[number]
    request = build_probe_request(drawn)
    receipt = build_receipt(
        network=scene.context.network,
        offer=drawn.offer.offer,
        consumer=drawn.consumer,
        nonce=drawn.probe.nonce,
        request=request,
        response=response,
        default_max_tokens=16,
        counter=1,
        issued_s=NOW_S,
        expires_s=NOW_S + 100,
    )
    return Transcript(
        probe_index=drawn.index,
        request=canonical.encode(build_request_document(request)),
        response=canonical.encode({key: response[key] for key in ("choices", "model", "usage")}),  # type: ignore[dict-item]
        receipt=sign_receipt(receipt, scene.story.genesis.domain, key),
        ttft_ms=outcome.ttft_ms,
        latency_ms=outcome.latency_ms,
    )


def _find_key(scene: Scene) -> bytes:
    _, outcome, _ = scene.find_scored()
    return next(
        provider_key(name) for name, item in scene.story.providers.items() if item.offer.digest == outcome.offer_digest
    )


def swap_answers(scene: Scene) -> RevealMessage:
    """The answer to another probe of the same seat."""
    number, outcome, _ = scene.find_scored()
    other = next(
        item
        for item in scene.message.reveal.outcomes[number + 1 :]
        if not item.reason and item.transcript_digest != outcome.transcript_digest
    )
    outcomes = list(scene.message.reveal.outcomes)
    place = outcomes.index(other)
    outcomes[number] = replace(outcome, transcript_digest=other.transcript_digest)
    outcomes[place] = replace(other, transcript_digest=outcome.transcript_digest)
    return scene.with_reveal(outcomes=tuple(outcomes))


def take_anothers_answer(scene: Scene) -> RevealMessage:
    """The transcript that another seat got for its own probe."""
    other = scene.story.own_reveals[EPOCH][0]
    return scene.with_transcript(other.transcripts[0])


def show_other_request(scene: Scene) -> RevealMessage:
    """The right receipt over another request."""
    _, _, transcript = scene.find_scored()
    request = canonical.decode(transcript.request)
    assert isinstance(request, dict)
    return scene.with_transcript(replace(transcript, request=canonical.encode({**request, "seed": 1})))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(choose_probes, "not this key's proof", id="chosen probes"),
        pytest.param(prove_other_epoch, "not this key's proof", id="the random function of another epoch"),
        pytest.param(lambda it: it.with_reveal(vrf_proof=bytes(96)), "not this key's proof", id="no proof"),
        pytest.param(lambda it: it.with_reveal(epoch=EPOCH + 1), "another epoch", id="another epoch"),
        pytest.param(lambda it: it.with_reveal(validator=b"\x01" * 20), "another seat", id="another seat's name"),
        pytest.param(
            lambda it: replace(it.message, signature=it.sign(it.message.reveal, seat=0)),
            "not signed by its seat",
            id="another seat's signature",
        ),
        pytest.param(lambda it: replace(it.message, signature=b""), "not signed by its seat", id="no signature"),
        pytest.param(drop_scored, "just the drawn probes", id="a missing probe"),
        pytest.param(lambda it: it.with_reveal(outcomes=()), "just the drawn probes", id="no probes at all"),
        pytest.param(add_probe, "just the drawn probes", id="a probe too many"),
        pytest.param(
            lambda it: it.with_reveal(
                outcomes=tuple(
                    replace(item, offer_digest=keccak256(item.provider)) for item in it.message.reveal.outcomes
                )
            ),
            "just the drawn probes",
            id="other offers",
        ),
        pytest.param(forge_receipt, "is not signed by", id="a forged receipt"),
        pytest.param(answer_by_ourselves, "is not signed by", id="an answer that the validator made up"),
        pytest.param(swap_answers, "of another probe", id="answers of two probes swapped"),
        pytest.param(take_anothers_answer, "of another probe", id="another seat's answer"),
        pytest.param(show_other_request, "of another probe", id="another request in the transcript"),
        pytest.param(lambda it: it.with_outcome(ttft_ms=1, latency_ms=1), "other times", id="faster than it was"),
        pytest.param(bloat, "larger than any answer", id="an answer beyond all limits"),
        pytest.param(
            lambda it: it.with_outcome(statistics_ppm=(1,)), "statistics of the plan", id="a statistic too few"
        ),
        pytest.param(
            lambda it: it.with_outcome(statistics_ppm=(1, 2, 3)),
            "statistics of the plan",
            id="another plan's statistics",
        ),
        pytest.param(lambda it: it.with_outcome(output_tokens=15), "other tokens than the receipt", id="other tokens"),
        pytest.param(
            lambda it: it.with_outcome(transcript_digest=ZERO_DIGEST), "has no transcript", id="a score from nothing"
        ),
        pytest.param(
            lambda it: it.with_outcome(reason="timeout", statistics_ppm=()),
            "differ in number",
            id="an answer kept quiet beside its transcript",
        ),
        pytest.param(
            lambda it: replace(it.message, transcripts=it.message.transcripts[1:]),
            "differ in number",
            id="a transcript kept back",
        ),
        pytest.param(
            lambda it: replace(it.message, transcripts=(*it.message.transcripts, it.message.transcripts[0])),
            "differ in number",
            id="a transcript twice",
        ),
        pytest.param(
            lambda it: it.with_reveal(
                outcomes=tuple(
                    replace(item, reason="x" * (MAX_REASON_CHARACTERS + 1)) if item.reason else item
                    for item in it.message.reveal.outcomes
                )
            ),
            "longer than a word",
            id="a reason like a book",
        ),
    ],
)
def test_refuses(scene: Scene, change: Callable[[Scene], RevealMessage], sentence: str) -> None:
    with pytest.raises((VerificationFailed, InvalidInput), match=sentence):
        scene.verify(change(scene))


def test_a_reveal_that_does_not_match_its_commit_is_refused(scene: Scene) -> None:
    other = replace(scene.message.reveal, salt=b"\x07" * 32)
    with pytest.raises(VerificationFailed, match="does not match its commit"):
        scene.verify(scene.message, build_commit(other))


def test_an_unscored_probe_needs_no_transcript(scene: Scene) -> None:
    number, outcome, transcript = scene.find_scored()
    outcomes = list(scene.message.reveal.outcomes)
    outcomes[number] = replace(
        outcome,
        reason="own-engine",
        is_provider_fault=False,
        transcript_digest=ZERO_DIGEST,
        statistics_ppm=(),
        output_tokens=0,
        has_similarity=False,
        similarity_ppm=0,
    )
    message = scene.with_reveal(outcomes=tuple(outcomes))
    scene.verify(replace(message, transcripts=tuple(item for item in message.transcripts if item != transcript)))


def test_a_receipt_on_the_wire_is_the_signed_one(scene: Scene) -> None:
    _, _, transcript = scene.find_scored()
    assert SignedReceipt.from_json(transcript.receipt.to_json()) == transcript.receipt
