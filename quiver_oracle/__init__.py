"""The public face of the QUIVer oracle: verify scores, evidence and receipts, read the feed, test against a mock.

    from quiver_oracle import FeedClient, parse_validator_set_file

    trusted = parse_validator_set_file(Path("validators.json").read_bytes())
    with FeedClient("https://relay.example", trusted) as client:
        item = client.get("0x...", max_age_s=7200)
    print(item.trust, item.trust_low, item.trust_high)

Only names of this package are meant to be imported; the packages beneath it may move. They have common names, so when
another distribution has taken one of them, using anything here raises ImportError with a sentence that says so.
"""

from typing import NoReturn

from quiver_oracle.collision import LIBRARY_PACKAGES, find_collision

_collision = find_collision(LIBRARY_PACKAGES)

if _collision is None:
    from challenges.evidence import EvidenceFile, parse_evidence_file, verify_evidence
    from challenges.receipt import SignedOffer, SignedReceipt, verify_offer, verify_receipt
    from quiver_oracle.client import FeedClient
    from quiver_oracle.mock import MockFeed, MockNetwork, build_mock_item, build_mock_network
    from scoring.certificate import verify_certificate
    from scoring.eip712 import Domain, compute_signing_root, compute_struct_hash, compute_typed_data
    from scoring.errors import InvalidInput, OracleError, Unavailable, VerificationFailed
    from scoring.feed import (
        FeedProof,
        ValidatorSetFile,
        parse_feed_proof,
        parse_validator_set_file,
        verify_feed_proof,
    )
    from scoring.records import (
        Certificate,
        Checkpoint,
        FeedItem,
        Flag,
        Offer,
        Receipt,
        ValidatorEntry,
        ValidatorSet,
    )

    __all__ = [
        "Certificate",
        "Checkpoint",
        "Domain",
        "EvidenceFile",
        "FeedClient",
        "FeedItem",
        "FeedProof",
        "Flag",
        "InvalidInput",
        "MockFeed",
        "MockNetwork",
        "Offer",
        "OracleError",
        "Receipt",
        "SignedOffer",
        "SignedReceipt",
        "Unavailable",
        "ValidatorEntry",
        "ValidatorSet",
        "ValidatorSetFile",
        "VerificationFailed",
        "build_mock_item",
        "build_mock_network",
        "compute_signing_root",
        "compute_struct_hash",
        "compute_typed_data",
        "parse_evidence_file",
        "parse_feed_proof",
        "parse_validator_set_file",
        "verify_certificate",
        "verify_evidence",
        "verify_feed_proof",
        "verify_offer",
        "verify_receipt",
    ]
else:
    _message = _collision.message

    # The command line must still start, to say the same in one line instead of a traceback.
    def __getattr__(name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(_message)
