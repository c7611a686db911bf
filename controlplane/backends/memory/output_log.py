"""The live output of agents, as long as the process lives."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_conductor.ids import TaskId
from controlplane.interfaces.output_log import KEPT_OUTPUT_BYTES, OutputChunk, cut


@dataclass(slots=True)
class _Output:
    chunks: list[OutputChunk] = field(default_factory=list)
    kept: int = 0
    end: int = 0


class MemoryOutputLog:
    """An OutputLog in lists."""

    def __init__(self, kept_bytes: int = KEPT_OUTPUT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._outputs: dict[TaskId, dict[int, _Output]] = {}

    async def append(self, task_id: TaskId, attempt: int, chunk: OutputChunk) -> None:
        """See OutputLog."""
        output = self._outputs.setdefault(task_id, {}).setdefault(attempt, _Output())
        piece = cut(chunk, output.end, self._kept_bytes - output.kept)
        output.end = max(output.end, chunk.offset + len(chunk.data))
        if piece.data:
            output.chunks.append(piece)
            output.kept += len(piece.data)

    async def read(self, task_id: TaskId, attempt: int, offset: int, max_bytes: int) -> Sequence[OutputChunk]:
        """See OutputLog."""
        chunks = self._outputs.get(task_id, {}).get(attempt, _Output()).chunks
        found: list[OutputChunk] = []
        for chunk in chunks[max(0, bisect_right(chunks, offset, key=lambda chunk: chunk.offset) - 1) :]:
            piece = cut(chunk, offset, max_bytes)
            max_bytes -= len(piece.data)
            if piece.data:
                found.append(piece)
            if max_bytes <= 0:
                break
        return found

    async def remove(self, task_id: TaskId) -> None:
        """See OutputLog."""
        self._outputs.pop(task_id, None)
