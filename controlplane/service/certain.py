"""Did the store take a change that it did not confirm?

A store that fails has changed nothing, or everything: a connection that broke may have lost the question or the answer. Whoever
takes its word for the one case is wrong in the other, so here the task is read again. Within this process nobody else changes it
meanwhile (`Tasks` sees to that); what another process made of it in between is decided about anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from claude_conductor.errors import StoreUnavailableError, StoreUnreachableError, TaskNotFoundError
from controlplane.domain.task import Task
from controlplane.interfaces.task_store import TaskStore

_log = logging.getLogger(__name__)
_STORE_PAUSE: Final = 0.5


async def insert(store: TaskStore, task: Task) -> Task:
    """Store a new task as `TaskStore.insert` does, and know afterwards whether it is stored.

    Raises:
        StoreUnavailableError: It is not stored.
    """
    try:
        return await store.insert(task)
    except StoreUnreachableError:
        raise
    except StoreUnavailableError:
        if await _read(store, task) is None:
            raise
        return task


async def insert_all(store: TaskStore, tasks: Sequence[Task]) -> Mapping[int, Task]:
    """Store new tasks as `TaskStore.insert_all` does, and know afterwards whether they are stored.

    Raises:
        StoreUnavailableError: None of them is stored.
    """
    try:
        return await store.insert_all(tasks)
    except StoreUnreachableError:
        raise
    except StoreUnavailableError:
        if not tasks or await _read(store, tasks[0]) is None:  # all or none
            raise
        return {}


async def save(store: TaskStore, task: Task) -> bool:
    """Replace the stored task as `TaskStore.save` does, and know afterwards whether it was replaced.

    Raises:
        StoreUnavailableError: It was not.
    """
    try:
        return await store.save(task)
    except StoreUnreachableError:
        raise
    except StoreUnavailableError:
        stored = await _read(store, task)
        if stored is None or stored.version < task.version:
            raise
        return stored == task


async def _read(store: TaskStore, task: Task) -> Task | None:
    """Return what is stored under the task's id, as soon as the store can be read."""
    while True:
        try:
            return await store.get(task.tenant_id, task.id)
        except TaskNotFoundError:
            return None
        except StoreUnavailableError as error:
            _log.warning("a change waits to be read again", extra={"task": task.id, "cause": str(error)})
            await asyncio.sleep(_STORE_PAUSE)
