"""The only place where the BLS key signs records: every signature passes the sign guard first.

Each method builds the slot of its record, has the guard write it to disk, and only then signs. A record that names
another validator is refused: nobody gets a signature for a seat that is not ours.
"""

from scoring import bls, ecdsa
from scoring.canonical import MAX_SAFE_INTEGER
from scoring.eip712 import Domain, Record, compute_signing_root
from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from scoring.records import Checkpoint, Commit, Reveal, SlashingEvidence
from scoring.vrf import compute_vrf_proof
from validator.keys import ValidatorKeys, sign_transport
from validator.sign_guard import SignGuard, Slot, SlotKind


class Signer:
    """Signs for one seat of one network. `network` is the 32-byte genesis hash, `domain` its EIP-712 domain.

    Every guarded method may raise RefusedToSign (another root holds the slot) or Unavailable (the guard cannot answer).
    """

    def __init__(self, keys: ValidatorKeys, guard: SignGuard, domain: Domain, network: bytes) -> None:
        self._keys = keys
        self._guard = guard
        self._domain = domain
        self._network = network
        self.address = keys.address
        self.public_key = keys.public_key
        self.transport_key = keys.transport_key

    def sign_commit(self, record: Commit) -> bytes:
        """Return the 96-byte BLS signature of our commit of an epoch."""
        self._require_own(record.validator)
        return self._sign(record, SlotKind.COMMIT, record.epoch, record.epoch)

    def sign_reveal(self, record: Reveal) -> bytes:
        """Return the 96-byte BLS signature of our reveal of an epoch."""
        self._require_own(record.validator)
        return self._sign(record, SlotKind.REVEAL, record.epoch, record.epoch)

    def sign_checkpoint(self, record: Checkpoint) -> bytes:
        """Return the 96-byte BLS signature of the one checkpoint that we sign in its epoch, ever."""
        return self._sign(record, SlotKind.CHECKPOINT, record.epoch, record.epoch)

    def sign_evidence(self, record: SlashingEvidence) -> bytes:
        """Return the 96-byte BLS signature of the one evidence that we sign for an offence and last epoch.

        The caller has stored the bundle and found its own e-process at the threshold.
        """
        return self._sign(record, SlotKind.EVIDENCE, compute_evidence_slot_number(record), record.last_epoch)

    def prove_vrf(self, epoch: int, alpha: bytes) -> bytes:
        """Return the 96-byte VRF proof for the input of an epoch; a second input for the epoch is refused."""
        slot = self._slot(SlotKind.VRF, epoch)
        self._guard.check_and_insert(slot, tagged_digest("quiver-vrf-slot", alpha), epoch)
        return compute_vrf_proof(self._keys.bls_sk, alpha)

    def prove_possession(self) -> bytes:
        """Return the 96-byte proof of possession for the registry; not guarded, it is always the same bytes."""
        return bls.pop_prove(self._keys.bls_sk)

    def sign_transaction(self, digest: bytes) -> bytes:
        """Return the 65-byte account signature of a ledger transaction's digest; the ledger's nonce guards it."""
        return ecdsa.sign_digest(self._keys.account_sk, digest)

    def sign_envelope(self, digest: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of a peer envelope; its counter guards it."""
        return sign_transport(self._keys.transport_seed, digest)

    def _sign(self, record: Record, kind: SlotKind, number: int, epoch: int) -> bytes:
        root = compute_signing_root(record, self._domain)
        self._guard.check_and_insert(self._slot(kind, number), root, epoch)
        return bls.sign(self._keys.bls_sk, root)

    def _slot(self, kind: SlotKind, number: int) -> Slot:
        return Slot(network=self._network, public_key=self.public_key, kind=kind, number=number)

    def _require_own(self, validator: bytes) -> None:
        if validator != self.address:
            raise InvalidInput(f"names 0x{validator.hex()}, this seat is 0x{self.address.hex()}", "validator")


def compute_evidence_slot_number(record: SlashingEvidence) -> int:
    """Return the slot number of evidence: top 53 bits of the digest of (offer, rule, case, last epoch)."""
    digest = tagged_digest(
        "quiver-evidence-slot",
        record.offer_digest,
        record.rule.encode(),
        record.case_index.to_bytes(8, "big"),
        record.last_epoch.to_bytes(8, "big"),
    )
    return int.from_bytes(digest[:8], "big") >> 11 & MAX_SAFE_INTEGER
