"""Where the live output of agents lies as files: one an attempt, only ever appended to.

A record is offset, length, checksum and stream, then the data. What a crash left torn at the end is cut off when the file is
next used. Appends are not synced one by one: output survives the death of the process, and the last moments before the death of
the machine come again from the sidecar's journal as far as it still has them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from claude_conductor.errors import InvalidArgumentError, StoreUnavailableError
from claude_conductor.ids import TaskId
from controlplane.interfaces.output_log import KEPT_OUTPUT_BYTES, OutputChunk, cut

T = TypeVar("T")

OPEN_FILES = 128
"""Attempts whose files stay open with their index; the one used longest ago is closed for the next."""

_HEADER = struct.Struct(">QIIB")
_STREAMS = ("stdout", "stderr", "setup")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")


@dataclass(slots=True)
class _File:
    descriptor: int
    offsets: list[int] = field(default_factory=list)
    """Offset of each record in the output."""
    places: list[int] = field(default_factory=list)
    """Place of each record in the file."""
    size: int = 0
    kept: int = 0
    end: int = 0

    def note(self, chunk: OutputChunk) -> None:
        self.offsets.append(chunk.offset)
        self.places.append(self.size)
        self.size += _HEADER.size + len(chunk.data)
        self.kept += len(chunk.data)
        self.end = max(self.end, chunk.offset + len(chunk.data))


class OutputDirectory:
    """An OutputLog in a folder that one control plane owns: `TASK/ATTEMPT`. One thread does everything, in order."""

    def __init__(self, root: Path, kept_bytes: int = KEPT_OUTPUT_BYTES) -> None:
        self._root = root
        self._kept_bytes = kept_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="output-log")
        self._files: OrderedDict[tuple[TaskId, int], _File] = OrderedDict()

    async def append(self, task_id: TaskId, attempt: int, chunk: OutputChunk) -> None:
        """See OutputLog.

        Raises:
            StoreUnavailableError: No space, or the medium failed; nothing of the chunk is stored.
        """
        _check(task_id)
        await self._do(lambda: self._append(self._file(task_id, attempt, create=True), chunk))

    async def read(self, task_id: TaskId, attempt: int, offset: int, max_bytes: int) -> Sequence[OutputChunk]:
        """See OutputLog."""
        _check(task_id)
        return await self._do(lambda: self._read(self._file(task_id, attempt, create=False), offset, max_bytes))

    async def remove(self, task_id: TaskId) -> None:
        """See OutputLog."""
        _check(task_id)
        await self._do(lambda: self._remove(task_id))

    async def close(self) -> None:
        """Close every file."""
        await self._do(self._close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as cause:
            raise StoreUnavailableError(
                f"The output folder refused: {cause.strerror}.", next_step="free space there or repair it", path=self._root
            ) from cause

    def _file(self, task_id: TaskId, attempt: int, *, create: bool) -> _File | None:
        known = self._files.get((task_id, attempt))
        if known is not None:
            self._files.move_to_end((task_id, attempt))
            return known
        path = self._root / task_id / str(attempt)
        if not create and not path.exists():
            return None
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = _scan(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        self._files[task_id, attempt] = file
        if len(self._files) > OPEN_FILES:
            os.close(self._files.popitem(last=False)[1].descriptor)
        return file

    def _append(self, file: _File | None, chunk: OutputChunk) -> None:
        assert file is not None
        piece = cut(chunk, file.end, self._kept_bytes - file.kept)
        if piece.data:
            record = _record(piece)
            try:
                written = os.pwrite(file.descriptor, record, file.size)
                if written < len(record):
                    os.pwrite(file.descriptor, record[written:], file.size + written)
            except OSError:
                os.ftruncate(file.descriptor, file.size)
                raise
            file.note(piece)
        file.end = max(file.end, chunk.offset + len(chunk.data))

    def _read(self, file: _File | None, offset: int, max_bytes: int) -> Sequence[OutputChunk]:
        found: list[OutputChunk] = []
        if file is None:
            return found
        for place in file.places[max(0, bisect_right(file.offsets, offset) - 1) :]:
            if max_bytes <= 0:
                break
            whole = _record_at(file.descriptor, place)
            piece = cut(whole, offset, max_bytes) if whole else None
            if piece and piece.data:
                max_bytes -= len(piece.data)
                found.append(piece)
        return found

    def _remove(self, task_id: TaskId) -> None:
        for key in [key for key in self._files if key[0] == task_id]:
            os.close(self._files.pop(key).descriptor)
        if (self._root / task_id).exists():
            shutil.rmtree(self._root / task_id)

    def _close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1].descriptor)


def _check(task_id: str) -> None:
    if not _TASK_ID.match(task_id):
        raise InvalidArgumentError("This is not a task id.", task_id=task_id)


def _record(chunk: OutputChunk) -> bytes:
    return _HEADER.pack(chunk.offset, len(chunk.data), zlib.crc32(chunk.data), _STREAMS.index(chunk.stream)) + chunk.data


def _record_at(descriptor: int, place: int) -> OutputChunk | None:
    header = os.pread(descriptor, _HEADER.size, place)
    if len(header) < _HEADER.size:
        return None
    offset, length, checksum, stream = _HEADER.unpack(header)
    data = os.pread(descriptor, length, place + _HEADER.size)
    if len(data) < length or zlib.crc32(data) != checksum or stream >= len(_STREAMS):
        return None
    return OutputChunk(offset, _STREAMS[stream], data)


def _scan(descriptor: int) -> _File:
    file = _File(descriptor)
    while chunk := _record_at(descriptor, file.size):
        file.note(chunk)
    os.ftruncate(descriptor, file.size)
    return file
