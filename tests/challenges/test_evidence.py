"""Slashing evidence as a stranger reads it: a good file holds, and each way to tamper with it has a sentence."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from challenges.evidence import (
    MAX_EVIDENCE_BYTES,
    SLASH_BPS_FALSE_CAPABILITY,
    BundleEpoch,
    EvidenceFile,
    SeatEpoch,
    compute_bundle_digest,
    iterate_checked_probes,
    iterate_scored_probes,
    parse_evidence_file,
    verify_evidence,
)
from challenges.penalty import compute_class
from challenges.probing import draw_probes
from scoring import canonical
from scoring.eip712 import Domain
from scoring.errors import InvalidInput, VerificationFailed
from scoring.evidence.cases import compute_threshold
from scoring.evidence.wealth import ONE
from scoring.records import ValidatorSet
from scoring.trust import Infraction
from scoring.vrf import compute_vrf_output

Trial = Any  # the class lives in tests/conftest.py
Change = Callable[[Trial], EvidenceFile]


def test_a_good_file_survives_the_wire_and_holds(trial: Trial, evidence_file: EvidenceFile) -> None:
    read = parse_evidence_file(evidence_file.encode())
    assert read == evidence_file
    case = verify_evidence(read, trial.validator_set, trial.domain)
    assert (case.accounted_probes, case.missing_probes) == (16, 0)
    assert case.case_wealth >= compute_threshold(trial.plan, 1) * ONE


def test_it_is_consistent_with_itself_without_a_trusted_set(evidence_file: EvidenceFile) -> None:
    assert verify_evidence(evidence_file) == verify_evidence(evidence_file, evidence_file.validator_set)


def test_every_answered_probe_is_handed_to_a_rerun_in_order(trial: Trial, evidence_file: EvidenceFile) -> None:
    probes = list(iterate_checked_probes(evidence_file))
    assert [(item.epoch, item.seat, item.drawn.index) for item in probes] == [
        (epoch, seat, index) for epoch in (0, 1) for seat in range(4) for index in range(2)
    ]
    first = probes[0]
    assert first.drawn == draw_probes(trial.plan, [trial.offer()], compute_vrf_output(trial.vrf_proof(0, 0)))[0]
    assert (first.answer.content, first.answer.completion_tokens) == ("answer 0", 8)


def test_a_rerun_gets_what_the_witness_scored_and_nothing_else(trial: Trial, evidence_file: EvidenceFile) -> None:
    unscored = {(0, 1, 0): None, **{key: value for key, value in evidence_file.statistics.items() if key[0] == 1}}
    file = replace(evidence_file, statistics=unscored)
    assert [(item.epoch, item.drawn.index) for item in iterate_scored_probes(file)] == [(1, 0), (1, 1)] * 4


def test_missing_probes_weaken_it_and_are_counted(trial: Trial) -> None:
    bundle = list(trial.bundle(absent={1: 2}))
    seats = list(bundle[0].seats)
    seats[1] = trial.seat_epoch(1, 0, unanswered=(0,))
    bundle[0] = replace(bundle[0], seats=tuple(seats))
    file = trial.file(bundle=tuple(bundle))
    case = verify_evidence(parse_evidence_file(file.encode()), trial.validator_set)
    assert (case.accounted_probes, case.missing_probes) == (16, 3)
    # The wealth that counts may be at the epoch cap with and without them; the alarm has no cap.
    assert case.alarm_wealth < verify_evidence(trial.file()).alarm_wealth


def test_a_false_capability_is_a_major_infraction_and_no_ban() -> None:
    assert compute_class(SLASH_BPS_FALSE_CAPABILITY) is Infraction.MAJOR


def test_each_seat_has_its_own_case_over_the_same_bundle(trial: Trial, evidence_file: EvidenceFile) -> None:
    # Seat 0 scored the answers to its own probes as harmless, so its own half stays low; seat 1's does not.
    statistics = {key: (0,) if key[1] == 0 else value for key, value in evidence_file.statistics.items()}
    own_low = replace(evidence_file, statistics=statistics)
    other = replace(own_low, witness=trial.validator_set.validators[1].address)
    cases = [verify_evidence(file, trial.validator_set) for file in (own_low, other)]
    assert cases[0].own_wealth < ONE < cases[1].own_wealth
    assert cases[0].pooled_wealth == cases[1].pooled_wealth


def test_the_bundle_digest_covers_every_byte_of_the_bundle(trial: Trial, evidence_file: EvidenceFile) -> None:
    expected = evidence_file.evidence.bundle_digest
    assert compute_bundle_digest(trial.bundle()) == expected
    for changed in (
        trial.bundle(epochs=(0,)),
        trial.bundle(absent={0: 3}),
        edit_transcript(evidence_file, lambda transcript: transcript["timing"].update(ttft_ms=91)).bundle,
        edit_seat(evidence_file, lambda seat: replace(seat, reasons=("", "slow"), transcripts=(None, None))).bundle,
    ):
        assert compute_bundle_digest(changed) != expected


def edit_epoch(file: EvidenceFile, edit: Callable[[BundleEpoch], BundleEpoch]) -> EvidenceFile:
    return replace(file, bundle=(edit(file.bundle[0]), *file.bundle[1:]))


def edit_seat(file: EvidenceFile, edit: Callable[[SeatEpoch], SeatEpoch | None]) -> EvidenceFile:
    def change(epoch: BundleEpoch) -> BundleEpoch:
        assert epoch.seats[0] is not None
        return replace(epoch, seats=(edit(epoch.seats[0]), *epoch.seats[1:]))

    return edit_epoch(file, change)


def edit_transcript(file: EvidenceFile, edit: Callable[[dict[str, Any]], object]) -> EvidenceFile:
    """Change a copy of the first transcript."""

    def change(seat: SeatEpoch) -> SeatEpoch:
        transcript = json.loads(json.dumps(seat.transcripts[0]))
        edit(transcript)
        return replace(seat, transcripts=(transcript, *seat.transcripts[1:]))

    return edit_seat(file, change)


def certify_again(trial: Trial, file: EvidenceFile, **changes: Any) -> EvidenceFile:
    """Return the file with its bundle as it is now, signed by all seats as if they did not look."""
    return replace(trial.file(bundle=file.bundle, offer=file.offer, **changes), statistics=file.statistics)


def build_other_plan(trial: Trial, **changes: Any) -> Trial:
    return replace(trial, plan=replace(trial.plan, **changes))


def fool(edit: Callable[[EvidenceFile, Trial], EvidenceFile], **changes: Any) -> Change:
    """Return a change that the validators signed as well: only what is inside can give it away."""
    return lambda trial: certify_again(trial, edit(trial.file(), trial), **changes)


def use_bundle(**changes: Any) -> Change:
    return lambda trial: trial.file(bundle=trial.bundle(**changes))


def turn_seats(epoch: BundleEpoch) -> BundleEpoch:
    return replace(epoch, seats=(*epoch.seats[1:], epoch.seats[0]))


def swap_answers(seat: SeatEpoch) -> SeatEpoch:
    return replace(seat, transcripts=tuple(reversed(seat.transcripts)))


def forge_signature(file: EvidenceFile) -> EvidenceFile:
    signature = bytearray(file.certificate.signature)
    signature[40] ^= 1
    return replace(file, certificate=replace(file.certificate, signature=bytes(signature)))


ALTERED: list[tuple[str, Change, str]] = [
    (
        "forged certificate",
        lambda trial: forge_signature(trial.file()),
        "aggregate signature does not match its signers",
    ),
    (
        "certificate of other signers than it says",
        lambda t: replace(t.file(), certificate=replace(t.file().certificate, signers=b"\x07")),
        "aggregate signature does not match its signers",
    ),
    (
        "too little stake",
        lambda t: replace(t.file(), certificate=t.certify_unchecked(t.file().evidence, (0, 1))),
        "not more than two thirds of the stake",
    ),
    (
        "no signer",
        lambda t: replace(t.file(), certificate=replace(t.file().certificate, signers=b"\x00")),
        "not more than two thirds of the stake",
    ),
    (
        "signer without a seat",
        lambda t: replace(t.file(), certificate=replace(t.file().certificate, signers=b"\x1f")),
        "bit beyond seat 3",
    ),
    (
        "certificate of other evidence",
        lambda t: replace(t.file(), certificate=t.file(slash_bps=500).certificate),
        "the certificate signs another record",
    ),
    (
        "slash raised after signing",
        lambda t: replace(t.file(), evidence=replace(t.file().evidence, slash_bps=2000)),
        "the certificate signs another record",
    ),
    (
        "another plan",
        lambda t: replace(t.file(), plan=build_other_plan(t, one_over_alpha=101).plan),
        "the plan is not the one that was certified",
    ),
    (
        "another bundle",
        lambda t: replace(t.file(), bundle=t.bundle(absent={0: 3})),
        "the bundle is not the one that was certified",
    ),
    (
        "a transcript altered",
        lambda t: edit_transcript(t.file(), lambda it: it["response"].update(model="n")),
        "the bundle is not the one that was certified",
    ),
    (
        "another offer of the provider",
        lambda t: replace(t.file(), offer=t.offer(output_price_wei=3)),
        "the offer is not the one that was certified",
    ),
    (
        "the offer of another provider",
        lambda t: replace(t.file(), offer=t.offer("honest")),
        "the offer is not the one that was certified",
    ),
    (
        "an offer with a forged signature",
        lambda t: replace(t.file(), offer=replace(t.offer(), signature=t.offer("honest").signature)),
        "the offer is not signed by",
    ),
    (
        "an unknown witness",
        lambda t: replace(t.file(), witness=b"\x99" * 20),
        "the witness is not in the validator set",
    ),
    (
        "a witness of no length",
        lambda t: replace(t.file(), witness=b""),
        "the witness is not in the validator set",
    ),
    (
        "wealth below the threshold",
        lambda t: replace(t.file(), statistics=dict.fromkeys(t.file().statistics, (60_000,))),
        "do not reach the threshold",
    ),
    ("no statistics at all", lambda t: replace(t.file(), statistics={}), "do not reach the threshold"),
]

FOOLED: list[tuple[str, Change, str]] = [
    ("an unknown rule", lambda t: t.file(rule="bad-manners"), "unknown rule 'bad-manners'"),
    (
        "a threshold below the plan's",
        lambda t: t.file(threshold=compute_threshold(t.plan, 1) - 1),
        "the threshold is not the plan's",
    ),
    (
        "a threshold above the plan's",
        lambda t: t.file(threshold=compute_threshold(t.plan, 2)),
        "the threshold is not the plan's",
    ),
    ("a slash beyond the rule's", lambda t: t.file(slash_bps=2000), "the slash is not that of the rule"),
    ("another provider than the offer's", lambda t: t.file(provider=b"\x77" * 20), "belongs to another provider"),
    (
        "an offer of a model that the plan does not audit",
        lambda t: t.file(offer=(other := t.offer(manifest_digest=b"\x09" * 32)), offer_digest=other.digest),
        "the offer's model is not the plan's",
    ),
    ("a case that starts late", lambda t: t.file(first_epoch=1), "does not start where the calendar says"),
    (
        "a case of another number",
        lambda t: t.file(case_index=2, threshold=compute_threshold(t.plan, 2)),
        "does not start where the calendar says",
    ),
    ("another last epoch", lambda t: t.file(last_epoch=2), "the bundle ends at another epoch"),
    ("epochs beyond the calendar", use_bundle(epochs=(1, 3)), "reaches beyond the end of the case"),
    (
        "epochs before the case",
        lambda t: t.file(
            bundle=t.bundle(epochs=(2, 3)), case_index=2, first_epoch=3, threshold=compute_threshold(t.plan, 2)
        ),
        "the bundle reaches back before the case",
    ),
    (
        "a seat too few",
        fool(lambda file, t: edit_epoch(file, lambda epoch: replace(epoch, seats=epoch.seats[:3]))),
        "another number of seats",
    ),
    (
        "probes that were not drawn: another seat's",
        fool(lambda file, t: edit_epoch(file, turn_seats)),
        "the VRF proof is not this key's proof",
    ),
    (
        "probes that were not drawn: another epoch's",
        fool(lambda file, t: edit_seat(file, lambda _: t.seat_epoch(0, 1))),
        "the VRF proof is not this key's proof",
    ),
    (
        "probes drawn from another beacon",
        fool(lambda file, t: edit_epoch(file, lambda epoch: replace(epoch, beacon=t.beacon(7)))),
        "the VRF proof is not this key's proof",
    ),
    (
        "a VRF proof cut short",
        fool(lambda file, t: edit_seat(file, lambda seat: replace(seat, vrf_proof=seat.vrf_proof[:95]))),
        "the VRF proof is not this key's proof",
    ),
    (
        "receipts of the other probe",
        fool(lambda file, t: edit_seat(file, swap_answers)),
        "the receipt is made out to another consumer",
    ),
    (
        "an answer to the prompt that somebody would have liked",
        fool(lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(1, 0)[0])))),
        "the receipt is made out to another consumer",
    ),
    (
        "content altered",
        fool(
            lambda file, t: edit_transcript(
                file, lambda it: it["response"]["choices"][0]["message"].update(content="nonsense")
            )
        ),
        "the receipt speaks of another response",
    ),
    (
        "token ids altered",
        fool(lambda file, t: edit_transcript(file, lambda it: it["response"]["choices"][0].update(token_ids=[1] * 8))),
        "the receipt speaks of another response",
    ),
    (
        "a receipt that somebody else signed",
        fool(lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(0, 0)[0], signer="honest")))),
        "the receipt is not signed by",
    ),
    (
        "a receipt for another request",
        fool(
            lambda file, t: edit_transcript(
                file, lambda it: it.update(t.answer(t.draw(0, 0)[0], request_digest=b"\x01" * 32))
            )
        ),
        "the receipt speaks of another request",
    ),
    (
        "a receipt for another seed",
        fool(lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(0, 0)[0], seed=7)))),
        "the seed is not the one asked for",
    ),
    (
        "a receipt with another nonce",
        fool(
            lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(0, 0)[0], nonce=b"\x01" * 32)))
        ),
        "the receipt answers another nonce",
    ),
    (
        "a receipt of another network",
        fool(
            lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(0, 0)[0], network=b"\x01" * 32)))
        ),
        "the receipt belongs to another network",
    ),
    (
        "a receipt from before the offer",
        fool(lambda file, t: edit_transcript(file, lambda it: it.update(t.answer(t.draw(0, 0)[0], issued_s=1)))),
        "dated outside the offer's time",
    ),
    (
        "statistics for a probe without answer",
        fool(lambda file, t: edit_seat(file, lambda _: t.seat_epoch(0, 0, unanswered=(1,)))),
        r"statistics for a probe without transcript \(epoch 0, seat 0\)",
    ),
    (
        "statistics for a seat that revealed nothing",
        fool(lambda file, t: edit_seat(file, lambda _: None)),
        r"statistics for a probe without transcript \(epoch 0, seat 0\)",
    ),
]


@pytest.mark.parametrize(("name", "build", "sentence"), ALTERED, ids=[row[0] for row in ALTERED])
def test_refuses_a_file_altered_after_it_was_signed(trial: Trial, name: str, build: Change, sentence: str) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        verify_evidence(build(trial), trial.validator_set, trial.domain)


@pytest.mark.parametrize(("name", "build", "sentence"), FOOLED, ids=[row[0] for row in FOOLED])
def test_refuses_what_no_validator_should_have_signed(trial: Trial, name: str, build: Change, sentence: str) -> None:
    file = build(trial)
    with pytest.raises(VerificationFailed, match=sentence):
        verify_evidence(file, trial.validator_set, trial.domain)


def test_refuses_a_foreign_domain_and_another_validator_set(
    trial: Trial, evidence_file: EvidenceFile, make_trial: Callable[..., Trial]
) -> None:
    foreign = make_trial(name="foreign")
    with pytest.raises(VerificationFailed, match="foreign network"):
        verify_evidence(evidence_file, trial.validator_set, foreign.domain)
    with pytest.raises(VerificationFailed, match="foreign network"):
        verify_evidence(evidence_file, trial.validator_set, Domain(chain_id=78, verifying_contract=trial.network[-20:]))
    with pytest.raises(VerificationFailed, match="another validator set than the trusted one"):
        verify_evidence(foreign.file(), trial.validator_set)


def test_a_file_that_brings_its_own_validators_convinces_nobody_who_knows_better(
    trial: Trial, make_trial: Callable[..., Trial]
) -> None:
    invented = make_trial(name="invented").file()
    verify_evidence(invented)
    with pytest.raises(VerificationFailed, match="another validator set"):
        verify_evidence(invented, trial.validator_set)
    wearing_ours = replace(invented, validator_set=trial.validator_set, domain=trial.domain)
    with pytest.raises(VerificationFailed, match="names another validator set"):
        verify_evidence(wearing_ours, trial.validator_set, trial.domain)


def test_a_validator_set_without_a_quorum_of_its_own_is_refused(trial: Trial, evidence_file: EvidenceFile) -> None:
    empty = ValidatorSet(network=trial.network, validators=())
    with pytest.raises(VerificationFailed):
        verify_evidence(replace(evidence_file, validator_set=empty))


def edit_json(edit: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        document = json.loads(data)
        edit(document)
        return canonical.encode(document)

    return change


def first_seat(document: dict[str, Any]) -> dict[str, Any]:
    seat: dict[str, Any] = document["bundle"]["epochs"][0]["seats"][0]
    return seat


def scores_of_first_seat(document: dict[str, Any]) -> list[Any]:
    scores: list[Any] = document["witness"]["statistics_ppm"][0][0]
    return scores


MALFORMED: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("nothing", lambda data: b"", "not JSON"),
    ("truncated", lambda data: data[:-1], "not JSON"),
    ("cut in half", lambda data: data[: len(data) // 2], "not JSON"),
    ("something behind", lambda data: data + b"\n", "not canonical"),
    ("not UTF-8", lambda data: data[:100] + b"\xff" + data[101:], "not UTF-8 at byte 100"),
    ("written for people", lambda data: json.dumps(json.loads(data), indent=1).encode(), "not canonical"),
    ("a key twice", lambda data: data[:-1] + b',"kind":"quiver-evidence-v1"}', "kind: duplicate key"),
    ("a float", lambda data: data.replace(b'"slash_bps":1400', b'"slash_bps":1400.0'), "1400.0 is not an integer"),
    ("deep nesting", lambda data: b"[" * 100_000, "nested deeper than 32"),
    ("too large", lambda data: b" " * (MAX_EVIDENCE_BYTES + 1), "over the limit of 67108864"),
    ("a list", lambda data: b"[]", "kind: expected an object of kind quiver-evidence-v1"),
    ("another kind", edit_json(lambda it: it.update(kind="quiver-feed-proof-v1")), "kind: expected an object"),
    ("an unknown key", edit_json(lambda it: it.update(note="trust me")), "note: unknown key"),
    *[
        (f"no {key}", edit_json(lambda it, key=key: it.pop(key)), f"{key}: missing")  # type: ignore[misc]
        for key in ("domain", "plan", "evidence", "certificate", "offer", "validator_set", "bundle", "witness")
    ],
    ("an unknown key in the plan", edit_json(lambda it: it["plan"].update(lenient=True)), "lenient: unknown key"),
    ("a plan out of range", edit_json(lambda it: it["plan"].update(one_over_alpha=1)), "one_over_alpha: 1 is outside"),
    ("an unknown key in the evidence", edit_json(lambda it: it["evidence"].update(x=1)), "x: unknown key"),
    ("an unknown key in the domain", edit_json(lambda it: it["domain"].update(x=1)), "domain: expected an object"),
    ("an unknown key in the offer", edit_json(lambda it: it["offer"].update(x=1)), "offer: expected an object"),
    ("two seats of one key", edit_json(lambda it: share_key(it)), "validators: two validators share a public_key"),
    ("a bundle as a list", edit_json(lambda it: it.update(bundle=[])), "bundle: expected an object with epochs"),
    ("no epoch", edit_json(lambda it: it["bundle"].update(epochs=[])), r"bundle\.epochs: expected one to"),
    (
        "more epochs than a case has",
        edit_json(lambda it: it["bundle"].update(epochs=it["bundle"]["epochs"] * 2)),
        r"bundle\.epochs: expected one to",
    ),
    (
        "epochs backwards",
        edit_json(lambda it: it["bundle"]["epochs"].reverse()),
        r"bundle\.epochs: not in rising order",
    ),
    (
        "an epoch twice",
        edit_json(lambda it: it["bundle"].update(epochs=it["bundle"]["epochs"][:1] * 2)),
        "not in rising order",
    ),
    (
        "an epoch that is none",
        edit_json(lambda it: it["bundle"]["epochs"][0].update(epoch=-1)),
        r"epochs\[0\]\.epoch: expected an epoch",
    ),
    (
        "an epoch that is true",
        edit_json(lambda it: it["bundle"]["epochs"][0].update(epoch=True)),
        r"epochs\[0\]\.epoch: expected an epoch",
    ),
    (
        "an unknown key in an epoch",
        edit_json(lambda it: it["bundle"]["epochs"][0].update(x=1)),
        r"epochs\[0\]: expected an object with",
    ),
    (
        "seats as an object",
        edit_json(lambda it: it["bundle"]["epochs"][0].update(seats={})),
        r"epochs\[0\]\.seats: expected a list of seats",
    ),
    (
        "a thousand seats too many",
        edit_json(lambda it: it["bundle"]["epochs"][0].update(seats=[None] * 1025)),
        r"epochs\[0\]\.seats: expected a list of seats",
    ),
    (
        "a probe too few",
        edit_json(lambda it: first_seat(it)["probes"].pop()),
        r"seats\[0\]\.probes: expected 2 probes",
    ),
    (
        "a probe that is neither answered nor excused",
        edit_json(lambda it: first_seat(it)["probes"].__setitem__(0, {})),
        r"probes\[0\]: expected a transcript or a reason",
    ),
    (
        "a probe that is both",
        edit_json(lambda it: first_seat(it)["probes"][0].update(reason="timeout")),
        r"probes\[0\]: expected a transcript or a reason",
    ),
    (
        "a proof in capitals",
        edit_json(lambda it: first_seat(it).update(vrf_proof="0xAB")),
        r"vrf_proof: expected lower-case hex",
    ),
    (
        "a witness of another shape",
        edit_json(lambda it: it["witness"].update(name="me")),
        "witness: expected an object with validator, statistics_ppm",
    ),
    (
        "statistics of an epoch too few",
        edit_json(lambda it: it["witness"]["statistics_ppm"].pop()),
        r"witness\.statistics_ppm: expected a list of 2",
    ),
    (
        "statistics of a probe too many",
        edit_json(lambda it: scores_of_first_seat(it).append(None)),
        r"witness\.statistics_ppm: expected a list of 2",
    ),
    (
        "another number of statistics",
        edit_json(lambda it: scores_of_first_seat(it)[0].append(1)),
        r"witness\.statistics_ppm: expected a list of 1",
    ),
    (
        "a statistic beyond its range",
        edit_json(lambda it: scores_of_first_seat(it).__setitem__(0, [1_000_001])),
        "expected 0 to 1,000,000 ppm",
    ),
    (
        "a statistic below its range",
        edit_json(lambda it: scores_of_first_seat(it).__setitem__(0, [-1])),
        "expected 0 to 1,000,000 ppm",
    ),
    (
        "a statistic that is true",
        edit_json(lambda it: scores_of_first_seat(it).__setitem__(0, [True])),
        "expected 0 to 1,000,000 ppm",
    ),
]


def share_key(document: dict[str, Any]) -> None:
    entries = document["validator_set"]["validators"]
    entries[1]["public_key"] = entries[0]["public_key"]


@pytest.mark.parametrize(("name", "spoil", "sentence"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_refuses_malformed_bytes(
    evidence_file: EvidenceFile, name: str, spoil: Callable[[bytes], bytes], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_evidence_file(spoil(evidence_file.encode()))


@pytest.mark.parametrize(
    ("name", "edit", "sentence"),
    [
        ("no response", lambda it: it.pop("response"), "response: expected an object"),
        ("a response of another shape", lambda it: it.update(response={"choices": []}), "choices: expected a list"),
        ("no receipt", lambda it: it.pop("receipt"), "receipt: expected an object"),
        ("a receipt with an unknown key", lambda it: it["receipt"]["receipt"].update(x=1), "x: unknown key"),
    ],
)
def test_refuses_malformed_transcripts(
    trial: Trial, evidence_file: EvidenceFile, name: str, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    file = certify_again(trial, edit_transcript(evidence_file, edit))
    with pytest.raises(InvalidInput, match=sentence):
        verify_evidence(parse_evidence_file(file.encode()), trial.validator_set)


def test_no_byte_of_what_was_certified_can_be_changed(trial: Trial, evidence_file: EvidenceFile) -> None:
    # The witness's numbers are its own word: they are checked by running the model again.
    data = evidence_file.encode()
    for place in range(0, data.index(b'"witness"'), 997):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises((InvalidInput, VerificationFailed)):
            verify_evidence(parse_evidence_file(changed), trial.validator_set, trial.domain)
