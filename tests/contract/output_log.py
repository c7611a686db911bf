"""What every OutputLog does. A test class of a backend inherits this and gives `outputs`, a log that keeps 1000 bytes."""

from __future__ import annotations

import asyncio

from claude_conductor.ids import TaskId
from controlplane.interfaces.output_log import OutputChunk, OutputLog
from tests.contract.samples import task_id

KEPT = 1000
TASK = task_id(1)


def out(offset: int, data: bytes, stream: str = "stdout") -> OutputChunk:
    return OutputChunk(offset, stream, data)


async def text(outputs: OutputLog, offset: int = 0, max_bytes: int = 1 << 20, task: TaskId = TASK, attempt: int = 1) -> bytes:
    return b"".join(chunk.data for chunk in await outputs.read(task, attempt, offset, max_bytes))


class OutputLogContract:
    async def test_output_comes_back_in_order_with_its_streams(self, outputs: OutputLog) -> None:
        written = [out(0, b"one "), out(4, b"two ", "stderr"), out(8, b"three")]
        for chunk in written:
            await outputs.append(TASK, 1, chunk)
        assert list(await outputs.read(TASK, 1, 0, 1 << 20)) == written

    async def test_there_is_nothing_of_an_unknown_task_or_attempt(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"one"))
        assert await outputs.read(task_id(2), 1, 0, 100) == []
        assert await outputs.read(TASK, 2, 0, 100) == []
        assert await outputs.read(TASK, 1, 3, 100) == []

    async def test_reading_may_begin_in_the_middle_of_a_chunk(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"0123"))
        await outputs.append(TASK, 1, out(4, b"4567"))
        assert list(await outputs.read(TASK, 1, 2, 100)) == [out(2, b"23"), out(4, b"4567")]

    async def test_reading_returns_at_most_what_was_asked_for(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"0123"))
        await outputs.append(TASK, 1, out(4, b"4567"))
        assert await text(outputs, 0, 6) == b"012345"
        assert await text(outputs, 6, 6) == b"67"
        assert await text(outputs, 0, 0) == b""

    async def test_a_repeat_is_stored_once(self, outputs: OutputLog) -> None:
        for chunk in (out(0, b"0123"), out(0, b"0123"), out(2, b"23"), out(2, b"2345"), out(6, b"")):
            await outputs.append(TASK, 1, chunk)
        assert await text(outputs) == b"012345"

    async def test_a_gap_shows_in_the_offsets(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"01"))
        await outputs.append(TASK, 1, out(10, b"ab"))
        assert list(await outputs.read(TASK, 1, 1, 100)) == [out(1, b"1"), out(10, b"ab")]
        assert list(await outputs.read(TASK, 1, 5, 100)) == [out(10, b"ab")]

    async def test_what_comes_after_the_bound_is_not_kept(self, outputs: OutputLog) -> None:
        for offset in range(0, 3 * KEPT, 300):
            await outputs.append(TASK, 1, out(offset, bytes([65 + offset // 300]) * 300))
        kept = await text(outputs)
        assert len(kept) == KEPT
        assert kept[-100:] == b"D" * 100

    async def test_attempts_and_tasks_are_kept_apart(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"first"))
        await outputs.append(TASK, 2, out(0, b"second"))
        await outputs.append(task_id(2), 1, out(0, b"other"))
        assert await text(outputs, attempt=2) == b"second"
        assert await text(outputs, task=task_id(2)) == b"other"

    async def test_removing_forgets_every_attempt_of_one_task(self, outputs: OutputLog) -> None:
        await outputs.append(TASK, 1, out(0, b"first"))
        await outputs.append(TASK, 2, out(0, b"second"))
        await outputs.append(task_id(2), 1, out(0, b"other"))
        await outputs.remove(TASK)
        await outputs.remove(task_id(9))
        assert [await text(outputs), await text(outputs, attempt=2)] == [b"", b""]
        assert await text(outputs, task=task_id(2)) == b"other"
        await outputs.append(TASK, 1, out(0, b"again"))
        assert await text(outputs) == b"again"

    async def test_one_hundred_attempts_may_write_at_once(self, outputs: OutputLog) -> None:
        async def write(attempt: int) -> None:
            for offset in range(0, 50, 5):
                await outputs.append(TASK, attempt, out(offset, b"%05d" % attempt))

        await asyncio.gather(*(write(attempt) for attempt in range(1, 101)))
        for attempt in (1, 50, 100):
            assert await text(outputs, attempt=attempt) == b"%05d" % attempt * 10
