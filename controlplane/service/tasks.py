"""How does a task change, and what follows from it? The one place where effects of the task machine happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from claude_conductor.clock import Clock
from claude_conductor.errors import IllegalTransitionError, StaleLeaseError, StoreUnavailableError, TaskNotFoundError
from claude_conductor.ids import AgentId, TaskId, TenantId
from claude_conductor.telemetry.traces import Span, Tracer
from controlplane.domain import fan_out, ledger
from controlplane.domain.effects import (
    CancelChildren,
    CloseMailbox,
    Effect,
    Publish,
    SendCancellation,
    TellAsker,
    TellDependents,
    TellParent,
)
from controlplane.domain.events import Event
from controlplane.domain.routing import mailbox, task_mailbox_name
from controlplane.domain.task import FailureKind, Lease, State, Task
from controlplane.domain.task_machine import AgentLost, CancelRequested, DependencyEnded, Step, apply
from controlplane.domain.task_machine import Event as TaskEvent
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from controlplane.service import certain
from controlplane.service.in_hand import InHand
from controlplane.service.leases import Leases
from controlplane.service.mail import Mail
from controlplane.service.meter import Meter
from controlplane.service.pulse import Pulse
from controlplane.service.registry import Registry
from controlplane.service.relay import Relay
from controlplane.service.timetable import Timetable
from controlplane.service.watch import Watch
from controlplane.service.work import Work

_log = logging.getLogger(__name__)
_CHILDREN = 1000
CHILD_GRACE = 5.0
_SPANS = 10_000
_STORE_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Books:
    """What follows a task's changes, and is itself not stored."""

    leases: Leases
    registry: Registry
    mail: Mail
    timetable: Timetable
    changed: Pulse
    """Beats with a task's id after each change."""
    ready: Callable[[], None]
    """Called when there may be work for a free agent."""
    in_hand: InHand
    meter: Meter | None = None
    """None: nobody reads metrics."""


class Tasks:
    """Changes tasks: read, ask the machine, compare-and-set, then carry out what the machine asked for.

    A change that was saved is carried out to its end, whatever becomes of the call that asked for it.
    """

    def __init__(
        self, store: TaskStore, books: Books, relay: Relay, watch: Watch, clock: Clock, tracer: Tracer, work: Work
    ) -> None:
        self._store = store
        self._books = books
        self._relay = relay
        self._watch = watch
        self._clock = clock
        self._tracer = tracer
        self._work = work
        self._queued_spans: dict[TaskId, Span] = {}
        self._counts: dict[State, int] = {}
        self._awaited: set[TaskId] = set()
        """Tasks that others may wait for. What is not in it ends without a look into the store."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def insert(self, step: Step) -> Task:
        """Store a new task, or return the one its request id stands for; effects follow only a new one.

        Cancelling the call does not undo it, nor keep its effects from happening.
        """
        return await self._work.whole(self._insert(step), name=f"insert {step.task.id}")

    async def _insert(self, step: Step) -> Task:
        stored = await certain.insert(self._store, step.task)
        if stored.id == step.task.id:
            self._keep_books(None, stored)
            await self._carry_out(stored, step.effects)
        return stored

    async def insert_all(self, steps: Sequence[Step]) -> Mapping[int, Task]:
        """Store new tasks in one change, and let their effects follow; or return those of `TaskStore.insert_all`.

        Cancelling the call may leave effects out: see `Work.whole`.
        """
        earlier = await certain.insert_all(self._store, [step.task for step in steps])
        if not earlier:
            for step in steps:
                self._keep_books(None, step.task)
                await self._carry_out(step.task, step.effects)
        return earlier

    async def change(self, tenant_id: TenantId, task_id: str, event: TaskEvent) -> Task:
        """Apply an event to the task as it is now and return what became of it.

        A save that lost to another one is tried again on what the other one made. Cancelling the call does not undo the change,
        nor keep its effects from happening.

        Raises:
            TaskNotFoundError: There is no such task.
            StaleLeaseError: The event's lease is not the task's.
            IllegalTransitionError: It cannot happen in the task's state.
            StoreUnavailableError: Nothing was changed.
        """
        return await self._work.whole(self._change(tenant_id, task_id, event), name=f"change {task_id}")

    async def _change(self, tenant_id: TenantId, task_id: str, event: TaskEvent) -> Task:
        async with self._turns.setdefault(task_id, asyncio.Lock()):
            after, effects = await self._apply(tenant_id, task_id, event)
        await self._carry_out(after, effects)
        return after

    async def _apply(self, tenant_id: TenantId, task_id: str, event: TaskEvent) -> tuple[Task, tuple[Effect, ...]]:
        """Save what the event makes of the task, and keep the books; for one task this is done by one at a time."""
        while True:
            before = await self._store.get(tenant_id, task_id)
            step = apply(before, event)
            if step.task is before:
                return before, ()
            after = replace(step.task, version=before.version + 1)
            if await certain.save(self._store, after):
                self._keep_books(before, after, taken=isinstance(event, AgentLost))
                return after, step.effects

    def recall(self, task: Task) -> None:
        """Take a task as the store had it at start into the books."""
        self._keep_books(None, task)

    @property
    def queued(self) -> int:
        """How many tasks wait for an agent; 0 says that nobody has to look."""
        return self._counts.get(State.QUEUED, 0)

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state; of the final ones, those that ended since this process started."""
        return {state.value: count for state, count in self._counts.items() if count}

    def _keep_books(self, before: Task | None, after: Task, *, taken: bool = False) -> None:
        books = self._books
        self._awaited |= after.waits_for
        if books.meter is not None:
            books.meter.task(before, after)
        self._counts[after.state] = self._counts.get(after.state, 0) + 1
        if before is not None:
            self._counts[before.state] = max(0, self._counts.get(before.state, 0) - 1)
        if before is not None and before.lease is not None and before.lease != after.lease:
            books.leases.release(after.id, taken=taken)
            books.in_hand.released(after.id)
            books.timetable.forget_end(after.id)
            books.registry.freed(before.tenant_id, before.agent_id, before.id, done=not _is_loss(after))
            books.mail.close(mailbox(after.tenant_id, task_mailbox_name(after.id)))
            books.ready()
        if after.lease is not None and (before is None or before.lease != after.lease):
            books.leases.arm(after)
            books.in_hand.took(after)
            books.registry.took(after.tenant_id, after.agent_id, after.id)
            books.timetable.expect_lease()
        if after.lease is not None and (end := ledger.time_up(after)) is not None:
            books.timetable.expect_end(after.id, end)
        if after.state is State.QUEUED:
            books.ready()
        elif after.state is State.BLOCKED and not after.waits_for:
            books.timetable.expect_task(after.not_before)
        self._trace(after)
        books.changed.beat(after.id)

    def _trace(self, task: Task) -> None:
        if task.state is State.QUEUED and task.id not in self._queued_spans and len(self._queued_spans) < _SPANS:
            if task.traceparent:
                attributes = {"conductor.task.id": task.id, "conductor.task.type": task.spec.type}
                self._queued_spans[task.id] = self._tracer.start("task queued", parent=task.traceparent, attributes=attributes)
        elif task.state is not State.QUEUED and (span := self._queued_spans.pop(task.id, None)) is not None:
            span.end()

    async def _carry_out(self, task: Task, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            while True:
                try:
                    await self._carry_out_one(task, effect)
                    break
                except StoreUnavailableError as error:  # a repeat is harmless, and nobody else would do it
                    _log.warning("what follows from a task waits for the store", extra={"task": task.id, "cause": str(error)})
                    await asyncio.sleep(_STORE_PAUSE)

    async def _carry_out_one(self, task: Task, effect: Effect) -> None:
        match effect:
            case Publish(type=kind, summary=summary):
                self._publish(task, kind, summary)
            case SendCancellation():
                self._send_cancellation(task, effect)
            case TellAsker(lease=lease, agent_id=agent_id, question=question):
                connected = self._books.registry.connected(task.tenant_id, agent_id)
                if connected is not None:  # else it is told with its next session
                    connected.link.close_question(lease, question)
            case TellDependents(succeeded=succeeded):
                await self.tell_dependents(task, succeeded=succeeded)
            case CancelChildren(reason=reason):
                await self.cancel_children(task, reason)
            case TellParent():
                await self.settle(task)
            case CloseMailbox(reason=reason):
                await self._relay.close(task.tenant_id, task_mailbox_name(task.id), reason)

    def _publish(self, task: Task, kind: str, summary: str) -> None:
        details = {"state": task.state.value, "attempt": str(len(task.attempts))}
        self._watch.publish(Event(kind, self._clock.now(), summary, task.tenant_id, task.id, task.agent_id, details))

    def result_refused(self, task: Task, agent_id: AgentId, lease: Lease) -> None:
        """Tell watchers that a result came under a lease that is not in force, and changed nothing."""
        summary = f"{agent_id} ended attempt {lease.attempt} when it was not its own any more; the result was refused"
        details = {"state": task.state.value, "attempt": str(lease.attempt), "reason": StaleLeaseError.reason}
        self._watch.publish(Event("task.result_refused", self._clock.now(), summary, task.tenant_id, task.id, agent_id, details))

    def lease_revoked(self, tenant_id: TenantId, agent_id: AgentId, lease: Lease) -> None:
        """Tell watchers that an agent went on with a task that had been taken from it."""
        summary = f"{agent_id} still had attempt {lease.attempt}, which was taken from it; it was told to stop"
        details = {"attempt": str(lease.attempt)}
        self._watch.publish(Event("task.lease_revoked", self._clock.now(), summary, tenant_id, lease.task_id, agent_id, details))

    def _send_cancellation(self, task: Task, effect: SendCancellation) -> None:
        connected = self._books.registry.connected(task.tenant_id, effect.agent_id)
        if connected is not None:  # else its hello brings the lease, and the cancellation is sent again then
            connected.link.cancel(effect.lease, effect.grace, effect.reason, FailureKind.CANCELLED)

    async def tell_dependents(self, task: Task, *, succeeded: bool) -> None:
        """Hand the end of a task to those that wait for it; one that is stored from now on asks for itself (`Intake`)."""
        if task.id not in self._awaited:
            return
        for dependent in await self._store.waiting_for(task.id):
            ended = DependencyEnded(task.id, succeeded, self._clock.now(), task.state, fan_out.words_of(task))
            await self.try_change(dependent, ended)
        self._awaited.discard(task.id)

    async def settle(self, task: Task) -> None:
        """Give back to the parent's budget what an ended task did not use; harmless if that was done before."""
        parent = TaskId(task.spec.parent_task_id)
        told = ledger.ShareChanged(task.id, ledger.gone(task), bool(task.shares), self._clock.now())
        try:
            await self.change(task.tenant_id, parent, told)
        except TaskNotFoundError:
            _log.debug("the parent of a task is forgotten", extra={"task": task.id})

    def out_of_time(self, task_id: TaskId) -> None:
        """Have whoever works on a task end it because its budget has no time left."""
        held = self._books.leases.get(task_id)
        connected = self._books.registry.connected(held.tenant_id, held.agent_id) if held is not None else None
        if held is not None and connected is not None:
            connected.link.cancel(held.lease, CHILD_GRACE, ledger.NO_TIME, FailureKind.BUDGET)

    async def cancel_children(self, task: Task, reason: str) -> None:
        """Cancel the tasks that this one submitted and that have not ended."""
        said = f"its parent was cancelled: {reason}" if task.spec.fan_out is None or task.state.final else reason
        wanted = TaskFilter(parent_task_id=task.id, states=frozenset(state for state in State if not state.final))
        after = ""
        while children := await self._store.list(task.tenant_id, wanted, after, _CHILDREN):
            after = children[-1].id
            for child in children:
                wish = CancelRequested(said, CHILD_GRACE, self._clock.now())
                await self.try_change(child, wish)

    async def try_change(self, task: Task, event: TaskEvent) -> bool:
        """Apply an event that may have come too late; return whether it could be applied."""
        try:
            await self.change(task.tenant_id, task.id, event)
        except (StaleLeaseError, IllegalTransitionError, TaskNotFoundError) as error:
            _log.debug("too late for a task", extra={"task": task.id, "event": type(event).__name__, "reason": error.reason})
            return False
        return True


def _is_loss(task: Task) -> bool:
    failure = task.attempts[-1].failure
    return failure is not None and failure.kind is FailureKind.AGENT_LOST
