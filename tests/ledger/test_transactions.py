"""The wire form of transactions: one form for one transaction, and every other refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from ledger.state.transactions import (
    KINDS,
    MAX_DOCUMENT_BYTES,
    MAX_TRANSACTION_BYTES,
    SignedTransaction,
    Transfer,
    parse_transaction,
)
from scoring.canonical import encode
from scoring.eip712 import compute_signing_root, compute_type_string, compute_typed_data
from scoring.errors import InvalidInput


def _document(world: Any) -> dict[str, Any]:
    signed = world.sign("stranger", Transfer, recipient=b"\x01" * 20, amount_wei=5)
    document: dict[str, Any] = json.loads(signed.encode())
    return document


def test_every_kind_is_a_typed_struct_that_begins_with_sender_and_nonce() -> None:
    for cls in KINDS.values():
        assert compute_type_string(cls).startswith(f"{cls.__name__}(address sender,uint64 nonce")
    assert len(set(KINDS.values())) == len(KINDS)


def test_a_transaction_and_its_dossier_survive_the_wire(world: Any) -> None:
    world.register_provider()
    for signed in (
        world.sign("stranger", Transfer, recipient=b"\x01" * 20, amount_wei=5),
        world.sign_challenge(world.dossier()),
    ):
        assert parse_transaction(signed.encode()) == signed


def test_a_wallet_signs_what_the_ledger_checks(world: Any) -> None:
    transfer = Transfer(sender=world.address("stranger"), nonce=0, recipient=b"\x01" * 20, amount_wei=5)
    typed = compute_typed_data(transfer, world.genesis.domain)
    signature = bytes(
        Account.from_key(world.key("stranger")).sign_message(encode_typed_data(full_message=typed)).signature
    )
    world.apply(SignedTransaction(transaction=transfer, signature=signature))
    assert compute_signing_root(transfer, world.genesis.domain)


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: encode(document | {key: value})


def _set_inside(key: str, value: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: encode(document | {"transaction": document["transaction"] | {key: value}})


def _drop(key: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: encode({name: value for name, value in document.items() if name != key})


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], bytes], str]] = {
    "empty": (lambda d: b"", "JSON"),
    "not UTF-8": (lambda d: b"\xff", "UTF-8"),
    "a list": (lambda d: b"[]", "object"),
    "white space": (lambda d: encode(d) + b" ", "canonical"),
    "keys out of order": (lambda d: json.dumps(dict(reversed(list(d.items())))).encode(), "canonical"),
    "duplicate key": (lambda d: encode(d).replace(b'{"kind"', b'{"kind":"x","kind"', 1), "duplicate"),
    "float": (lambda d: encode(d).replace(b'"nonce":0', b'"nonce":0.0'), "integer"),
    "oversize": (lambda d: b" " * (MAX_DOCUMENT_BYTES + 1), "over the limit"),
    "oversize without attachment": (
        lambda d: encode(d | {"kind": "transfer", "transaction": {"x": "y" * MAX_TRANSACTION_BYTES}}),
        "over",
    ),
    "deep": (lambda d: b"[" * 50 + b"]" * 50, "nested"),
    "unknown key": (_set("surprise", 1), "surprise"),
    "unknown kind": (_set("kind", "mint"), "kind"),
    "kind of a wrong type": (_set("kind", 5), "kind"),
    "no kind": (_drop("kind"), "kind"),
    "no signature": (_drop("signature"), "signature"),
    "short signature": (_set("signature", "0x00"), "signature"),
    "upper-case hex": (_set("signature", "0x" + "AB" * 65), "signature"),
    "attachment where none belongs": (_set("attachment", []), "dossier"),
    "unknown field": (_set_inside("surprise", 1), "surprise"),
    "another kind's fields": (_set("kind", "withdraw"), "unknown key"),
    "amount as a number": (_set_inside("amount_wei", 5), "amount_wei"),
    "amount negative": (_set_inside("amount_wei", "-5"), "amount_wei"),
    "amount with a leading zero": (_set_inside("amount_wei", "05"), "amount_wei"),
    "amount beyond 256 bits": (_set_inside("amount_wei", str(2**256)), "amount_wei"),
    "nonce negative": (_set_inside("nonce", -1), "nonce"),
    "nonce boolean": (_set_inside("nonce", True), "nonce"),
    "short address": (_set_inside("recipient", "0x00"), "recipient"),
}


@pytest.mark.parametrize(("build", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_bytes(world: Any, build: Callable[[dict[str, Any]], bytes], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_transaction(build(_document(world)))


def test_refuses_a_challenge_without_its_dossier(world: Any) -> None:
    document = json.loads(world.sign_challenge(world.dossier()).encode())
    del document["attachment"]
    with pytest.raises(InvalidInput, match="attachment"):
        parse_transaction(encode(document))
