"""Where artefacts lie as files: named by their content, there wholly or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from claude_conductor.errors import ArtefactNotFoundError, StoreUnavailableError
from claude_conductor.ids import ArtefactId
from controlplane.domain.task import Artefact

PIECE = 256 << 10
"""Bytes read at once."""

_ID = re.compile(r"sha256_[0-9a-f]{64}\Z")


class BlobDirectory:
    """A BlobStore in a folder that one control plane owns: `ab/sha256_ab...`, 0600, written beside and renamed once synced."""

    def __init__(self, root: Path) -> None:
        """Make the folder if it is missing, and remove what an earlier process left half-written.

        Raises:
            StoreUnavailableError: The folder cannot be made or read.
        """
        self._root = root
        self._unfinished = root / "unfinished"
        self._changing = threading.Lock()
        """Held while a file is judged and removed, so that one just written again is not."""
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._unfinished.mkdir(mode=0o700, exist_ok=True)
            for left in self._unfinished.iterdir():
                left.unlink()
        except OSError as cause:
            raise _unavailable(cause, root) from cause

    async def write(self, chunks: AsyncIterator[bytes], name: str, content_type: str) -> Artefact:
        """See BlobStore."""
        digest = hashlib.sha256()
        size = 0
        unfinished = self._new()
        try:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                await asyncio.to_thread(self._append, unfinished, chunk)
            await asyncio.to_thread(self._keep, unfinished, digest.hexdigest())
        finally:
            _discard(unfinished)
        return Artefact(ArtefactId("sha256_" + digest.hexdigest()), name, size, digest.hexdigest(), content_type)

    async def read(self, artefact_id: str, offset: int) -> AsyncIterator[bytes]:
        """See BlobStore."""
        place = offset
        while piece := await asyncio.to_thread(self._piece, artefact_id, place):
            place += len(piece)
            yield piece

    async def remove_older(self, before: float) -> int:
        """See BlobStore.

        Raises:
            StoreUnavailableError: The folder cannot be read or changed.
        """
        return await asyncio.to_thread(self._remove_older, before)

    async def stat(self, artefact_id: str) -> int:
        """See BlobStore."""
        return await asyncio.to_thread(self._size, artefact_id)

    def _path(self, artefact_id: str) -> Path:
        if not _ID.match(artefact_id):  # also what keeps a path from leaving the folder
            raise ArtefactNotFoundError(artefact_id=artefact_id)
        return self._root / artefact_id[7:9] / artefact_id

    # Each step opens the file by its path: a cancelled call leaves its step running, which must not meet a closed descriptor
    # that was given to another file.

    def _new(self) -> Path:
        try:
            descriptor, path = tempfile.mkstemp(dir=self._unfinished)
        except OSError as cause:
            raise _unavailable(cause, self._root) from cause
        os.close(descriptor)
        return Path(path)

    def _append(self, unfinished: Path, chunk: bytes) -> None:
        try:
            with unfinished.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(chunk)
        except OSError as cause:
            raise _unavailable(cause, self._root) from cause

    def _piece(self, artefact_id: str, place: int) -> bytes:
        try:
            with self._path(artefact_id).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), PIECE, place)
        except FileNotFoundError as cause:
            raise ArtefactNotFoundError(artefact_id=artefact_id) from cause
        except OSError as cause:
            raise _unavailable(cause, self._root) from cause

    def _remove_older(self, before: float) -> int:
        removed = 0
        try:
            for path in self._root.glob("??/sha256_*"):
                with self._changing:
                    if path.stat().st_mtime < before:
                        path.unlink()
                        removed += 1
        except OSError as cause:
            raise _unavailable(cause, self._root) from cause
        return removed

    def _size(self, artefact_id: str) -> int:
        try:
            return self._path(artefact_id).stat().st_size
        except FileNotFoundError as cause:
            raise ArtefactNotFoundError(artefact_id=artefact_id) from cause

    def _keep(self, unfinished: Path, digest: str) -> None:
        path = self._path("sha256_" + digest)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            with self._changing:
                unfinished.rename(path)
            for folder in (path.parent, self._root):
                _sync_folder(folder)
        except OSError as cause:
            raise _unavailable(cause, self._root) from cause


def _discard(unfinished: Path) -> None:
    unfinished.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(cause: OSError, root: Path) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The artefact folder refused: {cause.strerror}.", next_step="free space there or repair it, then send again", path=root
    )
