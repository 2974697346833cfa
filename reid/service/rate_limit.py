"""So many requests a second for each client, and not more (a token bucket)."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["RateLimit", "client_key"]


class RateLimit:
    """A client's bucket holds ``burst`` at most and fills with ``rate`` a second.

    Args:
        rate: 0 for no limit.
        clients: buckets that are remembered; those not used for longest are forgotten first.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        clients: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._clients, self._clock = rate, burst, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # content, when

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, client: str, cost: float = 1.0) -> float:
        """Take ``cost`` out of the bucket: 0; or the seconds after which it would be there."""
        if not self._rate:
            return 0.0
        now = self._clock()
        content, before = self._buckets.pop(client, (self._burst, now))
        content = min(self._burst, content + (now - before) * self._rate)
        enough = content >= cost
        self._buckets[client] = (content - cost if enough else content, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return 0.0 if enough else max((cost - content) / self._rate, math.ulp(0.0))


def client_key(address: str | None) -> str:
    """Who an address is: an IPv6 client has a whole /64 of them."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
