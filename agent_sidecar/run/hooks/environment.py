"""The agent's environment: a fixed base, what its kind needs, and who and where it is. Nothing is inherited."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.hook import Run
from claude_conductor.telemetry.traces import Span, Tracer

SOCKET: Final = "/run/conductor/agent.sock"
_BASE: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}


def environment(agent_id: str, task_id: str, traceparent: str, socket: str = SOCKET) -> dict[str, str]:
    """Return the base environment. HOME is set by the isolation driver, which knows where the private home is."""
    ours = {**_BASE, "CONDUCTOR_AGENT_ID": agent_id, "CONDUCTOR_SOCKET": socket}
    if task_id:
        ours["CONDUCTOR_TASK_ID"] = task_id
    if traceparent:
        ours["TRACEPARENT"] = traceparent
    return ours


class EnvironmentHook:
    """Puts the environment together.

    Args:
        agent_id: Who the agent is.
        sockets: Host folder with the agent's sockets, which an agent at the minimal level sees where it is.
        tracer: Starts the span whose context the agent is given.
    """

    name = "environment"

    def __init__(self, agent_id: str, sockets: Path, tracer: Tracer) -> None:
        self._agent_id = agent_id
        self._sockets = sockets
        self._tracer = tracer
        self._span: Span | None = None

    async def prepare(self, run: Run) -> None:
        """Fill it in; what the agent's kind asks for goes over the base, and our own names over everything."""
        self._span = self._tracer.start("agent run", parent=run.task_traceparent)
        run.traceparent = self._span.traceparent
        socket = str(self._sockets / "agent.sock") if run.level is Level.MINIMAL else SOCKET
        ours = environment(self._agent_id, run.assignment.lease.task_id, run.traceparent, socket)
        asked = dict(run.command.environment) if run.command is not None else {}
        run.environment = {**ours, **asked, **{name: text for name, text in ours.items() if name.startswith("CONDUCTOR_")}}
        run.bridges = dict(run.command.bridges) if run.command is not None else {}

    async def during(self, run: Run) -> None:
        """Nothing to do."""

    async def finish(self, run: Run) -> None:
        """End the span of the agent's work."""
        if self._span is not None:
            if run.exit is not None and run.exit.code != 0:
                self._span.fail(run.exit.cause.value)
            self._span.end()
