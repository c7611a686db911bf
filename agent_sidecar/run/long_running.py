"""A slot with one long-running agent: its process is kept alive, and takes task after task over its socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent_sidecar.drivers.driver import Answer
from agent_sidecar.isolation.interface import Cause, Exit, Level
from agent_sidecar.run.given import Completion, Work, move_in, take_back
from agent_sidecar.run.hook import Hook, Run
from agent_sidecar.run.hooks.output import PIECE_BYTES
from agent_sidecar.run.hooks.usage import usage_of
from agent_sidecar.run.keeper import Keeper, Program, Told
from agent_sidecar.run.life import Life, why
from agent_sidecar.run.lifecycle import Happened, Overdue, Phase, Revoked, Stopping, conclude, from_error
from agent_sidecar.run.runner import SUMMARY_BYTES, Bounds, Surroundings, answer_it, nothing_to_ask_about
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
from claude_conductor.errors import (
    ConductorError,
    DeadlineExceededError,
    IsolationRefusedError,
    StaleLeaseError,
)
from claude_conductor.telemetry.traces import span

_log = logging.getLogger(__name__)
_STRICTNESS: Final = (Level.MINIMAL, Level.MODERATE, Level.STRICT)


class LongRunningSlot:
    """A slot whose agent owns the mailbox of the agent id.

    Args:
        bounds: What holds for the process and for every task.
        program: The agent's program; the files of a task lie below its home while it works on it.
        workspace: Prepares and collects the files of each task.
        surroundings: What the slot works with.
        random: Returns a number from 0 up to 1.
    """

    def __init__(
        self, bounds: Bounds, program: Program, workspace: Hook, surroundings: Surroundings, random: Callable[[], float]
    ) -> None:
        self._bounds = bounds
        self._program = program
        self._workspace = workspace
        self._with = surroundings
        self.changed = asyncio.Event()
        self._keeper = Keeper(program, bounds, surroundings, Told(self._show, self._lost, self.changed.set), random)
        self._news = asyncio.Event()
        self._available = asyncio.Condition()
        self._idle = asyncio.Event()
        self._idle.set()
        self._work: Work | None = None
        self._completion: Completion | None = None
        self._life = Life()
        self._stalled = False
        self._stopping = False
        self._turned_away: asyncio.Queue[Lease] = asyncio.Queue(16)

    def assign(self, assignment: Assignment) -> None:
        """Begin a task."""
        work = self._work
        if work is not None and work.run.assignment.lease == assignment.lease:
            return
        if work is not None or self._stopping:
            if not self._turned_away.full():
                self._turned_away.put_nowait(assignment.lease)
            return
        self._work = Work(
            Run(
                assignment=assignment,
                run_id=self._with.mint("run_"),
                level=self._bounds.level,
                limits=self._bounds.limits,
                began=self._with.clock.monotonic(),
            )
        )
        self._idle.clear()
        self._news.set()
        self.changed.set()

    def cancel(self, lease: Lease, cancellation: Cancellation) -> None:
        """End the task, and with it the process, which is started anew."""
        if self._work is not None and self._work.run.assignment.lease == lease:
            self._work.run.end(cancellation)

    def revoke(self, leases: Sequence[Lease]) -> None:
        """End the work on these leases and report nothing."""
        if self._work is not None and self._work.run.assignment.lease in leases:
            self._work.run.end(Revoked())

    async def stop(self) -> None:
        """Take no more tasks, end the present one and the process; return once the end is reported."""
        self._stopping = True
        if self._work is not None:
            self._work.run.end(Stopping())
        await self._idle.wait()
        await self._keeper.stop()

    def leases(self) -> tuple[Lease, ...]:
        """Return what is worked on."""
        return (self._work.run.assignment.lease,) if self._work is not None else ()

    def condition(self) -> Condition:
        """Return what the slot does now."""
        if self._work is None and (self._keeper.handle is None or not self._keeper.spoke):
            return Condition(Activity.STARTING, self._keeper.trouble or "the agent's program has not called yet")
        activity, reason = Activity.IDLE, ""
        if self._work is not None:
            activity, reason = Activity.WORKING, self._work.run.phase.value
            if self._work.run.waits_for_human():
                activity, reason = Activity.WAITING_FOR_HUMAN, answer_it(self._work.run)
        interval = self._bounds.health_check_interval
        self._stalled = self._life.silent(self._with.clock.monotonic(), interval)
        if self._stalled:
            activity, reason = Activity.STALLED, why("call", self._life, self._with.clock, interval)
        stats = self._keeper.stats
        return Condition(activity, reason, stats.memory_bytes, stats.cpu_seconds, stats.pids)

    def in_force(self) -> InForce | None:
        """Return the isolation around the agent."""
        return self._keeper.in_force

    @property
    def own_mailbox(self) -> str:
        """The mailbox of the agent id."""
        return self._program.agent_id

    @property
    def present(self) -> Assignment | None:
        """The task the agent took."""
        return self._work.run.assignment if self._work is not None and self._work.taken.is_set() else None

    @property
    def present_in_force(self) -> InForce | None:
        """What is in force around the agent."""
        return self._keeper.in_force

    @property
    def traceparent(self) -> str:
        """Trace context of what the agent does now."""
        return (self._work.run.traceparent or self._work.run.task_traceparent) if self._work is not None else ""

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Take note that the agent calls; the first time, and when it was stalled, it becomes free for tasks by it."""
        with self._life.calling(self._with.clock):
            if not self._keeper.spoke or self._stalled:
                self._keeper.spoke, self._stalled = True, False
                self.changed.set()
            yield

    def asking(self) -> AbstractContextManager[None]:
        """Take note that the agent asks a human."""
        if self._work is None or not self._work.taken.is_set():
            raise nothing_to_ask_about()
        return self._work.run.asking(self.changed)

    async def progress(self, text: str) -> None:
        """Show a line of progress of the present task."""
        if self._work is None or not self._work.taken.is_set():
            raise StaleLeaseError("There is no present task.")
        run = self._work.run
        await self._with.reports.progress(run.assignment.lease, one_line(text), usage_of(run, self._with.clock))

    async def next_task(self, wait: float) -> tuple[Assignment, str]:
        """Return the next task and its folder; a task that was taken and not completed is returned again."""
        try:
            async with asyncio.timeout(wait), self._available:
                await self._available.wait_for(lambda: self._work is not None and self._work.ready)
        except TimeoutError as cause:
            raise DeadlineExceededError("No task came.", next_step="ask again") from cause
        work = self._work
        if work is None:
            raise DeadlineExceededError("The task was withdrawn.", next_step="ask again")
        work.taken.set()
        task_id = work.run.assignment.lease.task_id
        folder = self._program.home / task_id if self._bounds.level is Level.MINIMAL else Path("/workspace") / task_id
        return work.run.assignment, str(folder)

    async def complete_task(self, task_id: str, summary: str, failure: str | None) -> None:
        """End the present task; returns once its report is journalled. Repeating it with the same words is harmless."""
        work, said = self._work, (task_id, summary, failure)
        if work is not None and work.taken.is_set() and not work.over.is_set() and work.run.assignment.lease.task_id == task_id:
            work.run.answer = Answer(failure or summary, failed=failure is not None)
            work.summary = summary
            work.run.exit = Exit(Cause.EXITED, code=0)
            self._completion = Completion(said)
            work.over.set()
        completion = self._completion
        if completion is None or completion.said != said:
            raise StaleLeaseError(task_id=task_id)
        await completion.over.wait()
        if completion.withdrawn:
            raise StaleLeaseError(task_id=task_id)

    async def serve(self) -> None:
        """Keep the process alive and serve tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._turn_away(), name="turn away")
            group.create_task(self._keeper.serve(), name="long-running agent")
            while True:
                await self._news.wait()
                self._news.clear()
                if self._work is not None:
                    await self._attempt(self._work)

    async def _turn_away(self) -> None:
        while True:
            lease = await self._turned_away.get()
            failure = Failure(FailureKind.AGENT_LOST, "The slot was busy with another task.")
            await self._with.reports.completed(lease, Result(failure=failure))

    def _lost(self, why: str, ended: Exit | None) -> None:
        """Take note that the process is gone, and the task it held with it."""
        work = self._work
        if work is None or work.over.is_set() or not work.taken.is_set():
            return
        work.run.exit = ended or Exit(Cause.START_FAILED, detail=why)
        if ended is not None and ended.cause is Cause.EXITED and ended.code == 0:
            work.run.exit = Exit(Cause.SIGNALLED, detail="The agent's program ended before it completed its task.")
        work.over.set()

    async def _show(self, stream: str, chunk: bytes) -> None:
        """Hand output on as that of the present task; between tasks it is a log line."""
        work = self._work
        if work is None or not work.taken.is_set():
            _log.info("agent's output", extra={"stream": stream, "text": chunk[:1000].decode(errors="replace").rstrip()})
            return
        self._life.last = self._with.clock.monotonic()
        for start in range(0, len(chunk), PIECE_BYTES):
            piece = chunk[start : start + PIECE_BYTES]
            await self._with.reports.output(work.run.assignment.lease, stream, work.offset, piece)
            work.offset += len(piece)

    async def _attempt(self, work: Work) -> None:
        run = work.run
        try:
            with span(
                self._with.tracer,
                "task run",
                parent=run.assignment.traceparent,
                kind="consumer",
                task_id=run.assignment.lease.task_id,
                attempt=run.assignment.lease.attempt,
                driver="grpc_agent",
            ) as whole:
                run.task_traceparent = whole.traceparent
                failure = await self._perform(work)
                if failure is not None:
                    whole.fail(failure.kind.value)
            await self._with.mailboxes.closed(run.assignment.mailbox)
            if not isinstance(run.ending, Revoked):
                await self._with.reports.completed(run.assignment.lease, self._result(work, failure))
        finally:
            self._work = None
            if run.answer is not None and self._completion is not None:
                self._completion.withdrawn = run.ending is not None
                self._completion.over.set()
            self._idle.set()
            self.changed.set()

    async def _perform(self, work: Work) -> Failure | None:
        run = work.run
        assignment = run.assignment
        happened = Happened(
            timeout=assignment.timeout,
            startup_timeout=self._bounds.startup_timeout,
            budget_seconds=assignment.allowance.seconds,
        )
        try:
            happened = replace(happened, overdue=await self._hand_out(work))
        except ConductorError as error:
            happened = replace(happened, error=error, started=run.handle is not None)
        run.phase = Phase.FINISHING
        work.ready = False
        failure = conclude(replace(happened, ending=run.ending, exit=run.exit, answer=run.answer, over_budget=run.over_budget))
        run.succeeded = failure is None
        ended_early = failure is not None and run.answer is None
        if ended_early and work.taken.is_set():
            grace = run.ending.grace if isinstance(run.ending, Cancellation) else self._bounds.stop_grace
            await self._keeper.end(grace)
        run.stats = self._keeper.stats
        try:
            await asyncio.to_thread(take_back, run, self._program.home)
            await self._workspace.finish(run)
        except ConductorError as error:
            run.warnings.append(str(error))
            return failure or from_error(error, started=run.handle is not None)
        return failure

    async def _hand_out(self, work: Work) -> Overdue | None:
        """Prepare the files, let the agent take the task, and wait for its end."""
        run = work.run
        asked = run.assignment.level
        if asked is not None and _STRICTNESS.index(asked) > _STRICTNESS.index(self._bounds.level):
            raise IsolationRefusedError(
                f"The long-running agent runs at {self._bounds.level.value}; the task asks for {asked.value}."
            )
        bound = min(self._bounds.startup_timeout, run.assignment.timeout)
        try:
            async with asyncio.timeout(bound) as run.scope:
                if run.ending is not None:
                    return None
                await self._workspace.prepare(run)
                await asyncio.to_thread(move_in, run, self._program.home)
                work.ready = True
                async with self._available:
                    self._available.notify_all()
                await work.taken.wait()
        except TimeoutError:
            return Overdue.TASK if bound == run.assignment.timeout else Overdue.STARTUP
        finally:
            run.scope = None
        run.handle, run.in_force, run.phase = self._keeper.handle, self._keeper.in_force, Phase.RUNNING
        run.traceparent = run.task_traceparent
        if run.in_force is not None:
            await self._with.reports.started(run.assignment.lease, run.in_force)
        left = run.assignment.timeout - (self._with.clock.monotonic() - run.began)
        try:
            async with asyncio.timeout(0 if run.ending is not None else left) as run.scope:
                await work.over.wait()
        except TimeoutError:
            return Overdue.TASK
        finally:
            run.scope = None
        return None

    def _result(self, work: Work, failure: Failure | None) -> Result:
        run = work.run
        return Result(
            failure=failure,
            summary=cut(work.summary, SUMMARY_BYTES),
            usage=usage_of(run, self._with.clock),
            patch=run.patch,
            base_commit=run.base_commit,
            in_force=self._keeper.in_force,
            warnings=tuple(run.warnings),
            workspace=str(run.kept or ""),
        )
