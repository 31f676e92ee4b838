"""This validator's own e-processes: re-score what all seats revealed, fold the case, sign evidence at the threshold.

A validator trusts nobody's numbers but its own: every receipted probe of every seat goes through its own reference
engine. Evidence is signed only after its bundle is stored.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from challenges.evidence import (
    RULE_FALSE_CAPABILITY,
    SLASH_BPS_FALSE_CAPABILITY,
    BundleEpoch,
    EvidenceFile,
    SeatEpoch,
    Statistics,
    compute_bundle_digest,
    verify_transcript,
)
from challenges.probing import DrawnProbe, draw_probes
from challenges.receipt import SignedOffer
from scoring import canonical
from scoring.eip712 import Domain, compute_signing_root
from scoring.evidence.cases import (
    CaseState,
    compute_case_index,
    compute_first_epoch,
    compute_threshold,
    fold_case_epoch,
    is_proven,
)
from scoring.evidence.plan import Plan
from scoring.outcome import build_accounted_probes, find_case
from scoring.records import Certificate, Checkpoint, SlashingEvidence, ValidatorSet
from scoring.vrf import compute_vrf_output
from validator.messages import RevealMessage
from validator.observer import build_claimed_answer
from validator.scorer import Scorer
from validator.store import DocumentKind, Store

log = structlog.get_logger()

Offence = tuple[bytes, str, int]
"""Offer digest, rule, case index: what is slashed once."""


class EpochRecord(Protocol):
    """What casework needs of a certified epoch: checkpoint, offers in force, and the included reveals by seat."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def offers(self) -> tuple[SignedOffer, ...]: ...
    @property
    def reveals(self) -> Mapping[int, RevealMessage]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedEpoch:
    """A certified epoch as the store remembers it (an `EpochRecord`)."""

    checkpoint: Checkpoint
    offers: tuple[SignedOffer, ...]
    reveals: Mapping[int, RevealMessage]


class Casework:
    """Folds certified epochs into cases. State is rebuilt from the store after a restart."""

    def __init__(
        self, plan: Plan, domain: Domain, validator_set: ValidatorSet, own_seat: int, scorer: Scorer, store: Store
    ) -> None:
        self._plan = plan
        self._domain = domain
        self._validator_set = validator_set
        self._own_seat = own_seat
        self._scorer = scorer
        self._store = store
        self._cases: dict[bytes, CaseState] = {}
        self._bundles: dict[bytes, list[BundleEpoch]] = {}
        self._statistics: dict[bytes, Statistics] = {}
        self._offers: dict[bytes, SignedOffer] = {}

    @property
    def cases(self) -> Mapping[bytes, CaseState]:
        """Return the open case of each offer by offer digest."""
        return self._cases

    async def process_epoch(self, certified: EpochRecord) -> None:
        """Re-score every receipted probe of the epoch and fold it into the open cases."""
        audited = [item for item in certified.offers if item.offer.manifest_digest == self._plan.manifest_digest]
        await asyncio.gather(*(self._process_offer(certified, signed) for signed in audited))

    def list_proven(self, epoch: int) -> list[bytes]:
        """Return the digests of the offers whose case stands at its threshold with this epoch as its last."""
        return [
            digest
            for digest, case in self._cases.items()
            if self._bundles[digest][-1].epoch == epoch and is_proven(self._plan, case)
        ]

    def name_offence(self, offer_digest: bytes) -> Offence:
        """Return the offence that an offer's open case is about."""
        return (offer_digest, RULE_FALSE_CAPABILITY, self._cases[offer_digest].case_index)

    def build_evidence(self, offer_digest: bytes, checkpoint: Checkpoint) -> SlashingEvidence:
        """Return the evidence of a case up to this checkpoint; its bundle is stored first."""
        case, bundle = self._cases[offer_digest], tuple(self._bundles[offer_digest])
        digest = compute_bundle_digest(bundle)
        body = canonical.encode({"epochs": [item.to_json() for item in bundle]})
        self._store.put_document(DocumentKind.EVIDENCE_BUNDLE, digest.hex(), checkpoint.epoch, body)
        return SlashingEvidence(
            provider=self._offers[offer_digest].offer.provider,
            offer_digest=offer_digest,
            rule=RULE_FALSE_CAPABILITY,
            case_index=case.case_index,
            first_epoch=compute_first_epoch(self._plan, case.case_index),
            last_epoch=checkpoint.epoch,
            checkpoint=compute_signing_root(checkpoint, self._domain),
            plan_digest=self._plan.compute_digest(),
            bundle_digest=digest,
            threshold=compute_threshold(self._plan, case.case_index),
            slash_bps=SLASH_BPS_FALSE_CAPABILITY,
        )

    def build_file(self, evidence: SlashingEvidence, certificate: Certificate, witness: bytes) -> EvidenceFile:
        """Return the one-file evidence with this validator as witness."""
        epochs = [item for item in self._bundles[evidence.offer_digest] if item.epoch <= evidence.last_epoch]
        known = {item.epoch for item in epochs}
        statistics = {key: value for key, value in self._statistics[evidence.offer_digest].items() if key[0] in known}
        return EvidenceFile(
            domain=self._domain,
            plan=self._plan,
            evidence=evidence,
            certificate=certificate,
            offer=self._offers[evidence.offer_digest],
            validator_set=self._validator_set,
            bundle=tuple(epochs),
            witness=witness,
            statistics=statistics,
        )

    async def _process_offer(self, certified: EpochRecord, signed: SignedOffer) -> None:
        epoch = certified.checkpoint.epoch
        seats = [
            build_seat_epoch(self._plan, signed, certified.reveals.get(seat))
            for seat in range(len(self._validator_set.validators))
        ]
        scored = await asyncio.gather(
            *(self._score_seat(signed, seat, seen) for seat, seen in enumerate(seats) if seen is not None)
        )
        statistics = {key: value for part in scored for key, value in part.items()}
        case = find_case(self._plan, self._cases.get(signed.digest), epoch)
        if signed.digest not in self._cases or self._cases[signed.digest].case_index != case.case_index:
            self._bundles[signed.digest] = []
            self._statistics[signed.digest] = {}
        probes = build_accounted_probes(self._plan, len(seats), statistics, self._own_seat)
        self._cases[signed.digest] = fold_case_epoch(self._plan, case, probes)
        self._offers[signed.digest] = signed
        self._bundles[signed.digest].append(
            BundleEpoch(epoch=epoch, beacon=certified.checkpoint.beacon, seats=tuple(seats))
        )
        self._statistics[signed.digest].update({(epoch, seat, index): v for (seat, index), v in statistics.items()})

    async def _score_seat(
        self, signed: SignedOffer, seat: int, seen: SeatEpoch
    ) -> dict[tuple[int, int], tuple[int, ...] | None]:
        drawn = draw_probes(self._plan, [signed], compute_vrf_output(seen.vrf_proof))
        results = await asyncio.gather(
            *(self._score_probe(probe, seen.transcripts[at]) for at, probe in enumerate(drawn))
        )
        return {(seat, probe.index): result for probe, result in zip(drawn, results, strict=True)}

    async def _score_probe(
        self, probe: DrawnProbe, transcript: Mapping[str, canonical.Json] | None
    ) -> tuple[int, ...] | None:
        if transcript is None:
            return None
        answer = verify_transcript(probe, transcript, self._domain)
        result = await self._scorer.score(build_claimed_answer(probe, answer))
        # What we cannot score bets the smallest factor, whoever asked.
        return result if isinstance(result, tuple) else None


def build_seat_epoch(plan: Plan, signed: SignedOffer, message: RevealMessage | None) -> SeatEpoch | None:
    """Return what a seat's reveal says of one offer, for the bundle; None when it is not among the certified ones."""
    if message is None:
        return None
    by_digest = {transcript.digest: transcript for transcript in message.transcripts}
    outcomes = {item.index: item for item in message.reveal.outcomes if item.offer_digest == signed.digest}
    transcripts: list[Mapping[str, canonical.Json] | None] = []
    reasons = []
    for index in range(plan.probes_per_epoch):
        outcome = outcomes.get(index)
        transcript = None if outcome is None or outcome.reason else by_digest[outcome.transcript_digest]
        transcripts.append(None if transcript is None else transcript.to_json())
        reasons.append("not probed" if outcome is None else outcome.reason)
    return SeatEpoch(vrf_proof=message.reveal.vrf_proof, transcripts=tuple(transcripts), reasons=tuple(reasons))


def find_open_case_epochs(plan: Plan, epoch: int) -> Sequence[int]:
    """Return the epochs of the case that an epoch belongs to, up to and with it: what a restart replays."""
    return range(compute_first_epoch(plan, compute_case_index(plan, epoch)), epoch + 1)
