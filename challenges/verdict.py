"""Votes and verdicts of a challenge. Integers only.

Each seat of the committee re-runs the receipts and votes an e-value in fixed point, or abstains with a reason (outside
the calibrated envelope, model not at hand). A verdict needs more than half of *all* seats: a seat that abstains or
stays silent counts for neither side, so silence can only make a challenge inconclusive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scoring.eip712 import Address, Bytes32, Record, Text, Wei, compute_struct_hash
from scoring.errors import InvalidInput

UPHELD_FACTOR = 100
"""The e-value that upholds, per window that the consumer could have picked."""
MAX_REASON_CHARACTERS = 200


class Verdict(StrEnum):
    """How a challenge ends."""

    UPHELD = "upheld"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(Record):
    """One seat's result. The commitment is its struct hash; `salt` keeps it secret, `validator` keeps it uncopied.

    `e_value` is fixed point and 0 when `abstention` gives a reason.
    """

    challenge_id: Bytes32
    validator: Address
    e_value: Wei
    abstention: Text
    salt: Bytes32

    def __post_init__(self) -> None:
        super(Vote, self).__post_init__()
        if len(self.abstention) > MAX_REASON_CHARACTERS:
            raise InvalidInput(f"over {MAX_REASON_CHARACTERS} characters", "abstention")
        if self.abstention and self.e_value:
            raise InvalidInput("an abstention carries no e-value", "e_value")

    @property
    def commitment(self) -> bytes:
        """What is committed before anybody reveals: 32 bytes."""
        return compute_struct_hash(self)


def compute_verdict(e_values: Sequence[int | None], *, window_count: int, scale: int) -> Verdict:
    """Return the verdict of a committee: `e_values` has one entry per seat, None for abstained or silent.

    Upheld when the median seat reaches 100 per window, rejected when the median seat is at most 1; with None standing
    at the side that changes nothing, this is "more than half of the seats". `scale` is the fixed-point unit.
    """
    if window_count < 1 or scale < 1:
        raise InvalidInput("expected at least one window and a positive scale", "window_count")
    votes = [value for value in e_values if value is not None]
    threshold = UPHELD_FACTOR * window_count * scale
    if 2 * sum(value >= threshold for value in votes) > len(e_values):
        return Verdict.UPHELD
    if 2 * sum(value <= scale for value in votes) > len(e_values):
        return Verdict.REJECTED
    return Verdict.INCONCLUSIVE
