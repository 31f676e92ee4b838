"""One network's life, played once for all tests that only look at it: four epochs with providers of every character."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from simulation.network import open_network
from simulation.provider import BROKEN, StandIn
from simulation.setting import provider_key

from ledger.state.genesis import Genesis
from ledger.state.holdings import LedgerState, Provider
from scoring.ecdsa import address_of
from validator.casework import Casework
from validator.epoch import CertifiedOutcome
from validator.messages import RevealMessage
from validator.store import Store

EPOCHS = 5
CAST = ("honest", "honest-two", "liar", "flaky", *sorted(BROKEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was left behind. `outcomes[epoch][seat]`; `stores` are open again for reading."""

    genesis: Genesis
    outcomes: tuple[Mapping[int, CertifiedOutcome], ...]
    own_reveals: tuple[Mapping[int, RevealMessage], ...]
    ledger: LedgerState
    stores: tuple[Store, ...]
    providers: Mapping[str, StandIn]
    casework: tuple[Casework, ...]

    def last(self, seat: int = 0) -> CertifiedOutcome:
        """Return the newest outcome of a seat."""
        return self.outcomes[-1][seat]

    def holder(self, name: str) -> Provider:
        """Return what the ledger holds of a provider."""
        return self.ledger.registry.providers[address_of(provider_key(name))]


@cache
def play_story() -> Story:
    """Play it, once in a process, whatever event loop the tests have."""
    return asyncio.run(_play(Path(tempfile.mkdtemp(prefix="quiver-story-"))))


async def _play(directory: Path) -> Story:
    outcomes, own_reveals = [], []
    async with open_network(directory, providers=CAST) as network:
        for epoch in range(EPOCHS):
            results = await network.run_epoch(epoch)
            for result in results.values():
                if isinstance(result, BaseException):
                    raise result
            outcomes.append(results)
            own_reveals.append({seat.number: seat.get().load_own_reveal(epoch) for seat in network.seats})
        return Story(
            genesis=network.genesis,
            outcomes=tuple(outcomes),  # type: ignore[arg-type]
            own_reveals=tuple(own_reveals),  # type: ignore[arg-type]
            ledger=network.ledger.state,
            stores=tuple(Store(seat.directory / "store.sqlite") for seat in network.seats),
            providers=network.providers,
            casework=tuple(seat.get().casework for seat in network.seats),
        )
