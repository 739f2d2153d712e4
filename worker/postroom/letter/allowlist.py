"""Which addresses a callback may reach: those of the Internet, and what an administrator allows beyond.

An entry of the list is a host (`hooks.shop.svc.cluster.local`), all hosts below one (`*.svc.cluster.local`),
an address or a range (`10.96.0.0/12`). `http://` before it allows plain HTTP to it as well; without,
callbacks are HTTPS. A host that is listed may have private addresses, never those of the machine itself or of
the link, where clouds answer with credentials: these need a range.
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
"""What is private, local or of no host, whatever this Python's own tables say (IANA's special registries)."""
NAT64 = ip_network("64:ff9b::/96")
SIX_TO_FOUR = ip_network("2002::/16")


@dataclass(frozen=True, slots=True)
class Allowlist:
    """What an administrator allows beyond HTTPS to the Internet."""

    hosts: tuple[tuple[bool, str], ...] = ()
    """Whether in plain as well, and the host; one that begins with a dot is all below it."""
    networks: tuple[tuple[bool, IPNetwork], ...] = ()

    def lists_host(self, host: str, *, plain: bool) -> bool:
        """Whether the host is listed; `plain`: for HTTP without TLS."""
        host = host.lower().rstrip(".")
        return any(
            (in_plain or not plain) and (host.endswith(entry) if entry.startswith(".") else host == entry)
            for in_plain, entry in self.hosts
        )

    def covers_address(self, address: IPAddress, *, plain: bool) -> bool:
        """Whether the address is in a listed range."""
        return any((in_plain or not plain) and address in network for in_plain, network in self.networks)

    def refusal(self, host: str, addresses: Iterable[IPAddress], *, plain: bool) -> str:
        """Why this host may not be called, empty when it may: each of its addresses has to be allowed."""
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
    """Entries between commas; raises ValueError that names the one that is none."""
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
    """The IPv4 address that is meant by an IPv6 one: mapped, through NAT64, or 6to4."""
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
    """Whether it is an address of the Internet."""
    return address.is_global and not any(address in each for each in NEVER_PUBLIC)


def is_local(address: IPAddress) -> bool:
    """Whether it is this machine, this link, or no single host."""
    odd = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return odd or address.is_reserved


def parse_ip_address(text: str) -> IPAddress:
    """An address as the resolver writes it."""
    return ip_address(text.partition("%")[0])
