"""The agent's environment: a fixed base, what its kind needs, and who and where it is. Nothing is inherited."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent_sidecar.isolation.interface import Level
from agent_sidecar.run.hook import Run
from claude_conductor.telemetry.traces import Span, Tracer

SOCKETS: Final = "/run/conductor"
_BASE: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}


def environment(
    agent_id: str, task_id: str, traceparent: str, asked: Mapping[str, str], sockets: str = SOCKETS
) -> dict[str, str]:
    """Return the whole environment. HOME is set by the isolation driver, which knows where the private home is.

    Args:
        agent_id: Who the agent is.
        task_id: What it works on; empty for a long-running agent.
        traceparent: W3C trace context; empty if there is none.
        asked: What its kind and its task ask for: goes over the base. Our own names go over everything, and whatever PATH it has,
            our command is at the end of it.
        sockets: Folder of its sockets, as it sees it.
    """
    names = {"CONDUCTOR_AGENT_ID": agent_id, "CONDUCTOR_SOCKET": f"{sockets}/agent.sock", "CONDUCTOR_TASK_ID": task_id}
    ours = {name: text for name, text in names.items() if text}
    traced = {"TRACEPARENT": traceparent} if traceparent else {}
    whole = {**_BASE, **traced, **asked, **ours}
    return {**whole, "PATH": ":".join(part for part in (whole["PATH"], f"{sockets}/bin") if part)}


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
        sockets = str(self._sockets) if run.level is Level.MINIMAL else SOCKETS
        asked = run.command.environment if run.command is not None else {}
        run.environment = environment(self._agent_id, run.assignment.lease.task_id, run.traceparent, asked, sockets)
        run.bridges = dict(run.command.bridges) if run.command is not None else {}

    async def during(self, run: Run) -> None:
        """Nothing to do."""

    async def finish(self, run: Run) -> None:
        """End the span of the agent's work."""
        if self._span is not None:
            if run.exit is not None and run.exit.code != 0:
                self._span.fail(run.exit.cause.value)
            self._span.end()
