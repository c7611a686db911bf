"""Where files live that are too large for a message: patches and other artefacts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from controlplane.domain.task import Artefact


class BlobStore(Protocol):
    """Content-addressed files: the artefact id is `sha256_` + the hash in hexadecimal, so the same content is stored once."""

    async def write(self, chunks: AsyncIterator[bytes], name: str, content_type: str) -> Artefact:
        """Store the chunks as one file and return it once it is durable. If `chunks` raises, nothing stays behind.

        Raises:
            StoreUnavailableError: No space, or the medium failed.
        """

    def read(self, artefact_id: str, offset: int) -> AsyncIterator[bytes]:
        """Yield the content from `offset` on in chunks of at most 256 KiB.

        Raises:
            ArtefactNotFoundError: At the first chunk, if there is none with this id.
        """

    async def remove_older(self, before: float) -> int:
        """Remove files written last before this time (seconds since the epoch); return how many.

        Writing the same content again makes a file new. Whoever reads one that is removed reads it to its end.
        """

    async def stat(self, artefact_id: str) -> int:
        """Return its size in bytes.

        Raises:
            ArtefactNotFoundError: There is none with this id.
        """
