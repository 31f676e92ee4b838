"""Signatures of Ethereum accounts, checked against eth-account."""

import contextlib

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from scoring import ecdsa
from scoring.eip712 import Domain, compute_signing_root, compute_typed_data
from scoring.errors import InvalidInput, VerificationFailed
from scoring.records import Commit

KEY = bytes(31) + b"\x07"
DIGEST = bytes(range(32))
GOOD = ecdsa.sign_digest(KEY, DIGEST)
ORDER = ecdsa.GROUP_ORDER
secret_keys = st.integers(min_value=1, max_value=ORDER - 1).map(lambda value: value.to_bytes(32, "big"))


def _high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


@given(secret_keys, st.binary(min_size=32, max_size=32))
def test_a_signature_recovers_its_account_and_equals_that_of_eth_account(key: bytes, digest: bytes) -> None:
    signature = ecdsa.sign_digest(key, digest)
    account = Account.from_key(key)
    assert ecdsa.address_of(key) == bytes.fromhex(account.address[2:])
    assert ecdsa.recover_address(digest, signature) == ecdsa.address_of(key)
    assert bytes(account.unsafe_sign_hash(digest).signature) == signature


def test_a_wallet_that_signs_typed_data_makes_the_same_signature() -> None:
    domain = Domain(chain_id=77, verifying_contract=b"\x09" * 20)
    record = Commit(validator=b"\x01" * 20, epoch=3, reveal_digest=b"\x02" * 32)
    wallet = Account.from_key(KEY).sign_message(encode_typed_data(full_message=compute_typed_data(record, domain)))
    assert bytes(wallet.signature) == ecdsa.sign_digest(KEY, compute_signing_root(record, domain))


MALFORMED = {
    "empty": b"",
    "64 bytes": GOOD[:64],
    "66 bytes": GOOD + b"\0",
    "not bytes": bytearray(GOOD),
    "v is 0": GOOD[:64] + b"\0",
    "v is 29": GOOD[:64] + bytes([29]),
    "r is zero": bytes(32) + GOOD[32:],
    "s is zero": GOOD[:32] + bytes(32) + GOOD[64:],
    "r is the order": ORDER.to_bytes(32, "big") + GOOD[32:],
    "s is the order": GOOD[:32] + ORDER.to_bytes(32, "big") + GOOD[64:],
    "s in the upper half": _high_s(GOOD),
    "r is no x of the curve": (5).to_bytes(32, "big") + GOOD[32:],
}


@pytest.mark.parametrize("signature", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses_a_malformed_signature(signature: bytes) -> None:
    with pytest.raises(InvalidInput):
        ecdsa.recover_address(DIGEST, signature)


@pytest.mark.parametrize("key", [b"", bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(33)])
def test_refuses_a_secret_key_outside_the_group(key: bytes) -> None:
    with pytest.raises(InvalidInput, match="secret_key"):
        ecdsa.sign_digest(key, DIGEST)
    with pytest.raises(InvalidInput, match="secret_key"):
        ecdsa.address_of(key)


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33), "0" * 32])
def test_refuses_a_digest_that_is_not_32_bytes(digest: bytes) -> None:
    with pytest.raises(InvalidInput, match="digest"):
        ecdsa.sign_digest(KEY, digest)
    with pytest.raises(InvalidInput, match="digest"):
        ecdsa.recover_address(digest, GOOD)


@given(st.binary(min_size=65, max_size=65))
def test_random_bytes_recover_an_account_or_are_refused(signature: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        assert len(ecdsa.recover_address(DIGEST, signature)) == 20


def test_says_who_signed_when_it_was_somebody_else() -> None:
    ecdsa.verify_signature(DIGEST, GOOD, ecdsa.address_of(KEY))
    with pytest.raises(VerificationFailed, match="signed by 0x"):
        ecdsa.verify_signature(DIGEST, GOOD, b"\x01" * 20)
    with pytest.raises(VerificationFailed):
        ecdsa.verify_signature(bytes(32), GOOD, ecdsa.address_of(KEY))
