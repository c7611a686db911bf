"""How are files that are too large for a message stored and read?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from hashlib import sha256
from typing import Final

import grpc

from claude_conductor.client.call import STREAM_DEADLINE, Caller
from claude_conductor.errors import ArtefactNotFoundError, ConductorError
from claude_conductor.rpc.channel import bearer
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import artefact_service_pb2, artefact_service_pb2_grpc, task_pb2

CHUNK: Final = 256 << 10
LARGEST: Final = 256 << 20
"""Bytes that `read` keeps in memory at most; `chunks` has no such bound."""


class Artefacts:
    """Stored files."""

    def __init__(self, caller: Caller, token: Secret) -> None:
        self._caller = caller
        self._token = token
        self._stub = artefact_service_pb2_grpc.ArtefactServiceStub(caller.channel)

    async def chunks(self, artefact_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes in order, over restarts of the control plane.

        Raises:
            ArtefactNotFoundError: There is none.
        """
        cursor = artefact_service_pb2.ReadArtefactRequest(artefact_id=artefact_id)
        async with aclosing(self._caller.resume(self._stub.ReadArtefact, lambda: cursor)) as answers:
            async for answer in answers:
                cursor.offset += len(answer.data)
                if answer.data:
                    yield answer.data

    async def read(self, artefact_id: str) -> bytes:
        """Return a whole file.

        Raises:
            ArtefactNotFoundError: There is none, or no id was given.
            ConductorError: It is larger than 256 MiB; use `chunks`.
        """
        if not artefact_id:
            raise ArtefactNotFoundError
        content = bytearray()
        async with aclosing(self.chunks(artefact_id)) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > LARGEST:
                    raise ConductorError("The artefact is too large to be read at once.", next_step="read it with `chunks`")
        return bytes(content)

    async def write(self, name: str, content: bytes, *, content_type: str = "application/octet-stream") -> task_pb2.Artefact:
        """Store a file; it is durable when this returns. The same content is stored once."""
        first = task_pb2.Artefact(name=name, size_bytes=len(content), sha256=sha256(content).digest(), content_type=content_type)
        try:
            answer = await self._stub.WriteArtefact(
                _pieces(first, content), timeout=STREAM_DEADLINE, metadata=bearer(self._token.reveal())
            )
        except grpc.aio.AioRpcError as cause:
            raise self._caller.failure(cause) from cause
        return answer.artefact


def _pieces(first: task_pb2.Artefact, content: bytes) -> Iterator[artefact_service_pb2.WriteArtefactRequest]:
    yield artefact_service_pb2.WriteArtefactRequest(artefact=first, data=content[:CHUNK])
    for start in range(CHUNK, len(content), CHUNK):
        yield artefact_service_pb2.WriteArtefactRequest(data=content[start : start + CHUNK])
