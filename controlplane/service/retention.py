"""How long is what is finished kept?"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from claude_conductor.clock import Clock
from claude_conductor.errors import StoreUnavailableError
from controlplane.interfaces.blob_store import BlobStore
from controlplane.interfaces.output_log import OutputLog
from controlplane.interfaces.task_store import REQUEST_SECONDS, TaskStore

_log = logging.getLogger(__name__)
_PAGE: Final = 256
_PAUSE: Final = 3600.0
FILE_MARGIN: Final = 86_400.0
"""Seconds that files are kept longer than tasks: a patch is written before its task ends."""


class Retention:
    """Forgets finished tasks with their output, and files nobody has written for as long."""

    def __init__(self, store: TaskStore, output: OutputLog, blobs: BlobStore, clock: Clock, keep_seconds: float) -> None:
        """Set the terms.

        Args:
            store: Forgets tasks.
            output: Forgets their output.
            blobs: Forgets patches and other artefacts.
            clock: Says how old something is.
            keep_seconds: How long after its end a task is kept; at least as long as a request id is remembered.
        """
        self._store = store
        self._output = output
        self._blobs = blobs
        self._clock = clock
        self._keep = max(keep_seconds, REQUEST_SECONDS)

    async def run(self) -> None:
        """Tidy up now and every hour, for ever."""
        while True:
            try:
                await self.round()
            except StoreUnavailableError as error:
                _log.warning("finished tasks stay until the store can be changed", extra={"cause": str(error)})
            await asyncio.sleep(_PAUSE)

    async def round(self) -> None:
        """Forget what is old enough. Output goes before its task, so that a kill in between leaves nothing that nobody knows.

        Raises:
            StoreUnavailableError: Something is still there; the next round takes it.
        """
        horizon = self._clock.now() - self._keep
        forgotten = 0
        while ended := await self._store.ended_before(horizon, _PAGE):
            for task in ended:
                await self._output.remove(task.id)
            await self._store.remove([task.id for task in ended])
            forgotten += len(ended)
        files = await self._blobs.remove_older(horizon - FILE_MARGIN)
        if forgotten or files:
            _log.info("forgot what is finished for long", extra={"tasks": forgotten, "files": files})
