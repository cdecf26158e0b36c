"""Who gets in: rates by token bucket, addresses by network, and the peer behind our proxies."""

import ipaddress
from collections.abc import Sequence

from edo_stream.core.remembering import remembered

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Bucket:
    """Tokens that come back at a rate, up to a burst."""

    __slots__ = ("_at_s", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        if self._at_s is not None:
            back = (now_s - self._at_s) * self._rate
            self._tokens = min(self._burst, self._tokens + max(0.0, back))
        self._at_s = now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


@remembered(4_096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    address = _address(text)
    return address is not None and any(address in network for network in networks)


def client_address(peer: str, forwarded: bytes | None, proxies: Sequence[Network]) -> str:
    """Address of the client: the peer, or the last one in ``X-Forwarded-For`` that is no proxy.

    What stands before that one was written by the client itself and proves nothing.
    """
    if not forwarded or not is_within(peer, proxies):
        return peer
    address = peer
    for part in reversed(forwarded.decode("latin-1").split(",")):
        address = part.strip()
        if not is_within(address, proxies):
            break
    return address
