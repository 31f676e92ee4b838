"""What a certified epoch leaves behind: checkpoint, certificate, feed index, proof files and state, in one transaction.

Files of an epoch never change once written; the newest epoch is what `latest` means.
"""

from collections.abc import Sequence

from scoring import canonical
from scoring.eip712 import Domain
from scoring.errors import OracleError
from scoring.feed import build_feed, build_feed_proofs
from scoring.feed_index import build_feed_index
from scoring.hashing import keccak256
from scoring.outcome import AggregationState
from scoring.records import Checkpoint, Commit
from validator.board import EpochBoard
from validator.epoch import CertifiedOutcome
from validator.messages import Certified, RevealMessage
from validator.store import DocumentKind, Store, build_seat_key

Row = tuple[DocumentKind, str, int, bytes]
INDEX_FILE = "index"
LOOK_BACK_EPOCHS = 1000


def publish_epoch(store: Store, certified: CertifiedOutcome, domain: Domain) -> None:
    """Store everything about a certified epoch, all or nothing."""
    checkpoint, epoch = certified.checkpoint, certified.context.epoch
    feed = build_feed(certified.outcome.feed_items)
    proofs = build_feed_proofs(feed, checkpoint, certified.certificate, domain, certified.context.inputs.validator_set)
    index = build_feed_index(feed, epoch)
    rows: list[Row] = [
        (DocumentKind.CHECKPOINT, str(epoch), epoch, canonical.encode(certified.certified.to_json())),
        (DocumentKind.AGGREGATION, str(epoch), epoch, certified.outcome.state.encode()),
        (DocumentKind.FEED_PROOF, f"{epoch}:{INDEX_FILE}", epoch, index.encode()),
    ]
    for entry, proof in zip(index.entries, proofs, strict=True):
        rows.append((DocumentKind.FEED_PROOF, f"{epoch}:{entry.file}", epoch, proof.encode()))
    for item in certified.outcome.case_items:
        key = f"{epoch}:{item.offer_digest.hex()}"
        rows.append((DocumentKind.CASE_ITEM, key, epoch, item.encode()))
    rows += [_build_reveal_row(message) for message in certified.reveals.values()]
    store.put_documents(rows)


def keep_reveal(store: Store, message: RevealMessage) -> None:
    """Store a reveal message where peers find it by its digest."""
    store.put_documents([_build_reveal_row(message)])


def load_certified(store: Store, epoch: int) -> Certified | None:
    """Return the certified checkpoint of an epoch from the store, or None."""
    body = store.get_document(DocumentKind.CHECKPOINT, str(epoch))
    return None if body is None else Certified.from_json(canonical.decode(body))


def load_checkpoints(store: Store, count: int) -> dict[int, Checkpoint]:
    """Return the last `count` certified checkpoints in the store by epoch."""
    latest = store.find_latest(DocumentKind.CHECKPOINT)
    if latest is None:
        return {}
    # Epochs without certificate leave gaps, so the last few are looked for in a window much larger than them.
    first = max(0, latest.epoch - LOOK_BACK_EPOCHS)
    documents = store.list_documents_between(DocumentKind.CHECKPOINT, first, latest.epoch)[-count:]
    found = (Certified.from_json(canonical.decode(document.body)).proposal.checkpoint for document in documents)
    return {checkpoint.epoch: checkpoint for checkpoint in found}


def load_messages(store: Store, board: EpochBoard, addresses: Sequence[bytes]) -> None:
    """Put the commits and reveals that came before a restart back on the board of their epoch."""
    seats = {address: seat for seat, address in enumerate(addresses)}
    for document in store.list_documents(DocumentKind.COMMIT, board.epoch):
        commit = Commit.decode(document.body)
        if seats[commit.validator] not in board.commits:
            board.put_commit(seats[commit.validator], commit)
    for document in store.list_documents(DocumentKind.REVEAL, board.epoch):
        message = RevealMessage.from_json(canonical.decode(document.body))
        if seats[message.reveal.validator] not in board.reveals:
            board.put_reveal(seats[message.reveal.validator], message)


def load_state(store: Store) -> AggregationState | None:
    """Return the newest aggregation state in the store, or None before the first epoch."""
    document = store.find_latest(DocumentKind.AGGREGATION)
    return None if document is None else AggregationState.decode(document.body)


def load_reveals(store: Store, certified: Certified) -> dict[int, RevealMessage]:
    """Return the reveals that a certified epoch was computed from, by seat; raises OracleError when one is missing."""
    proposal = certified.proposal
    found = {}
    for seat, digest in zip(proposal.seats, proposal.reveals, strict=True):
        body = store.find_by_digest(digest, frozenset({DocumentKind.REVEAL}))
        if body is None:
            raise OracleError(f"the reveal of seat {seat} in epoch {proposal.checkpoint.epoch} is not in the store")
        found[seat] = RevealMessage.from_json(canonical.decode(body))
    return found


def _build_reveal_row(message: RevealMessage) -> Row:
    # Under its digest too: a seat may send two, and a certificate may name the one that came second.
    body = canonical.encode(message.to_json())
    key = f"{build_seat_key(message.reveal.epoch, message.reveal.validator)}:{keccak256(body).hex()}"
    return (DocumentKind.REVEAL, key, message.reveal.epoch, body)
