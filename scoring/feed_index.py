"""The index of a feed: which proof file belongs to which offer. It is unsigned and only saves readers from guessing.

Files lie at `/v1/feed/<epoch>/<file>` and never change; the index of the newest epoch is `/v1/feed/latest`. A lying
index can hide an item, which a reader sees as missing or stale; it cannot make one up.
"""

import re
from collections import Counter
from dataclasses import dataclass

from scoring import canonical
from scoring.canonical import Json
from scoring.eip712 import Address, Bytes32, Record, Text
from scoring.errors import InvalidInput
from scoring.feed import Feed
from scoring.records import FeedItem

FEED_INDEX_KIND = "quiver-feed-index-v1"
MAX_FEED_INDEX_BYTES = 4 * 1024 * 1024
_FILE_NAME = re.compile(r"0x[0-9a-f]{40}(-0x[0-9a-f]{64})?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedIndexEntry(Record):
    """One offer's proof file."""

    provider: Address
    offer_digest: Bytes32
    file: Text

    def __post_init__(self) -> None:
        super(FeedIndexEntry, self).__post_init__()
        if not _FILE_NAME.fullmatch(self.file):
            raise InvalidInput("not the name of a proof file", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedIndex:
    """The proof files of one epoch."""

    epoch: int
    entries: tuple[FeedIndexEntry, ...]

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        entries: list[Json] = [entry.to_json() for entry in self.entries]
        return canonical.encode({"kind": FEED_INDEX_KIND, "epoch": self.epoch, "entries": entries})


def build_feed_index(feed: Feed, epoch: int) -> FeedIndex:
    """Return the index of a feed: `<provider>.json`, with `-<offer digest>` where a provider has several offers."""
    offers = Counter(item.provider for item in feed.items)
    entries = (
        FeedIndexEntry(
            provider=item.provider,
            offer_digest=item.offer_digest,
            file=_file_name(item, is_only=offers[item.provider] == 1),
        )
        for item in feed.items
    )
    return FeedIndex(epoch=epoch, entries=tuple(entries))


def parse_feed_index(data: bytes) -> FeedIndex:
    """Parse the canonical bytes of an index; raises InvalidInput with the field's name."""
    value = canonical.decode(data, MAX_FEED_INDEX_BYTES)
    if not isinstance(value, dict) or set(value) != {"kind", "epoch", "entries"} or value["kind"] != FEED_INDEX_KIND:
        raise InvalidInput(f"expected an object of kind {FEED_INDEX_KIND} with epoch and entries")
    epoch, entries = value["epoch"], value["entries"]
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise InvalidInput("expected a whole number", "epoch")
    if not isinstance(entries, list):
        raise InvalidInput("expected a list", "entries")
    return FeedIndex(epoch=epoch, entries=tuple(FeedIndexEntry.from_json(entry) for entry in entries))


def _file_name(item: FeedItem, *, is_only: bool) -> str:
    provider = f"0x{item.provider.hex()}"
    return f"{provider}.json" if is_only else f"{provider}-0x{item.offer_digest.hex()}.json"
