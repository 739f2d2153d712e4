"""The addresses that callbacks may connect to."""

import pytest

from postroom.letter.allowlist import Allowlist, parse_ip_address, read_allowlist

NOTHING = Allowlist()
PUBLIC = ["1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"]
NOT_PUBLIC = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1"),
    *("192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
    *("2002:a00:1::1", "2002:7f00:1::1", "2001::1", "2001:db8::1", "100::1", "5f00::1", "3fff::1"),
]


def refusal(allowed: Allowlist, host: str, *addresses: str, plain: bool = False) -> str:
    return allowed.refusal(host, map(parse_ip_address, addresses), plain=plain)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert refusal(NOTHING, "hooks.example.org", address) == ""


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_private_local_and_embedded_addresses_are_not_allowed(address: str) -> None:
    assert "is not public" in refusal(NOTHING, "hooks.example.org", address)


def test_every_address_of_a_host_is_checked() -> None:
    assert "is not public" in refusal(NOTHING, "hooks.example.org", *PUBLIC, "10.0.0.1")
    assert "has no address" in refusal(NOTHING, "hooks.example.org")


def test_an_administrator_allows_hosts_domains_and_ranges() -> None:
    allowed = read_allowlist("hooks.shop.svc.cluster.local, *.corp.example ,10.96.0.0/12,fd00::/8")
    assert refusal(allowed, "HOOKS.shop.svc.cluster.local.", "192.168.0.1") == ""
    assert refusal(allowed, "a.b.corp.example", "172.16.0.1") == ""
    assert refusal(allowed, "any.example", "10.97.0.1", "fd00::7") == ""
    assert refusal(allowed, "corp.example", "172.16.0.1")
    assert refusal(allowed, "evilcorp.example", "172.16.0.1")
    assert refusal(allowed, "any.example", "10.97.0.1", "10.0.0.1")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "fe80::1"])
def test_an_allowed_host_may_not_resolve_to_loopback_or_link_local(address: str) -> None:
    assert refusal(read_allowlist("hooks.example.org"), "hooks.example.org", address)
    assert refusal(read_allowlist(f"{address}/128" if ":" in address else address), "x.org", address) == ""


def test_http_without_tls_needs_its_own_entry() -> None:
    assert "write https" in refusal(NOTHING, "hooks.example.org", "1.1.1.1", plain=True)
    assert refusal(read_allowlist("hooks.example.org"), "hooks.example.org", "10.0.0.1", plain=True)
    allowed = read_allowlist("http://hooks.example.org,http://127.0.0.0/8")
    assert refusal(allowed, "hooks.example.org", "10.0.0.1", plain=True) == ""
    assert refusal(allowed, "hooks.example.org", "10.0.0.1") == ""
    assert refusal(allowed, "localhost", "127.0.0.1", plain=True) == ""
    assert refusal(allowed, "localhost", "127.0.0.1", "::1", plain=True)


@pytest.mark.parametrize("entry", ["https://x.org", "x.org:443", "*", "a b", "10.0.0.1/8", "x.*.org"])
def test_an_invalid_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is neither a host"):
        read_allowlist(f"good.example,{entry}")
