"""Filing with a real ledger: the terms are the ledger's, the network is that of its genesis."""

from typing import Any

import pytest

from challenges.filing import Dossier, build_dossier
from challenges.signed import SignedReceipt
from ledger.state.errors import TransactionRefused
from scoring.ecdsa import address_of
from scoring.errors import InvalidInput, OracleError, Unavailable
from validator.filing import file_challenge, open_ledger

Court = Any  # the class lives in tests/validator/conftest.py


def build_court_dossier(court: Court, count: int = 1) -> Dossier:
    request = court.ask()
    responses = [court.answer(request, counter) for counter in range(1, count + 1)]
    return build_dossier([(SignedReceipt.from_json(it["quiver_receipt"]), request, it) for it in responses])


def test_a_challenge_is_filed_under_the_ledgers_own_terms(court: Court) -> None:
    terms = court.genesis.parameters.challenge
    with open_ledger(court.url) as ledger:
        challenge_id = file_challenge(ledger, court.consumer_key, build_court_dossier(court, 3))
        view = ledger.challenge(challenge_id)
    assert (view.phase, view.window_count, view.provider) == ("filed", 3, court.offer.offer.provider)
    assert (view.filing_fee_wei, view.bond_wei) == (terms.filing_fee_wei, terms.bond_wei)
    assert view.consumer == address_of(court.consumer_key)


def test_a_client_signs_for_the_network_of_the_genesis(court: Court) -> None:
    with open_ledger(court.url + "/") as ledger:
        assert ledger._domain == court.genesis.domain


def test_what_the_ledger_refuses_costs_nothing(court: Court) -> None:
    with open_ledger(court.url) as ledger:
        before = ledger.account(address_of(court.stranger_key)).balance_wei
        with pytest.raises(OracleError, match="made out to another consumer"):
            file_challenge(ledger, court.stranger_key, build_court_dossier(court))
        assert ledger.account(address_of(court.stranger_key)).balance_wei == before
        file_challenge(ledger, court.consumer_key, build_court_dossier(court))
        with pytest.raises(TransactionRefused, match="a receipt is challenged once"):
            file_challenge(ledger, court.consumer_key, build_court_dossier(court))


def test_a_ledger_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_ledger("http://127.0.0.1:1")


@pytest.mark.parametrize("body", [b"", b"{}", b"hello", b'{"chain_id":1}', b"[" * 100])
def test_a_genesis_that_is_none_is_refused(body: bytes, shop: Any) -> None:
    shop.answers["GET", "/v1/genesis"] = (200, body)
    with pytest.raises((InvalidInput, Unavailable)):
        open_ledger(shop.url)
