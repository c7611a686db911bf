"""The real control plane and real sidecars that a conformance case talks to; only the isolation is a fake."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import psutil

from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import agent_pb2, agent_service_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, sidecar_token
from tests.fakes.sidecar_process import SidecarProcess, settings
from tests.fakes.waiting import eventually

AGENTS = {"first": "agent-1", "second": "agent-2"}
AWAY = "agent-away"
RAW = "agent-raw"
"""An agent whose sidecar is played by a case."""
EXAMPLES = {"node": "agent-node", "go": "agent-go"}
"""The agents of examples/agents."""
LIMITS = {"mailbox_messages": 20}


class Fleet:
    """One control plane, the sidecars of two long-running agents, and an agent that was here and is away."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.plane = ControlPlane(home, (*AGENTS.values(), AWAY, RAW, *EXAMPLES.values()), limits=LIMITS, **settings)
        self.sidecars: dict[str, SidecarProcess] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        self._stack.push_async_callback(self.plane.close)
        await self.plane.start()
        for agent_id in (*AGENTS.values(), AWAY):
            await self.start_sidecar(agent_id, ("/bin/sleep", "600"))
        await self.until_connected(*AGENTS.values(), AWAY)
        await self.sidecars[AWAY].stop()
        return self

    async def __aexit__(self, *exit_details: object) -> None:
        await self._stack.__aexit__(*exit_details)

    async def start_sidecar(self, agent_id: str, command: tuple[str, ...], **environment: str) -> SidecarProcess:
        """Start the sidecar of a long-running agent."""
        chosen = settings(
            self.home,
            agent_id=agent_id,
            token=Secret(sidecar_token(agent_id)),
            agent_command=command,
            agent_environment=environment,
            startup_timeout=120.0,
        )
        sidecar = self.sidecars[agent_id] = SidecarProcess(chosen)
        self._stack.push_async_callback(sidecar.stop, signal.SIGTERM)
        await sidecar.start()
        return sidecar

    async def until_connected(self, *agents: str) -> None:
        """Wait until the sidecars have a session and a socket."""
        operator = self.plane.operator()
        async with asyncio.timeout(30):
            while True:
                answer = await operator.agents.ListAgents(agent_service_pb2.ListAgentsRequest(), **operator.call)
                there = {agent.agent_id for agent in answer.agents if agent.state != agent_pb2.AGENT_STATE_LOST}
                if there >= set(agents) and all(self.socket(agent).is_socket() for agent in agents):
                    return
                await asyncio.sleep(0.05)

    def socket(self, agent_id: str) -> Path:
        """Return the path of an agent's socket."""
        return self.home / "run/agents" / agent_id / "agent.sock"

    def target(self, role: str) -> dict[str, str]:
        """Return address and token of a role."""
        if role in AGENTS:
            return {"target": f"unix:{self.socket(AGENTS[role])}"}
        token = {"operator": OPERATOR_TOKEN, "sidecar": sidecar_token(RAW), "nobody": "", "stranger": "not-a-token"}[role]
        return {"target": self.plane.address, "token": token}

    async def act(self, what: str) -> None:
        """Do something to a process; the words are those of a case."""
        match what.split():
            case ["kill", "the", "control", "plane"]:
                self.plane.kill()
            case ["start", "the", "control", "plane"]:
                await self.plane.start()
            case ["end", "the", "process", "of", role]:
                await self._restart_agent(AGENTS[role])
            case _:
                raise AssertionError(f"no such action: {what}")

    async def _restart_agent(self, agent_id: str) -> None:
        process = self.sidecars[agent_id].process
        assert process is not None
        await eventually(lambda: bool(_sleepers(process.pid)), 15)  # the case before may have ended it: it is started anew
        before = _sleepers(process.pid)
        for child in before:
            child.kill()
        await eventually(lambda: set(_sleepers(process.pid)) - set(before), 15)


def _sleepers(sidecar: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(sidecar).children() if child.name() == "sleep"]
