"""TEST INSTRUMENTS: when a cheating provider cheats, and how a flaky one fails.

Draws are hashes of the request's nonce, so a devnet behaves alike in every run with the same nonces.
"""

import asyncio
from enum import Enum
from pathlib import Path

from aiohttp import web

from scoring.eip712 import parse_hex
from scoring.errors import InvalidInput
from scoring.hashing import tagged_digest
from validator.provider.api_errors import ApiError
from validator.provider.cheats import Cheats

HANG_S = 10.0
_SCALE = 2**64


class Failure(Enum):
    """How a flaky provider fails."""

    STATUS_500 = "status-500"
    DROPPED = "dropped"
    HANGING = "hanging"


def draw_share(tag: str, nonce: bytes) -> float:
    """Return a number in [0, 1) that depends on the tag and the nonce alone."""
    return int.from_bytes(tagged_digest("quiver-cheat-draw", tag.encode(), nonce)[:8], "big") / _SCALE


def is_cheated(cheats: Cheats, consumer: bytes, nonce: bytes, known: frozenset[bytes]) -> bool:
    """Whether a request is answered dishonestly; `known` are the consumers that a two-faced provider treats well."""
    if not cheats.changes_answers or (cheats.is_two_faced and consumer in known):
        return False
    return cheats.dilute_share >= 1.0 or draw_share("dilute", nonce) < cheats.dilute_share


def draw_failure(cheats: Cheats, nonce: bytes) -> Failure | None:
    """Return how this request fails, or None."""
    if draw_share("flaky", nonce) >= cheats.flaky_share:
        return None
    return list(Failure)[int(draw_share("flaky-kind", nonce) * len(Failure))]


async def misbehave(cheats: Cheats, request: web.Request, nonce: bytes) -> None:
    """Be slow, then fail as drawn: raises ApiError 500, or drops the connection at once or after a long silence."""
    if cheats.slow_ms:
        await asyncio.sleep(cheats.slow_ms / 1000)
    failure = draw_failure(cheats, nonce) if cheats.flaky_share else None
    if failure is None:
        return
    if failure is Failure.STATUS_500:
        raise ApiError(500, "internal server error", code="internal_error")
    if failure is Failure.HANGING:
        await asyncio.sleep(HANG_S)
    if request.transport is not None:
        request.transport.abort()
    raise ApiError(500, "the connection was dropped", code="internal_error")


def load_known_consumers(path: Path | None) -> frozenset[bytes]:
    """Return the addresses of a file (one 0x address a line, # comments); empty when there is no file yet.

    Raises InvalidInput with the line that is not an address.
    """
    try:
        text = "" if path is None else path.read_text()
    except FileNotFoundError:
        return frozenset()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    addresses = frozenset(parse_hex(line.lower(), "two-faced") for line in lines if line)
    if any(len(address) != 20 for address in addresses):
        raise InvalidInput(f"{path}: an address has 20 bytes", "two-faced")
    return addresses
