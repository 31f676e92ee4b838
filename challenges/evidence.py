"""Slashing evidence as one file: what was certified, every accounted probe of the case, and how to check it all.

The *bundle* is the data: for each certified epoch of the case its beacon and, seat by seat, the VRF proof and the
probes (transcript, or the reason why there is none). It follows from the certified reveals, so every validator builds
the same bytes. The *witness* is one seat's own scoring of it. A stranger checks signatures, draws and receipts,
recomputes the wealth in integers, and with the weights at hand recomputes the statistics too.

File: {"kind": "quiver-evidence-v1", "domain", "plan", "evidence", "certificate", "offer" (signed), "validator_set",
"bundle": {"epochs": [{"epoch", "beacon", "seats": [null | {"vrf_proof", "probes": [{"transcript"} | {"reason"}]}]}]},
"witness": {"validator", "statistics_ppm": [per epoch [per seat [per probe [ppm...] | null]]]}}.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from challenges.probing import DrawnProbe, draw_probes, verify_probe_answer
from challenges.receipt import Answer, SignedOffer, SignedReceipt, verify_offer
from scoring import canonical
from scoring.canonical import Json
from scoring.certificate import verify_certificate
from scoring.eip712 import Domain, compute_signing_root, parse_hex
from scoring.errors import InvalidInput, VerificationFailed
from scoring.evidence.cases import CaseState, compute_case_wealth, compute_first_epoch, compute_threshold, is_proven
from scoring.evidence.plan import Plan
from scoring.feed import build_domain_json, parse_domain
from scoring.hashing import keccak256
from scoring.outcome import build_accounted_probes
from scoring.records import Certificate, SlashingEvidence, ValidatorSet
from scoring.schedule import compute_vrf_alpha
from scoring.vrf import compute_vrf_output, verify_vrf

EVIDENCE_KIND = "quiver-evidence-v1"
MAX_EVIDENCE_BYTES = 64 * 1024 * 1024
RULE_FALSE_CAPABILITY = "false-capability"
SLASH_BPS_FALSE_CAPABILITY = 1400
"""A major infraction (500 to 1500 bps), near the top of its range: the border itself would be a severe one, a ban."""
_FIELDS = ("domain", "plan", "evidence", "certificate", "offer", "validator_set", "bundle", "witness")

Statistics = dict[tuple[int, int, int], tuple[int, ...] | None]
"""Statistics in ppm by (epoch, seat, probe index); None or absent when missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatEpoch:
    """What one seat revealed of one offer in one epoch: its VRF proof, and per probe a transcript or None."""

    vrf_proof: bytes
    transcripts: tuple[Mapping[str, Json] | None, ...]
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        probes: list[Json] = [
            {"reason": reason} if transcript is None else {"transcript": dict(transcript)}
            for transcript, reason in zip(self.transcripts, self.reasons, strict=True)
        ]
        return {"vrf_proof": "0x" + self.vrf_proof.hex(), "probes": probes}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEpoch:
    """One certified epoch of a case; `seats` in registry order, None for a seat without a certified reveal."""

    epoch: int
    beacon: bytes
    seats: tuple[SeatEpoch | None, ...]

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        seats: list[Json] = [None if seat is None else seat.to_json() for seat in self.seats]
        return {"epoch": self.epoch, "beacon": "0x" + self.beacon.hex(), "seats": seats}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """Everything a stranger needs. `witness` is the account of the seat whose scoring `statistics` are."""

    domain: Domain
    plan: Plan
    evidence: SlashingEvidence
    certificate: Certificate
    offer: SignedOffer
    validator_set: ValidatorSet
    bundle: tuple[BundleEpoch, ...]
    witness: bytes
    statistics: Statistics

    def encode(self) -> bytes:
        """Return the canonical bytes of the file."""
        return canonical.encode(
            {
                "kind": EVIDENCE_KIND,
                "domain": build_domain_json(self.domain),
                "plan": self.plan.to_json(),
                "evidence": self.evidence.to_json(),
                "certificate": self.certificate.to_json(),
                "offer": self.offer.to_json(),
                "validator_set": self.validator_set.to_json(),
                "bundle": build_bundle_json(self.bundle),
                "witness": {"validator": "0x" + self.witness.hex(), "statistics_ppm": self._statistics_json()},
            }
        )

    def _statistics_json(self) -> list[Json]:
        def one(epoch: int, seat: int, index: int) -> Json:
            found = self.statistics.get((epoch, seat, index))
            return None if found is None else list(found)

        seats, probes = range(len(self.validator_set.validators)), range(self.plan.probes_per_epoch)
        return [[[one(item.epoch, seat, index) for index in probes] for seat in seats] for item in self.bundle]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedProbe:
    """One probe of the bundle whose draw and receipt hold: what a re-run feeds to the reference model."""

    epoch: int
    seat: int
    drawn: DrawnProbe
    answer: Answer


def build_bundle_json(bundle: tuple[BundleEpoch, ...]) -> dict[str, Json]:
    """Return the JSON form of a bundle."""
    return {"epochs": [epoch.to_json() for epoch in bundle]}


def compute_bundle_digest(bundle: tuple[BundleEpoch, ...]) -> bytes:
    """Return the 32-byte digest that the evidence signs: keccak256 of the bundle's canonical bytes."""
    return keccak256(canonical.encode(build_bundle_json(bundle)))


def compute_witness_case(
    plan: Plan, evidence: SlashingEvidence, seat_count: int, own_seat: int, epochs: tuple[int, ...], found: Statistics
) -> CaseState:
    """Return the case as the witness holds it, from its statistics of every accounted probe."""
    folded = (
        build_accounted_probes(
            plan,
            seat_count,
            {(seat, index): value for (at, seat, index), value in found.items() if at == epoch},
            own_seat,
        )
        for epoch in epochs
    )
    return compute_case_wealth(plan, evidence.case_index, folded)


def parse_evidence_file(data: bytes) -> EvidenceFile:
    """Parse the canonical bytes of an evidence file; raises InvalidInput with the field's name."""
    value = canonical.decode(data, MAX_EVIDENCE_BYTES)
    if not isinstance(value, dict) or value.get("kind") != EVIDENCE_KIND:
        raise InvalidInput(f"expected an object of kind {EVIDENCE_KIND}", "kind")
    for key in _FIELDS:
        if key not in value:
            raise InvalidInput("missing", key)
    for key in value:
        if key not in (*_FIELDS, "kind"):
            raise InvalidInput("unknown key", key)
    plan = Plan.from_json(value["plan"])
    bundle = _parse_bundle(value["bundle"], plan)
    witness = _parse_object(value["witness"], ("validator", "statistics_ppm"), "witness")
    return EvidenceFile(
        domain=parse_domain(value["domain"]),
        plan=plan,
        evidence=SlashingEvidence.from_json(value["evidence"]),
        certificate=Certificate.from_json(value["certificate"]),
        offer=SignedOffer.from_json(value["offer"]),
        validator_set=ValidatorSet.from_json(value["validator_set"]),
        bundle=bundle,
        witness=parse_hex(witness["validator"], "witness.validator"),
        statistics=_parse_statistics(witness["statistics_ppm"], bundle, plan),
    )


def verify_evidence(
    file: EvidenceFile, trusted_set: ValidatorSet | None = None, domain: Domain | None = None
) -> CaseState:
    """Check everything in the file that needs no model, and return the witness's case.

    `trusted_set` and `domain` are what the reader trusts; without them the file's own are used, and the result says
    only that the file is consistent with itself. Raises VerificationFailed with a sentence.
    """
    if domain is not None and file.domain != domain:
        raise VerificationFailed("the evidence is from a foreign network: chain id or genesis differ")
    if trusted_set is not None and file.validator_set != trusted_set:
        raise VerificationFailed("the evidence names another validator set than the trusted one")
    evidence = file.evidence
    verify_certificate(file.certificate, file.validator_set, compute_signing_root(evidence, file.domain))
    _verify_terms(file)
    for _ in iterate_checked_probes(file):
        pass
    own_seat = file.validator_set.index_of(file.witness)
    if own_seat is None:
        raise VerificationFailed("the witness is not in the validator set")
    epochs = tuple(item.epoch for item in file.bundle)
    seat_count = len(file.validator_set.validators)
    case = compute_witness_case(file.plan, evidence, seat_count, own_seat, epochs, file.statistics)
    if not is_proven(file.plan, case):
        raise VerificationFailed("the witness's statistics do not reach the threshold of the case")
    return case


def iterate_checked_probes(file: EvidenceFile) -> Iterator[CheckedProbe]:
    """Yield every answered probe after checking its draw (VRF, beacon) and its receipt; raises VerificationFailed."""
    network = file.validator_set.network
    for epoch in file.bundle:
        alpha = compute_vrf_alpha(network, epoch.epoch, epoch.beacon)
        for seat, seen in enumerate(epoch.seats):
            if seen is None:
                _require_missing(file.statistics, epoch.epoch, seat)
                continue
            verify_vrf(file.validator_set.validators[seat].public_key, alpha, seen.vrf_proof)
            drawn = draw_probes(file.plan, [file.offer], compute_vrf_output(seen.vrf_proof))
            for probe, transcript in zip(drawn, seen.transcripts, strict=True):
                if transcript is None:
                    _require_missing(file.statistics, epoch.epoch, seat, probe.index)
                    continue
                answer = verify_transcript(probe, transcript, file.domain)
                yield CheckedProbe(epoch=epoch.epoch, seat=seat, drawn=probe, answer=answer)


def iterate_scored_probes(file: EvidenceFile) -> Iterator[CheckedProbe]:
    """Yield the checked probes that the witness gave statistics for: what its arithmetic rests on.

    An answer that it could not score (no token ids, say) is in the bundle too, and must not stop a re-run.
    """
    for probe in iterate_checked_probes(file):
        if file.statistics.get((probe.epoch, probe.seat, probe.drawn.index)) is not None:
            yield probe


def verify_transcript(drawn: DrawnProbe, transcript: Mapping[str, Json], domain: Domain) -> Answer:
    """Return the answer of a transcript whose receipt speaks of just this probe.

    The receipt is checked as of its own date: evidence does not go stale. Raises VerificationFailed or InvalidInput.
    """
    response, receipt_json = transcript.get("response"), transcript.get("receipt")
    if not isinstance(response, dict):
        raise InvalidInput("expected an object", "response")
    receipt = SignedReceipt.from_json(receipt_json)
    return verify_probe_answer(drawn, response, receipt, domain=domain, now_s=receipt.receipt.issued_s)


def _verify_terms(file: EvidenceFile) -> None:
    evidence, plan = file.evidence, file.plan
    verify_offer(file.offer, domain=file.domain)
    expectations = (
        (evidence.plan_digest == plan.compute_digest(), "the plan is not the one that was certified"),
        (evidence.bundle_digest == compute_bundle_digest(file.bundle), "the bundle is not the one that was certified"),
        (evidence.offer_digest == file.offer.digest, "the offer is not the one that was certified"),
        (evidence.provider == file.offer.offer.provider, "the offer belongs to another provider"),
        (file.offer.offer.manifest_digest == plan.manifest_digest, "the offer's model is not the plan's"),
        (
            all(len(item.seats) == len(file.validator_set.validators) for item in file.bundle),
            "the bundle has another number of seats than the validator set",
        ),
        (evidence.rule == RULE_FALSE_CAPABILITY, f"unknown rule {evidence.rule!r}"),
        (evidence.slash_bps == SLASH_BPS_FALSE_CAPABILITY, "the slash is not that of the rule"),
        (evidence.threshold == compute_threshold(plan, evidence.case_index), "the threshold is not the plan's"),
        (
            evidence.first_epoch == compute_first_epoch(plan, evidence.case_index),
            "the case does not start where the calendar says",
        ),
        (bool(file.bundle) and file.bundle[-1].epoch == evidence.last_epoch, "the bundle ends at another epoch"),
        (file.bundle[0].epoch >= evidence.first_epoch, "the bundle reaches back before the case"),
        (
            evidence.last_epoch < evidence.first_epoch + plan.case_length_epochs,
            "the bundle reaches beyond the end of the case",
        ),
    )
    for holds, sentence in expectations:
        if not holds:
            raise VerificationFailed(sentence)


def _require_missing(statistics: Statistics, epoch: int, seat: int, index: int | None = None) -> None:
    for (at, who, which), value in statistics.items():
        if at == epoch and who == seat and index in (None, which) and value is not None:
            raise VerificationFailed(f"statistics for a probe without transcript (epoch {epoch}, seat {seat})")


def _parse_bundle(value: Json, plan: Plan) -> tuple[BundleEpoch, ...]:
    epochs = _parse_object(value, ("epochs",), "bundle")["epochs"]
    if not isinstance(epochs, list) or not 1 <= len(epochs) <= plan.case_length_epochs:
        raise InvalidInput("expected one to case_length_epochs epochs", "bundle.epochs")
    parsed = tuple(_parse_epoch(item, plan, f"bundle.epochs[{at}]") for at, item in enumerate(epochs))
    numbers = [item.epoch for item in parsed]
    if numbers != sorted(set(numbers)):
        raise InvalidInput("not in rising order", "bundle.epochs")
    return parsed


def _parse_epoch(value: Json, plan: Plan, field: str) -> BundleEpoch:
    item = _parse_object(value, ("epoch", "beacon", "seats"), field)
    epoch, seats = item["epoch"], item["seats"]
    if type(epoch) is not int or epoch < 0:
        raise InvalidInput("expected an epoch", f"{field}.epoch")
    if not isinstance(seats, list) or len(seats) > 1024:
        raise InvalidInput("expected a list of seats", f"{field}.seats")
    return BundleEpoch(
        epoch=epoch,
        beacon=parse_hex(item["beacon"], f"{field}.beacon"),
        seats=tuple(
            None if seat is None else _parse_seat(seat, plan, f"{field}.seats[{at}]") for at, seat in enumerate(seats)
        ),
    )


def _parse_seat(value: Json, plan: Plan, field: str) -> SeatEpoch:
    item = _parse_object(value, ("vrf_proof", "probes"), field)
    probes = item["probes"]
    if not isinstance(probes, list) or len(probes) != plan.probes_per_epoch:
        raise InvalidInput(f"expected {plan.probes_per_epoch} probes", f"{field}.probes")
    transcripts: list[Mapping[str, Json] | None] = []
    reasons: list[str] = []
    for at, probe in enumerate(probes):
        if isinstance(probe, dict) and set(probe) == {"transcript"} and isinstance(probe["transcript"], dict):
            transcripts.append(probe["transcript"])
            reasons.append("")
        elif isinstance(probe, dict) and set(probe) == {"reason"} and isinstance(probe["reason"], str):
            transcripts.append(None)
            reasons.append(probe["reason"])
        else:
            raise InvalidInput("expected a transcript or a reason", f"{field}.probes[{at}]")
    return SeatEpoch(
        vrf_proof=parse_hex(item["vrf_proof"], f"{field}.vrf_proof"),
        transcripts=tuple(transcripts),
        reasons=tuple(reasons),
    )


def _parse_statistics(value: Json, bundle: tuple[BundleEpoch, ...], plan: Plan) -> Statistics:
    field = "witness.statistics_ppm"
    found: Statistics = {}
    for item, epoch in zip(_parse_list(value, len(bundle), field), bundle, strict=True):
        for seat, probes in enumerate(_parse_list(item, len(epoch.seats), field)):
            for index, ppm in enumerate(_parse_list(probes, plan.probes_per_epoch, field)):
                if ppm is not None:
                    numbers = _parse_list(ppm, len(plan.statistics), field)
                    found[epoch.epoch, seat, index] = tuple(_parse_ppm(number, field) for number in numbers)
    return found


def _parse_ppm(value: Json, field: str) -> int:
    if type(value) is not int or not 0 <= value <= 1_000_000:
        raise InvalidInput("expected 0 to 1,000,000 ppm", field)
    return value


def _parse_list(value: Json, length: int, field: str) -> list[Json]:
    if not isinstance(value, list) or len(value) != length:
        raise InvalidInput(f"expected a list of {length}", field)
    return value


def _parse_object(value: Json, keys: tuple[str, ...], field: str) -> dict[str, Json]:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise InvalidInput(f"expected an object with {', '.join(keys)}", field)
    return value
