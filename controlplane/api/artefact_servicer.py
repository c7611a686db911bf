"""How does ArtefactService answer?"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import artefact_service_pb2 as pb
from claude_conductor.v1 import task_pb2
from claude_conductor.v1.artefact_service_pb2_grpc import ArtefactServiceServicer
from controlplane.api.convert.result import artefact_to_proto
from controlplane.interfaces.blob_store import BlobStore

CHUNK = 256 << 10
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class FileServicer(ArtefactServiceServicer):
    """Serves ArtefactService."""

    def __init__(self, blobs: BlobStore, artefact_bytes: int) -> None:
        """Begin.

        Args:
            blobs: Where files live.
            artefact_bytes: The largest file that is taken.
        """
        self._blobs = blobs
        self._artefact_bytes = artefact_bytes

    async def WriteArtefact(
        self, request_iterator: AsyncIterator[pb.WriteArtefactRequest], context: Context
    ) -> pb.WriteArtefactResponse:
        """Store a file."""
        del context
        first = await anext(request_iterator, None)
        if first is None:
            raise InvalidArgumentError("The first message says what is coming.", field="artefact")
        said = first.artefact
        name, content_type = said.name or "artefact", said.content_type or "application/octet-stream"
        stored = await self._blobs.write(self._chunks(first, request_iterator), name, content_type)
        return pb.WriteArtefactResponse(artefact=artefact_to_proto(stored))

    async def _chunks(
        self, first: pb.WriteArtefactRequest, following: AsyncIterator[pb.WriteArtefactRequest]
    ) -> AsyncIterator[bytes]:
        check = Check(first.artefact, self._artefact_bytes)
        if first.data:
            yield check.add(first.data)
        async for request in following:
            yield check.add(request.data)
        check.finish()

    async def ReadArtefact(self, request: pb.ReadArtefactRequest, context: Context) -> AsyncIterator[pb.ReadArtefactResponse]:
        """Yield a file."""
        del context
        if request.offset < 0:
            raise InvalidArgumentError("An offset is 0 or more.", field="offset")
        size = await self._blobs.stat(request.artefact_id)
        yield pb.ReadArtefactResponse(
            artefact=task_pb2.Artefact(
                artefact_id=request.artefact_id,
                size_bytes=size,
                sha256=bytes.fromhex(request.artefact_id.removeprefix("sha256_")),
            )
        )
        async for chunk in self._blobs.read(request.artefact_id, request.offset):
            yield pb.ReadArtefactResponse(data=chunk)


class Check:
    """Compares what comes with what was announced."""

    def __init__(self, said: task_pb2.Artefact, limit: int) -> None:
        self._said = said
        self._limit = limit
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, data: bytes) -> bytes:
        """Count a chunk.

        Raises:
            InvalidArgumentError: The chunk, or the file so far, is too large.
        """
        self._size += len(data)
        if len(data) > CHUNK or self._size > self._limit:
            raise InvalidArgumentError(
                f"A chunk has at most 256 KiB and a file at most {self._limit} bytes.", field="data", bytes=self._size
            )
        self._hash.update(data)
        return data

    def finish(self) -> None:
        """Compare.

        Raises:
            InvalidArgumentError: Size or hash are not the announced ones.
        """
        if self._said.size_bytes and self._said.size_bytes != self._size:
            raise InvalidArgumentError("The file has another size.", field="artefact.size_bytes", bytes=self._size)
        if self._said.sha256 and self._said.sha256 != self._hash.digest():
            raise InvalidArgumentError("The file has another content.", field="artefact.sha256")
