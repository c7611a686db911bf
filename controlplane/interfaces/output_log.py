"""The live output of agents: append-only, per task and attempt, readable from any offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_conductor.ids import TaskId

KEPT_OUTPUT_BYTES = 64 << 20
"""How much output of one attempt is kept by default."""


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A piece of output."""

    offset: int
    """Place of its first byte in the attempt's output, both streams counted together."""
    stream: str
    """`stdout`, `stderr`, or `setup`: what the set-up command of the workspace wrote."""
    data: bytes


def cut(chunk: OutputChunk, offset: int, max_bytes: int) -> OutputChunk:
    """Return the part of the chunk that lies at or after `offset`, at most `max_bytes` of it; its data may be empty."""
    skipped = max(0, offset - chunk.offset)
    return OutputChunk(chunk.offset + skipped, chunk.stream, chunk.data[skipped : skipped + max(0, max_bytes)])


class OutputLog(Protocol):
    """Output of attempts, bounded per attempt (default 64 MiB: what comes later is counted, not kept)."""

    async def append(self, task_id: TaskId, attempt: int, chunk: OutputChunk) -> None:
        """Store a chunk; of one that begins below what is stored (a repeat), only the new tail is stored."""

    async def read(self, task_id: TaskId, attempt: int, offset: int, max_bytes: int) -> Sequence[OutputChunk]:
        """Return what is stored from `offset` on, in order; the first chunk may begin in the middle of a stored one."""

    async def remove(self, task_id: TaskId) -> None:
        """Forget the output of every attempt of this task. Harmless if there is none."""
