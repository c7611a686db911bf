"""What do the programs of a home add to their logs?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

_SUFFIX = ".log"
_BLOCK = 1 << 20


def sizes(folder: str) -> dict[str, int]:
    """Return the size in bytes of each program's log by its name; empty if there is no folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_SUFFIX)]
    except OSError:
        return {}
    return {name.removesuffix(_SUFFIX): os.path.getsize(f"{folder}/{name}") for name in names}


class Following:
    """Reads on in every log of a folder, also in those that appear later, over rotations (`logs.rotate`)."""

    def __init__(self, folder: str, offsets: Mapping[str, int]) -> None:
        """Begin each log at its offset in bytes, unknown ones at 0."""
        self._folder = folder
        self._offsets = dict(offsets)
        self._parts: dict[str, bytes] = {}

    def added(self) -> Iterator[bytes]:
        """Yield whole new lines as JSON objects that name their `program`, each with its line end."""
        for program in sorted(sizes(self._folder)):
            for line in self._lines(program):
                yield record(program, line)

    def _lines(self, program: str) -> list[bytes]:
        offset = self._offsets.get(program, 0)
        try:
            with open(f"{self._folder}/{program}{_SUFFIX}", "rb") as file:
                if os.fstat(file.fileno()).st_size < offset:  # it was rotated
                    offset = 0
                file.seek(offset)
                data = file.read(_BLOCK)
        except OSError:
            return []
        self._offsets[program] = offset + len(data)
        *whole, self._parts[program] = (self._parts.get(program, b"") + data).split(b"\n")
        return [line for line in whole if line.strip()]


def record(program: str, line: bytes) -> bytes:
    """Return a line of a log as a JSON object: its own fields, or what is no JSON as its `message`."""
    text = line.decode(errors="replace")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = text
    if not isinstance(fields, dict):
        fields = {"message": text}
    return json.dumps({"program": program, **fields}, ensure_ascii=False).encode() + b"\n"
