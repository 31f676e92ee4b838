"""A small network that has proven a provider a liar: keys, plan, drawn probes, receipts, evidence. No model, no I/O."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import pytest

from challenges.evidence import (
    RULE_FALSE_CAPABILITY,
    SLASH_BPS_FALSE_CAPABILITY,
    BundleEpoch,
    EvidenceFile,
    SeatEpoch,
    Statistics,
    compute_bundle_digest,
)
from challenges.probing import DrawnProbe, build_probe_request, draw_probes
from challenges.receipt import build_receipt, build_request_document, sign_offer, sign_receipt
from challenges.signed import SignedOffer
from scoring import bls
from scoring.canonical import Json
from scoring.certificate import build_bitfield, build_certificate, compute_validator_set_digest
from scoring.ecdsa import address_of
from scoring.eip712 import Domain, compute_signing_root
from scoring.evidence.cases import compute_first_epoch, compute_threshold
from scoring.evidence.plan import Plan, PlanStatistic
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.feed import ValidatorSetFile
from scoring.hashing import keccak256, tagged_digest
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import Certificate, Offer, SlashingEvidence, ValidatorEntry, ValidatorSet
from scoring.schedule import compute_beacon, compute_vrf_alpha
from scoring.vrf import compute_vrf_output, compute_vrf_proof

# A limit of time on an example says how busy the machine is, nothing else.
hypothesis.settings.register_profile("quiver", deadline=None)
hypothesis.settings.load_profile("quiver")

SEATS = 4
START_S = 1_800_000_000
DAMNING = (600_000,)
"""Statistics of a probe that fits the claimed weights badly."""


LONGEST_FILES = (
    "validator/provider/test_audited.py",
    "validator/provider/test_audited_honest_weights.py",
    "models/test_calibrate_audit.py",
    "third_party/test_third_party_audit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: the last one to begin is what a second worker would wait for."""

    def rank(item: pytest.Item) -> int:
        places = (number for number, name in enumerate(LONGEST_FILES) if item.path.as_posix().endswith(name))
        return next(places, len(LONGEST_FILES))

    items.sort(key=rank)


def build_trial_plan() -> Plan:
    return Plan(
        protocol_version="quiver-1",
        rule="mean-betting-v1",
        development=True,
        activation_epoch=0,
        manifest_digest=b"\x03" * 32,
        profile_digest=b"\x04" * 32,
        sampler="gumbel-philox-v1",
        generator=GENERATOR_ID,
        strata=STRATA,
        statistics=(PlanStatistic(statistic=STATISTIC_IDS[0], mu_ppm=50_000, lambdas_ppm=(10_000_000,)),),
        request_cap=100,
        epoch_cap=100,
        one_over_alpha=100,
        case_length_epochs=3,
        probes_per_epoch=2,
        max_tokens=8,
        temperature_min_ppm=700_000,
        temperature_max_ppm=1_000_000,
        top_p_min_ppm=900_000,
        top_p_max_ppm=1_000_000,
        max_delay_ms=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A network by name (the same keys every time), with what it takes to build evidence that holds or does not."""

    name: str = "trial"
    plan: Plan = field(default_factory=build_trial_plan)

    @property
    def network(self) -> bytes:
        return tagged_digest("quiver-test", b"network", self.name.encode())

    @property
    def domain(self) -> Domain:
        return Domain(chain_id=77, verifying_contract=self.network[-20:])

    @property
    def secret_keys(self) -> tuple[bytes, ...]:
        return tuple(bls.key_gen(keccak256(f"{self.name} {seat}".encode())) for seat in range(SEATS))

    @property
    def validator_set(self) -> ValidatorSet:
        entries = tuple(
            ValidatorEntry(
                address=bytes([16 + seat]) * 20,
                public_key=bls.sk_to_pk(secret_key),
                transport_key=bytes([16 + seat]) * 32,
                stake_wei=10_000 * 10**18,
            )
            for seat, secret_key in enumerate(self.secret_keys)
        )
        return ValidatorSet(network=self.network, validators=entries)

    @property
    def validator_set_file(self) -> ValidatorSetFile:
        return ValidatorSetFile(domain=self.domain, validator_set=self.validator_set)

    def offer(self, provider: str = "liar", **changes: Any) -> SignedOffer:
        secret_key = keccak256(provider.encode())
        offer = Offer(
            provider=address_of(secret_key),
            model="m",
            manifest_digest=self.plan.manifest_digest,
            sampler=self.plan.sampler,
            context_length_tokens=2048,
            input_price_wei=1,
            output_price_wei=2,
            advertised_ttft_ms=100,
            advertised_tokens_per_s=10,
            endpoint="http://127.0.0.1:1",
            issued_s=START_S,
            expires_s=START_S + 100_000,
        )
        return sign_offer(replace(offer, **changes), self.domain, secret_key)

    def beacon(self, epoch: int) -> bytes:
        return compute_beacon(self.network, epoch, b"\x0b" * 32)

    def vrf_proof(self, seat: int, epoch: int) -> bytes:
        alpha = compute_vrf_alpha(self.network, epoch, self.beacon(epoch))
        return compute_vrf_proof(self.secret_keys[seat], alpha)

    def draw(self, seat: int, epoch: int) -> tuple[DrawnProbe, ...]:
        return draw_probes(self.plan, [self.offer()], compute_vrf_output(self.vrf_proof(seat, epoch)))

    def answer(self, drawn: DrawnProbe, *, signer: str = "liar", **changes: Any) -> dict[str, Json]:
        """Return the transcript of a receipted answer to a drawn probe; `changes` go into the receipt."""
        request = build_probe_request(drawn)
        response: dict[str, Json] = {
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"answer {drawn.index}"},
                    "finish_reason": "length",
                    "token_ids": list(range(drawn.probe.max_tokens)),
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13},
        }
        receipt = build_receipt(
            network=self.network,
            offer=drawn.offer.offer,
            consumer=drawn.consumer,
            nonce=drawn.probe.nonce,
            request=request,
            response=response,
            default_max_tokens=drawn.probe.max_tokens,
            counter=1,
            issued_s=START_S + 10,
            expires_s=START_S + 1000,
        )
        signed = sign_receipt(replace(receipt, **changes), self.domain, keccak256(signer.encode()))
        return {
            "kind": "quiver-transcript-v1",
            "probe_index": drawn.index,
            "receipt": signed.to_json(),
            "request": build_request_document(request),
            "response": response,
            "timing": {"latency_ms": 900, "ttft_ms": 90},
        }

    def seat_epoch(self, seat: int, epoch: int, unanswered: Collection[int] = ()) -> SeatEpoch:
        drawn = self.draw(seat, epoch)
        return SeatEpoch(
            vrf_proof=self.vrf_proof(seat, epoch),
            transcripts=tuple(None if probe.index in unanswered else self.answer(probe) for probe in drawn),
            reasons=tuple("timeout" if probe.index in unanswered else "" for probe in drawn),
        )

    def bundle(
        self, epochs: Collection[int] = (0, 1), absent: Mapping[int, int] | None = None
    ) -> tuple[BundleEpoch, ...]:
        """Return the bundle of some epochs; `absent` names the seat, by epoch, that revealed nothing."""
        return tuple(
            BundleEpoch(
                epoch=epoch,
                beacon=self.beacon(epoch),
                seats=tuple(
                    None if (absent or {}).get(epoch) == seat else self.seat_epoch(seat, epoch) for seat in range(SEATS)
                ),
            )
            for epoch in epochs
        )

    def certify(self, evidence: SlashingEvidence, seats: Collection[int] = range(SEATS)) -> Certificate:
        root = compute_signing_root(evidence, self.domain)
        return build_certificate(
            root, self.validator_set, {seat: bls.sign(self.secret_keys[seat], root) for seat in seats}
        )

    def certify_unchecked(self, evidence: SlashingEvidence, seats: Collection[int]) -> Certificate:
        """Return what `certify` refuses to build: a certificate of whatever seats there are."""
        root = compute_signing_root(evidence, self.domain)
        return Certificate(
            signing_root=root,
            validator_set_digest=compute_validator_set_digest(self.validator_set),
            signers=build_bitfield(seats, SEATS),
            signature=bls.aggregate([bls.sign(self.secret_keys[seat], root) for seat in seats]),
        )

    def file(
        self,
        bundle: tuple[BundleEpoch, ...] | None = None,
        statistics: Statistics | None = None,
        offer: SignedOffer | None = None,
        **changes: Any,
    ) -> EvidenceFile:
        """Return evidence that all four seats signed: as it must be, but for what is given (signed as it is given)."""
        bundle = self.bundle() if bundle is None else bundle
        evidence = SlashingEvidence(
            **(
                {
                    "provider": self.offer().offer.provider,
                    "offer_digest": self.offer().digest,
                    "rule": RULE_FALSE_CAPABILITY,
                    "case_index": 1,
                    "first_epoch": compute_first_epoch(self.plan, 1),
                    "last_epoch": bundle[-1].epoch,
                    "checkpoint": keccak256(b"checkpoint"),
                    "plan_digest": self.plan.compute_digest(),
                    "bundle_digest": compute_bundle_digest(bundle),
                    "threshold": compute_threshold(self.plan, 1),
                    "slash_bps": SLASH_BPS_FALSE_CAPABILITY,
                }
                | changes
            )
        )
        return EvidenceFile(
            domain=self.domain,
            plan=self.plan,
            evidence=evidence,
            certificate=self.certify(evidence),
            offer=offer or self.offer(),
            validator_set=self.validator_set,
            bundle=bundle,
            witness=self.validator_set.validators[0].address,
            statistics=score_answered(bundle) if statistics is None else statistics,
        )


def score_answered(bundle: tuple[BundleEpoch, ...], statistics_ppm: tuple[int, ...] = DAMNING) -> Statistics:
    """Return the same statistics for every answered probe of a bundle."""
    return {
        (epoch.epoch, number, index): statistics_ppm
        for epoch in bundle
        for number, seat in enumerate(epoch.seats)
        if seat is not None
        for index, transcript in enumerate(seat.transcripts)
        if transcript is not None
    }


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., Trial]:
    return Trial


@pytest.fixture(scope="session")
def trial() -> Trial:
    return Trial()


@pytest.fixture(scope="session")
def evidence_file(trial: Trial) -> EvidenceFile:
    return trial.file()
