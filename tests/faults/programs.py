"""Which processes does a run hurt, and who starts them again?"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil

from agent_sidecar.isolation.interface import Level
from agent_sidecar.settings import Settings
from claude_conductor.settings.secret import Secret
from tests.e2e.conftest import Installation
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar_process import ROOT, SidecarProcess, settings
from tests.faults.plan import Fault

CONTROL_PLANE, SIDECAR, AGENT = "control plane", "sidecar", "agent"
MODULE = "tests.faults.agent"
WORKER = Path(__file__).with_name("worker.py")
APPEARS_SECONDS = 60.0
LOOK_SECONDS = 0.05


class Programs(Protocol):
    """A control plane, and a sidecar with a long-running agent for each name."""

    address: str
    token: str
    folders: Mapping[str, Path]
    """Where each agent writes its histories."""

    async def start(self, plans: Mapping[str, str]) -> None:
        """Start all of it; each agent gets its plan."""

    def pids(self, program: str, agent: str) -> Sequence[int]:
        """Return the process of a program, if it is there now."""

    async def restart(self, program: str, agent: str) -> None:
        """Start again what was killed, unless somebody else does."""

    def logs(self) -> str:
        """Return what the programs wrote into their logs."""

    async def close(self) -> None:
        """End everything."""


async def find(programs: Programs, program: str, agent: str) -> int:
    """Return a descriptor (pidfd_open(2)) of the present process of a program; waits while it is being started.

    The descriptor is of this process and of no other that may get its number later.
    """
    async with asyncio.timeout(APPEARS_SECONDS):
        while True:
            for pid in programs.pids(program, agent):
                with suppress(ProcessLookupError):
                    descriptor = os.pidfd_open(pid)
                    if pid in programs.pids(program, agent):
                        return descriptor
                    os.close(descriptor)
            await asyncio.sleep(LOOK_SECONDS)


def tell(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


async def ended(process: int) -> None:
    """Return once the process has ended."""
    async with asyncio.timeout(APPEARS_SECONDS):
        while not select.select([process], [], [], 0)[0]:  # noqa: ASYNC110 - a look is enough
            await asyncio.sleep(LOOK_SECONDS)


async def strike(programs: Programs, fault: Fault, process: int) -> tuple[float, float]:
    """Do to a process what the fault says and, if it kills, start again what was hit. The descriptor is closed.

    Returns:
        When it hit, and when what was hit could go on or was told to start, in monotonic seconds.
    """
    began = time.monotonic()
    try:
        if fault.action == "freeze":
            tell(process, signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            tell(process, signal.SIGCONT)
            return began, time.monotonic()
        tell(process, signal.SIGKILL)
        await ended(process)
        killed = time.monotonic()
        await programs.restart(fault.program, fault.agent)
        return began, killed
    finally:
        os.close(process)


def _matching(candidates: Sequence[psutil.Process], fits: Callable[[list[str]], bool]) -> list[int]:
    found = []
    for process in candidates:
        with suppress(psutil.NoSuchProcess):
            if fits(process.cmdline()):
                found.append(process.pid)
    return found


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_agent(line: list[str], folder: str) -> bool:
    return line[:1] == [sys.executable] and MODULE in line and folder in line


class Separate:
    """Started by the test, and started again by it at once: real programs, agents without a sandbox.

    Args:
        home: Short, because sockets lie below it.
        agents: Names.
        chosen: Settings of the control plane.
    """

    def __init__(self, home: Path, agents: Sequence[str], **chosen: Any) -> None:
        self._home = home
        self._plane = ControlPlane(home, tuple(agents), log_level="warning", **chosen)
        self._sidecars: dict[str, SidecarProcess] = {}
        self.address = self._plane.address
        self.token = OPERATOR_TOKEN
        self.folders = {agent: home / "histories" / agent / agent for agent in agents}

    async def start(self, plans: Mapping[str, str]) -> None:
        """See Programs."""
        await self._plane.start()
        for agent, plan in plans.items():
            self.folders[agent].parent.mkdir(parents=True)
            self._sidecars[agent] = SidecarProcess(self._settings(agent, plan))
            await self._sidecars[agent].start()

    def _settings(self, agent: str, plan: str) -> Settings:
        return settings(
            self._home,
            agent_id=agent,
            token=Secret(sidecar_token(agent)),
            level=Level.MINIMAL,
            agent_command=(sys.executable, "-m", MODULE, str(self.folders[agent]), plan),
            agent_environment={"PYTHONPATH": str(ROOT)},
            log_level="info",
        )

    def pids(self, program: str, agent: str) -> Sequence[int]:
        """See Programs."""
        if program == CONTROL_PLANE:
            return [self._plane.process.pid] if self._plane.process is not None else []
        process = self._sidecars[agent].process
        if process is None or process.returncode is not None:
            return []
        if program == SIDECAR:
            return [process.pid]
        return _matching(_children(process.pid), lambda line: _is_agent(line, str(self.folders[agent])))

    async def restart(self, program: str, agent: str) -> None:
        """See Programs; an agent is started again by its sidecar."""
        if program == CONTROL_PLANE:
            self._plane.kill()
            await self._plane.start()
        elif program == SIDECAR:
            await self._sidecars[agent].stop(signal.SIGKILL)
            await self._sidecars[agent].start()

    def logs(self) -> str:
        """See Programs."""
        return "\n".join(path.read_text() for path in sorted(self._home.glob("*.log")))

    async def close(self) -> None:
        """See Programs."""
        for sidecar in self._sidecars.values():
            if sidecar.process is not None:
                await sidecar.stop(signal.SIGKILL)
        await self._plane.close()


class Slots(Separate):
    """As before, with sidecars that start a process for each task."""

    def _settings(self, agent: str, plan: str) -> Settings:
        del plan
        token = Secret(sidecar_token(agent))
        return settings(self._home, agent_id=agent, token=token, level=Level.MINIMAL, log_level="info")

    def pids(self, program: str, agent: str) -> Sequence[int]:
        """See Programs."""
        if program != AGENT:
            return super().pids(program, agent)
        sidecar = super().pids(SIDECAR, agent)
        return [pid for parent in sidecar for pid in _matching(_children(parent), lambda line: str(WORKER) in line)]


class Standalone:
    """A whole set as `conductor start` leaves it behind: the supervisor starts again what is killed, agents have their sandboxes.

    Args:
        installation: Where nothing runs yet; whoever made it stops it.
        agents: Names.
    """

    def __init__(self, installation: Installation, agents: Sequence[str]) -> None:
        self._installation = installation
        self.address = f"unix:{installation.home}/run/control.sock"
        self.token = ""
        self.folders = {agent: installation.home / f"workspace/{agent}/home" / agent for agent in agents}

    async def start(self, plans: Mapping[str, str]) -> None:
        """See Programs."""
        toolchains = [str(ROOT), sys.prefix, *(() if sys.base_prefix == "/usr" else (sys.base_prefix,))]
        agents = [
            {
                "id": agent,
                "driver": "grpc_agent",
                "command": [sys.executable, "-m", MODULE, agent, plan],
                "environment": {"PYTHONPATH": str(ROOT)},
                "toolchains": toolchains,
            }
            for agent, plan in plans.items()
        ]
        await asyncio.to_thread(self._installation.start, num_agents=0, agent={"workspace_isolation": "moderate"}, agents=agents)
        self.token = (self._installation.home / "run/operator.token").read_text().strip()

    def pids(self, program: str, agent: str) -> Sequence[int]:
        """See Programs."""
        state = json.loads((self._installation.home / "run/supervisor.json").read_text())
        children = _children(int(state["pid"]))
        if program == CONTROL_PLANE:
            return _matching(children, lambda line: "controlplane" in line)
        agents = _matching(children, lambda line: _is_agent(line, agent))
        if program == AGENT:
            return agents
        return [
            pid for child in agents for pid in _matching(psutil.Process(child).parents(), lambda line: "agent_sidecar" in line)
        ]

    async def restart(self, program: str, agent: str) -> None:
        """See Programs; the supervisor does it."""

    def logs(self) -> str:
        """See Programs."""
        return self._installation.logs()

    async def close(self) -> None:
        """See Programs; the fixture does it."""
