"""What an agent may reach: entries, names in their only form, and addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.egress import HTTPS, MOST_ENTRIES, PRESETS, Rule, allowed, beyond, canonical, reachable, rules, split
from claude_conductor.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("a_b.xn--bcher-kva.example", "a_b.xn--bcher-kva.example"),
        ("203.0.113.7", "203.0.113.7"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_has_one_form(written: str, meant: str) -> None:
    assert canonical(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        *("", ".", "..", "a..b", "example.com..", "-a.example", "a-.example", "a" * 64 + ".example", "a." * 127 + "example"),
        *(
            "allowed.example\0.evil.example",
            "allowed.example\r\n",
            "a b",
            "a/b",
            "a@b",
            "a%2eb",
            "*.example.com",
            "ex\u00e4mple.com",
        ),
        *(
            "\u212aernel.example",
            "e\uff0ecom",
            "0x7f.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "1.2.3.4.5",
            "[::1",
            "[a.b]",
        ),
        *("fe80::1%eth0", "[fe80::1%1]", "[[::1]]"),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_host(written: str) -> None:
    with pytest.raises(InvalidArgumentError):
        canonical(written)


@given(st.text(max_size=40))
def test_a_name_in_its_form_keeps_it_and_is_plain(written: str) -> None:
    try:
        found = canonical(written)
    except InvalidArgumentError:
        return
    assert canonical(found) == found
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")


def test_entries_are_hosts_ports_wildcards_and_presets() -> None:
    found = rules(
        ["Example.com", "example.com:8080", "*.example.com", "internal:Mirror:8443", "[2001:db8::1]:8", " PyPI ", "pypi"]
    )
    assert [str(rule) for rule in found] == [
        *("example.com:443", "example.com:8080", "*.example.com:443", "internal:mirror:8443", "[2001:db8::1]:8"),
        *("pypi.org:443", "files.pythonhosted.org:443"),
    ]
    assert rules([str(rule) for rule in found]) == found


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.", "*.com", "*.1.2.3.4", "a:0", "a:65536", "a:b", "a:\u0661", "a:", "[::1]x", "http://a", "internal:", "pypy i"],
)
def test_an_entry_that_is_none_is_refused_and_says_how_they_are_written(entry: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        rules([entry])
    assert "pypi" in refused.value.next_step


def test_a_list_is_bounded() -> None:
    rules([f"h{number}.example" for number in range(MOST_ENTRIES)])
    with pytest.raises(InvalidArgumentError):
        rules([f"h{number}.example" for number in range(MOST_ENTRIES + 1)])


def test_every_preset_is_made_of_entries() -> None:
    assert all(rules([name]) for name in PRESETS)


def test_a_wildcard_is_for_what_is_below_and_a_host_for_itself() -> None:
    among = rules(["*.example.com", "one.example:8080"])
    assert allowed("a.b.example.com", HTTPS, among) == among[0]
    assert allowed("one.example", 8080, among) == among[1]
    for host, port in (
        ("example.com", HTTPS),
        ("evilexample.com", HTTPS),
        ("a.example.com", 80),
        ("a.one.example", 8080),
        ("one.example", HTTPS),
    ):
        assert allowed(host, port, among) is None


_LABELS = st.sampled_from(["a", "b", "example"])
_RULES = st.builds(
    Rule, st.lists(_LABELS, min_size=2, max_size=3).map(".".join), st.sampled_from([80, 443]), st.booleans(), st.booleans()
)


@given(_RULES, _RULES, st.lists(_LABELS, min_size=1, max_size=4).map(".".join), st.sampled_from([80, 443]))
def test_what_a_rule_covers_it_allows(own: Rule, other: Rule, host: str, port: int) -> None:
    assert own.covers(own)
    if own.covers(other):
        assert own.internal or not other.internal
        assert own.allows(host, port) or not other.allows(host, port)


def test_what_goes_beyond_the_given_is_named() -> None:
    given_ = rules(["*.example.com", "pypi"])
    asked = rules(["a.example.com", "pypi", "example.com", "internal:a.example.com", "a.example.com:80"])
    assert [str(rule) for rule in beyond(asked, given_)] == ["example.com:443", "internal:a.example.com:443", "a.example.com:80"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
)
def test_private_addresses_need_the_word_internal(address: str) -> None:
    assert not reachable(address, internal=False)
    assert reachable(address, internal=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        str(ipaddress.IPv4Address(0)),
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:169.254.169.254",
    ],
)
def test_some_addresses_are_never_reached(address: str) -> None:
    assert not reachable(address, internal=True)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_every_global_address_that_is_one_can_be_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_global and not address.is_multicast and not getattr(address, "sixtofour", None):
        assert reachable(str(address), internal=False) or str(address).startswith("64:ff9b::")


def test_host_and_port_are_split_as_written() -> None:
    assert split("A.example", 80) == ("A.example", 80)
    assert split("[::1]:8", 80) == ("[::1]", 8)
    assert split("::1", 80) == ("::1", 80)
