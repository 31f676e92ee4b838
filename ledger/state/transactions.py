"""Transactions: EIP-712 records that a wallet can show, signed by the account they spend from.

On the wire: canonical JSON `{"kind", "transaction", "signature"}`, and for a challenge also `"attachment"`: its
dossier, which the record names by digest. The bytes of this document are what the ledger's log keeps. `nonce` counts
the sender's accepted transactions from 0, so nothing can be replayed.
"""

from dataclasses import dataclass

from challenges.filing import MAX_DOSSIER_BYTES, Dossier, parse_dossier
from challenges.signed import verify_signed_by
from scoring import canonical
from scoring.canonical import Json
from scoring.ecdsa import SIGNATURE_BYTES, sign_digest
from scoring.eip712 import (
    Address,
    Bytes,
    Bytes32,
    Domain,
    PublicKey,
    Record,
    Signature,
    Text,
    Uint64,
    Wei,
    compute_signing_root,
    compute_struct_hash,
    parse_hex,
)
from scoring.errors import InvalidInput
from scoring.records import Certificate, Checkpoint, Offer, SlashingEvidence

MAX_TRANSACTION_BYTES = 64 * 1024
MAX_DOCUMENT_BYTES = MAX_TRANSACTION_BYTES + MAX_DOSSIER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction(Record):
    """What every transaction begins with."""

    sender: Address
    nonce: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Transaction):
    """Move balance to another account."""

    recipient: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Transaction):
    """Move everything claimable (payouts) to the sender's balance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterProvider(Transaction):
    """Become a provider: a first stake and a first signed offer (`offer_signature` is 65 bytes)."""

    stake_wei: Wei
    offer: Offer
    offer_signature: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PostOffer(Transaction):
    """Add an offer to those of a registered provider. Offers end by expiring."""

    offer: Offer
    offer_signature: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterValidator(Transaction):
    """Take a seat: BLS key with proof of possession, Ed25519 transport key, peer endpoint, stake."""

    public_key: PublicKey
    proof_of_possession: Signature
    transport_key: Bytes32
    endpoint: Text
    stake_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStake(Transaction):
    """Move balance into the sender's stake, as provider or validator."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUnbonding(Transaction):
    """Take stake out of service; it stays slashable until withdrawn after the unbonding period."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawUnbonded(Transaction):
    """Move all stake whose unbonding period is over to the balance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPerformanceBond(Transaction):
    """Move balance into the provider's performance bond, which answers for upheld challenges."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondPerformanceBond(Transaction):
    """Move performance bond into unbonding, where it is slashable like stake and later withdrawn with it."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareInterest(Transaction):
    """A validator's word that it has an interest in `party`: it sits in no committee about that account."""

    party: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitCheckpoint(Transaction):
    """Bring a certified checkpoint; anybody may. It moves the ledger's epoch."""

    checkpoint: Checkpoint
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitEvidence(Transaction):
    """Bring certified slashing evidence; anybody may."""

    evidence: SlashingEvidence
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChallenge(Transaction):
    """File a challenge. Fee and bond are the governed amounts, named so that the wallet shows them."""

    provider: Address
    offer_digest: Bytes32
    dossier_digest: Bytes32
    filing_fee_wei: Wei
    bond_wei: Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitVerdict(Transaction):
    """A committee member's commitment: the struct hash of its `challenges.verdict.Vote`."""

    challenge_id: Bytes32
    commitment: Bytes32


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealVerdict(Transaction):
    """The vote behind a commitment; with the sender as validator these are the fields of `Vote`."""

    challenge_id: Bytes32
    e_value: Wei
    abstention: Text
    salt: Bytes32


KINDS: dict[str, type[Transaction]] = {
    "transfer": Transfer,
    "withdraw": Withdraw,
    "register-provider": RegisterProvider,
    "post-offer": PostOffer,
    "register-validator": RegisterValidator,
    "add-stake": AddStake,
    "start-unbonding": StartUnbonding,
    "withdraw-unbonded": WithdrawUnbonded,
    "post-performance-bond": PostPerformanceBond,
    "unbond-performance-bond": UnbondPerformanceBond,
    "declare-interest": DeclareInterest,
    "submit-checkpoint": SubmitCheckpoint,
    "submit-evidence": SubmitEvidence,
    "open-challenge": OpenChallenge,
    "commit-verdict": CommitVerdict,
    "reveal-verdict": RevealVerdict,
}
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction with its sender's signature and, for a challenge alone, the dossier."""

    transaction: Transaction
    signature: bytes
    attachment: Dossier | None = None

    def __post_init__(self) -> None:
        if type(self.signature) is not bytes or len(self.signature) != SIGNATURE_BYTES:
            raise InvalidInput(f"expected {SIGNATURE_BYTES} bytes", "signature")
        if isinstance(self.transaction, OpenChallenge) != (self.attachment is not None):
            raise InvalidInput("a challenge, and nothing else, comes with its dossier", "attachment")

    @property
    def kind(self) -> str:
        """The name of the transaction's kind on the wire."""
        return _KIND_OF[type(self.transaction)]

    @property
    def digest(self) -> bytes:
        """The struct hash of the record: the id of the transaction, and of a challenge."""
        return compute_struct_hash(self.transaction)

    def encode(self) -> bytes:
        """Return the canonical bytes of the wire form."""
        document: dict[str, Json] = {
            "kind": self.kind,
            "transaction": self.transaction.to_json(),
            "signature": "0x" + self.signature.hex(),
        }
        if self.attachment is not None:
            document["attachment"] = self.attachment.to_json()
        return canonical.encode(document)


def sign_transaction(
    transaction: Transaction, domain: Domain, secret_key: bytes, attachment: Dossier | None = None
) -> SignedTransaction:
    """Sign a transaction with its sender's account (secp256k1)."""
    signature = sign_digest(secret_key, compute_signing_root(transaction, domain))
    return SignedTransaction(transaction=transaction, signature=signature, attachment=attachment)


def parse_transaction(data: bytes) -> SignedTransaction:
    """Parse the canonical bytes of a transaction; raises InvalidInput with the field's name on anything off."""
    document = canonical.decode(data, MAX_DOCUMENT_BYTES)
    if not isinstance(document, dict) or not {"kind", "transaction", "signature"} <= set(document):
        raise InvalidInput("expected an object with kind, transaction and signature")
    if unknown := set(document) - {"kind", "transaction", "signature", "attachment"}:
        raise InvalidInput("unknown key in a transaction document", sorted(unknown)[0])
    kind = document["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidInput("unknown kind of transaction", "kind")
    if "attachment" not in document and len(data) > MAX_TRANSACTION_BYTES:
        raise InvalidInput(f"over {MAX_TRANSACTION_BYTES} bytes", "transaction")
    return SignedTransaction(
        transaction=KINDS[kind].from_json(document["transaction"]),
        signature=parse_hex(document["signature"], "signature"),
        attachment=parse_dossier(document["attachment"]) if "attachment" in document else None,
    )


def verify_transaction_signature(signed: SignedTransaction, domain: Domain) -> None:
    """Raise VerificationFailed unless the sender signed the transaction on this network."""
    verify_signed_by(signed.transaction, signed.signature, domain, signed.transaction.sender, "transaction")
