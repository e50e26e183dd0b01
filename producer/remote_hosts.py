"""Which hosts may be asked for recordings: all public ones, and the private ones that are named."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from producer.errors import SourceForbidden, SourceUnreachable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Access:
    """Which servers may be asked, and how long one may be silent.

    Attributes:
        private_hosts: Hosts by name, and networks like 10.0.0.0/8, that may be private.
        timeout_s: Silence after which a server is given up; also the most that headers may take.
        trusts_first: The first host may be private: the address is ours and no job's.
    """

    private_hosts: tuple[str, ...] = ()
    timeout_s: float = 30.0
    trusts_first: bool = False


def resolve(host: str, port: int, access: Access, name: str, *, trusted: bool) -> list[str]:
    """Return the addresses of a host to which we may connect; resolved here and nowhere else.

    Raises:
        SourceUnreachable: nobody knows the host.
        SourceForbidden: one of its addresses is private, and nothing allows that.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise SourceUnreachable(name, "the host's name must be known", host) from None
    addresses = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
    if trusted or host.lower() in {each.lower() for each in access.private_hosts}:
        return addresses
    for address in addresses:
        if not (is_public(address) or _is_in(address, access.private_hosts)):
            limit = "must not lead to a private address unless audio.allow_private_hosts names it"
            raise SourceForbidden(name, limit, host)
    return addresses


def _is_in(address: str, networks: tuple[str, ...]) -> bool:
    parsed = ipaddress.ip_address(address)
    for network in networks:
        with contextlib.suppress(ValueError):
            if parsed in ipaddress.ip_network(network, strict=False):
                return True
    return False


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet, through whatever tunnel."""
    return all(_is_global(each) for each in _embedded(ipaddress.ip_address(address)))


def _is_global(address: _Address) -> bool:
    return address.is_global and not address.is_multicast


def _embedded(address: _Address) -> Iterator[_Address]:
    """Yield an address and those of IPv4 that it stands for."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        yield mapped
        return
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in _NAT64:
            yield ipaddress.IPv4Address(address.packed[-4:])
