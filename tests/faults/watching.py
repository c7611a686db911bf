"""What do the histories of agents tell while they are still being written?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.history import Event, Life, parse


@dataclass(slots=True)
class _File:
    """One history as far as it was read."""

    agent: str
    place: int = 0
    torn: bytes = b""


@dataclass(slots=True)
class Watched:
    """The histories of agents, each in a folder of its own with a file a process.

    Args:
        folders: By agent; they need not be there yet.
    """

    folders: Mapping[str, Path]
    accepted: int = 0
    again: int = 0
    """Sights of messages that an earlier process had seen."""
    ready: set[str] = field(default_factory=set)
    """Agents that called their sidecar."""
    done: set[str] = field(default_factory=set)
    accept_times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _seen: set[str] = field(default_factory=set)
    _files: dict[Path, _File] = field(default_factory=dict)

    def look(self) -> None:
        """Read what was written since the last look."""
        for agent, folder in self.folders.items():
            for path in folder.glob("*.log"):
                self._read(path, self._files.setdefault(path, _File(agent)))

    def _read(self, path: Path, file: _File) -> None:
        with path.open("rb") as stream:
            stream.seek(file.place)
            new = stream.read()
        file.place += len(new)
        text = file.torn + new
        end = text.rfind(b"\n") + 1
        file.torn = text[end:]
        for event in parse(file.agent, text[:end]).events:
            self._note(file.agent, event)

    def _note(self, agent: str, event: Event) -> None:
        match event.kind:
            case "ready":
                self.ready.add(agent)
            case "accepted":
                self.accepted += 1
                self.accept_times[agent].append(event.time)
            case "seen":
                self.again += event.ids[0] in self._seen
                self._seen.add(event.ids[0])
            case "done":
                self.done.add(agent)

    def lives(self) -> list[Life]:
        """Read all of it; the lives of an agent come in their order."""
        return [
            parse(agent, path.read_bytes()) for agent, folder in self.folders.items() for path in sorted(folder.glob("*.log"))
        ]
