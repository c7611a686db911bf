"""How do subtasks get their part of a budget, and what comes back where the news of their end did not arrive?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import BudgetExhaustedError, StoreUnavailableError, TaskNotFoundError
from claude_conductor.ids import TaskId, TenantId
from controlplane.domain import ledger
from controlplane.domain.budget import Spent, given
from controlplane.domain.ledger import Reserved, ShareChanged
from controlplane.domain.task import Spec, Task
from controlplane.interfaces.task_store import TaskFilter, TaskStore, requester
from controlplane.service.tasks import Tasks

_log = logging.getLogger(__name__)
_STORE_PAUSE: Final = 0.5
_SIBLINGS: Final = 1000


class Shares:
    """Takes shares of new subtasks from their parents' budgets."""

    def __init__(self, store: TaskStore, tasks: Tasks, clock: Clock) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock

    @asynccontextmanager
    async def of(self, drafts: Sequence[Task]) -> AsyncIterator[tuple[list[Task], Callable[[], None]]]:
        """Give new tasks their budgets for the length of the block, and for good if that says so.

        What was taken comes back at the end of the block, or by `recover` if this process ends before.

        Yields:
            The tasks with their budgets, and what to call once they are stored.

        Raises:
            BudgetExhaustedError: Less is left of a parent's budget than a task wants.
        """
        taken: list[Task] = []
        try:
            together = {draft.id for draft in drafts}
            granted = [
                replace(draft, budget=draft.spec.budget)  # a group has no budget to share
                if draft.spec.parent_task_id in together
                else await self._granted(draft, taken)
                for draft in drafts
            ]
            yield granted, taken.clear
        finally:
            for task in taken:
                await self._give_back(task)

    async def look(self, tenant_id: TenantId, spec: Spec) -> None:
        """Raise BudgetExhaustedError if a task could not have its share now."""
        if spec.parent_task_id:
            ledger.granted(await self._store.get(tenant_id, spec.parent_task_id), spec.budget, self._clock.now())

    async def _granted(self, task: Task, taken: list[Task]) -> Task:
        own = replace(task, budget=task.spec.budget)
        if not task.spec.parent_task_id:
            return own
        parent = await self._store.get(task.tenant_id, task.spec.parent_task_id)
        if not parent.budget.limited:
            return own
        if (earlier := await self._earlier(task)) is not None:
            return replace(task, budget=earlier.budget)
        wish = Reserved(task.id, task.spec.budget, self._clock.now())
        try:
            parent = await self._tasks.change(task.tenant_id, parent.id, wish)
        except BudgetExhaustedError:  # perhaps the news that another subtask ended is still on its way
            await settle_shares(self._store, self._tasks, parent, self._clock)
            parent = await self._tasks.change(task.tenant_id, parent.id, wish)
        taken.append(task)
        share = next(share for share in parent.shares if share.task_id == task.id)
        return replace(task, budget=given(share.amount, parent.budget, task.spec.budget))

    async def _give_back(self, task: Task) -> None:
        while True:
            nothing = ShareChanged(task.id, Spent(), open=False, at=self._clock.now())
            try:
                await self._tasks.change(task.tenant_id, TaskId(task.spec.parent_task_id), nothing)
            except StoreUnavailableError as error:  # nobody else would do it
                _log.warning("the share of a task waits for the store", extra={"task": task.id, "cause": str(error)})
                await asyncio.sleep(_STORE_PAUSE)
            else:
                return

    async def _earlier(self, task: Task) -> Task | None:
        """Return the subtask that an earlier call with the same request id made; it has its budget already."""
        if not task.request_id:
            return None
        siblings = TaskFilter(parent_task_id=task.spec.parent_task_id)
        after = ""
        while found := await self._store.list(task.tenant_id, siblings, after, _SIBLINGS):
            for other in found:
                if other.request_id == task.request_id and requester(other) == requester(task):
                    return other
            after = found[-1].id
        return None


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
