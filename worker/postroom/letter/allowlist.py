"""The IP addresses that callbacks may connect to: public ones, and those that an administrator allows.

Input: the administrator's list as text, a host and its addresses. Output: permission, or the reason against
it. An entry of the list is a host (`hooks.shop.svc.cluster.local`), all hosts below a domain
(`*.svc.cluster.local`), an address or a range (`10.96.0.0/12`). The prefix `http://` also allows HTTP without
TLS. A listed host may have private addresses, but not loopback or link-local ones, where cloud metadata
services return credentials: those need a range.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

PLAIN_HTTP = "http://"
HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
NEVER_PUBLIC = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3"),
            *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"),
            *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)
"""Private, local and reserved networks of IANA's special-purpose registries; Python's own tables lack some.
"""
NAT64 = ip_network("64:ff9b::/96")
SIX_TO_FOUR = ip_network("2002::/16")


@dataclass(frozen=True, slots=True)
class Allowlist:
    """The hosts and networks that an administrator allows in addition to HTTPS to public addresses."""

    hosts: tuple[tuple[bool, str], ...] = ()
    """Whether HTTP without TLS is allowed, and the host; a leading dot stands for all hosts below."""
    networks: tuple[tuple[bool, IPNetwork], ...] = ()

    def lists_host(self, host: str, *, plain: bool) -> bool:
        """Whether the host is listed; with `plain`, listed for HTTP without TLS."""
        host = host.lower().rstrip(".")
        return any(
            (in_plain or not plain) and (host.endswith(entry) if entry.startswith(".") else host == entry)
            for in_plain, entry in self.hosts
        )

    def covers_address(self, address: IPAddress, *, plain: bool) -> bool:
        """Whether the address is in a listed range."""
        return any((in_plain or not plain) and address in network for in_plain, network in self.networks)

    def refusal(self, host: str, addresses: Iterable[IPAddress], *, plain: bool) -> str:
        """Why this host may not be called; empty when it may. Every address of it must be allowed."""
        found = [embedded_ipv4(each) for each in addresses]
        if not found:
            return f"{host} has no address"
        listed = self.lists_host(host, plain=plain)
        if plain and not listed and not all(self.covers_address(each, plain=True) for each in found):
            return f"{host} is called without TLS; write https, or let an administrator allow http://{host}"
        for each in found:
            within = (
                is_public(each) or self.covers_address(each, plain=plain) or (listed and not is_local(each))
            )
            if not within:
                return f"{host} has an address that is not public; an administrator can allow it"
        return ""


def read_allowlist(text: str) -> Allowlist:
    """Parse entries separated by commas; raises ValueError that names the first invalid entry."""
    hosts: list[tuple[bool, str]] = []
    networks: list[tuple[bool, IPNetwork]] = []
    for word in filter(None, (word.strip().lower() for word in text.split(","))):
        plain, entry = word.startswith(PLAIN_HTTP), word.removeprefix(PLAIN_HTTP)
        try:
            networks.append((plain, ip_network(entry.strip("[]"))))
            continue
        except ValueError:
            pass
        if not HOST_PATTERN.fullmatch(entry):
            raise ValueError(f"{word!r} is neither a host, nor *.domain, nor a range such as 10.96.0.0/12")
        hosts.append((plain, entry.removeprefix("*")))
    return Allowlist(tuple(hosts), tuple(networks))


def embedded_ipv4(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address embeds (mapped, NAT64 or 6to4), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def is_public(address: IPAddress) -> bool:
    """Whether the address is public on the Internet."""
    return address.is_global and not any(address in each for each in NEVER_PUBLIC)


def is_local(address: IPAddress) -> bool:
    """Whether the address is of this machine, of this link, or of no single host."""
    odd = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return odd or address.is_reserved


def parse_ip_address(text: str) -> IPAddress:
    """Parse an address as the resolver writes it, with or without a zone."""
    return ip_address(text.partition("%")[0])
