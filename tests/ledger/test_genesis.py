"""The genesis file: what a network is, and every file that is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.state.genesis import build_state, parse_genesis
from ledger.state.holdings import check_conservation, compute_total_wei
from ledger.state.parameters import PaymentShares, compute_payment_split
from scoring.canonical import encode
from scoring.errors import InvalidInput
from scoring.hashing import keccak256


def test_a_genesis_survives_its_file_and_names_the_network_and_its_domain(world: Any) -> None:
    data = world.genesis.encode()
    parsed = parse_genesis(data)
    assert parsed == world.genesis
    assert parsed.network == keccak256(data)
    assert parsed.domain.verifying_contract == parsed.network[-20:] and parsed.domain.chain_id == 77
    assert [entry.address for entry in parsed.validator_set.validators] == list(parsed.endpoints)
    assert parsed.plan_json == parsed.plan.to_json()


def test_everything_in_the_genesis_is_issued(world: Any) -> None:
    state = build_state(world.genesis)
    check_conservation(state)
    assert compute_total_wei(state) == state.issued_wei == world.genesis.issued_wei


def test_two_networks_that_differ_in_a_chain_id_have_different_domains(make_world: Callable[..., Any]) -> None:
    assert make_world().genesis.network != make_world(chain_id=78).genesis.network


def _change(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return change


def _swap_balances(document: Any) -> None:
    document["balances"].reverse()


def _double_balance(document: Any) -> None:
    document["balances"].append(document["balances"][-1])


def _double_seat(document: Any) -> None:
    document["validators"].append(document["validators"][0])


def _swap_proofs(document: Any) -> None:
    seats = document["validators"]
    seats[0]["proof_of_possession"] = seats[1]["proof_of_possession"]


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "unknown key": (_change("surprise", value=1), "surprise"),
    "no chain id": (_change("chain_id", value=None), "chain_id"),
    "chain id 0": (_change("chain_id", value=0), "chain_id"),
    "chain id text": (_change("chain_id", value="77"), "chain_id"),
    "epoch of no length": (_change("epoch_s", value=0), "epoch_s"),
    "name with a line break": (_change("network_name", value="a\nb"), "network_name"),
    "empty name": (_change("network_name", value=""), "network_name"),
    "short beacon": (_change("beacon", value="0x00"), "beacon"),
    "balance as number": (_change("balances", 0, 1, value=5), "balances"),
    "balance negative": (_change("balances", 0, 1, value="-5"), "balances"),
    "balance impossible": (_change("balances", 0, 1, value=str(2**201)), "balances"),
    "balance of a short address": (_change("balances", 0, 0, value="0x00"), "balances"),
    "balances out of order": (_swap_balances, "balances"),
    "balance twice": (_double_balance, "balances"),
    "no validators": (_change("validators", value=[]), "validators"),
    "validator twice": (_double_seat, "validators"),
    "foreign proof of possession": (_swap_proofs, "validators"),
    "validator with too little stake": (_change("validators", 0, "entry", "stake_wei", value="1"), "stake_wei"),
    "validator with an extra key": (_change("validators", 0, "x", value=1), "validators"),
    "validator without URL": (_change("validators", 0, "endpoint", value="ftp://x"), "endpoint"),
    "validator key no point": (_change("validators", 0, "entry", "public_key", value="0x" + "11" * 48), "validators"),
    "transport key twice": (_change("validators", 0, "entry", "transport_key", value="0x" + "00" * 32), "transport"),
    "plan with an unknown key": (_change("plan", "x", value=1), "x"),
    "parameters with an unknown key": (_change("parameters", "x", value=1), "x"),
    "timelock as long as unbonding": (_change("parameters", "timelock_epochs", value=8), "unbonding_epochs"),
    "unbonding shorter than a case": (_change("plan", "case_length_epochs", value=9), "unbonding_epochs"),
    "tiers that fall": (_change("parameters", "tiers", 0, "minimum_stake_wei", value=str(10**30)), "tiers"),
    "shares that do not add up": (_change("parameters", "shares", "provider_bps", value=1), "provider_bps"),
    "committee of nobody": (_change("parameters", "challenge", "committee_size", value=0), "committee_size"),
}


@pytest.mark.parametrize(("change", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_genesis(world: Any, change: Callable[[Any], None], field: str) -> None:
    document = json.loads(world.genesis.encode())
    change(document)
    with pytest.raises(InvalidInput, match=field):
        parse_genesis(encode(document))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"null", b"\xff"], ids=["empty", "list", "bare", "null", "not UTF-8"]
)
def test_refuses_bytes_that_are_no_genesis(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_genesis(data)


def test_refuses_a_genesis_that_is_not_canonical(world: Any) -> None:
    with pytest.raises(InvalidInput, match="canonical"):
        parse_genesis(world.genesis.encode() + b"\n")


@pytest.mark.parametrize("amount_wei", [0, 1, 199, 10_000, 10**18 + 7])
def test_a_payment_is_divided_without_remainder(amount_wei: int) -> None:
    split = compute_payment_split(amount_wei, PaymentShares())
    parts = (split.provider_wei, split.validators_wei, split.operations_wei, split.treasury_wei, split.burned_wei)
    assert sum(parts) == amount_wei and min(parts) >= 0


def test_a_payment_is_divided_as_the_documentation_says() -> None:
    split = compute_payment_split(10_000, PaymentShares())
    assert (split.provider_wei, split.treasury_wei, split.burned_wei, split.validators_wei, split.operations_wei) == (
        8000,
        500,
        100,
        50,
        1350,
    )
