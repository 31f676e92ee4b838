"""Filing a challenge on the embedded ledger, for the command line and the devnet's consumer."""

from challenges.filing import Dossier
from ledger.embedded.sync_client import SyncLedgerClient
from ledger.state.genesis import parse_genesis
from ledger.state.transactions import OpenChallenge
from scoring.eip712 import Domain

_ANY_DOMAIN = Domain(chain_id=0, verifying_contract=bytes(20))


def open_ledger(url: str) -> SyncLedgerClient:
    """Return a client of the ledger at a URL, on the network that its genesis file names.

    The genesis is the ledger's own word: a signature made for it is worth nothing on another network.
    """
    with SyncLedgerClient(url, _ANY_DOMAIN) as asking:
        genesis = parse_genesis(asking.genesis())
    return SyncLedgerClient(url, genesis.domain)


def file_challenge(ledger: SyncLedgerClient, secret_key: bytes, dossier: Dossier) -> bytes:
    """File a challenge over a dossier and return its id; raises OracleError when the ledger refuses."""
    receipt = dossier.entries[0].receipt.receipt
    terms = parse_genesis(ledger.genesis()).parameters.challenge
    accepted = ledger.send(
        OpenChallenge,
        secret_key,
        attachment=dossier,
        provider=receipt.provider,
        offer_digest=receipt.offer_digest,
        dossier_digest=dossier.digest,
        filing_fee_wei=terms.filing_fee_wei,
        bond_wei=terms.bond_wei,
    )
    return accepted.digest
