"""The agent's process: planned at the level asked for or refused, started inside its sandbox, and ended without remains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent_sidecar.drivers.toolchain import outermost
from agent_sidecar.isolation.interface import IsolationDriver, Level, Plan, Refusal, Spec
from agent_sidecar.run.hook import Run
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.task import InForce
from claude_conductor.errors import IsolationRefusedError
from claude_conductor.telemetry.traces import Tracer, span


def in_force(plan: Plan, requested: Level, driver: str, allow: Sequence[str] = ()) -> InForce:
    """Return what a plan puts in force, and which hosts can be reached through it."""
    mechanisms = (*plan.in_force, f"egress_proxy({', '.join(allow)})") if allow else plan.in_force
    return InForce(requested, plan.effective_level, driver, mechanisms, plan.degraded)


def planned(driver: IsolationDriver, spec: Spec) -> Plan:
    """Return the plan for a spec.

    Raises:
        IsolationRefusedError: This host cannot run it at its level; names each missing mechanism.
    """
    plan = driver.plan(spec)
    if isinstance(plan, Refusal):
        raise IsolationRefusedError(str(plan))
    return plan


class IsolationHook:
    """Starts the process.

    Args:
        driver: How agents are isolated here.
        sockets: Host folder with the agent's sockets.
        toolchains: Folders every agent of this slot may read.
        agent_id: Who the agent is.
        reports: Told that the process runs.
        tracer: Times the start.
    """

    name = "isolation"

    def __init__(
        self,
        driver: IsolationDriver,
        *,
        sockets: Path,
        toolchains: tuple[Path, ...],
        agent_id: str,
        reports: Reports,
        tracer: Tracer,
    ) -> None:
        self._driver = driver
        self._sockets = sockets
        self._toolchains = toolchains
        self._agent_id = agent_id
        self._reports = reports
        self._tracer = tracer

    async def prepare(self, run: Run) -> None:
        """Plan and start.

        Raises:
            IsolationRefusedError: The level is not possible here.
        """
        if run.command is None or run.workspace is None:
            raise IsolationRefusedError("There is nothing to start.")
        spec = Spec(
            agent_id=self._agent_id,
            run_id=run.run_id,
            argv=run.command.argv,
            environment=run.environment,
            workspace=run.workspace,
            socket_directory=self._sockets,
            level=run.level,
            limits=run.limits,
            toolchains=outermost((*self._toolchains, *run.command.toolchains)),
            bridges=run.bridges,
        )
        plan = planned(self._driver, spec)
        run.in_force = in_force(plan, run.level, self._driver.probe().driver, run.allow)
        with span(self._tracer, "sandbox start", parent=run.task_traceparent, level=run.level.value):
            run.handle = await self._driver.start(plan)
        await self._reports.started(run.assignment.lease, run.in_force)

    async def during(self, run: Run) -> None:
        """Hand the standard input over."""
        if run.handle is not None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the agent may end, or close it, without reading
                await run.handle.write_stdin(run.command.stdin if run.command is not None else b"")

    async def finish(self, run: Run) -> None:
        """Make sure that nothing is left; a run that came to its end has been stopped already."""
        if run.handle is not None:
            ended = await run.handle.stop(0)
            run.exit = run.exit or ended
