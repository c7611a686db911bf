"""How is this home's set started so that it is ready when we say so, and nothing is left if it is not?"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from claude_conductor.cli import complaint, setup_document
from claude_conductor.cli.host import Probe
from claude_conductor.cli.in_use import InUse
from claude_conductor.client import Conductor
from claude_conductor.errors import (
    AddressInUseError,
    AlreadyRunningError,
    ConductorError,
    HomeUnusableError,
    IsolationRefusedError,
    NotRunningError,
    StartFailedError,
)
from claude_conductor.rpc.server import check_socket_path
from claude_conductor.settings.home import Home
from claude_conductor.supervisor import control
from claude_conductor.supervisor.scope import scope_prefix
from claude_conductor.supervisor.state import Condition
from claude_conductor.v1 import agent_pb2

_POLL: Final = 0.02
READY: Final = frozenset(
    (
        agent_pb2.AGENT_STATE_IDLE,
        agent_pb2.AGENT_STATE_WORKING,
        agent_pb2.AGENT_STATE_WAITING_FOR_HUMAN,
        agent_pb2.AGENT_STATE_RATE_LIMITED,
    )
)
"""States of an agent that is there and well."""


@dataclass(frozen=True, slots=True)
class Started:
    """A set that is ready."""

    pid: int
    """The supervisor's."""
    seconds: float
    agents: tuple[str, ...]


def start(in_use: InUse, *, wait: float) -> Started:
    """Check, launch, and wait until the control plane serves and every agent is idle.

    Each sidecar tries what this host can isolate and reports it, so the host is examined once more, for the remedy, only where
    that is not enough.

    Args:
        in_use: Settings.
        wait: Seconds to become ready; what was started is stopped again when they have passed.

    Raises:
        AlreadyRunningError, AddressInUseError, HomeUnusableError, SocketPathTooLongError: The home is not free or not fit.
        IsolationRefusedError: The host cannot isolate at a configured level.
        StartFailedError: A program did not become ready.
    """
    began = time.monotonic()
    home = in_use.home
    levels = {str(sidecar["agent_id"]): str(sidecar["level"]) for sidecar in in_use.resolved.sidecars}
    check_home(home, list(levels))
    check_temp(in_use)
    if (other := foreign_command(os.environ, sys.argv[0])) is not None:
        complaint.warn(
            f"another program called conductor comes first on PATH: {other}; this one is {Path(sys.argv[0]).resolve()}"
        )
    if any(sidecar["limits"]["workspace_bytes"] for sidecar in in_use.resolved.sidecars):
        _examine(in_use, capped=True)
    document = setup_document.build(in_use.resolved, home, os.environ, sys.executable)
    pid = control.launch(
        document,
        str(home.path),
        prefix=scope_prefix(os.environ, shutil.which),
        environment=setup_document.supervisor_environment(home, os.environ),
        timeout=wait,
    )
    try:
        weak = too_weak(levels, asyncio.run(_ready(home, set(levels), began + wait)))
    except BaseException as failure:
        _stop(home)
        if isinstance(failure, StartFailedError):
            _examine(in_use)
        raise
    if weak:
        _stop(home)
        _examine(in_use)
        raise IsolationRefusedError(agents=", ".join(weak))
    return Started(pid, time.monotonic() - began, tuple(sorted(levels)))


def too_weak(levels: Mapping[str, str], agents: Iterable[agent_pb2.Agent]) -> list[str]:
    """Return the agents whose host is weaker than their configured level, or has not said how strong it is.

    Args:
        levels: Agent id -> configured level.
        agents: As they report themselves; the numbers of levels grow as they get weaker.
    """
    wanted = {name: agent_pb2.IsolationLevel.Value(f"ISOLATION_LEVEL_{level.upper()}") for name, level in levels.items()}
    return [
        agent.agent_id for agent in agents if agent.agent_id in wanted and not 0 < agent.strongest_level <= wanted[agent.agent_id]
    ]


def _examine(in_use: InUse, *, capped: bool = False) -> None:
    """Refuse with the remedy if this host cannot isolate at a configured level."""
    with Probe() as probe:
        probe.report().check(in_use.resolved.levels, capped=capped)


def _stop(home: Home) -> None:
    with contextlib.suppress(NotRunningError):
        control.stop(str(home.path))


def check_home(home: Home, agent_ids: list[str]) -> None:
    """Refuse a home that cannot be written, is in use, or whose sockets would have too long a path."""
    check_socket_path(home.socket)
    for agent_id in agent_ids:
        check_socket_path(home.path / "run" / "agents" / agent_id / "agent.sock")
    nearest = next((folder for folder in (home.path, *home.path.parents) if os.path.lexists(folder)), Path("/"))
    if not nearest.is_dir():
        raise HomeUnusableError(path=home.path, cause=f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise HomeUnusableError(path=home.path, cause=f"{nearest} is not writable for you")
    if (state := control.running(str(home.path))) is not None:
        raise AlreadyRunningError(home=home.path, pid=state.pid)
    if home.socket.is_socket() and _answers(home.socket):
        raise AddressInUseError(address=home.socket)
    if home.socket.exists() and not home.socket.is_socket():
        raise AddressInUseError("Something that is not a socket is in the way.", address=home.socket)


def check_temp(in_use: InUse) -> None:
    """Refuse a parent of temporary folders that is a link or somebody else's: its owner could change what lies in it."""
    path = in_use.resolved.sidecars[0].get("temp_path")
    if not path or not os.path.lexists(path):
        return
    facts = os.lstat(path)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise HomeUnusableError(
            f"`storage.temp_path` ({in_use.loaded.origin('storage.temp_path')}) is a link, no folder, or somebody else's.",
            next_step="name another folder in storage.temp_path, or remove this one",
            path=path,
            owner=facts.st_uid,
        )


def foreign_command(environment: Mapping[str, str], own: str) -> str | None:
    """Return the path of another program that a shell starts as `conductor`; None if that is us or nobody."""
    found = shutil.which("conductor", path=environment.get("PATH", ""))
    if found is None or Path(own).name != "conductor":
        return None
    return None if Path(found).resolve() == Path(own).resolve() else found


def _answers(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == 0


async def _ready(home: Home, wanted: set[str], deadline: float) -> list[agent_pb2.Agent]:
    """Wait for a serving control plane and for every agent, and return them; or say what keeps them.

    Raises:
        StartFailedError: A program failed, or time ran out.
    """
    async with Conductor.connect(f"unix:{home.socket}") as conductor:
        missing = "the control plane"
        while time.monotonic() < deadline:
            _check_programs(home)
            if home.socket.is_socket():
                try:
                    if await conductor.admin.serving():
                        agents = await conductor.agents.list()
                        ready = {agent.agent_id for agent in agents if agent.state in READY}
                        if not wanted - ready:
                            return agents
                        missing = ", ".join(sorted(wanted - ready))
                except ConductorError as error:
                    missing = f"the control plane: {error}"
            await asyncio.sleep(_POLL)
        raise StartFailedError("Not everything became ready in time.", next_step=_log_advice(home), missing=missing)


def _check_programs(home: Home) -> None:
    state = control.running(str(home.path))
    if state is None:
        raise StartFailedError("The supervisor ended.", next_step=_log_advice(home), log=home.logs / "supervisor.log")
    for child in state.children:
        if (last := child.last_exit) is not None or child.state is Condition.FAILED:
            words = [line for line in (last.log if last else ()) if line.strip()][-3:]
            raise StartFailedError(
                f"{child.name} ended while starting.",
                log=home.logs / f"{child.name}.log",
                cause=last.cause if last else "unknown",
                last_words=" | ".join(words) or "none",
            )


def _log_advice(home: Home) -> str:
    return f"the logs in {home.logs} say why; `conductor doctor` checks the host; --wait-timeout allows more time"
