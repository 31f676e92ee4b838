"""Catching up from peers of whom none is believed: every row is one lie, and after it nothing has changed."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from simulation.engine import VOCABULARY, FakeEngine
from simulation.ledger import MemoryLedger
from simulation.setting import NOW_S, build_validator_keys
from simulation.story import EPOCHS, Story, play_story

from ledger.state.view import LedgerView
from scoring import canonical
from scoring.errors import Unavailable
from scoring.hashing import keccak256
from validator.catch_up import catch_up
from validator.config import PhaseTimeouts
from validator.keys import create_keys
from validator.messages import Certified, RevealMessage
from validator.node import Connections, build_seat
from validator.peers import Peer, PeerRefused
from validator.seat import Seat
from validator.sign_guard import SignGuard
from validator.signer import Signer
from validator.store import DocumentKind, Store

KEYS = build_validator_keys(4)
PEERS = [Peer(address=keys.address, endpoint=f"http://seat-{number}.test") for number, keys in enumerate(KEYS)]
Lie = Callable[[str, bytes], bytes]


@dataclass
class Gossip:
    """What peers answer, from the stores of the story; `lies` change a seat's bytes, `hanging` ones never answer."""

    story: Story
    lies: dict[int, Lie] = field(default_factory=dict)
    hanging: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    documents: dict[bytes, bytes] = field(default_factory=dict)
    newest: int = EPOCHS - 1
    asked: list[str] = field(default_factory=list)

    async def get(self, peer: Peer, path: str) -> bytes:
        seat = PEERS.index(peer)
        self.asked.append(path)
        await self._reach(seat)
        name = path.rpartition("/")[2]
        store = self.story.stores[seat]
        if path.startswith("/v1/checkpoints/"):
            epoch = str(self.newest) if name == "latest" else name
            body = store.get_document(DocumentKind.CHECKPOINT, epoch)
        else:
            body = store.get_document(DocumentKind.LEDGER_VIEW, name.removeprefix("0x"))
        if body is None:
            raise PeerRefused("refused", 404)
        return self.lies.get(seat, lambda _, bytes_: bytes_)(path, body)

    async def fetch_document(self, peer: Peer, digest: bytes) -> bytes:
        seat = PEERS.index(peer)
        await self._reach(seat)
        body = self.documents.get(digest) or self.story.stores[seat].find_by_digest(digest)
        if body is None:
            raise PeerRefused("refused", 404)
        return body

    async def _reach(self, seat: int) -> None:
        if seat in self.gone:
            raise Unavailable("gone")
        if seat in self.hanging:
            await asyncio.sleep(3600)


@dataclass
class Newcomer:
    """Seat 0 with an empty store."""

    story: Story
    gossip: Gossip
    seat: Seat

    async def catch_up(self, *peers: int) -> None:
        await catch_up(self.seat, [PEERS[number] for number in peers or (1, 2, 3)], self.gossip)  # type: ignore[arg-type]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    story = play_story()
    genesis, gossip = story.genesis, Gossip(story)
    store = Store(tmp_path / "store.sqlite")
    create_keys(tmp_path / "keys", KEYS[0])
    guard = SignGuard.open(tmp_path / "guard.sqlite", tmp_path / "keys")
    connections = Connections(
        signer=Signer(KEYS[0], guard, genesis.domain, genesis.network),
        store=store,
        ledger=MemoryLedger(),  # type: ignore[arg-type]
        engine=FakeEngine(),  # type: ignore[arg-type]
        vocabulary_size=VOCABULARY,
        providers=None,  # type: ignore[arg-type]
        peers=gossip,  # type: ignore[arg-type]
        now_s=lambda: NOW_S,
    )
    yield Newcomer(story, gossip, build_seat(genesis, KEYS[0], connections, PEERS, PhaseTimeouts(), 4))
    store.close()
    guard.close()


def assert_caught_up(newcomer: Newcomer) -> None:
    story = newcomer.story
    assert newcomer.seat.last_epoch == EPOCHS - 1
    assert newcomer.seat.state == story.last().outcome.state
    assert dict(newcomer.seat.casework.cases) == dict(story.casework[0].cases)


async def test_a_newcomer_comes_to_everybodys_state_and_its_own_cases(newcomer: Newcomer) -> None:
    await newcomer.catch_up()
    assert_caught_up(newcomer)


async def test_who_knows_everything_asks_for_nothing_more(newcomer: Newcomer) -> None:
    await newcomer.catch_up()
    newcomer.gossip.asked.clear()
    await newcomer.catch_up()
    assert newcomer.gossip.asked == ["/v1/checkpoints/latest"] * 3


async def test_what_was_caught_up_with_survives_a_restart(newcomer: Newcomer) -> None:
    await newcomer.catch_up()
    seat = newcomer.seat
    state, previous = seat.state, seat.previous
    seat.state, seat.checkpoints = replace(state, trust=()), {}
    await seat.recover()
    assert (seat.state, seat.previous) == (state, previous)


async def test_peers_that_are_gone_or_hang_are_passed_over(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("validator.catch_up.ASK_S", 0.1)
    newcomer.gossip.gone, newcomer.gossip.hanging = {1}, {2}
    async with asyncio.timeout(30):
        await newcomer.catch_up()
    assert_caught_up(newcomer)


async def test_a_peer_that_stops_answering_half_way_is_passed_over(
    newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validator.catch_up.FETCH_S", 0.2)

    def hang_later(path: str, body: bytes) -> bytes:
        if path.endswith("/2"):
            newcomer.gossip.hanging.add(1)
        return body

    newcomer.gossip.lies[1] = hang_later
    async with asyncio.timeout(30):
        await newcomer.catch_up()
    assert_caught_up(newcomer)


def change_certified(**changes: Callable[[Certified], Any]) -> Lie:
    """Change fields of the proposal in every checkpoint that is served by its number."""

    def lie(path: str, body: bytes) -> bytes:
        if not path.startswith("/v1/checkpoints/"):
            return body
        certified = Certified.from_json(canonical.decode(body))
        proposal = replace(certified.proposal, **{name: make(certified) for name, make in changes.items()})
        return canonical.encode(replace(certified, proposal=proposal).to_json())

    return lie


def change_certificate(**changes: Any) -> Lie:
    """Change fields of the certificate in every checkpoint that is served by its number."""

    def lie(path: str, body: bytes) -> bytes:
        if not path.startswith("/v1/checkpoints/") or path.endswith("latest"):
            return body
        certified = Certified.from_json(canonical.decode(body))
        certificate = replace(certified.certificate, **changes)
        return canonical.encode(replace(certified, certificate=certificate).to_json())

    return lie


def change_view(change: Callable[[LedgerView], LedgerView]) -> Lie:
    def lie(path: str, body: bytes) -> bytes:
        return change(LedgerView.decode(body)).encode() if path.startswith("/v1/views/") else body

    return lie


def without_offers(view: LedgerView) -> LedgerView:
    return replace(view, providers=())


def serve_wrong_epoch(path: str, body: bytes) -> bytes:
    if path.startswith("/v1/checkpoints/"):
        stored = play_story().stores[1].get_document(DocumentKind.CHECKPOINT, "1")
        assert stored is not None
        return stored
    return body


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda path, body: b"", id="nothing"),
        pytest.param(lambda path, body: b"\xff" * 100, id="no text"),
        pytest.param(lambda path, body: b"{}", id="an empty object"),
        pytest.param(lambda path, body: body + b" ", id="bytes that are not canonical"),
        pytest.param(lambda path, body: body[:-20], id="a part"),
        pytest.param(serve_wrong_epoch, id="the newest checkpoint for every epoch"),
        pytest.param(change_certificate(signers=b"\x03"), id="a certificate of two seats"),
        pytest.param(change_certificate(signature=b"\xc0" + bytes(95)), id="a certificate that nobody signed"),
        pytest.param(
            change_certified(checkpoint=lambda it: replace(it.proposal.checkpoint, feed_root=bytes(32))),
            id="another checkpoint under the certificate",
        ),
        pytest.param(
            change_certified(checkpoint=lambda it: replace(it.proposal.checkpoint, epoch=10**6)),
            id="an epoch far ahead",
        ),
        pytest.param(
            change_certified(seats=lambda it: it.proposal.seats[:3], reveals=lambda it: it.proposal.reveals[:3]),
            id="a reveal left out",
        ),
        pytest.param(
            change_certified(reveals=lambda it: (it.proposal.reveals[1], *it.proposal.reveals[1:])),
            id="a reveal twice",
        ),
        pytest.param(change_certified(seats=lambda it: (*it.proposal.seats[:3], 900)), id="a seat that does not exist"),
        pytest.param(change_certified(reveals=lambda it: (bytes(32),) * 4), id="reveals that nobody has"),
        pytest.param(change_view(without_offers), id="a view without offers"),
        pytest.param(
            change_view(lambda view: replace(view, providers=view.providers[::-1][:2])), id="a view of two offers"
        ),
        pytest.param(lambda path, body: b"[]" if "views" in path else body, id="no view"),
    ],
)
async def test_a_lie_is_passed_over_and_the_next_peer_is_asked(newcomer: Newcomer, lie: Lie) -> None:
    newcomer.gossip.lies = {1: lie, 2: lie}
    newcomer.gossip.newest = 1
    await newcomer.catch_up(1, 2)
    # Nobody was probed in epoch 0, so some lies have nothing to be about before epoch 1.
    assert newcomer.seat.last_epoch < 1
    await newcomer.catch_up(1, 2, 3)
    assert newcomer.seat.last_epoch == 1
    assert newcomer.seat.state == newcomer.story.outcomes[1][0].outcome.state


async def test_transcripts_that_are_not_those_of_the_reveal_are_refused(newcomer: Newcomer) -> None:
    """The certificate signs the reveals, not their transcripts: those are checked anew."""
    gossip, story = newcomer.gossip, newcomer.story

    def strip(certified: Certified) -> tuple[bytes, ...]:
        digests = []
        for digest in certified.proposal.reveals:
            body = story.stores[1].find_by_digest(digest)
            assert body is not None
            message = replace(RevealMessage.from_json(canonical.decode(body)), transcripts=())
            stripped = canonical.encode(message.to_json())
            gossip.documents[keccak256(stripped)] = stripped
            digests.append(keccak256(stripped))
        return tuple(digests)

    gossip.lies = {1: change_certified(reveals=strip)}
    await newcomer.catch_up(1)
    assert newcomer.seat.last_epoch == 0
    await newcomer.catch_up(1, 2)
    assert_caught_up(newcomer)


async def test_too_large_a_gap_is_left_to_the_operator(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("validator.catch_up.MAX_GAP_EPOCHS", 2)
    await newcomer.catch_up()
    assert newcomer.seat.last_epoch == -1
