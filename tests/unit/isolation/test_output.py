import asyncio
import os

import pytest

from agent_sidecar.isolation.output import CHUNK, OutputStream, write_all


async def test_both_streams_arrive_in_their_own_order_until_both_are_closed():
    out, stdout = os.pipe()
    err, stderr = os.pipe()
    stream = OutputStream(out, err)
    os.write(stdout, b"one")
    os.write(stderr, b"bad")
    chunks = stream.chunks()
    assert {await anext(chunks), await anext(chunks)} == {("stdout", b"one"), ("stderr", b"bad")}
    os.close(stderr)
    os.write(stdout, b"two")
    assert await anext(chunks) == ("stdout", b"two")
    os.close(stdout)
    assert [each async for each in chunks] == []


async def test_nothing_is_read_that_nobody_asked_for():
    out, stdout = os.pipe()
    err, stderr = os.pipe()
    stream = OutputStream(out, err)
    os.set_blocking(stdout, False)
    fill(stdout)
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        os.write(stdout, b"x" * CHUNK)
    stream.close()
    os.close(stdout)
    os.close(stderr)


def fill(pipe: int) -> None:
    try:
        while True:
            os.write(pipe, b"x" * CHUNK)
    except BlockingIOError:
        return


async def test_a_cancelled_reader_leaves_the_loop_clean_and_closes_the_pipes():
    out, stdout = os.pipe()
    err, stderr = os.pipe()
    stream = OutputStream(out, err)

    async def read() -> None:
        async for _ in stream.chunks():
            raise AssertionError("there is nothing to read")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await read()
    assert asyncio.get_running_loop().remove_reader(out) is False
    with pytest.raises(BrokenPipeError):
        os.write(stdout, b"x")
    os.close(stdout)
    os.close(stderr)


async def test_input_larger_than_the_pipe_is_written_as_it_is_read():
    source, target = os.pipe()
    data = os.urandom(1 << 20)

    def read() -> bytes:
        with os.fdopen(source, "rb") as file:
            return file.read()

    reader = asyncio.create_task(asyncio.to_thread(read), name="reader")
    await write_all(target, data)
    assert await reader == data


async def test_a_reader_that_has_gone_ends_the_input_quietly():
    source, target = os.pipe()
    os.close(source)
    await write_all(target, b"x" * (1 << 20))
