"""The key file: made once, for its owner only, never overwritten, never told."""

import json
from pathlib import Path

import pytest

from scoring.errors import InvalidInput, Unavailable
from validator.keys import (
    KEYS_FILE,
    ValidatorKeys,
    create_keys,
    is_transport_signed,
    load_keys,
    sign_transport,
)

KEYS = ValidatorKeys.from_seed(b"validator 1 of a test network")


def test_loads_what_it_created(tmp_path: Path) -> None:
    made = create_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys") == made
    assert (tmp_path / "keys" / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [KEYS_FILE]


def test_makes_other_keys_each_time(tmp_path: Path) -> None:
    assert create_keys(tmp_path / "a").address != create_keys(tmp_path / "b").address


def test_derives_the_same_keys_from_a_seed_and_three_unlike_ones() -> None:
    again = ValidatorKeys.from_seed(b"validator 1 of a test network")
    assert again == KEYS
    assert len({KEYS.bls_sk, KEYS.account_sk, KEYS.transport_seed}) == 3
    assert ValidatorKeys.from_seed(b"validator 2 of a test network").public_key != KEYS.public_key
    assert (len(KEYS.public_key), len(KEYS.address), len(KEYS.transport_key)) == (48, 20, 32)


def test_refuses_a_short_seed() -> None:
    with pytest.raises(InvalidInput, match="16 bytes"):
        ValidatorKeys.from_seed(b"short")


def test_never_overwrites_keys(tmp_path: Path) -> None:
    create_keys(tmp_path, KEYS)
    with pytest.raises(InvalidInput, match="not overwritten"):
        create_keys(tmp_path)
    assert load_keys(tmp_path) == KEYS


def test_says_where_there_are_no_keys(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="quiver validator init"):
        load_keys(tmp_path)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o660])
def test_refuses_a_file_that_others_can_reach(tmp_path: Path, mode: int) -> None:
    create_keys(tmp_path, KEYS)
    (tmp_path / KEYS_FILE).chmod(mode)
    with pytest.raises(InvalidInput, match="chmod 600"):
        load_keys(tmp_path)


def test_shows_no_secret(tmp_path: Path) -> None:
    secrets = (KEYS.bls_sk, KEYS.account_sk, KEYS.transport_seed)
    assert not any(secret.hex() in repr(KEYS) or repr(secret) in repr(KEYS) for secret in secrets)


GOOD = {
    "kind": "quiver-validator-keys-v1",
    "bls_secret_key": "0x" + KEYS.bls_sk.hex(),
    "account_secret_key": "0x" + KEYS.account_sk.hex(),
    "transport_seed": "0x" + KEYS.transport_seed.hex(),
}
MALFORMED = [
    ("nothing", b""),
    ("no JSON", b"keys"),
    ("a list", b"[]"),
    ("another kind", json.dumps(GOOD | {"kind": "other"}).encode()),
    ("a missing key", json.dumps({name: value for name, value in GOOD.items() if name != "transport_seed"}).encode()),
    ("an unknown key", json.dumps(GOOD | {"password": ""}).encode()),
    ("a short key", json.dumps(GOOD | {"transport_seed": GOOD["transport_seed"][:-2]}).encode()),
    ("a key of zero", json.dumps(GOOD | {"bls_secret_key": "0x" + "00" * 32}).encode()),
    ("a key beyond the order", json.dumps(GOOD | {"account_secret_key": "0x" + "ff" * 32}).encode()),
    ("upper case", json.dumps(GOOD | {"transport_seed": GOOD["transport_seed"].upper()}).encode()),
    ("too much", json.dumps(GOOD).encode() + b" " * 5000),
]


@pytest.mark.parametrize("data", [row[1] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_refuses_a_key_file_with(tmp_path: Path, data: bytes) -> None:
    (tmp_path / KEYS_FILE).write_bytes(data)
    (tmp_path / KEYS_FILE).chmod(0o600)
    with pytest.raises(InvalidInput) as caught:
        load_keys(tmp_path)
    assert not any(secret.hex()[:16] in str(caught.value) for secret in (KEYS.bls_sk, KEYS.transport_seed))


def test_transport_signatures_hold_for_one_key_and_message() -> None:
    signature = sign_transport(KEYS.transport_seed, b"hello")
    assert is_transport_signed(KEYS.transport_key, b"hello", signature)
    assert not is_transport_signed(KEYS.transport_key, b"hallo", signature)
    assert not is_transport_signed(ValidatorKeys.from_seed(b"x" * 16).transport_key, b"hello", signature)


def test_transport_signatures_agree_with_rfc_8032() -> None:
    # Test 2 of section 7.1 of RFC 8032.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert sign_transport(seed, b"\x72").hex() == expected


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, b"x" * 31, b"x" * 33])
@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, b"x" * 63])
def test_transport_checks_say_no_to_garbage(key: bytes, signature: bytes) -> None:
    assert not is_transport_signed(key, b"hello", signature)
