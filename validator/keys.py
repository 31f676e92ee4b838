"""The three secrets of a validator and the one file that holds them.

* BLS key: commits, reveals, checkpoints, evidence and the VRF. Used through `validator.signer` alone.
* Account key (secp256k1): ledger transactions, the seat's address.
* Transport seed (Ed25519): envelopes between peers, nothing else; the registry binds its public key to the seat.

The file is `keys.json` in a directory of its own, readable by its owner only. It is never overwritten. Secrets are kept
out of `repr`, of messages and of logs.
"""

import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from scoring import bls, canonical, ecdsa
from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput, Unavailable
from scoring.hashing import tagged_digest

KEYS_FILE = "keys.json"
KEYS_KIND = "quiver-validator-keys-v1"
TRANSPORT_SEED_BYTES = 32
TRANSPORT_KEY_BYTES = 32
TRANSPORT_SIGNATURE_BYTES = 64
_MAX_FILE_BYTES = 4096
_SECRETS = {"bls_secret_key": "bls_sk", "account_secret_key": "account_sk", "transport_seed": "transport_seed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorKeys:
    """The secrets, 32 bytes each; checked on construction, hidden from `repr`. Raises InvalidInput."""

    bls_sk: bytes = field(repr=False)
    account_sk: bytes = field(repr=False)
    transport_seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        bls.sk_to_pk(self.bls_sk)
        ecdsa.address_of(self.account_sk)
        if type(self.transport_seed) is not bytes or len(self.transport_seed) != TRANSPORT_SEED_BYTES:
            raise InvalidInput(f"expected {TRANSPORT_SEED_BYTES} bytes", "transport_seed")

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Return the keys of a seed, always the same ones (devnets, tests). Raises InvalidInput under 16 bytes."""
        if len(seed) < 16:
            raise InvalidInput("expected at least 16 bytes", "seed")
        return cls(
            bls_sk=bls.key_gen(tagged_digest("quiver-key-bls", seed)),
            account_sk=_account_secret(seed),
            transport_seed=tagged_digest("quiver-key-transport", seed),
        )

    @property
    def public_key(self) -> bytes:
        """The 48-byte BLS public key."""
        return bls.sk_to_pk(self.bls_sk)

    @property
    def address(self) -> bytes:
        """The 20-byte ledger account: the name of the seat."""
        return ecdsa.address_of(self.account_sk)

    @property
    def transport_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return compute_transport_key(self.transport_seed)


def create_keys(directory: Path, keys: ValidatorKeys | None = None) -> ValidatorKeys:
    """Write `keys` (fresh random ones by default) to a directory and return them.

    The directory is made with mode 0700, the file with 0600; it appears whole or not at all. Raises InvalidInput when
    the directory holds keys already, Unavailable when it cannot be written.
    """
    chosen = keys or ValidatorKeys.from_seed(secrets.token_bytes(32))
    target = directory / KEYS_FILE
    document = {"kind": KEYS_KIND} | {name: "0x" + getattr(chosen, attr).hex() for name, attr in _SECRETS.items()}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new_file(target, json.dumps(document, indent=1).encode() + b"\n")
    except FileExistsError:
        raise InvalidInput(f"{target} exists and is not overwritten; choose another directory") from None
    except OSError as error:
        raise Unavailable(f"cannot write {target}: {error.strerror}") from error
    return chosen


def load_keys(directory: Path) -> ValidatorKeys:
    """Read the keys of a directory.

    Raises Unavailable when there are none, InvalidInput when the file is malformed or readable by others.
    """
    path = directory / KEYS_FILE
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()))
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise Unavailable(f"no keys at {path}; make them with `quiver validator init`") from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    try:
        return _parse_keys(data)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from None


def sign_transport(transport_seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte Ed25519 signature (RFC 8032, pure) of a message."""
    signature: bytes = _transport_signer(transport_seed).sign(message)
    return signature


def is_transport_signed(transport_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a 32-byte Ed25519 key signed the message; False on garbage. Costs 2 ms: check the cheap first."""
    if len(transport_key) != TRANSPORT_KEY_BYTES or len(signature) != TRANSPORT_SIGNATURE_BYTES:
        return False
    try:
        _transport_verifier(transport_key).verify(message, signature)
    except ValueError:
        return False
    return True


def compute_transport_key(transport_seed: bytes) -> bytes:
    """Return the 32-byte Ed25519 public key of a seed."""
    key: bytes = _transport_secret(transport_seed).public_key().export_key(format="raw")
    return key


def write_new_file(target: Path, data: bytes) -> None:
    """Write a file with mode 0600 that appears whole or not at all; raises FileExistsError rather than overwrite."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # link, unlike rename, refuses an existing target: two processes cannot both create the file.
        os.link(temporary, target)
    finally:
        temporary.unlink()
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _account_secret(seed: bytes) -> bytes:
    # A digest is outside 1..n-1 about once in 2**128; the counter makes the function total all the same.
    counter = 0
    while True:
        secret = tagged_digest("quiver-key-account", seed, counter.to_bytes(8, "big"))
        if 0 < int.from_bytes(secret, "big") < ecdsa.GROUP_ORDER:
            return secret
        counter += 1


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{path} is not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidInput(f"{path} can be read or written by others (mode {mode:04o}); run `chmod 600` on it")


def _parse_keys(data: bytes) -> ValidatorKeys:
    document = canonical.decode_lenient(data, _MAX_FILE_BYTES)
    if not isinstance(document, dict) or document.get("kind") != KEYS_KIND:
        raise InvalidInput(f"expected an object of kind {KEYS_KIND}", "kind")
    for name in document:
        if name not in _SECRETS and name != "kind":
            raise InvalidInput("unknown key", name)
    secret_by_field = {}
    for name, attribute in _SECRETS.items():
        try:
            secret_by_field[attribute] = parse_hex(document.get(name), name)
        except InvalidInput:
            # Never with the value: it is a secret, if a damaged one.
            raise InvalidInput("expected 32 bytes of lower-case hex with 0x", name) from None
    try:
        return ValidatorKeys(**secret_by_field)
    except InvalidInput as error:
        raise InvalidInput(f"not a usable secret key ({error.field})", "keys") from None


def _transport_secret(transport_seed: bytes) -> ECC.EccKey:
    return ECC.construct(curve="Ed25519", seed=transport_seed)  # type: ignore[arg-type]  # its stubs say str


@lru_cache(maxsize=8)
def _transport_signer(transport_seed: bytes) -> eddsa.EdDSASigScheme:
    return eddsa.new(_transport_secret(transport_seed), "rfc8032")


@lru_cache(maxsize=4096)
def _transport_verifier(transport_key: bytes) -> eddsa.EdDSASigScheme:
    return eddsa.new(eddsa.import_public_key(transport_key), "rfc8032")
