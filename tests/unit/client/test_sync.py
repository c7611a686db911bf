"""The same client without await."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_conductor import errors
from claude_conductor.client.sync import Conductor
from claude_conductor.v1 import task_pb2
from tests.fakes.operator_services import TOKEN, World, serving_in_a_thread, succeed


@pytest.fixture
def world() -> World:
    return World(finish=succeed)


@pytest.fixture
def address(world: World) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="cc-") as folder,
        serving_in_a_thread(Path(folder) / "control.sock", world) as address,
    ):
        yield address


def test_calls_block_streams_iterate_and_errors_are_the_same(address: str, world: World):
    with Conductor.connect(address, TOKEN) as conductor:
        task = conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))
        world.output = [("stdout", b"a"), ("stdout", b"b")]
        assert [piece.data for piece in conductor.tasks.output(task.task_id)] == [b"a", b"b"]
        assert conductor.tasks.wait(task.task_id, timeout=10).state == task_pb2.TASK_STATE_SUCCEEDED
        with pytest.raises(errors.TaskNotFoundError):
            conductor.tasks.get("task_none")


def test_a_stream_can_be_left_early(address: str):
    with Conductor.connect(address, TOKEN) as conductor:
        task = conductor.tasks.submit(task_pb2.TaskSpec(prompt="x"))
        for change in conductor.tasks.watch(task.task_id):
            assert change.task_id == task.task_id
            break
        assert conductor.tasks.list()[0].task_id == task.task_id


def test_nothing_is_left_after_close(address: str):
    before = threading.active_count()
    conductor = Conductor.connect(address, TOKEN)
    assert threading.active_count() == before + 1
    conductor.close()
    conductor.close()
    assert threading.active_count() == before
