"""Which provider credentials take no requests now, who is told of it, and whose turn is it after that?"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_conductor.clock import Clock
from controlplane.domain.agent import Agent
from controlplane.domain.rate_window import Window, closed, credential_of, over, take, turn, why_closed
from controlplane.domain.task import Task
from controlplane.service.link import Link

_log = logging.getLogger(__name__)
_BARELY = 1e-6
"""Seconds that are as good as none."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the windows let in at one moment."""

    room: Mapping[str, int]
    """How many tasks may begin, of each credential whose window is not wholly open: one or none."""
    next_turn: float | None
    """Monotonic seconds of the first turn of those that let none in; None: there are none."""


class Fleet(Protocol):
    """Who is connected."""

    def linked(self) -> Sequence[tuple[Agent, Link]]:
        """Return every connected agent with the way to it."""


class Windows:
    """The windows that are not wholly open.

    Not stored: every sidecar that knows of a closed window says so in its hello, so a control plane that was started anew knows
    of it before it gives that sidecar a task.
    """

    def __init__(self, clock: Clock, first: int = 1) -> None:
        """Begin with every window open.

        Args:
            clock: Whose monotonic time counts.
            first: Starts in the first second after a reset; twice as many in each further one.
        """
        self._clock = clock
        self._first = first
        self._windows: dict[str, Window] = {}

    def close(self, credential: str, seconds: float, fleet: Fleet) -> bool:
        """Close a window, and tell everybody who uses the credential; return whether that was news.

        Those who have a task get turns one after the other, as new tasks do afterwards.

        Args:
            credential: Its id.
            seconds: Until its reset.
            fleet: Who is told.
        """
        if not credential or seconds <= 0:
            return False
        window = closed(self._present(credential), self._clock.monotonic() + seconds, self._first)
        if window is None:
            return False
        self._windows[credential] = window
        _log.info("a provider credential takes no requests", extra={"credential": credential, "seconds": round(seconds, 3)})
        users = [(agent, link) for agent, link in fleet.linked() if agent.credential == credential]
        for agent, link in sorted(users, key=lambda user: user[0].id):
            self.tell(agent, link)
        return True

    def tell(self, agent: Agent, link: Link) -> None:
        """Tell an agent of its credential's window, if that is not open."""
        window, now = self._present(agent.credential), self._clock.monotonic()
        if window is None or window.reset <= now:
            return
        at = window.reset
        if agent.task_id:
            self._windows[agent.credential], at = take(window, now)
        link.hold(agent.credential, window.reset - now, at - now)

    def look(self) -> Room:
        """Return how many tasks may begin now, of each credential whose window is not wholly open, and when that changes."""
        now = self._clock.monotonic()
        turns = {name: turn(window, now) for name in tuple(self._windows) if (window := self._present(name))}
        room = {name: int(at <= now + _BARELY) for name, at in turns.items()}
        return Room(room, min((at for name, at in turns.items() if not room[name]), default=None))

    def began(self, task: Task, agent: Agent, link: Link) -> None:
        """Take the turn of a task that is given to an agent.

        The window may have closed between the decision to give it the task and now; then the agent is told when its turn is.
        """
        credential = credential_of(agent, task.spec.driver)
        window, now = self._present(credential), self._clock.monotonic()
        if window is None:
            return
        self._windows[credential], at = take(window, now)
        if at > now + _BARELY:
            link.hold(credential, max(0.0, window.reset - now), at - now)

    def why(self, task: Task, agents: Iterable[Agent]) -> str:
        """Return why no agent of these, which all can do the task, may begin it now; empty if one may."""
        now, least = self._clock.monotonic(), None
        for agent in agents:
            window = self._present(credential_of(agent, task.spec.driver))
            if window is None or (left := turn(window, now) - now) <= _BARELY:
                return ""
            least = left if least is None else min(least, left)
        return why_closed(least) if least is not None else ""

    def _present(self, credential: str) -> Window | None:
        """Return a window that is not wholly open, and forget one that is."""
        window = self._windows.get(credential)
        if window is not None and over(window, self._clock.monotonic()):
            del self._windows[credential]
            return None
        return window
