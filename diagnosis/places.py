"""Where a request comes from, for limits: one household, or one patient's phone, is one place."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from django.conf import settings
from django.http import HttpRequest

HOUSEHOLD: Final = 64  # bits of an IPv6 address that a household or phone has to itself


def place_of(request: HttpRequest) -> str:
    """The client's address, of IPv6 the /64; "" when the server knows none.

    Behind a proxy named in TRUSTED_PROXY every request comes from the proxy; then the newest address in
    X-Forwarded-For that is no trusted proxy's is the client. Anybody may send the header: from elsewhere it
    is not read.
    """
    address = _parsed(request.META.get("REMOTE_ADDR", ""))
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while address is not None and _trusted(address) and hops:
        before = _parsed(hops.pop().strip())
        if before is None:
            break
        address = before
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), HOUSEHOLD), strict=False))
    return str(address) if address else ""


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address; an IPv4 address written as IPv6 (::ffff:…) is the same place as without."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _trusted(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)
