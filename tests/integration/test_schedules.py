"""Schedules and delayed tasks through a real control plane and the real command line."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_conductor.client import Conductor
from claude_conductor.errors import InvalidArgumentError, ScheduleExistsError, ScheduleNotFoundError
from claude_conductor.v1 import schedule_pb2, task_pb2
from tests.fakes.control_plane import OPERATOR_TOKEN, ControlPlane
from tests.integration.test_cli_commands import CommandLine

SPEC = task_pb2.TaskSpec(driver="scripted", prompt="tidy up")


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    with tempfile.TemporaryDirectory(prefix="cc-") as folder:
        made = ControlPlane(Path(folder) / "home")
        await made.start()
        (made.home / "run/operator.token").write_text(OPERATOR_TOKEN)
        yield made
        await made.close()


def connect(plane: ControlPlane) -> Conductor:
    return Conductor.connect(plane.address, OPERATOR_TOKEN)


def nightly(**changes: object) -> schedule_pb2.Schedule:
    given = {"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "spec": SPEC, **changes}
    return schedule_pb2.Schedule(**given)  # type: ignore[arg-type]


async def test_a_schedule_and_its_runs_survive_a_killed_control_plane(plane: ControlPlane) -> None:
    async with connect(plane) as conductor:
        made = await conductor.schedules.create(nightly(overlap=schedule_pb2.OVERLAP_RULE_QUEUE))
        task = await conductor.schedules.run("nightly", request_id="key")
        assert task.spec.labels == {"schedule": "nightly"}
        await conductor.schedules.pause(made.schedule_id)
    plane.kill()
    await plane.start()
    async with connect(plane) as conductor:
        (stored,) = await conductor.schedules.list()
        assert (stored.schedule_id, stored.paused, stored.overlap) == (made.schedule_id, True, schedule_pb2.OVERLAP_RULE_QUEUE)
        assert [(firing.task_id, firing.by_hand) for firing in stored.firings] == [(task.task_id, True)]
        assert not stored.HasField("next_time")
        assert (await conductor.schedules.run("nightly", request_id="key")).task_id == task.task_id
        resumed = await conductor.schedules.resume("nightly")
        assert resumed.next_time == made.next_time
        await conductor.schedules.delete("nightly")
        with pytest.raises(ScheduleNotFoundError):
            await conductor.schedules.get("nightly")


@pytest.mark.timeout(120)
async def test_a_firing_comes_once_although_the_control_plane_is_killed_at_its_time(plane: ControlPlane) -> None:
    async with connect(plane) as conductor:
        made = await conductor.schedules.create(nightly(cron="* * * * *", time_zone="UTC"))
    planned = made.next_time.seconds
    while time.time() < planned + 1:
        await asyncio.sleep(max(0.0, min(20.0, planned - time.time() - 0.05)) or 0.02)
        if abs(time.time() - planned) < 0.5:
            plane.kill()
            await plane.start()
    async with connect(plane) as conductor:
        async with asyncio.timeout(20):
            while not (await conductor.schedules.get("nightly")).firings:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        assert len(await conductor.tasks.list(labels={"schedule": "nightly"})) == 1


async def test_wrong_schedules_are_refused_with_the_field(plane: ControlPlane) -> None:
    async with connect(plane) as conductor:
        for wrong, field in (
            (nightly(cron="* * *"), "cron"),
            (nightly(time_zone="Nowhere"), "time_zone"),
            (nightly(overlap=9), "schedule.overlap"),
            (nightly(spec=task_pb2.TaskSpec(driver="scripted", depends_on=["task_1"])), "spec.depends_on"),
            (nightly(spec=task_pb2.TaskSpec(driver="scripted", type="unknown")), "spec.type"),
        ):
            with pytest.raises(InvalidArgumentError) as refused:
                await conductor.schedules.create(wrong)
            assert refused.value.details["field"] == field
        assert await conductor.schedules.list() == []
        first = await conductor.schedules.create(nightly())
        assert (await conductor.schedules.create(nightly())).schedule_id == first.schedule_id
        with pytest.raises(ScheduleExistsError):
            await conductor.schedules.create(nightly(cron="1 3 * * *"))


async def test_the_command_line_creates_shows_and_runs_schedules(plane: ControlPlane) -> None:
    line = CommandLine(plane.home)

    async def say(*words: str, code: int = 0) -> str:
        done = await asyncio.to_thread(line, "schedules", *words, code=code)
        return done.stdout + done.stderr

    made = await say("create", "nightly", "look", "--agent", "scripted", "--cron", "0 3 * * *", "--zone", "Asia/Tokyo")
    assert "0 3 * * * (Asia/Tokyo)" in made
    assert "--cron" in await say("create", "other", "look", "--agent", "scripted", "--cron", "0 3 * *", code=2)
    assert "There is another schedule" in await say("create", "nightly", "x", "--agent", "scripted", "--cron", "@daily", code=1)
    task_id = (await say("run-now", "nightly", "-o", "name")).strip()
    assert f"{task_id}, by hand" in await say("show", "nightly")
    assert "paused" in await say("pause", "nightly")
    assert "next:     20" in await say("resume", "nightly")
    assert [each["name"] for each in json.loads(await say("list", "-o", "json"))] == ["nightly"]
    assert "deleted nightly" in await say("delete", "nightly")
    assert "conductor schedules list" in await say("show", "nightly", code=3)


async def test_a_delayed_task_waits_for_its_time_and_says_until_when(plane: ControlPlane) -> None:
    line = CommandLine(plane.home)
    done = await asyncio.to_thread(line, "run", "later", "--agent", "scripted", "--in", "2h", "--detach", "-o", "json")
    (task,) = json.loads(done.stdout)
    assert task["state"] == "TASK_STATE_BLOCKED"
    assert task["reason"].startswith("starts in ")
    refused = await asyncio.to_thread(line, "run", "later", "--agent", "scripted", "--at", "2020-01-01", code=2)
    assert "This time is past." in refused.stderr
