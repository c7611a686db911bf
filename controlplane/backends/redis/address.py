"""Where is the Redis server, and how is it logged in to? A URL, read strictly."""

from __future__ import annotations

import re
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from claude_conductor.errors import SettingsError

SCHEMES: Final = ("redis", "rediss", "unix")
_TLS: Final = ("ca_file", "cert_file", "key_file")
_OPTIONS: Final = {"redis": ("prefix", "sync", "password_file"), "rediss": ("prefix", "sync", "password_file", *_TLS)}
_OPTIONS["unix"] = ("prefix", "sync", "password_file", "db")
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Address:
    """One server, one database of it, and the beginning of every key there."""

    scheme: str
    host: str = ""
    port: int = 6379
    path: str = ""
    """Of the Unix socket."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "conductor"
    sync: str = "always"
    """`everysec` accepts a server that syncs its file each second only."""
    ca_file: str = ""
    """Whom to believe instead of the system's authorities."""
    cert_file: str = ""
    key_file: str = ""

    def __str__(self) -> str:
        """Return it for people: without the password."""
        user = f"{self.username}@" if self.username else ""
        if self.scheme == "unix":
            return f"unix://{user}{self.path}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}/{self.db}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What a connection of the library is made with."""
        common: dict[str, Any] = {"db": self.db, "username": self.username, "password": self.password}
        if self.scheme == "unix":
            return {**common, "path": self.path}
        common |= {"host": self.host, "port": self.port}
        if self.scheme == "rediss":
            common |= {"ssl_min_version": ssl.TLSVersion.TLSv1_2, "ssl_ca_certs": self.ca_file or None}
            common |= {"ssl_certfile": self.cert_file or None, "ssl_keyfile": self.key_file or None}
        return common


def parse(url: str) -> Address:
    """Return the address a URL says: `redis://[user@]host[:port][/db]`, the same with `rediss`, or `unix:///path`.

    Options follow a `?`: `prefix`, `sync`, `password_file`; `ca_file`, `cert_file`, `key_file` with `rediss`; `db` with `unix`.

    Raises:
        SettingsError: It says something else, holds a password, or a file it names cannot be used. No message shows a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as cause:
        raise _wrong("The port is no number from 1 to 65535, or the host is written wrongly.") from cause
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise _wrong(f"`{scheme}` is no kind of Redis address.")
    if parts.password is not None:
        raise _wrong(
            "A password does not belong into it, as settings are shown and exported; ?password_file=/path names its file."
        )
    options = _options(parts.query, scheme)
    if parts.fragment:
        raise _wrong("What follows a # belongs to nothing; in a password it is written %23.")
    return Address(
        scheme=scheme,
        host=parts.hostname or "",
        port=port,
        **_place(parts, scheme, options.pop("db", "")),
        username=unquote(parts.username) if parts.username else None,
        password=_password(options.pop("password_file", "")),
        prefix=options.get("prefix", "conductor"),
        sync=options.get("sync", "always"),
        ca_file=options.get("ca_file", ""),
        cert_file=options.get("cert_file", ""),
        key_file=options.get("key_file", ""),
    )


def _place(parts: SplitResult, scheme: str, db: str) -> dict[str, Any]:
    path = unquote(parts.path)
    if scheme == "unix":
        if not path.startswith("/") or path == "/" or parts.hostname:
            raise _wrong("The path of the socket is not absolute.")
        return {"path": path, "db": _number(db)}
    if not parts.hostname:
        raise _wrong("There is no host in it.")
    return {"db": _number(path.removeprefix("/"))}


def _number(db: str) -> int:
    if db and not (db.isascii() and db.isdecimal() and len(db) < 6):
        raise _wrong("The database is no number.")
    return int(db or 0)


def _options(query: str, scheme: str) -> dict[str, str]:
    allowed = _OPTIONS[scheme]
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            raise _wrong(f"There is no option `{name}` with {scheme}; there are {', '.join(allowed)}.")
        if name in options or not value:
            raise _wrong(f"The option `{name}` is empty or stands there twice.")
        options[name] = value
    if "prefix" in options and not _PREFIX.fullmatch(options["prefix"]):
        raise _wrong("The prefix is not of letters, digits and . _ : - alone, 64 at most.")
    if options.get("sync", "always") not in {"always", "everysec"}:
        raise _wrong("`sync` is `always` or `everysec`.")
    if ("cert_file" in options) != ("key_file" in options):
        raise _wrong("`cert_file` and `key_file` go together.")
    for name in _TLS:
        if name in options and not Path(options[name]).is_file():
            raise _wrong(f"The file of `{name}` is not there: {options[name]}.")
    return options


def _password(file: str) -> str | None:
    if not file:
        return None
    try:
        others = stat.S_IMODE(Path(file).stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise _wrong(f"The password file cannot be read: {file}.") from cause
    if others:
        raise _wrong(f"Others can read the password file (chmod 600 {file}).")
    if not text:
        raise _wrong(f"The password file is empty: {file}.")
    return text


def _wrong(message: str) -> SettingsError:
    forms = "redis://host:6379/0, rediss://user@host/0?password_file=/path, unix:///path/redis.sock"
    return SettingsError(f"The address of the store cannot be used. {message}", next_step=f"write it like {forms}", key="store")
