"""What is finished for long is forgotten, with everything that belongs to it, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_conductor.errors import ArtefactNotFoundError, StoreUnavailableError, TaskNotFoundError
from claude_conductor.ids import DEFAULT_TENANT, TaskId
from controlplane.backends.blobs.directory import BlobDirectory
from controlplane.backends.blobs.output_directory import OutputDirectory
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.task import State
from controlplane.interfaces.output_log import OutputChunk
from controlplane.service.retention import FILE_MARGIN, Retention
from tests.contract.blob_store import chunks
from tests.contract.samples import HandClock, task

DAY = 86_400.0


class House:
    """Real stores around a Retention that keeps 3 days."""

    def __init__(self, place: Path, clock: HandClock) -> None:
        self.clock = clock
        self.place = place
        self.tasks = MemoryTaskStore(clock)
        self.output = OutputDirectory(place / "output")
        self.blobs = BlobDirectory(place / "blobs")
        self.retention = Retention(self.tasks, self.output, self.blobs, clock, 3 * DAY)

    async def ended(self, number: int, days_ago: float) -> TaskId:
        end = self.clock.now() - days_ago * DAY
        added = await self.tasks.insert(task(number, state=State.SUCCEEDED, end_time=end, create_time=end - 60))
        await self.output.append(added.id, 1, OutputChunk(0, "stdout", b"hello"))
        return added.id

    async def file(self, content: bytes, days_ago: float) -> str:
        artefact = await self.blobs.write(chunks(content), "patch", "text/x-diff")
        (path,) = self.place.glob(f"blobs/??/{artefact.artefact_id}")
        os.utime(path, times=(self.clock.now() - days_ago * DAY,) * 2)
        return artefact.artefact_id

    async def known(self, identity: TaskId) -> bool:
        try:
            await self.tasks.get(DEFAULT_TENANT, identity)
        except TaskNotFoundError:
            return False
        return True


@pytest.fixture
async def house(tmp_path: Path):
    made = House(tmp_path, HandClock())
    yield made
    await made.output.close()


async def test_a_task_is_forgotten_with_its_output_once_it_ended_long_enough_ago(house: House) -> None:
    old, young = await house.ended(1, days_ago=3.01), await house.ended(2, days_ago=2.99)
    running = (await house.tasks.insert(task(3, state=State.RUNNING, create_time=house.clock.now() - 90 * DAY))).id
    await house.retention.round()
    assert [await house.known(identity) for identity in (old, young, running)] == [False, True, True]
    assert await house.output.read(old, 1, 0, 100) == []
    assert await house.output.read(young, 1, 0, 100) != []


async def test_more_tasks_than_a_page_are_forgotten_in_one_round(house: House) -> None:
    for number in range(600):
        await house.tasks.insert(task(number, state=State.FAILED, end_time=1.0, create_time=0.0))
    await house.retention.round()
    assert await house.tasks.in_states(frozenset({State.FAILED})) == []


async def test_files_stay_a_day_longer_than_the_tasks_they_may_belong_to(house: House) -> None:
    margin = FILE_MARGIN / DAY
    old, young = await house.file(b"old", 3.01 + margin), await house.file(b"young", 2.99 + margin)
    await house.retention.round()
    with pytest.raises(ArtefactNotFoundError):
        await house.blobs.stat(old)
    assert await house.blobs.stat(young) == len(b"young")


async def test_a_task_is_kept_for_as_long_as_its_request_is_remembered(tmp_path: Path, house: House) -> None:
    hasty = Retention(house.tasks, house.output, house.blobs, house.clock, keep_seconds=1.0)
    first = await house.tasks.insert(
        task(1, state=State.SUCCEEDED, request_id="key", create_time=house.clock.now() - 60, end_time=house.clock.now() - 30)
    )
    await hasty.round()
    assert await house.tasks.insert(task(2, request_id="key")) == first


class FullDisk(OutputDirectory):
    async def remove(self, task_id: TaskId) -> None:
        raise StoreUnavailableError("The output folder refused: read-only file system.")


async def test_a_task_whose_output_cannot_be_removed_stays_for_the_next_round(tmp_path: Path, house: House) -> None:
    old = await house.ended(1, days_ago=4)
    broken = FullDisk(tmp_path / "output")
    with pytest.raises(StoreUnavailableError):
        await Retention(house.tasks, broken, house.blobs, house.clock, 3 * DAY).round()
    await broken.close()
    assert await house.known(old)
    await house.retention.round()
    assert not await house.known(old)
