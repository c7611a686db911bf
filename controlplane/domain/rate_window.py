"""When may work that needs a provider credential begin again, after the provider said "too many requests" to one who uses it?

A window closes for everybody who uses the credential. After its reset it opens slowly: so many turns in the first second, and
twice as many in each further one, so that those who waited together do not run into the next limit together. Times are seconds of
one monotonic clock; the present moment is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from claude_conductor.units import format_duration
from controlplane.domain.agent import Agent
from controlplane.domain.task import Task

SLOW_SECONDS = 10
"""How long after its reset a window counts turns: then over five hundred times the first second's may begin in one."""
GROWTH = 1.0
"""Seconds by which a reset has to move to be news: gateways that ran into the same limit tell nearly the same time."""


@dataclass(frozen=True, slots=True)
class Window:
    """Of one credential, from the moment it closed until it is as open as it was."""

    reset: float
    first: int
    """Turns in the first second after the reset."""
    second: int = 0
    """Which second after the reset turns are taken of."""
    taken: int = 0
    """Turns taken of that second, and those that passed unused."""


def closed(before: Window | None, reset: float, first: int) -> Window | None:
    """Return the window after a word about its reset; None if that is no news."""
    if before is not None and reset <= before.reset + GROWTH:
        return None
    return Window(reset, first)


def turn(window: Window, now: float) -> float:
    """Return the moment of the next turn, at `now` or later."""
    return _next(window, now)[1]


def take(window: Window, now: float) -> tuple[Window, float]:
    """Return the window with its next turn taken, and the moment of that turn, which may lie ahead."""
    after, at = _next(window, now)
    return replace(after, taken=after.taken + 1), at


def over(window: Window, now: float) -> bool:
    """Return whether the window is as open as if it had never been closed."""
    return now - window.reset >= SLOW_SECONDS


def turns_in(window: Window, second: int) -> int:
    """Return how many turns there are in a second after the reset, from 0."""
    return window.first << min(second, SLOW_SECONDS)


def _next(window: Window, now: float) -> tuple[Window, float]:
    second, taken = window.second, window.taken
    passed = max(0.0, now - window.reset)
    if (present := math.floor(passed)) > second:
        second, taken = present, 0
    if present == second:  # spread within the second: each turn lasts until the next one, and is not saved up after that
        taken = max(taken, math.floor((passed - second) * turns_in(window, second)))
    if taken >= turns_in(window, second):
        second, taken = second + 1, 0
    at = window.reset + second + taken / turns_in(window, second)
    return replace(window, second=second, taken=taken), max(at, now)


def credential_of(agent: Agent, driver: str) -> str:
    """Return the credential that the agent needs for a kind of task; empty if it needs none."""
    return agent.credential if driver in agent.credential_drivers else ""


def may_begin(task: Task, agent: Agent, room: Mapping[str, int]) -> bool:
    """Return whether there is a turn for the task on this agent.

    Args:
        task: To begin.
        agent: That can do it.
        room: How many may begin now, of each credential whose window is not wholly open.
    """
    return room.get(credential_of(agent, task.spec.driver), 1) > 0


def why_closed(left: float) -> str:
    """Return what a task waits for, given the seconds until its turn."""
    return f"waits for the model provider, which answered 429 to this key: its turn is in {format_duration(left)} at the earliest"
