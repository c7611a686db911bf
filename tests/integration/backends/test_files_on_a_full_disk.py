"""Blobs and output on a disk without space: an error that says so, no halves, and they work again."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_conductor.errors import StoreUnavailableError
from controlplane.backends.blobs.directory import BlobDirectory
from controlplane.backends.blobs.output_directory import OutputDirectory
from tests.contract.blob_store import chunks, content
from tests.contract.output_log import TASK, out, text

pytestmark = pytest.mark.root

MEBIBYTE = b"x" * (1 << 20)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_an_upload_that_does_not_fit_leaves_nothing_and_a_smaller_one_works(small_disk: Path) -> None:
    blobs = BlobDirectory(small_disk / "blobs")
    with pytest.raises(StoreUnavailableError, match="No space left") as full:
        await blobs.write(chunks(*[MEBIBYTE] * 6), "large", "text/plain")
    assert "free space" in full.value.next_step
    assert files(small_disk) == []
    artefact = await blobs.write(chunks(MEBIBYTE), "small", "text/plain")
    assert await content(blobs, artefact.artefact_id) == MEBIBYTE


async def test_output_that_does_not_fit_is_not_stored_by_halves(small_disk: Path) -> None:
    outputs = OutputDirectory(small_disk / "output")
    for kept in range(8):
        try:
            await outputs.append(TASK, 1, out(kept << 20, MEBIBYTE))
        except StoreUnavailableError as full:
            refusal = str(full)
            break
    assert "No space left" in refusal
    assert 1 <= kept < 4
    assert await text(outputs, max_bytes=1 << 30) == MEBIBYTE * kept
    await outputs.append(TASK, 1, out(kept << 20, b"end"))
    assert (await text(outputs, max_bytes=1 << 30)).endswith(b"xend")
    await outputs.close()
