"""What does home/run/supervisor.json say, and how is it read back?"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast


class Phase(enum.StrEnum):
    """Where the supervisor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Condition(enum.StrEnum):
    """How a supervised program is doing."""

    RUNNING = "running"
    WAITING = "waiting"
    """It ended and will be started again after its delay."""
    FAILED = "failed"
    """It refused its settings (exit code 78) and stays down."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LastExit:
    """How a program ended the last time."""

    cause: str
    """In words, e.g. `signal 9 (SIGKILL)`."""
    returncode: int | None
    """Exit code, or minus the signal; None if it could not be started at all."""
    at: float
    """Seconds since the epoch."""
    ran_for: float
    """Seconds."""
    log: tuple[str, ...]
    """The last lines it wrote in that life."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """One supervised program."""

    name: str
    agent_id: str | None
    pid: int | None
    """None while it does not run."""
    start_time: int | None
    """Field 22 of /proc/PID/stat (proc(5)), in clock ticks since boot: tells a reused pid."""
    restarts: int
    state: Condition
    last_exit: LastExit | None


@dataclass(frozen=True, slots=True)
class State:
    """The supervisor and everything it looks after."""

    pid: int
    start_time: int
    boot_id: str
    """The boot in which pids and start times mean something."""
    state: Phase
    children: tuple[ChildState, ...]
    started_at: float
    """Seconds since the epoch."""


def dump(state: State) -> str:
    """Write the state as JSON."""
    return json.dumps(
        {
            "pid": state.pid,
            "start_time": state.start_time,
            "boot_id": state.boot_id,
            "state": state.state,
            "children": [_child_document(child) for child in state.children],
            "started_at": state.started_at,
        },
        indent=1,
    )


def load(text: str) -> State | None:
    """Read the state back; None if the text is not one this version wrote (a cut or foreign file is no supervisor)."""
    try:
        document = cast("Mapping[str, object]", json.loads(text))
        return State(
            pid=_int(document["pid"]),
            start_time=_int(document["start_time"]),
            boot_id=str(document["boot_id"]),
            state=Phase(cast("str", document["state"])),
            children=tuple(_child(each) for each in cast("list[Mapping[str, object]]", document["children"])),
            started_at=float(cast("float", document["started_at"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _child_document(child: ChildState) -> dict[str, object]:
    last = child.last_exit
    return {
        "name": child.name,
        "agent_id": child.agent_id,
        "pid": child.pid,
        "start_time": child.start_time,
        "restarts": child.restarts,
        "state": child.state,
        "last_exit": last
        and {"cause": last.cause, "returncode": last.returncode, "at": last.at, "ran_for": last.ran_for, "log": last.log},
    }


def _child(document: Mapping[str, object]) -> ChildState:
    last = cast("Mapping[str, object] | None", document["last_exit"])
    return ChildState(
        name=str(document["name"]),
        agent_id=cast("str | None", document["agent_id"]),
        pid=None if document["pid"] is None else _int(document["pid"]),
        start_time=None if document["start_time"] is None else _int(document["start_time"]),
        restarts=_int(document["restarts"]),
        state=Condition(cast("str", document["state"])),
        last_exit=None if last is None else _last_exit(last),
    )


def _last_exit(document: Mapping[str, object]) -> LastExit:
    return LastExit(
        cause=str(document["cause"]),
        returncode=None if document["returncode"] is None else _int(document["returncode"]),
        at=float(cast("float", document["at"])),
        ran_for=float(cast("float", document["ran_for"])),
        log=tuple(str(line) for line in cast("list[object]", document["log"])),
    )


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value
