"""How one task after another is run: hooks in order, one bound on every part, exactly one report whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from agent_sidecar.drivers.driver import AgentDriver, TaskOrder
from agent_sidecar.isolation.interface import Cause, Level, Limits
from agent_sidecar.run.hook import Hook, Run
from agent_sidecar.run.hooks.usage import usage_of
from agent_sidecar.run.life import why
from agent_sidecar.run.lifecycle import Happened, Overdue, Phase, Revoked, Stopping, conclude, from_error
from agent_sidecar.run.reports import Mailboxes, Reports
from agent_sidecar.run.task import (
    Activity,
    Assignment,
    Cancellation,
    Condition,
    Failure,
    FailureKind,
    InForce,
    Lease,
    Result,
)
from agent_sidecar.run.text import cut, one_line
from claude_conductor.clock import Clock
from claude_conductor.errors import ConductorError, InvalidArgumentError, StaleLeaseError
from claude_conductor.ids import Mint
from claude_conductor.telemetry.traces import Tracer, span

_log = logging.getLogger(__name__)
SUMMARY_BYTES: Final = 64 << 10
_DRAIN_SECONDS: Final = 10.0
"""How long what is left in the agent's pipes is read after its end."""
_WAITING: Final = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the settings say about every run. Times in seconds."""

    level: Level
    limits: Limits
    startup_timeout: float
    stop_grace: float
    health_check_interval: float = 30.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a runner works with."""

    reports: Reports
    mailboxes: Mailboxes
    tracer: Tracer
    clock: Clock
    mint: Mint


def answer_it(run: Run) -> str:
    """Return what to do about an agent that waits for a human."""
    return f"a human has to answer: `conductor tasks answer {run.assignment.lease.task_id}`"


def nothing_to_ask_about() -> InvalidArgumentError:
    """Return why an agent without a task cannot ask a human."""
    return InvalidArgumentError("There is no present task to ask about.", next_step="send a message to `operator` instead")


def order_of(assignment: Assignment) -> TaskOrder:
    """Return the part of a task that agent drivers may look at."""
    return TaskOrder(
        task_id=assignment.lease.task_id,
        type=assignment.type,
        prompt=assignment.prompt,
        command=assignment.command,
        environment=assignment.environment,
        prompt_by=assignment.prompt_by,
        model=assignment.model,
        max_turns=assignment.max_turns,
    )


class TaskRunner:
    """A slot that starts a process for each task.

    Args:
        bounds: What holds for every run.
        find_driver: Returns the driver of a name; raises InvalidArgumentError for an unknown one.
        hooks: In the order in which they prepare.
        surroundings: What it works with.
    """

    def __init__(
        self, bounds: Bounds, find_driver: Callable[[str], AgentDriver], hooks: Sequence[Hook], surroundings: Surroundings
    ) -> None:
        self._bounds = bounds
        self._find_driver = find_driver
        self._hooks = hooks
        self._with = surroundings
        self._run: Run | None = None
        self._stopping = False
        self._news = asyncio.Event()
        self.changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turned_away: asyncio.Queue[Lease] = asyncio.Queue(_WAITING)

    def assign(self, assignment: Assignment) -> None:
        """Begin a task."""
        if self._run is not None and self._run.assignment.lease == assignment.lease:
            return
        if self._run is not None or self._stopping:
            if not self._turned_away.full():
                self._turned_away.put_nowait(assignment.lease)
            return
        self._run = Run(
            assignment=assignment,
            run_id=self._with.mint("run_"),
            level=assignment.level or self._bounds.level,
            limits=assignment.limits.over(self._bounds.limits),
            began=self._with.clock.monotonic(),
        )
        self._idle.clear()
        self._news.set()
        self.changed.set()

    def cancel(self, lease: Lease, cancellation: Cancellation) -> None:
        """End the task; a stale lease is ignored."""
        if self._run is not None and self._run.assignment.lease == lease:
            self._run.end(cancellation)

    def revoke(self, leases: Sequence[Lease]) -> None:
        """End the work on these leases and report nothing."""
        if self._run is not None and self._run.assignment.lease in leases:
            self._run.end(Revoked())

    async def stop(self) -> None:
        """Take no more tasks, end the present one with grace and return once its end is reported."""
        self._stopping = True
        if self._run is not None:
            self._run.end(Stopping())
        await self._idle.wait()

    def leases(self) -> tuple[Lease, ...]:
        """Return what is worked on."""
        return (self._run.assignment.lease,) if self._run is not None else ()

    def condition(self) -> Condition:
        """Return what the slot does now."""
        run = self._run
        if run is None:
            return Condition(Activity.IDLE)
        now = self._with.clock.monotonic()
        activity, reason = Activity.WORKING, run.phase.value
        if run.waits_for_human():
            activity, reason = Activity.WAITING_FOR_HUMAN, answer_it(run)
        elif run.phase is Phase.RUNNING and run.limited_until > now:
            activity, reason = (
                Activity.RATE_LIMITED,
                f"the model provider takes requests again in {run.limited_until - now:.0f} s",
            )
        elif run.phase is Phase.RUNNING and run.stalled:
            activity = Activity.STALLED
            reason = why("output, call or processor time", run.life, self._with.clock, self._bounds.health_check_interval)
        return Condition(activity, reason, run.stats.memory_bytes, run.stats.cpu_seconds, run.stats.pids)

    def in_force(self) -> InForce | None:
        """Return nothing: there is no long-running agent in this slot."""
        return None

    @property
    def own_mailbox(self) -> str:
        """None besides the task's."""
        return ""

    @property
    def present(self) -> Assignment | None:
        """The task the agent works on."""
        return self._run.assignment if self._run is not None else None

    @property
    def present_in_force(self) -> InForce | None:
        """What is in force around it."""
        return self._run.in_force if self._run is not None else None

    @property
    def traceparent(self) -> str:
        """Trace context of what the agent does now."""
        return (self._run.traceparent or self._run.task_traceparent) if self._run is not None else ""

    def calling(self) -> AbstractContextManager[None]:
        """Take note that the agent calls."""
        return self._run.life.calling(self._with.clock) if self._run is not None else nullcontext()

    def asking(self) -> AbstractContextManager[None]:
        """Take note that the agent asks a human."""
        if self._run is None:
            raise nothing_to_ask_about()
        return self._run.asking(self.changed)

    async def progress(self, text: str) -> None:
        """Show a line of progress of the present task."""
        if self._run is None:
            raise StaleLeaseError("There is no present task.")
        await self._with.reports.progress(self._run.assignment.lease, one_line(text), usage_of(self._run, self._with.clock))

    async def next_task(self, wait: float) -> tuple[Assignment, str]:
        """Refuse: this agent got its task when it was started."""
        raise InvalidArgumentError("This agent is started once per task; its task came with its start.", wait=wait)

    async def complete_task(self, task_id: str, summary: str, failure: str | None) -> None:
        """Refuse: this task ends with its process."""
        raise InvalidArgumentError("This agent's task ends with its process.", task_id=task_id)

    async def serve(self) -> None:
        """Run tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._turn_away(), name="turn away")
            while True:
                await self._news.wait()
                self._news.clear()
                if self._run is not None:
                    await self._attempt(self._run)

    async def _turn_away(self) -> None:
        while True:
            lease = await self._turned_away.get()
            failure = Failure(FailureKind.AGENT_LOST, "The slot was busy with another task.")
            await self._with.reports.completed(lease, Result(failure=failure))

    async def _attempt(self, run: Run) -> None:
        assignment = run.assignment
        try:
            with span(
                self._with.tracer,
                "task run",
                parent=assignment.traceparent,
                kind="consumer",
                task_id=assignment.lease.task_id,
                attempt=assignment.lease.attempt,
                driver=assignment.driver,
            ) as whole:
                run.task_traceparent = whole.traceparent
                failure = await self._perform(run)
                if failure is not None:
                    whole.fail(failure.kind.value)
            await self._with.mailboxes.closed(assignment.mailbox)
            if not isinstance(run.ending, Revoked):
                await self._with.reports.completed(assignment.lease, self._result(run, failure))
        finally:
            self._run = None
            self._idle.set()
            self.changed.set()

    async def _perform(self, run: Run) -> Failure | None:
        """Do everything but the report; return why it failed."""
        begun: list[Hook] = []
        assignment = run.assignment
        happened = Happened(
            timeout=assignment.timeout,
            startup_timeout=self._bounds.startup_timeout,
            budget_seconds=assignment.allowance.seconds,
        )
        try:
            overdue = await self._start(run, begun) or await self._until_over(run)
            happened = replace(happened, overdue=overdue)
        except ConductorError as error:
            happened = replace(happened, error=error, started=run.handle is not None)
        except Exception as error:  # noqa: BLE001 - a bug in a hook ends one task, not the slot
            _log.exception("run failed unexpectedly", extra={"task_id": run.assignment.lease.task_id})
            failed = ConductorError(f"The sidecar failed: {error!r}")
            happened = replace(happened, error=failed, started=run.handle is not None)
        run.phase = Phase.FINISHING
        failure = conclude(replace(happened, ending=run.ending, exit=run.exit, answer=run.answer, over_budget=run.over_budget))
        run.succeeded = failure is None
        missing = await self._finish(run, begun)
        if missing is not None and failure is not None:
            run.warnings.append(str(missing))
        return failure or (from_error(missing, started=run.handle is not None) if missing is not None else None)

    async def _start(self, run: Run, begun: list[Hook]) -> Overdue | None:
        bound = min(self._bounds.startup_timeout, run.assignment.timeout)
        run.bound = Overdue.TASK if bound == run.assignment.timeout else Overdue.STARTUP
        try:
            async with asyncio.timeout(bound) as run.scope:
                if run.ending is not None:
                    return Overdue.STARTUP
                run.driver = self._find_driver(run.assignment.driver)
                run.command = run.driver.command(order_of(run.assignment))
                for hook in self._hooks:
                    begun.append(hook)
                    await hook.prepare(run)
        except TimeoutError as cause:
            if run.scope is None or not run.scope.expired():
                raise ConductorError("A part of the start took too long.") from cause
            return run.bound
        finally:
            run.scope = None
        run.phase = Phase.RUNNING
        return None

    async def _until_over(self, run: Run) -> Overdue | None:
        """Let the agent work until it ends or is ended, then take what is left of its output."""
        if run.handle is None:
            return None
        async with asyncio.TaskGroup() as group:
            tasks = {hook.name: group.create_task(hook.during(run), name=f"{hook.name} of {run.run_id}") for hook in self._hooks}
            overdue = await self._wait(run)
            grace = run.ending.grace if isinstance(run.ending, Cancellation) else self._bounds.stop_grace
            ended = await run.handle.stop(grace)
            run.exit = run.exit or ended
            pump = tasks.get("output")
            if pump is not None:
                await asyncio.wait({pump}, timeout=_DRAIN_SECONDS)
            for task in tasks.values():
                task.cancel()
        return overdue

    async def _wait(self, run: Run) -> Overdue | None:
        if run.handle is None:
            return None
        left = run.assignment.timeout - (self._with.clock.monotonic() - run.began)
        try:
            async with asyncio.timeout(0 if run.ending is not None else left) as run.scope:
                run.exit = await run.handle.wait()
        except TimeoutError:
            return Overdue.TASK
        finally:
            run.scope = None
        return None

    async def _finish(self, run: Run, begun: Sequence[Hook]) -> ConductorError | None:
        """Take everything back, last first; return the first error."""
        first: ConductorError | None = None
        for hook in reversed(begun):
            try:
                await hook.finish(run)
            except ConductorError as error:
                _log.warning("hook could not finish", extra={"hook": hook.name, "reason": error.reason, "cause": str(error)})
                first = first or error
        return first

    def _result(self, run: Run, failure: Failure | None) -> Result:
        exited = run.exit is not None and run.exit.cause is Cause.EXITED
        return Result(
            failure=failure,
            exit_code=run.exit.code if run.exit is not None and exited else None,
            summary=cut(run.answer.text, SUMMARY_BYTES) if run.answer is not None else "",
            usage=usage_of(run, self._with.clock),
            patch=run.patch,
            base_commit=run.base_commit,
            in_force=run.in_force,
            warnings=tuple(run.warnings),
            workspace=str(run.kept or ""),
            rate_limited=max(0.0, run.limited_until - self._with.clock.monotonic()) if failure and run.refused else None,
        )
