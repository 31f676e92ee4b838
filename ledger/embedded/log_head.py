"""Signed log heads in the C2SP tlog-checkpoint form: a signed note with the Ed25519 signature of the ledger's operator.

The text is `origin`, `size` and base64 `root`, a line each; then a blank line; then for each signature a line of an em
dash, the key's name, and base64 of key id || signature. Key id: the first 4 bytes of SHA-256(name || 0x0A || 0x01 ||
public key). Lines of others (cosigners) are allowed and skipped. Sources: C2SP signed-note and tlog-checkpoint.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from scoring.errors import InvalidInput, VerificationFailed

MAX_NOTE_BYTES = 16 * 1024
_ED25519 = b"\x01"
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """The state of a log: its origin line, its number of entries, its 32-byte root."""

    origin: str
    size: int
    root: bytes

    def encode_text(self) -> bytes:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


def build_origin(network: bytes) -> str:
    """Return the origin line of a network's ledger, which is the name of the operator's key too."""
    return f"quiver-oracle/ledger/{network.hex()}"


def derive_public_key(secret_key: bytes) -> bytes:
    """Return the 32-byte Ed25519 public key of a 32-byte seed."""
    key: bytes = _import_secret(secret_key).public_key().export_key(format="raw")
    return key


def sign_log_head(head: LogHead, secret_key: bytes) -> bytes:
    """Return the signed note; deterministic."""
    text = head.encode_text()
    signature = eddsa.new(_import_secret(secret_key), "rfc8032").sign(text)
    line = base64.b64encode(_compute_key_id(head.origin, derive_public_key(secret_key)) + signature).decode()
    return text + f"\n{_DASH}{head.origin} {line}\n".encode()


def verify_log_head(note: bytes, origin: str, public_key: bytes) -> LogHead:
    """Return the head of a signed note; raises VerificationFailed unless that key of that origin signed it."""
    head, signatures = parse_note(note)
    if head.origin != origin:
        raise VerificationFailed(f"the log head is of {head.origin}, expected {origin}")
    key_id = _compute_key_id(origin, public_key)
    ours = [data[4:] for name, data in signatures if name == origin and data[:4] == key_id]
    if not ours:
        raise VerificationFailed("the log head carries no signature of the operator's key")
    try:
        eddsa.new(eddsa.import_public_key(public_key), "rfc8032").verify(head.encode_text(), ours[0])
    except ValueError:
        raise VerificationFailed("the operator's signature on the log head does not hold") from None
    return head


def parse_note(note: bytes) -> tuple[LogHead, tuple[tuple[str, bytes], ...]]:
    """Split a note into its head and its (name, key id || signature) lines; raises InvalidInput."""
    if len(note) > MAX_NOTE_BYTES:
        raise InvalidInput(f"over {MAX_NOTE_BYTES} bytes", "log head")
    try:
        text, lines = note.decode().split("\n\n", 1)
        origin, size, root = text.split("\n")
        head = LogHead(origin=origin, size=int(size), root=base64.b64decode(root, validate=True))
        signatures = tuple(_parse_signature(line) for line in lines.removesuffix("\n").split("\n"))
    except (ValueError, binascii.Error):
        raise InvalidInput("not a signed note of a log head", "log head") from None
    if len(head.root) != 32 or head.encode_text() != text.encode() + b"\n":
        raise InvalidInput("not in its one form", "log head")
    return head, signatures


def _parse_signature(line: str) -> tuple[str, bytes]:
    if not line.startswith(_DASH):
        raise ValueError("no signature line")
    name, data = line.removeprefix(_DASH).split(" ")
    return name, base64.b64decode(data, validate=True)


def _compute_key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def _import_secret(secret_key: bytes) -> ECC.EccKey:
    if len(secret_key) != 32:
        raise InvalidInput("expected 32 bytes", "operator key")
    return eddsa.import_private_key(secret_key)
