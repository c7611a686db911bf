"""How the patch of a result is stored before the result is sent; it stays on disk until the control plane has both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import grpc

from agent_sidecar.uplink.convert import PATCH_NAME
from agent_sidecar.uplink.frames import Entry
from agent_sidecar.uplink.outbox import Outbox
from agent_sidecar.uplink.reconnect import pause
from agent_sidecar.uplink.reporting import without_patch
from claude_conductor.rpc.channel import Metadata
from claude_conductor.rpc.status import from_call
from claude_conductor.v1 import artefact_service_pb2 as pb
from claude_conductor.v1 import artefact_service_pb2_grpc, task_pb2

_log = logging.getLogger(__name__)
_PIECE_BYTES: Final = 256 << 10
_UPLOAD_SECONDS: Final = 120.0
_KEEP_SECONDS: Final = 600.0
_MOST_REFUSALS: Final = 10
"""After so many answers that are no outage the result goes without its patch: it is worth more than the patch."""
_AWAY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_FOR_GOOD: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
)


class Uploads:
    """Stores attachments, oldest first.

    Args:
        outbox: Holds the frames back.
        folder: Where attachments are, by artefact id.
        channel: Returns the channel to the control plane.
        metadata: Says who calls.
        random: Returns a number from 0 up to 1.
    """

    def __init__(
        self,
        outbox: Outbox,
        folder: Path,
        channel: Callable[[], grpc.aio.Channel],
        metadata: Callable[[], Metadata],
        random: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._folder = folder
        self._channel = channel
        self._metadata = metadata
        self._random = random
        self._refusals = 0

    async def serve(self) -> None:
        """Store whatever is held back, until cancelled."""
        failures = 0
        while True:
            entry = self._outbox.held()
            if entry is None:
                await asyncio.to_thread(self._tidy, self._outbox.attachments())
                self._outbox.upload_wanted.clear()
                await self._outbox.upload_wanted.wait()
                continue
            failures = 0 if await self._store(entry) else failures + 1
            if failures:
                await asyncio.sleep(pause(failures, self._random))

    async def _store(self, entry: Entry) -> bool:
        path = self._folder / entry.attachment
        if not path.is_file():
            await self._outbox.replace(entry.sequence, lambda body: without_patch(body, "its file is gone"))
            return True
        stub = artefact_service_pb2_grpc.ArtefactServiceStub(self._channel())
        try:
            await stub.WriteArtefact(_pieces(path, entry.attachment), metadata=self._metadata(), timeout=_UPLOAD_SECONDS)
        except grpc.aio.AioRpcError as cause:
            error = from_call(cause)
            self._refusals += cause.code() not in _AWAY
            if cause.code() in _FOR_GOOD or self._refusals >= _MOST_REFUSALS:
                self._refusals = 0
                _log.warning("attachment was refused", extra={"artefact_id": entry.attachment, "reason": error.reason})
                refused = str(error)
                await self._outbox.replace(entry.sequence, lambda body: without_patch(body, refused))
                return True
            return False
        self._refusals = 0
        self._outbox.release(entry.sequence)
        return True

    def _tidy(self, needed: frozenset[str]) -> None:
        """Remove attachments that no frame needs, but for new ones, whose frame may not be written yet. Blocking."""
        if self._folder.is_dir():
            for path in self._folder.glob("sha256_*"):
                if path.name not in needed and time.time() - path.stat().st_mtime > _KEEP_SECONDS:
                    path.unlink(missing_ok=True)


async def _pieces(path: Path, artefact_id: str) -> AsyncIterator[pb.WriteArtefactRequest]:
    digest = bytes.fromhex(artefact_id.removeprefix("sha256_"))
    size = (await asyncio.to_thread(path.stat)).st_size
    artefact = task_pb2.Artefact(name=PATCH_NAME, size_bytes=size, sha256=digest, content_type="text/x-patch")
    yield pb.WriteArtefactRequest(artefact=artefact)
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield pb.WriteArtefactRequest(data=piece)
