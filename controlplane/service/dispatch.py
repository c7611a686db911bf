"""How does a ready task reach a free agent, at the moment there are both?"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from claude_conductor.clock import Clock
from claude_conductor.errors import IllegalTransitionError, StaleLeaseError, StoreUnavailableError, TaskNotFoundError
from claude_conductor.telemetry.traces import Tracer, span
from controlplane.domain.agent import Agent
from controlplane.domain.placement import plan
from controlplane.domain.room import asks
from controlplane.domain.routing import mailbox, task_mailbox_name
from controlplane.domain.task import Lease, Task
from controlplane.domain.task_machine import AgentLost, Leased
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.in_hand import InHand
from controlplane.service.mail import Mail
from controlplane.service.pulse import wait
from controlplane.service.registry import Registry
from controlplane.service.tasks import Tasks

_log = logging.getLogger(__name__)
_LOOK = 256
"""Tasks that are looked at together, spread over the lanes; at least one of each."""
_STORE_PAUSE = 0.5


class Dispatch:
    """Pushes ready tasks to free agents. Nothing is polled: it works when a task became ready or an agent became free."""

    def __init__(
        self,
        store: TaskStore,
        tasks: Tasks,
        registry: Registry,
        in_hand: InHand,
        mail: Mail,
        work: asyncio.Event,
        clock: Clock,
        random_bits: Callable[[int], int],
        tracer: Tracer,
    ) -> None:
        """Begin.

        Args:
            store: The queue.
            tasks: Changes tasks.
            registry: Knows the free agents.
            in_hand: Counts what is with agents.
            mail: Delivers a task's mailbox to whoever has the task.
            work: Set when there may be something to do.
            clock: For time stamps.
            random_bits: Draws the epoch of a lease.
            tracer: For a span a hand-out.
        """
        self._store = store
        self._tasks = tasks
        self._registry = registry
        self._in_hand = in_hand
        self._mail = mail
        self._work = work
        self._clock = clock
        self._random_bits = random_bits
        self._tracer = tracer
        self._lanes = 1
        self._next_turn: float | None = None
        """When a task may begin that waits for a provider's window, in monotonic seconds."""

    async def run(self) -> None:
        """Dispatch for ever."""
        while True:
            await self._woken()
            self._work.clear()
            try:
                await self.round()
            except StoreUnavailableError as error:
                _log.warning("dispatch waits for the store", extra={"cause": str(error)})
                await asyncio.sleep(_STORE_PAUSE)
                self._work.set()

    async def _woken(self) -> None:
        """Wait until there may be something to do, or until a task that waits for a provider's window has its turn."""
        if self._next_turn is None:
            await self._work.wait()
        else:
            await wait(self._work, max(0.0, self._next_turn - self._clock.monotonic()))

    async def round(self) -> None:
        """Give every free agent a task that it can do, in the order that `placement.plan` decides."""
        self._next_turn = None
        while self._tasks.queued and (free := self._registry.free()):
            each = max(1, min(len(free), _LOOK // self._lanes))
            ready = await self._store.ready(each)
            in_lanes = Counter(task.lane for task in ready)
            self._lanes = max(1, len(in_lanes))
            windows = self._registry.windows.look()
            in_hand = self._in_hand
            rooms = in_hand.rooms(self._registry.present()) if any(asks(task) for task in ready) else None
            placed = plan(ready, free, in_hand.counts, in_hand.caps, in_hand.claims, windows.room, rooms)
            self._next_turn = windows.next_turn if ready else None
            if not placed:
                return
            await self._hand_out_all(placed)
            if len(placed) == len(ready) and max(in_lanes.values()) < each:
                return  # that was all there was; what came meanwhile has set `work`

    async def _hand_out_all(self, placed: Sequence[tuple[Task, Agent]]) -> None:
        # Together, so that one write to the store takes them all; each to its end, so that what is leased is also sent.
        outcomes = await asyncio.gather(*(self._hand_out(task, agent) for task, agent in placed), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _hand_out(self, task: Task, agent: Agent) -> None:
        lease = Lease(task.id, len(task.attempts) + 1, self._random_bits(64))
        with span(self._tracer, "task dispatch", parent=task.traceparent, kind="producer") as current:
            current.set("conductor.task.id", task.id)
            current.set("conductor.agent.id", agent.id)
            try:
                leased = await self._tasks.change(
                    task.tenant_id, task.id, Leased(lease, agent.id, agent.incarnation, self._clock.now())
                )
            except (IllegalTransitionError, TaskNotFoundError, StaleLeaseError):
                return  # cancelled meanwhile: the agent stays free
            if leased.lease != lease:
                return  # nothing was left of its budget
            connected = self._registry.connected(agent.tenant_id, agent.id)
            if connected is None or connected.incarnation != agent.incarnation:
                why = "its session ended before the task reached it"
                await self._tasks.try_change(leased, AgentLost(lease, why, self._clock.now()))
                return
            self._registry.windows.began(task, agent, connected.link)
            connected.link.assign(leased, current.traceparent or task.traceparent)
            failure = task.attempts[-1].failure if task.attempts else None
            name = mailbox(task.tenant_id, task_mailbox_name(task.id))
            self._mail.open(name, connected.link, 0, failure.message if failure is not None else "")
