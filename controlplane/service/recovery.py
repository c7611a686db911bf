"""What has to be put right after a restart, before anybody is served?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from claude_conductor.clock import Clock
from claude_conductor.errors import TaskNotFoundError
from claude_conductor.ids import DEFAULT_TENANT
from controlplane.domain import fan_out
from controlplane.domain.caps import Caps
from controlplane.domain.lane import lane_of
from controlplane.domain.routing import task_mailbox_name
from controlplane.domain.task import State, Task
from controlplane.domain.task_machine import DependencyEnded
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from controlplane.service.registry import Registry
from controlplane.service.relay import Relay
from controlplane.service.shares import settle_shares
from controlplane.service.tasks import Tasks

_LAST_ENDED = 200
_TOGETHER = 500
_OPEN = frozenset(state for state in State if not state.final)


async def recover(store: TaskStore, tasks: Tasks, registry: Registry, relay: Relay, clock: Clock, caps: Caps) -> None:
    """Take up where the last life of this control plane stopped, perhaps between a save and its effects.

    Every lease starts anew, so an outage of the control plane ends none. Effects that may not have happened are repeated; each
    is harmless when it did happen.
    """
    await registry.load()
    still_open = await _in_their_lanes(store, await store.in_states(_OPEN), caps)
    for task in still_open:
        tasks.recall(task)
    await relay.finish()
    for task in still_open:
        if task.waits_for:
            await _hear_of_dependencies(store, tasks, task, clock)
        if why := fan_out.stopped(task):
            await tasks.cancel_children(task, why)
        await settle_shares(store, tasks, task, clock, starting=True)
        if task.spec.parent_task_id:
            await _hear_of_parent(store, tasks, task)
    ended = TaskFilter(states=frozenset(State) - _OPEN)
    for task in await store.list(DEFAULT_TENANT, ended, "", _LAST_ENDED):
        await relay.close(task.tenant_id, task_mailbox_name(task.id), f"the task ended: {task.state.value}")
        await settle_shares(store, tasks, task, clock, starting=True)
    await relay.expire()


async def _in_their_lanes(store: TaskStore, tasks: Sequence[Task], caps: Caps) -> list[Task]:
    """Return the tasks with the lanes that the caps of today give them; they may have been submitted under others."""
    found = {task.id: task for task in tasks}
    lanes = {task.id: lane_of(task, caps) for task in tasks}
    moved = [replace(task, lane=lanes[task.id], version=task.version + 1) for task in tasks if task.lane != lanes[task.id]]
    for first in range(0, len(moved), _TOGETHER):
        some = moved[first : first + _TOGETHER]
        await asyncio.gather(*(store.save(task) for task in some))  # one write to the disk for all of them
        found.update((task.id, task) for task in some)
    return list(found.values())


async def _hear_of_dependencies(store: TaskStore, tasks: Tasks, task: Task, clock: Clock) -> None:
    for other_id in sorted(task.waits_for):
        other = await store.get(task.tenant_id, other_id)
        if other.state.final:
            succeeded = other.state is State.SUCCEEDED
            await tasks.try_change(task, DependencyEnded(other.id, succeeded, clock.now(), other.state, fan_out.words_of(other)))


async def _hear_of_parent(store: TaskStore, tasks: Tasks, task: Task) -> None:
    try:
        parent = await store.get(task.tenant_id, task.spec.parent_task_id)
    except TaskNotFoundError:
        return
    if parent.state is State.CANCELLED and task.cancel_reason is None:
        await tasks.cancel_children(parent, parent.reason)
