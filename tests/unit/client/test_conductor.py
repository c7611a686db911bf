"""The asynchronous client against a control plane on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from claude_conductor import errors
from claude_conductor.client import Conductor
from claude_conductor.v1 import agent_pb2, event_pb2, task_pb2
from tests.fakes.operator_services import TOKEN, World, fail, serving, succeed


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        yield Path(folder) / "run" / "control.sock"


@pytest.fixture
async def conductor(socket: Path, world: World) -> AsyncIterator[Conductor]:
    async with serving(socket, world) as address, Conductor.connect(address, TOKEN) as client:
        yield client


async def test_address_and_token_are_found_in_the_home(socket: Path, world: World):
    (socket.parent).mkdir()
    (socket.parent / "operator.token").write_text(f"{TOKEN}\n")
    variables = {"CONDUCTOR_HOME": str(socket.parents[1])}
    async with serving(socket, world), Conductor.connect(environment=variables) as conductor:
        assert await conductor.admin.serving()
        assert (await conductor.admin.status()).store == "memory"


async def test_a_submitted_task_carries_its_key_and_its_trace(conductor: Conductor, world: World):
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"), request_id="once", traceparent=trace)

    assert task.state == task_pb2.TASK_STATE_QUEUED
    assert world.submitted[0].request_id == "once"
    assert world.metadata[0]["traceparent"] == trace


async def test_lists_go_over_as_many_pages_as_it_takes(conductor: Conductor, world: World):
    world.page = 3
    world.agents = [agent_pb2.Agent(agent_id=f"agent-{number}") for number in range(8)]
    for _ in range(7):
        await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))

    assert len(await conductor.agents.list()) == 8
    assert len(await conductor.tasks.list()) == 7
    assert len(await conductor.tasks.list(limit=4)) == 4


@pytest.mark.parametrize("error", [kind for kind in errors.ALL if kind is not errors.ConductorError])
async def test_a_reason_comes_back_as_its_class_with_details_and_advice(
    conductor: Conductor, world: World, error: type[errors.ConductorError]
):
    # Reads are repeated by the channel where the reason is one a repeat may help with.
    world.failures = [error("It went wrong.", next_step="do this", thing="that")] * 5

    with pytest.raises(error) as raised:
        await conductor.tasks.submit(task_pb2.TaskSpec())

    assert type(raised.value) is error or raised.value.reason == error.reason
    if error is not errors.ControlPlaneUnavailableError:  # that one is told with the address instead
        assert raised.value.message == "It went wrong."
        assert raised.value.next_step == "do this"
    assert raised.value.details["thing"] == "that"


async def test_a_wrong_token_is_unauthenticated(socket: Path, world: World):
    async with serving(socket, world) as address, Conductor.connect(address, "wrong") as conductor:
        with pytest.raises(errors.UnauthenticatedError):
            await conductor.tasks.get("task_x")


async def test_nobody_listening_is_unavailable_with_the_address(socket: Path):
    async with Conductor.connect(f"unix:{socket}", TOKEN) as conductor:
        with pytest.raises(errors.ControlPlaneUnavailableError) as raised:
            await conductor.tasks.submit(task_pb2.TaskSpec())
    assert str(socket) in str(raised.value)


async def test_waiting_ends_with_the_task(conductor: Conductor, world: World):
    world.finish = succeed
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))

    done = await conductor.tasks.wait(task.task_id, timeout=10)
    assert done.state == task_pb2.TASK_STATE_SUCCEEDED
    assert done.result.summary == "all done"


async def test_waiting_has_its_own_time_out_and_leaves_the_task_alone(conductor: Conductor, world: World):
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))

    with pytest.raises(errors.DeadlineExceededError, match="goes on"):
        await conductor.tasks.wait(task.task_id, timeout=0.1)
    assert world.tasks[task.task_id].state == task_pb2.TASK_STATE_QUEUED


async def test_a_watch_goes_on_after_a_restart_and_says_nothing_twice(conductor: Conductor, world: World):
    world.finish, world.break_streams_after = fail, 1
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))

    states = [change.state async for change in conductor.tasks.watch(task.task_id)]

    assert states == [task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_FAILED]
    assert len(world.opened) == 2


async def test_output_is_resumed_at_the_byte_where_it_broke(conductor: Conductor, world: World):
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))
    world.output = [("stdout", b"one "), ("stderr", b"two "), ("stdout", b"three")]
    world.break_streams_after = 1

    pieces = [(piece.stream, piece.data) async for piece in conductor.tasks.output(task.task_id, follow=True)]

    assert pieces == world.output
    assert world.opened == ["output 0", "output 4", "output 8"]


async def test_events_are_resumed_by_cursor(conductor: Conductor, world: World):
    world.events = [event_pb2.Event(cursor=number, type="task.queued") for number in (3, 5, 9)]
    world.break_streams_after = 2

    seen = []
    async with contextlib.aclosing(conductor.events.watch(after=0)) as events:
        async for answer in events:
            seen.append(answer.event.cursor)
            if len(seen) == 3:
                break

    assert seen == [3, 5, 9]
    assert world.opened == ["events 0", "events 5"]


async def test_an_artefact_is_read_whole_over_restarts(conductor: Conductor, world: World):
    world.artefacts["art_1"] = bytes(range(50))
    world.break_streams_after = 2

    assert await conductor.artefacts.read("art_1") == bytes(range(50))
    assert len(world.opened) > 3
    with pytest.raises(errors.ArtefactNotFoundError):
        await conductor.artefacts.read("art_none")
    with pytest.raises(errors.ArtefactNotFoundError):
        await conductor.artefacts.read("")


async def test_an_artefact_is_written_in_pieces(conductor: Conductor, world: World):
    content = b"x" * 700_000
    stored = await conductor.artefacts.write("big", content)

    assert (stored.name, stored.size_bytes) == ("big", 700_000)
    assert world.artefacts["art_written"] == content


async def test_an_error_that_a_repeat_cannot_help_with_ends_a_stream_at_once(conductor: Conductor, world: World):
    async with contextlib.aclosing(conductor.tasks.watch("task_none")) as changes:
        with pytest.raises(errors.TaskNotFoundError):
            await anext(changes)
    assert world.opened == ["watch task_none"]


async def test_leaving_a_stream_ends_the_call(conductor: Conductor, world: World):
    task = await conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))
    async with asyncio.timeout(5), contextlib.aclosing(conductor.tasks.watch(task.task_id)) as changes:
        async for _ in changes:
            break

    assert (await conductor.tasks.get(task.task_id)).task_id == task.task_id
