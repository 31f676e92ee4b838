"""The fixed facts of a simulated network: keys, plan, parameters, genesis. Always the same, so runs repeat exactly."""

from collections.abc import Sequence
from typing import Any

from challenges.payout import ChallengeTerms
from ledger.state.genesis import Genesis, GenesisValidator, build_genesis
from ledger.state.parameters import Parameters
from scoring import bls
from scoring.ecdsa import address_of
from scoring.evidence.plan import Plan, PlanStatistic, compute_lambdas_ppm
from scoring.hashing import keccak256
from scoring.probes import GENERATOR_ID, STRATA
from scoring.records import ValidatorEntry
from validator.keys import ValidatorKeys

QUIV = 10**18
START_S = 1_800_000_000
NOW_S = START_S + 5
EPOCH_S = 10
MANIFEST = b"\x03" * 32
STATISTICS = (("seeded-margin-fine-v1", 60_000), ("seeded-margin-coarse-v1", 20_000))
"""Statistic and honest bound of its mean in ppm: far above what the made-up honest providers show."""
BALANCE_WEI = 2_000_000 * QUIV
CONSUMER_KEY = keccak256(b"consumer")


def build_simulation_plan(**changes: Any) -> Plan:
    """Return a plan with a low threshold: at least two epochs to prove a case."""
    given: dict[str, Any] = {
        "protocol_version": "quiver-1",
        "rule": "mean-betting-v1",
        "development": True,
        "activation_epoch": 0,
        "manifest_digest": MANIFEST,
        "profile_digest": b"\x04" * 32,
        "sampler": "gumbel-philox-v1",
        "generator": GENERATOR_ID,
        "strata": STRATA,
        "statistics": tuple(
            PlanStatistic(statistic=name, mu_ppm=mu, lambdas_ppm=compute_lambdas_ppm(mu)) for name, mu in STATISTICS
        ),
        "request_cap": 100,
        "epoch_cap": 100,
        "one_over_alpha": 100,
        "case_length_epochs": 20,
        "probes_per_epoch": 2,
        "max_tokens": 16,
        "temperature_min_ppm": 1_000_000,
        "temperature_max_ppm": 1_000_000,
        "top_p_min_ppm": 1_000_000,
        "top_p_max_ppm": 1_000_000,
        "max_delay_ms": 0,
    }
    return Plan(**(given | changes))


def build_parameters() -> Parameters:
    """Return parameters under which slashes execute at once and a challenge takes few epochs."""
    return Parameters(
        unbonding_epochs=100,
        timelock_epochs=0,
        challenge=ChallengeTerms(
            filing_fee_wei=3 * QUIV,
            bond_wei=10 * QUIV,
            reward_wei=10 * QUIV,
            member_fee_wei=1 * QUIV,
            committee_size=3,
            draw_delay_epochs=1,
            commit_epochs=2,
            reveal_epochs=2,
        ),
    )


def build_validator_keys(seats: int) -> tuple[ValidatorKeys, ...]:
    """Return the keys of the seats."""
    return tuple(ValidatorKeys.from_seed(keccak256(f"simulated seat {seat}".encode())) for seat in range(seats))


def provider_key(name: str) -> bytes:
    """Return the account key of a provider by name."""
    return keccak256(f"provider {name}".encode())


def build_simulation_genesis(keys: Sequence[ValidatorKeys], plan: Plan, providers: Sequence[str]) -> Genesis:
    """Return a genesis that does not depend on ports: peers are told where they are apart from it."""
    balances = {address_of(provider_key(name)): BALANCE_WEI for name in providers}
    balances[address_of(CONSUMER_KEY)] = BALANCE_WEI
    return build_genesis(
        chain_id=77,
        network_name="simulation",
        start_s=START_S,
        epoch_s=EPOCH_S,
        epochs_per_day=24,
        plan=plan,
        parameters=build_parameters(),
        balances=balances,
        validators=[_build_seat(seat, item) for seat, item in enumerate(keys)],
        beacon=b"\x0b" * 32,
    )


def _build_seat(seat: int, keys: ValidatorKeys) -> GenesisValidator:
    entry = ValidatorEntry(
        address=keys.address,
        public_key=keys.public_key,
        transport_key=keys.transport_key,
        stake_wei=10_000 * QUIV,
    )
    return GenesisValidator(
        entry=entry, endpoint=f"http://seat-{seat}.test", proof_of_possession=bls.pop_prove(keys.bls_sk)
    )
