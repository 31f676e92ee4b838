"""What the peers have said of one epoch, and waiting for enough of it. No I/O: messages are put, rounds wait."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scoring.errors import InvalidInput
from scoring.records import Commit
from validator.messages import Certified, Proposal, RevealMessage


@dataclass(slots=True)
class EpochBoard:
    """The messages of one epoch by seat. First writing wins: a second, different one is refused and noted as a fault.

    `opened_s` is when our own round began, in seconds of the event loop; `own_vote` is the proposal that we signed.
    """

    epoch: int
    commits: dict[int, Commit] = field(default_factory=dict)
    late_seats: set[int] = field(default_factory=set)
    reveals: dict[int, RevealMessage] = field(default_factory=dict)
    proposals: dict[int, Proposal] = field(default_factory=dict)
    votes: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    certificates: dict[int, Certified] = field(default_factory=dict)
    own_vote: Proposal | None = None
    has_revealed: bool = False
    opened_s: float | None = None
    faults: set[tuple[int, str]] = field(default_factory=set)
    _voted: dict[int, bytes] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_certified(self) -> bool:
        """Whether a verified certificate of the epoch has come in."""
        return bool(self.certificates)

    def put_commit(self, seat: int, commit: Commit) -> None:
        """Keep a seat's commit; one that arrives after our own reveal is late (it may have been copied)."""
        if self._is_new(self.commits, seat, commit, "two commits"):
            self.commits[seat] = commit
            if self.has_revealed:
                self.late_seats.add(seat)
        self._notify()

    def put_reveal(self, seat: int, message: RevealMessage) -> None:
        """Keep a seat's reveal as it came; the round verifies it."""
        if self._is_new(self.reveals, seat, message, "two reveals"):
            self.reveals[seat] = message
        self._notify()

    def put_proposal(self, seat: int, proposal: Proposal) -> None:
        """Keep a leader's proposal."""
        if self._is_new(self.proposals, seat, proposal, "two proposals"):
            self.proposals[seat] = proposal
        self._notify()

    def put_vote(self, seat: int, signing_root: bytes, signature: bytes) -> None:
        """Keep a verified vote for a checkpoint's signing root; a seat votes for one root in an epoch."""
        if self._is_new(self._voted, seat, signing_root, "two votes"):
            self._voted[seat] = signing_root
            self.votes.setdefault(signing_root, {})[seat] = signature
        self._notify()

    def put_certified(self, seat: int, certified: Certified) -> None:
        """Keep a verified certificate, one from each seat: which reveals it names is its sender's word alone."""
        self.certificates.setdefault(seat, certified)
        self._notify()

    async def wait_until(self, is_enough: Callable[["EpochBoard"], bool], timeout_s: float) -> bool:
        """Wait for a condition on this board; returns whether it came true in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not is_enough(self):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return is_enough(self)
        return True

    def _is_new(self, known: Mapping[int, object], seat: int, value: object, fault: str) -> bool:
        earlier = known.get(seat)
        if earlier is not None and earlier != value:
            self.faults.add((seat, fault))
            raise InvalidInput(f"{fault} from one seat in epoch {self.epoch}", "epoch")
        return earlier is None

    def _notify(self) -> None:
        self._changed.set()


class Board:
    """The boards of the epochs near the current one; older and far-off ones are refused or dropped."""

    WINDOW = 4

    def __init__(self) -> None:
        self._epochs: dict[int, EpochBoard] = {}
        self._current = 0

    def at(self, epoch: int) -> EpochBoard:
        """Return the board of an epoch near the current one; raises InvalidInput outside the window."""
        if not self._current - self.WINDOW <= epoch <= self._current + self.WINDOW:
            raise InvalidInput(f"epoch {epoch} is far from the current {self._current}", "epoch")
        return self._epochs.setdefault(epoch, EpochBoard(epoch=epoch))

    def move_to(self, epoch: int) -> None:
        """Make an epoch the current one, never an earlier one, and drop those that fall out of the window."""
        self._current = max(self._current, epoch)
        self._epochs = {key: value for key, value in self._epochs.items() if key >= self._current - self.WINDOW}

    def open(self, epoch: int, now_s: float) -> EpochBoard:
        """Begin our own round of an epoch; `now_s` is the event loop's time."""
        self.move_to(epoch)
        board = self.at(epoch)
        board.opened_s = now_s
        return board
