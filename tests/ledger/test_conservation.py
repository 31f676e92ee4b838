"""Whatever anybody sends, no wei is made or lost, refusals change nothing, and a replay ends in the same state."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.state.digest import compute_state_digest
from ledger.state.genesis import build_state
from ledger.state.holdings import compute_total_wei
from ledger.state.machine import apply
from ledger.state.transactions import (
    AddStake,
    PostPerformanceBond,
    StartUnbonding,
    Transfer,
    UnbondPerformanceBond,
    Withdraw,
    WithdrawUnbonded,
    parse_transaction,
)
from scoring.errors import OracleError
from scoring.evidence.wealth import ONE

NAMES = ("provider", "consumer", "stranger", "validator-0", "validator-3")
AMOUNTS = st.one_of(st.integers(min_value=0, max_value=10**22), st.sampled_from([0, 1, 10**18, 2**255]))
E_VALUES = st.sampled_from([None, 0, ONE, 50 * ONE, 10**6 * ONE])


def _money(cls: type) -> Callable[[Any, Any], None]:
    def act(world: Any, draw: Any) -> None:
        values = {"amount_wei": draw(AMOUNTS)}
        if cls is Transfer:
            values["recipient"] = world.address(draw(st.sampled_from(NAMES)))
        world.send(draw(st.sampled_from(NAMES)), cls, **values)

    return act


def _bare(cls: type) -> Callable[[Any, Any], None]:
    return lambda world, draw: world.send(draw(st.sampled_from(NAMES)), cls)


def _register(world: Any, draw: Any) -> None:
    world.register_provider(bond_wei=draw(st.integers(min_value=1, max_value=20 * 10**18)))


def _certify(world: Any, draw: Any) -> None:
    world.certify(draw(st.integers(min_value=1, max_value=3)))


def _slash(world: Any, draw: Any) -> None:
    world.slash(slash_bps=draw(st.sampled_from([0, 100, 777, 1999])), rule=draw(st.sampled_from(["a", "b"])))


def _challenge(world: Any, draw: Any) -> None:
    world.open_challenge(world.dossier(first_counter=draw(st.integers(min_value=1, max_value=40))))
    world.certify(draw(st.integers(min_value=0, max_value=2)))


def _vote(world: Any, draw: Any) -> None:
    for challenge in tuple(world.state.registry.challenges.values()):
        if challenge.is_open:
            seats = len(challenge.committee)
            world.vote(challenge.challenge_id, draw(st.lists(E_VALUES, min_size=seats, max_size=seats)))


ACTIONS = [
    *(_money(cls) for cls in (Transfer, AddStake, StartUnbonding, PostPerformanceBond, UnbondPerformanceBond)),
    *(_bare(cls) for cls in (Withdraw, WithdrawUnbonded)),
    _register,
    *(_certify, _certify, _slash, _slash, _challenge, _challenge, _vote, _vote),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_wei_is_made_or_lost_by_any_sequence_of_transactions(make_world: Callable[..., Any], data: Any) -> None:
    timelock = data.draw(st.sampled_from([0, 2]))
    parameters = replace(make_world().genesis.parameters, timelock_epochs=timelock, unbonding_epochs=6)
    world = make_world(parameters=parameters)
    if data.draw(st.integers(min_value=0, max_value=3)):
        _register(world, data.draw)
        world.certify(2)
    for action in data.draw(st.lists(st.sampled_from(ACTIONS), min_size=4, max_size=14)):
        with contextlib.suppress(OracleError):
            action(world, data.draw)
        assert compute_total_wei(world.state) + world.state.burned_wei == world.genesis.issued_wei
    _check_replay(world)


def _check_replay(world: Any) -> None:
    state = build_state(world.genesis)
    for raw in world.log:
        state, _ = apply(state, parse_transaction(raw))
    assert state == world.state
    assert compute_state_digest(state) == compute_state_digest(world.state)


def test_a_made_wei_stops_the_ledger_at_the_next_checkpoint(world: Any) -> None:
    world.state = replace(world.state, issued_wei=world.state.issued_wei - 1)
    with pytest.raises(RuntimeError, match="are not the"):
        world.certify()


def test_the_state_digest_sees_every_change(world: Any) -> None:
    digests = [compute_state_digest(world.state)]
    world.register_provider(bond_wei=10**19)
    digests.append(compute_state_digest(world.state))
    world.certify(2)
    digests.append(compute_state_digest(world.state))
    world.open_challenge()
    digests.append(compute_state_digest(world.state))
    world.slash()
    digests.append(compute_state_digest(world.state))
    assert len(set(digests)) == 5
