"""The genesis file: what a network is. Canonical JSON; its keccak256 is the network's id and makes its signing domain.

`{"chain_id", "network_name", "start_s", "epoch_s", "epochs_per_day", "plan", "parameters", "balances": [[address, wei],
...], "validators": [{"entry", "endpoint", "proof_of_possession"}, ...], "beacon"}`. Validators are in seat order; their
stakes are issued beside the balances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ledger.state.errors import TransactionRefused
from ledger.state.holdings import Account, LedgerState, Registry, Validator, check_conservation, compute_validator_set
from ledger.state.parameters import Parameters
from ledger.state.staking import verify_validator
from scoring import canonical
from scoring.canonical import MAX_SAFE_INTEGER, Json
from scoring.certificate import compute_validator_set_digest
from scoring.eip712 import Domain, parse_hex, parse_wei
from scoring.errors import InvalidInput
from scoring.evidence.plan import Plan
from scoring.hashing import keccak256
from scoring.records import ValidatorEntry, ValidatorSet

MAX_GENESIS_BYTES = 4 * 1024 * 1024
MAX_BALANCE_WEI = 2**200
_KEYS = (
    "chain_id",
    "network_name",
    "start_s",
    "epoch_s",
    "epochs_per_day",
    "plan",
    "parameters",
    "balances",
    "validators",
    "beacon",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisValidator:
    """A seat of the first validator set, with its proof of possession (96 bytes)."""

    entry: ValidatorEntry
    endpoint: str
    proof_of_possession: bytes

    def to_json(self) -> dict[str, Json]:
        """Return the wire form."""
        proof = "0x" + self.proof_of_possession.hex()
        return {"entry": self.entry.to_json(), "endpoint": self.endpoint, "proof_of_possession": proof}


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """A checked genesis. `balances` are (address, wei) in order of address; `beacon` seeds the first two beacons.

    `network`, the keccak256 of its canonical bytes, is the id of the network.
    """

    chain_id: int
    network_name: str
    start_s: int
    epoch_s: int
    epochs_per_day: int
    plan: Plan
    parameters: Parameters
    balances: tuple[tuple[bytes, int], ...]
    validators: tuple[GenesisValidator, ...]
    beacon: bytes
    network: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name, lowest in (("chain_id", 1), ("start_s", 0), ("epoch_s", 1), ("epochs_per_day", 1)):
            if not lowest <= getattr(self, name) <= MAX_SAFE_INTEGER:
                raise InvalidInput(f"expected {lowest}..{MAX_SAFE_INTEGER}", name)
        if len(self.beacon) != 32:
            raise InvalidInput("expected 32 bytes", "beacon")
        addresses = [address for address, _ in self.balances]
        if addresses != sorted(set(addresses)):
            raise InvalidInput("not in order of address, each once", "balances")
        for index, (address, wei) in enumerate(self.balances):
            if len(address) != 20 or not 0 <= wei <= MAX_BALANCE_WEI:
                raise InvalidInput("expected a 20-byte address and a possible amount", f"balances[{index}]")
        if not self.validators:
            raise InvalidInput("a network needs a validator", "validators")
        if self.parameters.unbonding_epochs < self.plan.case_length_epochs + self.parameters.timelock_epochs:
            raise InvalidInput("stake must not leave before its case and the timelock are over", "unbonding_epochs")
        _check_validators(self)
        object.__setattr__(self, "network", keccak256(self.encode()))

    @property
    def domain(self) -> Domain:
        """The signing domain of the network."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.network[-20:])

    @property
    def plan_json(self) -> dict[str, Json]:
        """The sealed plan as JSON."""
        return self.plan.to_json()

    @property
    def validator_set(self) -> ValidatorSet:
        """The first validator set."""
        return ValidatorSet(network=self.network, validators=tuple(seat.entry for seat in self.validators))

    @property
    def endpoints(self) -> Mapping[bytes, str]:
        """Peer URLs by validator address."""
        return {seat.entry.address: seat.endpoint for seat in self.validators}

    @property
    def issued_wei(self) -> int:
        """All the money there is."""
        return sum(wei for _, wei in self.balances) + sum(seat.entry.stake_wei for seat in self.validators)

    def encode(self) -> bytes:
        """Return the canonical bytes of the file."""
        return canonical.encode(
            {
                "chain_id": self.chain_id,
                "network_name": self.network_name,
                "start_s": self.start_s,
                "epoch_s": self.epoch_s,
                "epochs_per_day": self.epochs_per_day,
                "plan": self.plan.to_json(),
                "parameters": self.parameters.to_json(),
                "balances": [["0x" + address.hex(), str(wei)] for address, wei in self.balances],
                "validators": [seat.to_json() for seat in self.validators],
                "beacon": "0x" + self.beacon.hex(),
            }
        )


def build_genesis(
    *,
    chain_id: int,
    network_name: str,
    start_s: int,
    epoch_s: int,
    epochs_per_day: int,
    plan: Plan,
    parameters: Parameters,
    balances: Mapping[bytes, int],
    validators: Sequence[GenesisValidator],
    beacon: bytes,
) -> Genesis:
    """Build a genesis; raises InvalidInput where `parse_genesis` would. `beacon` is 32 random bytes."""
    return Genesis(
        chain_id=chain_id,
        network_name=network_name,
        start_s=start_s,
        epoch_s=epoch_s,
        epochs_per_day=epochs_per_day,
        plan=plan,
        parameters=parameters,
        balances=tuple(sorted(balances.items())),
        validators=tuple(validators),
        beacon=beacon,
    )


def parse_genesis(data: bytes) -> Genesis:
    """Parse the canonical bytes of a genesis file and check proofs of possession; raises InvalidInput."""
    document = canonical.decode(data, MAX_GENESIS_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput("expected an object", "genesis")
    for key in sorted(set(document) ^ set(_KEYS)):
        raise InvalidInput("unknown key" if key in document else "missing", key)
    name = document["network_name"]
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= 64:
        raise InvalidInput("expected 1 to 64 printable characters", "network_name")
    return Genesis(
        chain_id=_integer(document, "chain_id"),
        network_name=name,
        start_s=_integer(document, "start_s"),
        epoch_s=_integer(document, "epoch_s"),
        epochs_per_day=_integer(document, "epochs_per_day"),
        plan=Plan.from_json(document["plan"]),
        parameters=Parameters.from_json(document["parameters"]),
        balances=tuple(_parse_balance(item, f"balances[{i}]") for i, item in enumerate(_list(document, "balances"))),
        validators=tuple(_parse_seat(item, f"validators[{i}]") for i, item in enumerate(_list(document, "validators"))),
        beacon=parse_hex(document["beacon"], "beacon"),
    )


def build_state(genesis: Genesis) -> LedgerState:
    """Return the ledger's first state: nothing certified, every balance and stake as issued."""
    network, validator_set = genesis.network, genesis.validator_set
    registry = Registry(
        providers=MappingProxyType({}),
        validators=MappingProxyType({seat.entry.address: _build_validator(seat) for seat in genesis.validators}),
        challenges=MappingProxyType({}),
    )
    state = LedgerState(
        network=network,
        domain=genesis.domain,
        start_s=genesis.start_s,
        epoch_s=genesis.epoch_s,
        genesis_beacon=genesis.beacon,
        plan=genesis.plan,
        parameters=genesis.parameters,
        issued_wei=genesis.issued_wei,
        burned_wei=0,
        epoch=-1,
        head_root=network,
        time_s=genesis.start_s,
        accounts=MappingProxyType({address: Account(balance_wei=wei) for address, wei in genesis.balances}),
        registry=registry,
        settled=registry,
        validator_set=compute_validator_set(network, registry, genesis.parameters.minimum_validator_stake_wei),
        certified=MappingProxyType({}),
        validator_sets=MappingProxyType({compute_validator_set_digest(validator_set): validator_set}),
        offences=MappingProxyType({}),
        pending_slashes=(),
        used_receipts=MappingProxyType({}),
    )
    check_conservation(state)
    return state


def _check_validators(genesis: Genesis) -> None:
    addresses = [seat.entry.address for seat in genesis.validators]
    if len(set(addresses)) != len(addresses):
        raise InvalidInput("an address stands twice", "validators")
    for index, seat in enumerate(genesis.validators):
        if seat.entry.stake_wei < genesis.parameters.minimum_validator_stake_wei:
            raise InvalidInput("the stake is below the minimum", f"validators[{index}].entry.stake_wei")
        try:
            verify_validator(_build_validator(seat), seat.proof_of_possession)
        except TransactionRefused as error:
            raise InvalidInput(str(error), f"validators[{index}]") from None
    # Distinct keys are checked by the record.
    ValidatorSet(network=bytes(32), validators=tuple(seat.entry for seat in genesis.validators))


def _build_validator(seat: GenesisValidator) -> Validator:
    return Validator(
        address=seat.entry.address,
        public_key=seat.entry.public_key,
        transport_key=seat.entry.transport_key,
        endpoint=seat.endpoint,
        stake_wei=seat.entry.stake_wei,
    )


def _parse_balance(value: Json, field: str) -> tuple[bytes, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidInput("expected [address, wei]", field)
    return parse_hex(value[0], field), parse_wei(value[1], field)


def _parse_seat(value: Json, field: str) -> GenesisValidator:
    if not isinstance(value, dict) or set(value) != {"entry", "endpoint", "proof_of_possession"}:
        raise InvalidInput("expected exactly entry, endpoint and proof_of_possession", field)
    endpoint = value["endpoint"]
    if not isinstance(endpoint, str):
        raise InvalidInput("expected a string", f"{field}.endpoint")
    return GenesisValidator(
        entry=ValidatorEntry.from_json(value["entry"]),
        endpoint=endpoint,
        proof_of_possession=parse_hex(value["proof_of_possession"], f"{field}.proof_of_possession"),
    )


def _list(document: Mapping[str, Json], field: str) -> list[Json]:
    value = document[field]
    if not isinstance(value, list):
        raise InvalidInput("expected a list", field)
    return value


def _integer(document: Mapping[str, Json], field: str) -> int:
    value = document[field]
    if type(value) is not int:
        raise InvalidInput("expected an integer", field)
    return value
