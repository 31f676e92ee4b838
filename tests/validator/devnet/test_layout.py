"""Who takes part in a devnet: fresh keys each time, a genesis that holds, tiers that the demo's promises rest on."""

import pytest

from challenges.evidence import SLASH_BPS_FALSE_CAPABILITY
from challenges.penalty import TIERS, compute_tier
from ledger.state.genesis import build_state, parse_genesis
from ledger.state.holdings import check_conservation, get_account
from scoring import bls
from scoring.errors import InvalidInput
from scoring.evidence.cases import compute_case_index
from validator.devnet.layout import (
    BOND_QUIV,
    CONSUMER_QUIV,
    PROVIDERS,
    build_devnet_genesis,
    build_devnet_plan,
    draw_cast,
)
from validator.devnet.network import _choose_ports as choose_ports
from validator.provider.cheats import parse_cheats

WEI = 10**18
ENDPOINTS = [f"http://127.0.0.1:{9000 + number}" for number in range(4)]
EPOCHS = 7


def test_the_providers_are_those_that_the_demo_promises() -> None:
    assert [spec.name for spec in PROVIDERS if spec.is_honest] == ["honest-bf16", "honest-fp32"]
    assert [spec.name for spec in PROVIDERS if spec.is_liar] == ["int4", "hidden-prompt", "drop-layer"]
    assert [spec.name for spec in PROVIDERS if not spec.is_liar and not spec.is_honest] == ["flaky"]
    assert all(bool(spec.cheats) != spec.is_honest for spec in PROVIDERS)
    for spec in PROVIDERS:
        parse_cheats(spec.cheats)


def test_the_liars_show_both_the_rule_and_the_tiers_cap() -> None:
    caps = [compute_tier(spec.stake_quiv * WEI, TIERS).slash_cap_bps for spec in PROVIDERS if spec.is_liar]  # type: ignore[union-attr]
    assert any(cap < SLASH_BPS_FALSE_CAPABILITY for cap in caps)
    assert any(cap > SLASH_BPS_FALSE_CAPABILITY for cap in caps)


def test_every_devnet_has_keys_and_a_network_of_its_own() -> None:
    casts = [draw_cast(4, PROVIDERS) for _ in range(2)]
    keys = [
        key
        for cast in casts
        for key in (*(item.bls_sk for item in cast.validators), *cast.provider_keys.values(), cast.consumer_key)
    ]
    assert len(set(keys)) == len(keys) == 2 * (4 + 6 + 1)
    networks = {build_devnet_genesis(cast, ENDPOINTS, PROVIDERS, EPOCHS).network for cast in (*casts, casts[0])}
    assert len(networks) == 3


def test_the_genesis_survives_its_file_and_pays_everybody() -> None:
    cast = draw_cast(4, PROVIDERS)
    genesis = build_devnet_genesis(cast, ENDPOINTS, PROVIDERS, EPOCHS)
    assert parse_genesis(genesis.encode()) == genesis
    state = build_state(genesis)
    check_conservation(state)
    for spec in PROVIDERS:
        held = get_account(state, cast.get_provider_address(spec.name)).balance_wei
        assert held == (spec.stake_quiv + BOND_QUIV) * WEI
    terms = genesis.parameters.challenge
    assert 2 * (terms.filing_fee_wei + terms.bond_wei) <= CONSUMER_QUIV * WEI, "the consumer files two challenges"
    assert terms.cover_wei <= BOND_QUIV * WEI, "a provider's bond covers a challenge"
    for keys, seat in zip(cast.validators, genesis.validators, strict=True):
        assert bls.pop_verify(keys.public_key, seat.proof_of_possession)


def test_one_case_spans_the_whole_demo() -> None:
    plan = build_devnet_plan(EPOCHS)
    assert {compute_case_index(plan, epoch) for epoch in range(EPOCHS)} == {1}
    assert plan.probes_per_epoch == 2


def test_endpoints_must_be_as_many_as_validators() -> None:
    with pytest.raises(ValueError, match="zip"):
        build_devnet_genesis(draw_cast(4, PROVIDERS), ENDPOINTS[:3], PROVIDERS, EPOCHS)


def test_a_network_of_nobody_is_refused() -> None:
    with pytest.raises((InvalidInput, ValueError)):
        build_devnet_genesis(draw_cast(0, PROVIDERS), [], PROVIDERS, EPOCHS)


def test_ports_are_free_and_differ() -> None:
    ports = choose_ports(16)
    assert len(set(ports)) == 16
    assert all(1024 <= port < 65536 for port in ports)
