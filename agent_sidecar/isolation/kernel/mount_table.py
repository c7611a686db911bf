"""What is mounted where: the mount table of a process as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    root: str
    point: Path
    options: frozenset[str]
    kind: str
    """File system type, such as `cgroup2`."""
    super_options: frozenset[str]
    shared: bool
    """It passes mounts on to its peers."""


def parse(text: str) -> tuple[Mount, ...]:
    """Return the mounts of a mountinfo file in its order; a later mount on the same point covers an earlier one."""
    return tuple(_line(line) for line in text.splitlines() if " - " in line)


def _line(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    return Mount(
        root=_plain(fields[3]),
        point=Path(_plain(fields[4])),
        options=frozenset(fields[5].split(",")),
        kind=tail[0],
        super_options=frozenset(tail[-1].split(",")),
        shared=any(field.startswith("shared:") for field in fields[6:]),
    )


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)
