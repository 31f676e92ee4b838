"""Watching a running devnet through its public interfaces, as any protocol would: the verified feed and the ledger."""

from dataclasses import dataclass, field

from ledger.embedded.protocol import LedgerEvent
from ledger.embedded.sync_client import SyncLedgerClient
from quiver_oracle.client import FeedClient
from scoring.errors import InvalidInput, Unavailable
from scoring.feed import ValidatorSetFile
from scoring.records import FeedItem, Flag
from validator.devnet.consumer import Consumer
from validator.devnet.network import Network
from validator.devnet.result import ProviderResult

MAX_AGE_S = 3600
EXTRA_EPOCHS = 1
"""Evidence of the last epoch reaches the ledger a moment after its checkpoint: it has until the next one."""
MEMORY_EVERY = 5
"""Adding up shared pages costs the kernel time: once in this many updates is enough."""


@dataclass(slots=True)
class Watch:
    """What has been seen so far. `epoch` is the last certified one, -1 for none; `epochs` is the last to wait for."""

    network: Network
    providers: list[ProviderResult]
    epochs: int
    epoch: int = -1
    news: list[str] = field(default_factory=list)
    items: dict[str, FeedItem] = field(default_factory=dict)
    events: list[LedgerEvent] = field(default_factory=list)
    peak_memory_bytes: int = 0
    _updates: int = 0
    _feed_epoch: int = -1

    def update(self) -> None:
        """Read the ledger, and the feed of a new epoch; what does not answer now is read next time."""
        self._updates += 1
        if self._updates % MEMORY_EVERY == 1:
            self.peak_memory_bytes = max(self.peak_memory_bytes, self.network.measure_memory_bytes())
        try:
            self._read_ledger()
            if self._feed_epoch < self.epoch:
                self._read_feed()
        except (Unavailable, InvalidInput):
            # Between two epochs an index may name what is still being written; a dead process is found elsewhere.
            return

    def say(self, line: str) -> None:
        """Add a line to the news."""
        self.news.append(line)

    def is_finished(self, consumer: Consumer) -> bool:
        """Tell whether the last epoch is certified and everything that follows from it is done (or will not be)."""
        resolved = {str(event.fields.get("challenge")) for event in self.events if event.name == RESOLVED_EVENT}
        filed = {f"0x{challenge_id.hex()}" for challenge_id in consumer.challenge_ids.values()}
        return self.epoch >= self.epochs and ((len(filed) == 2 and filed <= resolved) or self.epoch >= self.epochs + 3)

    def _read_ledger(self) -> None:
        with SyncLedgerClient(self.network.ledger_url, self.network.genesis.domain) as ledger:
            self.epoch = ledger.status().epoch
            since = self.events[-1].sequence + 1 if self.events else 0
            for event in ledger.events(since):
                self.events.append(event)
                self._tell(event)
            stakes = {f"0x{view.provider.hex()}": view for view in ledger.providers()}
        for item in self.providers:
            if item.address in stakes:
                view = stakes[item.address]
                item.stake_after_wei = view.stake_wei + view.unbonding_wei
                item.slash_cap_bps = item.slash_cap_bps or view.slash_cap_bps

    def _read_feed(self) -> None:
        trusted = ValidatorSetFile(domain=self.network.genesis.domain, validator_set=self.network.genesis.validator_set)
        with FeedClient(self.network.validator_urls[0], trusted) as client:
            for item in self.providers:
                self._take(item, client.get(item.address, max_age_s=MAX_AGE_S))
        self._feed_epoch = max(item.trust_by_epoch[-1][0] for item in self.providers)

    def _take(self, item: ProviderResult, feed_item: FeedItem) -> None:
        if item.trust_by_epoch and item.trust_by_epoch[-1][0] >= feed_item.epoch:
            return
        item.trust_by_epoch.append((feed_item.epoch, feed_item.trust))
        item.accuracy_ppm, item.uptime_ppm = feed_item.accuracy_ppm, feed_item.uptime_ppm
        item.flags = [str(flag.name).lower().replace("_", "-") for flag in Flag if feed_item.flags & flag]
        self.items[item.address] = feed_item

    def _tell(self, event: LedgerEvent) -> None:
        names = {item.address: item.spec.name for item in self.providers}
        provider = names.get(str(event.fields.get("provider")), "")
        if event.name in TOLD_EVENTS:
            self.say(f"{TOLD_EVENTS[event.name]} {provider}".strip())


RESOLVED_EVENT = "challenge-resolved"
TOLD_EVENTS = {"provider-slashed": "slashed:", RESOLVED_EVENT: "challenge resolved against"}
