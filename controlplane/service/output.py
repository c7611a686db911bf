"""How is an agent's live output stored, and followed?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from claude_conductor.ids import TaskId, TenantId
from controlplane.interfaces.output_log import OutputChunk, OutputLog
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.pulse import Pulse, wait

_READ_BYTES = 256 << 10
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Output with its attempt."""

    attempt: int
    chunk: OutputChunk
    missing: int = 0
    """Bytes before it that are not kept."""


class Output:
    """Output of attempts."""

    def __init__(self, log: OutputLog, tasks: TaskStore, changed: Pulse) -> None:
        """Begin.

        Args:
            log: Where output is kept.
            tasks: To know when a task is final.
            changed: Beats with a task's id when the task changed; output beats it too.
        """
        self._log = log
        self._tasks = tasks
        self._changed = changed

    async def append(self, task_id: TaskId, attempt: int, chunk: OutputChunk) -> None:
        """Store a chunk; a repeat changes nothing.

        Raises:
            StoreUnavailableError: It was not stored.
        """
        await self._log.append(task_id, attempt, chunk)
        self._changed.beat(task_id)

    async def read(self, tenant_id: TenantId, task_id: str, attempt: int, offset: int, *, follow: bool) -> AsyncIterator[Piece]:
        """Yield output from an offset on; attempt 0 means the newest one. With `follow`, go on until the task is final.

        Raises:
            TaskNotFoundError: There is no such task.
        """
        task = await self._tasks.get(tenant_id, task_id)
        current = attempt or len(task.attempts)
        with self._changed.listen(task.id) as news:
            while True:
                news.clear()
                task = await self._tasks.get(tenant_id, task.id)
                wanted = attempt or len(task.attempts)
                if wanted != current:
                    current, offset = wanted, offset if current == 0 else 0
                while wanted and (chunks := await self._log.read(task.id, wanted, offset, _READ_BYTES)):
                    for chunk in chunks:
                        yield Piece(wanted, chunk, missing=max(0, chunk.offset - offset))
                        offset = chunk.offset + len(chunk.data)
                if not follow or task.state.final or (attempt and attempt < len(task.attempts)):
                    return
                await wait(news, _LONGEST_WAIT)
