"""Where a web address leads: to this machine, to a private network, through a proxy, or to the public internet.

An address that a server returns is followed only to the public internet. Its name is looked up once and the connection
uses the checked IP address, so a DNS name that changes after the check has no effect (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

__all__ = ["ForbiddenAddressError", "PublicAddresses", "is_this_machine", "look_up", "may_charge", "proxy_for"]

NAT64 = ipaddress.ip_network("64:ff9b::/96")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(httpx.TransportError):
    """The address must not be connected to."""


def is_this_machine(host: str) -> bool:
    """Whether a name or address is this machine by its spelling; nothing is resolved."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return _unwrapped(ipaddress.ip_address(name)).is_loopback
    except ValueError:
        return False


def may_charge(address: str) -> bool:
    """Whether a server may charge money, judged by its address; nothing is resolved.

    Args:
        address: Its URL. This machine and private IP addresses are free; every other name counts as the internet.
    """
    host = (urlsplit(address).hostname or "").rstrip(".")
    if is_this_machine(host):
        return False
    try:
        return is_public(host)
    except ValueError:  # a name
        return True


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: not loopback, private, link-local, multicast or reserved.

    An IPv4 address within an IPv6 one (mapped, 6to4, Teredo, NAT64) counts as itself.

    Raises:
        ValueError: If it is not an IP address.
    """
    found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    return found.is_global and not found.is_multicast


def _unwrapped(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def look_up(host: str, port: int) -> list[str]:
    """Return the IP addresses of a name, in the order to try.

    Raises:
        OSError: If there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PublicAddresses:
    """Allows connections to the public internet, and to one server that the user configured.

    Args:
        server_host: Host of that server.
        server_port: Its port.
    """

    def __init__(self, server_host: str, server_port: int) -> None:
        self._server_host = server_host
        self._server_port = server_port

    def check(self, host: str, port: int, addresses: Sequence[str]) -> list[str]:
        """Return the allowed addresses.

        Args:
            host: The name, for the message.
            port: The port.
            addresses: The resolved addresses of the name.

        Raises:
            ForbiddenAddressError: If there is none.
        """
        allowed = [address for address in addresses if is_public(address)]
        if not allowed and port == self._server_port:
            own = look_up(self._server_host, port)
            allowed = [address for address in addresses if address in own]
        if not allowed:
            raise ForbiddenAddressError(
                f"{host} is an address of this machine or of a private network ({', '.join(addresses)})"
            )
        return allowed


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy for an address from the environment; this machine needs none."""
    if is_this_machine(url.host):
        return None
    known = urllib.request.getproxies()
    port = url.port or (443 if url.scheme == "https" else 80)
    address = known.get(url.scheme) or known.get("all")
    if not address or urllib.request.proxy_bypass(f"{url.host}:{port}"):
        return None
    return httpx.Proxy(address if urlsplit(address).scheme and "://" in address else f"http://{address}")
