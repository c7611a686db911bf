"""The stores that keep plain files keep the contracts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.errors import InvalidArgumentError, StoreUnavailableError
from claude_conductor.ids import TaskId
from controlplane.backends.blobs.directory import BlobDirectory
from controlplane.backends.blobs.output_directory import OPEN_FILES, OutputDirectory
from tests.contract import blob_store, output_log
from tests.contract.output_log import TASK, out, text


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


class TestBlobs(blob_store.BlobStoreContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobDirectory:
        return BlobDirectory(tmp_path / "blobs")

    async def test_there_is_one_private_file_for_one_content(self, tmp_path: Path, blobs: BlobDirectory) -> None:
        for name in ("a", "b"):
            await blobs.write(blob_store.chunks(b"content"), name, "text/plain")
        (only,) = files(tmp_path)
        assert only.stat().st_mode & 0o777 == 0o600
        assert {path.stat().st_mode & 0o777 for path in (only.parent, tmp_path / "blobs")} == {0o700}

    async def test_a_broken_upload_leaves_no_file(self, tmp_path: Path, blobs: BlobDirectory) -> None:
        await self.test_an_upload_that_breaks_off_leaves_nothing(blobs)
        assert files(tmp_path) == []

    async def test_what_a_killed_process_left_is_removed_at_the_next_start(self, tmp_path: Path, blobs: BlobDirectory) -> None:
        artefact = await blobs.write(blob_store.chunks(b"content"), "a", "text/plain")
        (tmp_path / "blobs" / "unfinished" / "left").write_bytes(b"half")
        again = BlobDirectory(tmp_path / "blobs")
        assert [path.name for path in files(tmp_path)] == [artefact.artefact_id]
        assert await again.stat(artefact.artefact_id) == 7

    async def test_a_folder_that_cannot_be_made_is_said_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreUnavailableError, match="File exists"):
            BlobDirectory(tmp_path / "file")


class TestOutputs(output_log.OutputLogContract):
    @pytest.fixture
    async def outputs(self, tmp_path: Path) -> AsyncIterator[OutputDirectory]:
        log = OutputDirectory(tmp_path / "output", output_log.KEPT)
        yield log
        await log.close()

    async def test_output_is_there_after_a_restart_and_goes_on(self, tmp_path: Path) -> None:
        first = OutputDirectory(tmp_path / "output", output_log.KEPT)
        await first.append(TASK, 1, out(0, b"before "))
        await first.close()
        again = OutputDirectory(tmp_path / "output", output_log.KEPT)
        await again.append(TASK, 1, out(0, b"before after"))
        assert await text(again) == b"before after"
        await again.close()

    @pytest.mark.parametrize("torn", [1, 5, 12, 20])
    async def test_a_torn_end_is_cut_off(self, tmp_path: Path, outputs: OutputDirectory, torn: int) -> None:
        await outputs.append(TASK, 1, out(0, b"whole"))
        await outputs.append(TASK, 1, out(5, b"torn"))
        path = tmp_path / "output" / TASK / "1"
        os.truncate(path, path.stat().st_size - torn)
        again = OutputDirectory(tmp_path / "output")
        assert await text(again) == b"whole"
        await again.append(TASK, 1, out(5, b" and new"))
        assert await text(again) == b"whole and new"
        await again.close()

    async def test_files_are_private_and_few_stay_open(self, tmp_path: Path, outputs: OutputDirectory) -> None:
        before = open_descriptors()
        for attempt in range(OPEN_FILES + 50):
            await outputs.append(TASK, attempt, out(0, b"x"))
        assert open_descriptors() - before <= OPEN_FILES + 2
        assert await text(outputs, attempt=0) == b"x"
        assert {path.stat().st_mode & 0o777 for path in files(tmp_path)} == {0o600}

    async def test_a_task_id_cannot_leave_the_folder(self, outputs: OutputDirectory) -> None:
        for bad in ("../x", "", "a/b", "a" * 101, "x\n"):
            with pytest.raises(InvalidArgumentError):
                await outputs.append(TaskId(bad), 1, out(0, b"x"))
