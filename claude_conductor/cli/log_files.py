"""What is in the log of a program of ours, and what is added to it?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from claude_conductor.cli.output import printable

_POLL: Final = 0.2
_BLOCK: Final = 64 << 10
_KNOWN: Final = ("time", "level", "logger", "message", "component")


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a file."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        data = b""
        while end > 0 and data.count(b"\n") <= lines:
            start = max(0, end - _BLOCK)
            log.seek(start)
            data = log.read(end - start) + data
            end = start
    return data.decode("utf-8", "replace").splitlines()[-lines:] if lines else []


def follow(path: Path, rest: float | None = None) -> Iterator[str]:
    """Yield lines as they are added, over rotations of the file; ends after `rest` seconds without one, if given."""
    offset, inode, part = path.stat().st_size, path.stat().st_ino, b""
    quiet = time.monotonic()
    while rest is None or time.monotonic() - quiet < rest:
        try:
            facts = path.stat()
        except FileNotFoundError:  # between the two steps of a rotation
            time.sleep(_POLL)
            continue
        if facts.st_ino != inode or facts.st_size < offset:
            offset, inode, part = 0, facts.st_ino, b""
        with path.open("rb") as log:
            log.seek(offset)
            data = log.read()
        offset += len(data)
        *whole, part = (part + data).split(b"\n")
        for line in whole:
            quiet = time.monotonic()
            yield line.decode("utf-8", "replace")
        if not data:
            time.sleep(_POLL)


def readable(line: str) -> str:
    """Return a line for people: a JSON record as time, level, message and fields; anything else as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return printable(line)
    if not isinstance(record, dict):
        return printable(line)
    stamp = record.get("time", "")
    if isinstance(stamp, int | float):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
    facts = " ".join(f"{name}={value}" for name, value in record.items() if name not in _KNOWN)
    return printable(f"{stamp} {record.get('level', 'info'):7} {record.get('message', '')} {facts}".rstrip())
