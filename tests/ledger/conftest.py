"""A whole small network in memory: keys, genesis, certificates, receipts, and the ledger's state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from challenges.filing import Dossier, build_dossier
from challenges.payout import ChallengeTerms
from challenges.receipt import build_receipt
from challenges.signed import SignedOffer, sign_offer, sign_receipt
from challenges.verdict import Vote
from ledger.state.certification import compute_expected_beacon
from ledger.state.genesis import Genesis, GenesisValidator, build_genesis, build_state
from ledger.state.holdings import Event, LedgerState, Provider, check_conservation, get_account
from ledger.state.machine import apply
from ledger.state.parameters import Parameters
from ledger.state.transactions import (
    CommitVerdict,
    OpenChallenge,
    PostPerformanceBond,
    RegisterProvider,
    RevealVerdict,
    SignedTransaction,
    SubmitCheckpoint,
    SubmitEvidence,
    Transaction,
    sign_transaction,
)
from scoring import bls
from scoring.certificate import build_certificate, compute_validator_set_digest
from scoring.ecdsa import address_of
from scoring.eip712 import compute_signing_root
from scoring.evidence.cases import compute_first_epoch, compute_threshold
from scoring.evidence.plan import Plan, PlanStatistic
from scoring.evidence.statistics import STATISTIC_IDS
from scoring.hashing import keccak256
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import Certificate, Checkpoint, Offer, SlashingEvidence, ValidatorEntry
from scoring.schedule import compute_epoch_start_s

QUIV = 10**18
START_S = 1_800_000_000
PROVIDER_STAKE_WEI = 10_000 * QUIV

PARAMETERS = Parameters(
    minimum_validator_stake_wei=1_000 * QUIV,
    unbonding_epochs=8,
    timelock_epochs=0,
    challenge=ChallengeTerms(
        filing_fee_wei=4 * QUIV,
        bond_wei=10 * QUIV,
        reward_wei=6 * QUIV,
        member_fee_wei=1 * QUIV,
        committee_size=3,
        draw_delay_epochs=2,
        commit_epochs=2,
        reveal_epochs=2,
    ),
)


def key(name: str) -> bytes:
    return keccak256(name.encode())


def bls_key(name: str) -> bytes:
    return bls.key_gen(keccak256(b"bls" + name.encode()))


def build_plan() -> Plan:
    return Plan(
        protocol_version="quiver-1",
        rule="mean-betting-v1",
        development=True,
        activation_epoch=0,
        manifest_digest=b"\x03" * 32,
        profile_digest=b"\x04" * 32,
        sampler="gumbel-philox-v1",
        generator=GENERATOR_ID,
        strata=(STRATA[0],),
        statistics=(PlanStatistic(statistic=STATISTIC_IDS[0], mu_ppm=50_000, lambdas_ppm=(1_000_000,)),),
        request_cap=100,
        epoch_cap=100,
        one_over_alpha=1_000_000,
        case_length_epochs=4,
        probes_per_epoch=2,
        max_tokens=48,
        temperature_min_ppm=1_000_000,
        temperature_max_ppm=1_000_000,
        top_p_min_ppm=1_000_000,
        top_p_max_ppm=1_000_000,
        max_delay_ms=0,
    )


def build_test_genesis(
    parameters: Parameters = PARAMETERS, stakes: Sequence[int] = (1_000 * QUIV,) * 4, **changes: Any
) -> Genesis:
    seats = []
    for index, stake in enumerate(stakes):
        name = f"validator-{index}"
        entry = ValidatorEntry(
            address=address_of(key(name)),
            public_key=bls.sk_to_pk(bls_key(name)),
            transport_key=keccak256(b"transport" + name.encode()),
            stake_wei=stake,
        )
        proof = bls.pop_prove(bls_key(name))
        seats.append(
            GenesisValidator(entry=entry, endpoint=f"http://127.0.0.1:{9000 + index}", proof_of_possession=proof)
        )
    names = ("provider", "consumer", "stranger")
    given: dict[str, Any] = {
        "chain_id": 77,
        "network_name": "test",
        "start_s": START_S,
        "epoch_s": 10,
        "epochs_per_day": 24,
        "plan": build_plan(),
        "parameters": parameters,
        "balances": {address_of(key(name)): 100_000 * QUIV for name in names},
        "validators": seats,
        "beacon": b"\x0b" * 32,
    }
    return build_genesis(**(given | changes))


@dataclass
class World:
    """The ledger under test: `send` signs and applies, keeping nonces; `certify` brings the next checkpoint."""

    genesis: Genesis = field(default_factory=build_test_genesis)
    state: LedgerState = field(init=False)
    events: list[Event] = field(default_factory=list)
    log: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = build_state(self.genesis)

    def sign(
        self, name: str, cls: type[Transaction], attachment: Dossier | None = None, **values: Any
    ) -> SignedTransaction:
        sender = address_of(key(name))
        given: dict[str, Any] = {"sender": sender, "nonce": get_account(self.state, sender).nonce} | values
        return sign_transaction(cls(**given), self.genesis.domain, key(name), attachment)

    def key(self, name: str) -> bytes:
        return key(name)

    def address(self, name: str) -> bytes:
        return address_of(key(name))

    def name_of(self, address: bytes) -> str:
        names = ["provider", "consumer", "stranger", *(f"validator-{index}" for index in range(8))]
        return next(name for name in names if self.address(name) == address)

    def balance_wei(self, name: str) -> int:
        return get_account(self.state, self.address(name)).balance_wei

    def claimable_wei(self, name: str) -> int:
        return get_account(self.state, self.address(name)).claimable_wei

    def provider(self) -> Provider:
        return self.state.registry.providers[self.address("provider")]

    def apply(self, signed: SignedTransaction) -> tuple[Event, ...]:
        self.state, events = apply(self.state, signed)
        check_conservation(self.state)
        self.events += events
        self.log.append(signed.encode())
        return events

    def send(self, name: str, cls: type[Transaction], **values: Any) -> tuple[Event, ...]:
        return self.apply(self.sign(name, cls, **values))

    def offer(self, **changes: Any) -> SignedOffer:
        offer = Offer(
            provider=address_of(key("provider")),
            model="m",
            manifest_digest=b"\x03" * 32,
            sampler="gumbel-philox-v1",
            context_length_tokens=2048,
            input_price_wei=1,
            output_price_wei=2,
            advertised_ttft_ms=100,
            advertised_tokens_per_s=10,
            endpoint="http://127.0.0.1:1",
            issued_s=START_S,
            expires_s=START_S + 100_000,
        )
        return sign_offer(replace(offer, **changes), self.genesis.domain, key("provider"))

    def register_provider(self, bond_wei: int = 0, stake_wei: int = PROVIDER_STAKE_WEI) -> SignedOffer:
        signed = self.offer()
        values = {"stake_wei": stake_wei, "offer": signed.offer, "offer_signature": signed.signature}
        self.send("provider", RegisterProvider, **values)
        if bond_wei:
            self.send("provider", PostPerformanceBond, amount_wei=bond_wei)
        return signed

    def checkpoint(self, epoch: int | None = None, **changes: Any) -> Checkpoint:
        epoch = self.state.epoch + 1 if epoch is None else epoch
        given: dict[str, Any] = {
            "epoch": epoch,
            "previous": self.state.head_root,
            "time_s": compute_epoch_start_s(START_S, 10, epoch),
            "beacon": compute_expected_beacon(self.state, epoch),
            "vrf_outputs": (keccak256(b"vrf" + epoch.to_bytes(8, "big")),),
            "reveals_root": bytes(32),
            "feed_root": bytes(32),
            "case_root": bytes(32),
            "state_digest": bytes(32),
            "validator_set_digest": compute_validator_set_digest(self.state.validator_set),
            "plan_digest": self.genesis.plan.compute_digest(),
        }
        return Checkpoint(**(given | changes))

    def certificate(self, record: Any, seats: Sequence[int] = (0, 1, 2)) -> Certificate:
        root = compute_signing_root(record, self.genesis.domain)
        signatures = {seat: bls.sign(bls_key(f"validator-{seat}"), root) for seat in seats}
        return build_certificate(root, self.state.validator_set, signatures)

    def certify(self, epochs: int = 1) -> None:
        for _ in range(epochs):
            checkpoint = self.checkpoint()
            self.send("stranger", SubmitCheckpoint, checkpoint=checkpoint, certificate=self.certificate(checkpoint))

    def evidence(self, **changes: Any) -> SlashingEvidence:
        last = self.state.epoch
        case_index = last // self.genesis.plan.case_length_epochs + 1
        given: dict[str, Any] = {
            "provider": address_of(key("provider")),
            "offer_digest": self.offer().digest,
            "rule": "false-capability",
            "case_index": case_index,
            "first_epoch": compute_first_epoch(self.genesis.plan, case_index),
            "last_epoch": last,
            "checkpoint": self.state.head_root,
            "plan_digest": self.genesis.plan.compute_digest(),
            "bundle_digest": bytes(32),
            "threshold": compute_threshold(self.genesis.plan, case_index),
            "slash_bps": 1000,
        }
        return SlashingEvidence(**(given | changes))

    def slash(self, **changes: Any) -> tuple[Event, ...]:
        evidence = self.evidence(**changes)
        return self.send("stranger", SubmitEvidence, evidence=evidence, certificate=self.certificate(evidence))

    def dossier(self, first_counter: int = 1, count: int = 2, **changes: Any) -> Dossier:
        answers = []
        for counter in range(first_counter, first_counter + count):
            request: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 8, "seed": counter}
            response: dict[str, Any] = {
                "model": "m",
                "choices": [{"message": {"content": "x"}, "token_ids": [1], "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            receipt = build_receipt(
                network=self.genesis.network,
                offer=self.offer().offer,
                consumer=address_of(key("consumer")),
                nonce=counter.to_bytes(32, "big"),
                request=request,
                response=response,
                default_max_tokens=8,
                counter=counter,
                issued_s=START_S + 1,
                expires_s=START_S + 1000,
            )
            receipt = replace(receipt, **changes)
            answers.append((sign_receipt(receipt, self.genesis.domain, key("provider")), request, response))
        return build_dossier(answers)

    def sign_challenge(self, dossier: Dossier, name: str = "consumer", **changes: Any) -> SignedTransaction:
        terms = self.state.parameters.challenge
        given: dict[str, Any] = {
            "provider": address_of(key("provider")),
            "offer_digest": self.offer().digest,
            "dossier_digest": dossier.digest,
            "filing_fee_wei": terms.filing_fee_wei,
            "bond_wei": terms.bond_wei,
        }
        return self.sign(name, OpenChallenge, attachment=dossier, **(given | changes))

    def open_challenge(self, dossier: Dossier | None = None) -> bytes:
        signed = self.sign_challenge(dossier or self.dossier())
        self.apply(signed)
        return signed.digest

    def vote(self, challenge_id: bytes, e_values: Sequence[int | None]) -> tuple[Event, ...]:
        """Commit and reveal one vote per committee member, None for silence; the events of the last transaction."""
        committee = self.state.registry.challenges[challenge_id].committee
        pairs = [(member, value) for member, value in zip(committee, e_values, strict=True) if value is not None]
        votes = [
            Vote(challenge_id=challenge_id, validator=member, e_value=value, abstention="", salt=b"\x05" * 32)
            for member, value in pairs
        ]
        events: tuple[Event, ...] = ()
        for vote in votes:
            values = {"challenge_id": challenge_id, "commitment": vote.commitment}
            events = self.send(self.name_of(vote.validator), CommitVerdict, **values)
        if len(votes) < len(committee):
            self.certify(2)
        for vote in votes:
            values = {"challenge_id": challenge_id, "e_value": vote.e_value, "abstention": "", "salt": vote.salt}
            events = self.send(self.name_of(vote.validator), RevealVerdict, **values)
        return events


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[..., World]:
    def make(**changes: Any) -> World:
        return World(genesis=build_test_genesis(**changes))

    return make
