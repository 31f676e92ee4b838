"""Who takes part in a devnet, and its genesis: honest validators, six providers of which three lie, one consumer."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from challenges.penalty import WEI_PER_QUIV
from ledger.state.genesis import Genesis, GenesisValidator, build_genesis
from ledger.state.parameters import Parameters
from models.profiles import load_profile
from scoring import bls, ecdsa
from scoring.evidence.plan import Plan, build_plan
from scoring.hashing import tagged_digest
from scoring.parameters import build_trust_parameters
from scoring.records import ValidatorEntry
from validator.keys import ValidatorKeys

EPOCH_S = 10
EPOCHS_PER_DAY = 86_400 // EPOCH_S
VALIDATOR_STAKE_QUIV = 100_000
BOND_QUIV = 100
CONSUMER_QUIV = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One provider: what it claims is always the bundled model, honestly run; `cheats` say what it does instead."""

    name: str
    dtype: str
    cheats: tuple[str, ...]
    stake_quiv: int
    is_honest: bool
    is_liar: bool


PROVIDERS = (
    ProviderSpec(name="honest-bf16", dtype="bf16", cheats=(), stake_quiv=250_000, is_honest=True, is_liar=False),
    ProviderSpec(name="honest-fp32", dtype="fp32", cheats=(), stake_quiv=50_000, is_honest=True, is_liar=False),
    ProviderSpec(name="int4", dtype="bf16", cheats=("int4",), stake_quiv=50_000, is_honest=False, is_liar=True),
    ProviderSpec(
        name="hidden-prompt", dtype="bf16", cheats=("hidden-prompt",), stake_quiv=10_000, is_honest=False, is_liar=True
    ),
    ProviderSpec(
        name="drop-layer", dtype="bf16", cheats=("drop-layer",), stake_quiv=250_000, is_honest=False, is_liar=True
    ),
    ProviderSpec(name="flaky", dtype="bf16", cheats=("flaky",), stake_quiv=10_000, is_honest=False, is_liar=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The secrets of everybody in a devnet, drawn afresh for each."""

    validators: tuple[ValidatorKeys, ...]
    provider_keys: Mapping[str, bytes]
    consumer_key: bytes

    def get_provider_address(self, name: str) -> bytes:
        """Return a provider's account."""
        return ecdsa.address_of(self.provider_keys[name])


def draw_cast(validators: int, providers: Sequence[ProviderSpec]) -> Cast:
    """Return fresh keys."""
    return Cast(
        validators=tuple(ValidatorKeys.from_seed(secrets.token_bytes(32)) for _ in range(validators)),
        provider_keys={spec.name: _draw_account() for spec in providers},
        consumer_key=_draw_account(),
    )


def build_devnet_genesis(
    cast: Cast, endpoints: Sequence[str], providers: Sequence[ProviderSpec], case_epochs: int
) -> Genesis:
    """Return a genesis with a random chain id; slashes execute at once, so that a demo can show them."""
    parameters = replace(
        Parameters(trust=build_trust_parameters(EPOCHS_PER_DAY)), timelock_epochs=0, unbonding_epochs=100
    )
    balances = {
        cast.get_provider_address(spec.name): (spec.stake_quiv + BOND_QUIV) * WEI_PER_QUIV for spec in providers
    }
    balances[ecdsa.address_of(cast.consumer_key)] = CONSUMER_QUIV * WEI_PER_QUIV
    return build_genesis(
        chain_id=1 + secrets.randbelow(2**31),
        network_name="devnet",
        start_s=int(time.time()),
        epoch_s=EPOCH_S,
        epochs_per_day=EPOCHS_PER_DAY,
        plan=build_devnet_plan(case_epochs),
        parameters=parameters,
        balances=balances,
        validators=[
            _build_validator(keys, endpoint) for keys, endpoint in zip(cast.validators, endpoints, strict=True)
        ],
        beacon=secrets.token_bytes(32),
    )


def build_devnet_plan(case_epochs: int) -> Plan:
    """Return the plan of the bundled model's profile with one case over the whole demo."""
    return build_plan(load_profile(), case_length_epochs=case_epochs, probes_per_epoch=2)


def _build_validator(keys: ValidatorKeys, endpoint: str) -> GenesisValidator:
    entry = ValidatorEntry(
        address=keys.address,
        public_key=keys.public_key,
        transport_key=keys.transport_key,
        stake_wei=VALIDATOR_STAKE_QUIV * WEI_PER_QUIV,
    )
    return GenesisValidator(entry=entry, endpoint=endpoint, proof_of_possession=bls.pop_prove(keys.bls_sk))


def _draw_account() -> bytes:
    while True:
        secret = tagged_digest("quiver-devnet-account", secrets.token_bytes(32))
        if 0 < int.from_bytes(secret, "big") < ecdsa.GROUP_ORDER:
            return secret
