"""Challenges from filing to payout, with committees that re-run the receipts themselves."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from simulation.engine import decode_tokens
from simulation.network import SimulatedNetwork, open_network
from simulation.provider import StandIn
from simulation.setting import CONSUMER_KEY, QUIV

from challenges.filing import Dossier, build_dossier
from challenges.lifecycle import Phase
from challenges.receipt import SignedReceipt, build_receipt, sign_receipt
from ledger.embedded.client import LedgerClient
from ledger.state.transactions import OpenChallenge
from scoring.ecdsa import address_of
from validator.store import DocumentKind

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedNetwork]:
    """A network in which four challenges were filed after epoch 0, three epochs later."""
    providers = ("honest", "liar", "honest-warm", "short")
    async with open_network(tmp_path_factory.mktemp("challenges"), providers=providers) as opened:
        await opened.certify_epoch(0)
        for name in providers:
            temperature = 1.7 if name == "honest-warm" else 1.0
            await file_challenge(opened, build_case(opened.providers[name], temperature))
        await opened.certify_epoch(1)
        # Between commit and reveal every seat starts again, and one of them could not judge a second time.
        votes = [seat.get().store.list_documents(DocumentKind.OWN_VOTE, 0) for seat in opened.seats]
        assert sum(len(found) for found in votes) == 4 * 3, "each committee of three has judged"
        phases = {item.phase for item in opened.ledger.state.registry.challenges.values()}
        assert phases == {Phase.COMMITTED}
        for seat in opened.seats:
            await seat.stop()
            await seat.start()
        opened.seats[0].engine.is_down = True
        await opened.certify_epoch(2)
        opened.seats[0].engine.is_down = False
        await opened.certify_epoch(3)
        yield opened


def build_case(provider: StandIn, temperature: float, count: int = 4) -> Dossier:
    """Return a dossier of the consumer's own traffic with a provider."""
    answers: list[tuple[SignedReceipt, dict[str, Any], dict[str, Any]]] = []
    for number in range(count):
        request = build_request(number, temperature)
        response = provider.build_answer(request)
        receipt = SignedReceipt.from_json(response.pop("quiver_receipt"))
        if provider.character == "short":
            # It signs for its text, which is not that of its tokens.
            response["choices"][0]["message"]["content"] = decode_tokens((1, 2, 3))
            receipt = sign_again(provider, request, response, receipt)
        answers.append((receipt, request, response))
    return build_dossier(answers)


def sign_again(
    provider: StandIn, request: dict[str, Any], response: dict[str, Any], receipt: SignedReceipt
) -> SignedReceipt:
    old = receipt.receipt
    fresh = build_receipt(
        network=old.network,
        offer=provider.offer.offer,
        consumer=old.consumer,
        nonce=old.nonce,
        request=request,
        response=response,
        default_max_tokens=16,
        counter=old.counter,
        issued_s=old.issued_s,
        expires_s=old.expires_s,
    )
    assert provider._domain is not None
    return sign_receipt(fresh, provider._domain, provider.key)


def build_request(number: int, temperature: float) -> dict[str, Any]:
    return {
        "model": "m",
        "messages": [{"role": "user", "content": f"question {number}"}],
        "temperature": temperature,
        "top_p": 1.0,
        "max_tokens": 16,
        "seed": number,
        "return_token_ids": True,
        "quiver_nonce": "0x" + bytes([number + 1]).hex() * 32,
        "quiver_consumer": "0x" + address_of(CONSUMER_KEY).hex(),
    }


async def file_challenge(network: SimulatedNetwork, dossier: Dossier) -> None:
    receipt = dossier.entries[0].receipt.receipt
    terms = network.genesis.parameters.challenge
    async with LedgerClient(network.ledger_url, network.genesis.domain) as client:
        await client.send(
            OpenChallenge,
            CONSUMER_KEY,
            attachment=dossier,
            provider=receipt.provider,
            offer_digest=receipt.offer_digest,
            dossier_digest=dossier.digest,
            filing_fee_wei=terms.filing_fee_wei,
            bond_wei=terms.bond_wei,
        )


def find_challenge(network: SimulatedNetwork, name: str) -> Any:
    provider = address_of(network.providers[name].key)
    return next(item for item in network.ledger.state.registry.challenges.values() if item.provider == provider)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        pytest.param("liar", "upheld", id="another model's words"),
        pytest.param("honest", "rejected", id="the claimed model's words"),
        pytest.param("honest-warm", "inconclusive", id="a temperature that the plan does not know"),
        pytest.param("short", "inconclusive", id="a text that is not that of its tokens"),
    ],
)
async def test_a_challenge_ends_as_its_receipts_deserve(network: SimulatedNetwork, name: str, verdict: str) -> None:
    challenge = find_challenge(network, name)
    assert challenge.phase is Phase.RESOLVED
    assert challenge.verdict == verdict


async def test_members_who_cannot_score_say_why(network: SimulatedNetwork) -> None:
    assert _list_abstentions(network, "honest-warm") == ["a temperature is outside the calibrated envelope"] * 3
    assert _list_abstentions(network, "short") == ["a receipt cannot be scored: text-mismatch"] * 3
    assert _list_abstentions(network, "liar") == [""] * 3


async def test_every_member_reveals_what_it_committed_also_after_a_restart(network: SimulatedNetwork) -> None:
    for challenge in network.ledger.state.registry.challenges.values():
        assert set(challenge.votes) == set(challenge.committee)


async def test_members_came_to_the_same_e_value_each_with_a_salt_of_its_own(network: SimulatedNetwork) -> None:
    votes = list(find_challenge(network, "liar").votes.values())
    assert len({vote.e_value for vote in votes}) == 1
    assert len({vote.salt for vote in votes}) == len(votes)


async def test_the_wrong_challenge_lost_its_bond_and_the_right_one_was_paid(network: SimulatedNetwork) -> None:
    terms = network.genesis.parameters.challenge
    claimable = network.ledger.state.accounts[address_of(CONSUMER_KEY)].claimable_wei
    # Bond and reward for the right one, the bonds of the two that decided nothing, nothing for the wrong one.
    assert claimable == (terms.bond_wei + terms.reward_wei) + 2 * terms.bond_wei
    assert terms.bond_wei == 10 * QUIV


async def test_an_upheld_challenge_alone_slashes_nobody(network: SimulatedNetwork) -> None:
    provider = network.ledger.state.registry.providers[address_of(network.providers["liar"].key)]
    assert provider.upheld_challenges == 1
    # Its own drawn probes have done so meanwhile, once.
    assert len(provider.infractions) == 1


def _list_abstentions(network: SimulatedNetwork, name: str) -> Sequence[str]:
    return [vote.abstention for vote in find_challenge(network, name).votes.values()]
