"""Where probes may go: an offer is written by an adversary and must not point a validator at its own network.

Addresses are checked after resolution, on the very address that is connected to, so a name that resolves differently
the second time (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver


class EndpointRefused(ValueError):
    """The endpoint is not a public address."""


class PublicResolver(AbstractResolver):
    """Resolves names and lets only public addresses through."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the public addresses of a name; raises EndpointRefused when it has others only."""
        found = await self._resolver.resolve(host, port, family)
        public = [result for result in found if is_public_address(result["host"])]
        if found and not public:
            raise EndpointRefused("the endpoint's name resolves to addresses that are not public")
        return public

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._resolver.close()


def build_connector(allows_private_endpoints: bool) -> aiohttp.TCPConnector:
    """Return the connector of probes: a fresh connection for each, so that a stale one is nobody's failure."""
    resolver = None if allows_private_endpoints else PublicResolver()
    return aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, resolver=resolver)


def require_public_endpoint(endpoint: str) -> None:
    """Raise EndpointRefused when a URL names an address that is not public; names are left to PublicResolver."""
    try:
        host = urlsplit(endpoint).hostname or ""
        ipaddress.ip_address(host)
    except ValueError:
        return
    if not is_public_address(host):
        raise EndpointRefused("the endpoint is not a public address")


def is_public_address(address: str) -> bool:
    """Say whether an IP address is routable on the public internet (unicast, also inside IPv4-mapped IPv6)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        parsed = mapped
    return parsed.is_global and not parsed.is_multicast
