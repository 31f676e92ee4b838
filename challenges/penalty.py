"""What an infraction costs: class, tier, cap, amount. Source: token economics document, sections 4.1 and 4.3.

Shares are basis points (1/10,000) of the whole stake, the part in unbonding included. A tier caps every single slash;
a provider below the lowest tier keeps the lowest tier's cap. Amounts round down, so nobody pays a wei too much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scoring.eip712 import Record, Text, Uint64, Wei
from scoring.errors import InvalidInput
from scoring.trust import Infraction

BPS = 10_000
SLASH_RANGES_BPS: dict[Infraction, tuple[int, int]] = {
    Infraction.MINOR: (100, 500),
    Infraction.MAJOR: (500, 1500),
    Infraction.SEVERE: (1500, 2000),
}
WEI_PER_QUIV = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier(Record):
    """One stake tier: reached with `minimum_stake_wei`, its slashes capped at `slash_cap_bps`, its fees discounted."""

    name: Text
    minimum_stake_wei: Wei
    slash_cap_bps: Uint64
    fee_discount_bps: Uint64

    def __post_init__(self) -> None:
        super(Tier, self).__post_init__()
        if not self.name:
            raise InvalidInput("a tier needs a name", "name")
        if self.slash_cap_bps > BPS or self.fee_discount_bps > BPS:
            raise InvalidInput("beyond 10,000 bps", "slash_cap_bps")


TIERS: tuple[Tier, ...] = (
    Tier(name="bronze", minimum_stake_wei=10_000 * WEI_PER_QUIV, slash_cap_bps=500, fee_discount_bps=0),
    Tier(name="silver", minimum_stake_wei=50_000 * WEI_PER_QUIV, slash_cap_bps=1000, fee_discount_bps=1000),
    Tier(name="gold", minimum_stake_wei=250_000 * WEI_PER_QUIV, slash_cap_bps=1500, fee_discount_bps=2000),
    Tier(name="platinum", minimum_stake_wei=1_000_000 * WEI_PER_QUIV, slash_cap_bps=2000, fee_discount_bps=3000),
)


def verify_tiers(tiers: Sequence[Tier]) -> None:
    """Raise InvalidInput unless there is a tier and stakes and caps rise from one to the next."""
    if not tiers:
        raise InvalidInput("there must be at least one tier", "tiers")
    for lower, higher in pairwise(tiers):
        if lower.minimum_stake_wei >= higher.minimum_stake_wei or lower.slash_cap_bps > higher.slash_cap_bps:
            raise InvalidInput("stakes must rise and caps must not fall from tier to tier", "tiers")


def compute_tier(stake_wei: int, tiers: Sequence[Tier]) -> Tier | None:
    """Return the highest tier that the stake reaches, None below the lowest."""
    return next((tier for tier in reversed(tiers) if stake_wei >= tier.minimum_stake_wei), None)


def compute_class(slash_bps: int) -> Infraction:
    """Return the class of a slash; where two ranges touch (500, 1500) it is the graver one. Raises InvalidInput."""
    for infraction in (Infraction.SEVERE, Infraction.MAJOR, Infraction.MINOR):
        lowest, highest = SLASH_RANGES_BPS[infraction]
        if lowest <= slash_bps <= highest:
            return infraction
    raise InvalidInput(f"{slash_bps} is outside every class (100..2000 bps)", "slash_bps")


def verify_slash_bps(infraction: Infraction, slash_bps: int) -> None:
    """Raise InvalidInput unless the slash lies in the range of its class."""
    if infraction not in SLASH_RANGES_BPS:
        raise InvalidInput(f"{infraction} is not a class that slashes", "infraction")
    lowest, highest = SLASH_RANGES_BPS[infraction]
    if not lowest <= slash_bps <= highest:
        raise InvalidInput(f"{slash_bps} is outside {lowest}..{highest} bps of a {infraction} infraction", "slash_bps")


def compute_slash_wei(stake_wei: int, slash_bps: int, tiers: Sequence[Tier]) -> int:
    """Return the wei to burn: the smaller of the slash and the tier's cap, of the whole stake, rounded down."""
    tier = compute_tier(stake_wei, tiers) or tiers[0]
    return stake_wei * min(slash_bps, tier.slash_cap_bps) // BPS
