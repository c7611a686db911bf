"""A thousand submits with a hundred keys, from several clients at once, over two deaths of the control plane: a hundred tasks."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import grpc
import pytest

from claude_conductor.client.call import Caller
from claude_conductor.client.tasks import Tasks
from claude_conductor.errors import ConductorError, Kind
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import task_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane, Operator

pytestmark = pytest.mark.timeout(180)
KEYS, CALLS, CLIENTS, DEATHS = 100, 1000, 8, 2
AT_ONCE = 5
HASTE = 0.02
"""Seconds after which a raw client gives up waiting for an answer, and asks again: what it asked for may have been stored."""
Submit = Callable[[str], Awaitable[str]]


def through_the_client(tasks: Tasks) -> Submit:
    async def submit(key: str) -> str:
        spec = task_pb2.TaskSpec(driver="command", command=["true"], prompt=key)
        while True:
            try:
                return (await tasks.submit(spec, request_id=key)).task_id
            except ConductorError as error:
                if error.kind not in {Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED}:
                    raise
            await asyncio.sleep(0.05)

    return submit


def raw(operator: Operator) -> Submit:
    async def submit(key: str) -> str:
        haste = HASTE
        while True:
            operator.call = {**operator.call, "timeout": haste, "wait_for_ready": False}
            try:
                return str((await operator.submit(key, driver="command", command=["true"], prompt=key)).task_id)
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    raise
            haste = min(2.0, haste * 1.2)
            await asyncio.sleep(0.01)

    return submit


class Crowd:
    """Clients that share out the calls, and notice how many were answered."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._left = list(keys)
        self.told: dict[str, set[str]] = defaultdict(set)
        """By key, the ids that callers were told."""
        self.answers = 0
        self._reached = {CALLS * number // (DEATHS + 1): asyncio.Event() for number in range(1, DEATHS + 1)}

    async def work(self, submit: Submit) -> None:
        while self._left:
            key = self._left.pop()
            self.told[key].add(await submit(key))
            self.answers += 1
            if self.answers in self._reached:
                self._reached[self.answers].set()

    async def kill(self, plane: ControlPlane) -> None:
        """Kill the control plane while calls are under way, and start it again."""
        for event in self._reached.values():
            await event.wait()
            await killed(plane)


async def killed(plane: ControlPlane) -> None:
    plane.kill()
    await plane.start()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    started = ControlPlane(tmp_path / "home")
    await started.start()
    yield started
    await started.close()


@pytest.fixture
async def callers(plane: ControlPlane) -> AsyncIterator[list[Caller]]:
    made = [Caller(plane.address, Secret(OPERATOR_TOKEN)) for _ in range(CLIENTS // 2)]
    yield made
    for caller in made:
        await caller.close()


async def test_a_thousand_retried_submits_with_a_hundred_keys_are_a_hundred_tasks(
    plane: ControlPlane, callers: list[Caller]
) -> None:
    keys = [f"key-{number % KEYS}" for number in range(CALLS)]
    random.Random(1).shuffle(keys)
    crowd, tasks = Crowd(keys), Tasks(callers[0])
    clients = [through_the_client(Tasks(caller)) for caller in callers]
    clients += [raw(plane.operator()) for _ in range(CLIENTS // 2)]
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.kill(plane), name="kill")
        for number, client in enumerate(clients * AT_ONCE):
            group.create_task(crowd.work(client), name=f"client {number}")
    assert crowd.answers == CALLS
    stored = await tasks.list(limit=CALLS)
    assert len(stored) == KEYS
    assert {task.spec.prompt: {task.task_id} for task in stored} == crowd.told
    await killed(plane)
    assert {task.task_id for task in await tasks.list(limit=CALLS)} == {task.task_id for task in stored}
    for key in keys[:10]:
        assert {await clients[0](key)} == crowd.told[key]
