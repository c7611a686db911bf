"""What may an agent reach through the proxy beside it? Names are brought into one form first, and compared in that form only.

Written by people and programs as a list of entries:

    pypi                  a preset: the hosts a tool needs
    example.com           this host, port 443
    example.com:8080      this host, this port
    *.example.com         every host below it, not itself
    internal:mirror:8443  this host, which may have a private address or be this machine
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from claude_conductor.errors import InvalidArgumentError

MOST_ENTRIES: Final = 100
HTTPS: Final = 443
_LONGEST_NAME: Final = 253
"""Characters of a host's name without the last dot (RFC 1035, 2.3.4)."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
"""A label of letters, digits and hyphens (RFC 1123, 2.1); underscores are in use."""
_NUMBER: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
"""A last label that makes a name an address to `inet_aton`, as 0x7f.1 or 2130706433 are."""
_INTERNAL: Final = "internal:"

PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    "pypi": ("pypi.org", "files.pythonhosted.org"),
    "npm": ("registry.npmjs.org",),
    "github": (
        *("github.com", "api.github.com", "codeload.github.com", "raw.githubusercontent.com"),
        *("objects.githubusercontent.com", "release-assets.githubusercontent.com"),
    ),
    "crates": ("crates.io", "index.crates.io", "static.crates.io"),
    "go": ("proxy.golang.org", "sum.golang.org", "storage.googleapis.com"),
    "debian": ("deb.debian.org:80", "deb.debian.org", "security.debian.org:80", "security.debian.org"),
}
"""What package managers and their like need, by name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One host, or every host below one, and a port."""

    host: str
    """In the form of `canonical`; of a wildcard without its `*.`."""
    port: int = HTTPS
    below: bool = False
    """Every host below `host` is meant, and not `host`."""
    internal: bool = False
    """It may have a private address, or be this machine."""

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_INTERNAL if self.internal else ''}{'*.' if self.below else ''}{shown}:{self.port}"

    def allows(self, host: str, port: int) -> bool:
        """Return whether a host in the form of `canonical` is meant."""
        return port == self.port and (host.endswith(f".{self.host}") if self.below else host == self.host)

    def covers(self, other: Rule) -> bool:
        """Return whether everything that the other one allows is allowed by this one too."""
        if other.port != self.port or (other.internal and not self.internal):
            return False
        if self.below:
            return other.host.endswith(f".{self.host}") or (other.below and other.host == self.host)
        return not other.below and other.host == self.host


def canonical(host: str) -> str:
    """Return a host's name in its only form: lower case, without the last dot; an address as the `ipaddress` module writes it.

    Raises:
        InvalidArgumentError: It is neither a name as RFC 1123 has them nor an address in its plain form. What could be read in
            two ways - control characters, spaces, other alphabets, numbers that `inet_aton` takes for an address - is refused.
    """
    name = host.lower()
    if _is_address(inner := name[1:-1] if name[:1] + name[-1:] == "[]" else name):
        return str(ipaddress.ip_address(inner))
    name = name.removesuffix(".")
    labels = name.split(".")
    if (
        not host.isascii()  # before it was made lower case: the Kelvin sign becomes a k
        or len(name) > _LONGEST_NAME
        or not all(_LABEL.fullmatch(label) for label in labels)
        or _NUMBER.fullmatch(labels[-1])
    ):
        raise InvalidArgumentError(
            "This is not the name of a host.",
            next_step="write it as in `example.com`; names of other alphabets in their `xn--` form",
            host=ascii(host)[:300],
        )
    return name


def rules(entries: Iterable[str]) -> tuple[Rule, ...]:
    """Return what entries mean, without repeats.

    Raises:
        InvalidArgumentError: An entry is none, or there are more than 100.
    """
    written = tuple(entries)
    if len(written) > MOST_ENTRIES:
        raise InvalidArgumentError(f"A list of hosts has at most {MOST_ENTRIES} entries.", next_step="use wildcards or a proxy")
    found = (rule for entry in written for rule in map(_rule, PRESETS.get(entry.strip().lower(), (entry,))))
    return tuple(dict.fromkeys(found))


def _rule(entry: str) -> Rule:
    text = entry.strip()
    internal = text.lower().startswith(_INTERNAL)
    text = text[len(_INTERNAL) :] if internal else text
    try:
        host, port = split(text, HTTPS)
        below = host.startswith("*.")
        name = canonical(host.removeprefix("*."))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"`{ascii(entry)[1:-1][:300]}` is nothing an agent could be allowed to reach: {error.message}",
            next_step=f"write it as `example.com`, `example.com:8080`, `*.example.com`, or one of {', '.join(sorted(PRESETS))}",
        ) from error
    if below and ("." not in name or _is_address(name)):
        raise InvalidArgumentError(
            f"`{ascii(entry)[1:-1][:300]}` is too wide: a wildcard stands for the hosts below a name of at least two parts.",
            next_step=f"name the hosts, or one of {', '.join(sorted(PRESETS))}",
        )
    return Rule(name, port, below, internal)


def split(text: str, default: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, `[address]:port`; the host as it was written.

    Raises:
        InvalidArgumentError: The port is none.
    """
    host, colon, number = text, "", ""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host, (colon, number) = host + bracket, (rest[:1], rest[1:])
        if rest and colon != ":":
            raise InvalidArgumentError("Behind an address in brackets stands a colon and a port.")
    elif text.count(":") == 1:
        host, colon, number = text.partition(":")
    if not colon:
        return host, default
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65535):
        raise InvalidArgumentError("A port is a number of 1 to 65535.")
    return host, int(number)


def allowed(host: str, port: int, among: Iterable[Rule]) -> Rule | None:
    """Return the first rule that allows a host in the form of `canonical`, or None."""
    return next((rule for rule in among if rule.allows(host, port)), None)


def beyond(asked: Iterable[Rule], given: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return what is asked for and not covered by a given rule."""
    return tuple(rule for rule in asked if not any(own.covers(rule) for own in given))


def reachable(address: str, *, internal: bool) -> bool:
    """Return whether the proxy connects to an address that a name turned out to have.

    Addresses of this machine and of private networks only where the rule says `internal:`, as an allowed name may lead there
    (DNS rebinding). Link-local ones, where clouds keep their metadata services, multicast and 0.0.0.0 never.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if found.is_link_local or found.is_multicast or found.is_unspecified or found == _BROADCAST:
        return False
    return internal or not (
        found.is_loopback or any(found in network for network in _PRIVATE if network.version == found.version)
    )


def _is_address(name: str) -> bool:
    try:
        return not getattr(ipaddress.ip_address(name), "scope_id", None)  # a scope is an interface of this machine
    except ValueError:
        return False


_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")
_PRIVATE: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "fec0::/10",
        "64:ff9b::/96",
    )
)
"""RFC 1918, 6598, 4193, 3879, 6052; `is_private` of the library also holds ranges for documentation, which lead nowhere."""
