"""Addresses of Redis servers are read strictly, and never show a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.errors import SettingsError
from controlplane.backends.redis.address import Address, parse


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        ("redis://host", Address("redis", "host"), "redis://host:6379/0"),
        ("redis://me@host:7000/3", Address("redis", "host", 7000, db=3, username="me"), "redis://me@host:7000/3"),
        ("rediss://[::1]/1", Address("rediss", "::1", db=1), "rediss://[::1]:6379/1"),
        ("REDIS://h?prefix=a.b", Address("redis", "h", prefix="a.b"), "redis://h:6379/0"),
        ("redis://h?sync=everysec", Address("redis", "h", sync="everysec"), "redis://h:6379/0"),
        ("unix:///run/r.sock?db=2", Address("unix", path="/run/r.sock", db=2), "unix:///run/r.sock?db=2"),
        ("unix://me%40x@/run/r.sock", Address("unix", path="/run/r.sock", username="me@x"), "unix://me@x@/run/r.sock"),
    ],
)
def test_an_address_says_where_which_database_and_who(url: str, expected: Address, shown: str) -> None:
    assert parse(url) == expected
    assert str(parse(url)) == shown


def test_a_password_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    address = parse(f"redis://me@host?password_file={file}")
    assert address.arguments["password"] == "hunter2"
    assert "hunter2" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "url",
    [
        *("", "redis", "http://host", "redis://", "redis://host:0x", "redis://host:99999", "redis://host/x", "redis://host/1/2"),
        *(
            "redis://h?db=1",
            "redis://h?prefix=",
            "redis://h?sync=no",
            "redis://h?prefix=a&prefix=b",
            "redis://h?prefix=a{b}",
            "redis://h#part",
        ),
        *("redis://h?ca_file=/etc/hosts", "rediss://h?key_file=/etc/hosts", "unix://", "unix:///", "unix://host/path"),
        *("redis://:hunter2@h", "redis://me:hunter2@h", "unix://me:hunter2@/run/r.sock"),
    ],
)
def test_anything_else_is_refused_with_how_to_write_it(url: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse(url)
    assert "redis://host:6379/0" in refusal.value.next_step
    assert "hunter2" not in str(refusal.value)
