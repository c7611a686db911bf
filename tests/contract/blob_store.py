"""What every BlobStore does. A backend's test class inherits this and gives the fixture `blobs`."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest

from claude_conductor.errors import ArtefactNotFoundError
from controlplane.interfaces.blob_store import BlobStore

BIG = b"0123456789abcdef" * 65536  # 1 MiB


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def content(blobs: BlobStore, artefact_id: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in blobs.read(artefact_id, offset)])


class BlobStoreContract:
    async def test_a_file_is_known_by_its_content(self, blobs: BlobStore) -> None:
        artefact = await blobs.write(chunks(b"hello ", b"", b"world"), "patch.diff", "text/x-diff")
        digest = hashlib.sha256(b"hello world").hexdigest()
        assert (artefact.artefact_id, artefact.sha256) == (f"sha256_{digest}", digest)
        assert (artefact.name, artefact.size_bytes, artefact.content_type) == ("patch.diff", 11, "text/x-diff")
        assert await content(blobs, artefact.artefact_id) == b"hello world"
        assert await blobs.stat(artefact.artefact_id) == 11

    async def test_the_same_content_is_one_file_under_any_name(self, blobs: BlobStore) -> None:
        first, second = await asyncio.gather(*(blobs.write(chunks(BIG), name, "text/plain") for name in ("a", "b")))
        assert first.artefact_id == second.artefact_id
        assert (first.name, second.name) == ("a", "b")

    async def test_an_empty_file_is_a_file(self, blobs: BlobStore) -> None:
        artefact = await blobs.write(chunks(), "empty", "text/plain")
        assert await blobs.stat(artefact.artefact_id) == 0
        assert await content(blobs, artefact.artefact_id) == b""

    async def test_reading_begins_at_an_offset_and_comes_in_bounded_pieces(self, blobs: BlobStore) -> None:
        artefact = await blobs.write(chunks(BIG), "big", "text/plain")
        pieces = [piece async for piece in blobs.read(artefact.artefact_id, 5)]
        assert b"".join(pieces) == BIG[5:]
        assert max(map(len, pieces)) <= 256 << 10
        assert await content(blobs, artefact.artefact_id, len(BIG) + 7) == b""

    @pytest.mark.parametrize(
        "unknown", ["", "sha256_", "sha256_" + "0" * 64, "../../etc/passwd", "sha256_/../../x", "sha256_" + "é" * 64]
    )
    async def test_an_unknown_file_is_an_error(self, blobs: BlobStore, unknown: str) -> None:
        with pytest.raises(ArtefactNotFoundError):
            await blobs.stat(unknown)
        with pytest.raises(ArtefactNotFoundError):
            await content(blobs, unknown)

    async def test_an_upload_that_breaks_off_leaves_nothing(self, blobs: BlobStore) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await blobs.write(broken(), "half", "text/plain")
        with pytest.raises(ArtefactNotFoundError):
            await blobs.stat("sha256_" + hashlib.sha256(b"half").hexdigest())

    async def test_files_are_removed_by_their_age(self, blobs: BlobStore) -> None:
        old = await blobs.write(chunks(b"old"), "old", "text/plain")
        assert await blobs.remove_older(time.time() - 60) == 0
        assert await content(blobs, old.artefact_id) == b"old"
        assert await blobs.remove_older(time.time() + 60) == 1
        with pytest.raises(ArtefactNotFoundError):
            await blobs.stat(old.artefact_id)
        assert await blobs.remove_older(time.time() + 60) == 0

    async def test_writing_the_same_content_again_makes_a_file_new(self, blobs: BlobStore) -> None:
        await blobs.write(chunks(b"again"), "first", "text/plain")
        await asyncio.sleep(0.05)
        between = time.time()
        await asyncio.sleep(0.05)
        artefact = await blobs.write(chunks(b"again"), "second", "text/plain")
        assert await blobs.remove_older(between) == 0
        assert await content(blobs, artefact.artefact_id) == b"again"
