"""What comes back of the budgets of subtasks, where the news of their end did not arrive yet?"""

from __future__ import annotations

from claude_conductor.clock import Clock
from claude_conductor.errors import TaskNotFoundError
from controlplane.domain.budget import Spent
from controlplane.domain.ledger import ShareChanged
from controlplane.domain.task import Task
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.tasks import Tasks


async def settle_shares(store: TaskStore, tasks: Tasks, task: Task, clock: Clock, *, starting: bool = False) -> None:
    """Take back what subtasks do not use that have ended.

    Args:
        store: Of tasks.
        tasks: Changes them.
        task: The parent.
        clock: Tells the time.
        starting: Nobody is served yet, so a subtask that is not stored never will be: its share comes back, too.
    """
    for share in task.shares:
        try:
            child = await store.get(task.tenant_id, share.task_id)
        except TaskNotFoundError:
            if starting:
                await tasks.try_change(task, ShareChanged(share.task_id, Spent(), open=False, at=clock.now()))
            continue
        if child.state.final:
            await settle_shares(store, tasks, child, clock, starting=starting)
            await tasks.settle(await store.get(task.tenant_id, child.id))
