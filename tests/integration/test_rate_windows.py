"""A provider's rate limit closes the window of a key for everybody who uses it, fails nobody, and is left slowly."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent_sidecar.settings import Provider
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import session_service_pb2 as session_pb
from claude_conductor.v1 import task_pb2
from controlplane.domain.rate_window import Window, take
from tests.fakes import messages_api as api
from tests.fakes.control_plane import ControlPlane, sidecar_token
from tests.fakes.sidecar import Sidecar
from tests.fakes.sidecar_process import SidecarProcess, settings

EXIT_CODE = task_pb2.TaskFailure(kind=task_pb2.FAILURE_KIND_EXIT_CODE, message="exit code 1")
KEY = {"credential_id": "key-1", "drivers": ["scripted"]}
WAITS = "waits for the model provider, which answered 429 to this key"


async def limited(agent: Sidecar, lease: task_pb2.Lease, seconds: float) -> None:
    limit = session_pb.TaskRateLimited(reason="429", credential_id="key-1")
    limit.retry_delay.FromMicroseconds(int(seconds * 1e6))
    assert await agent.committed(await agent.report(lease, rate_limited=limit)) is None


async def test_a_limit_of_one_agent_holds_every_agent_with_that_key_and_no_other(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    first: Sidecar = await sidecar("agent-1", credential=KEY)
    second: Sidecar = await sidecar("agent-2", credential=KEY)
    other: Sidecar = await sidecar("agent-3", credential={**KEY, "credential_id": "key-2"})
    task = await operator.submit(agent_id="agent-1")
    at_work = await first.next_assignment()
    await first.started(at_work)
    await limited(first, at_work.lease, 1.5)

    begun = time.monotonic()
    told = await asyncio.wait_for(first.holds.get(), 10), await asyncio.wait_for(second.holds.get(), 10)
    assert [hold.credential_id for hold in told] == ["key-1", "key-1"]
    assert all(1.0 < hold.reset.ToMicroseconds() / 1e6 <= 1.5 for hold in told)
    assert all(hold.turn.ToMicroseconds() >= hold.reset.ToMicroseconds() for hold in told)
    assert (await operator.until(task.task_id, task_pb2.TASK_STATE_RATE_LIMITED)).reason == "429"

    waiting = await operator.submit(agent_id="agent-2")
    assert waiting.state == task_pb2.TASK_STATE_QUEUED
    assert waiting.reason.startswith(WAITS)
    assert waiting.reason == waiting.reason.split(";")[0], "what it waits for is no queue"
    elsewhere = await operator.submit()
    assert (await other.next_assignment()).lease.task_id == elsewhere.task_id
    assert other.holds.empty()

    assert (await second.next_assignment()).lease.task_id == waiting.task_id
    assert time.monotonic() - begun >= 2.3, (
        "agent-1, which waits in the middle of its work, has the first turn; this is the second"
    )
    assert (await operator.task(task.task_id)).state != task_pb2.TASK_STATE_FAILED


async def test_a_task_that_needs_no_key_begins_while_the_window_is_closed(control_plane: ControlPlane, sidecar) -> None:
    operator = control_plane.operator()
    closed: dict[str, Any] = {**KEY, "closed": {"seconds": 600}}
    agent: Sidecar = await sidecar("agent-1", drivers=("scripted", "command"), credential=closed)
    held = await operator.submit()
    assert held.reason.startswith(WAITS)
    free = await operator.submit(driver="command", command=["true"])
    assert (await agent.next_assignment()).lease.task_id == free.task_id


async def test_a_new_control_plane_learns_of_the_window_before_it_gives_anybody_a_task(
    control_plane: ControlPlane, sidecar
) -> None:
    operator = control_plane.operator()
    agent: Sidecar = await sidecar("agent-1", credential=KEY)
    task = await operator.submit()
    at_work = await agent.next_assignment()
    await agent.started(at_work)
    await limited(agent, at_work.lease, 600)
    control_plane.kill()
    await agent.disconnect()
    await control_plane.start()
    agent.die()  # its task goes back to the queue
    agent.hello["credential"] = {**KEY, "closed": {"seconds": 2}}
    begun = time.monotonic()
    await agent.connect()
    again = await agent.next_assignment()
    assert (again.lease.task_id, again.lease.attempt) == (task.task_id, 2)
    assert 1.9 <= time.monotonic() - begun < 2.9, "the first turn is that of the reset, and there was nobody before it"


async def test_an_attempt_that_a_limit_ended_burns_no_retry_and_says_why_it_waits(control_plane: ControlPlane, sidecar) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1", credential=KEY)
    task = await operator.submit(retry={"max_attempts": 1})
    for number in (1, 2):
        assignment = await agent.next_assignment()
        assert assignment.lease.attempt == number
        await agent.started(assignment)
        await agent.completed(assignment, failure=EXIT_CODE, exit_code=1, rate_limited={"nanos": 600_000_000})
        blocked = await operator.until(task.task_id, task_pb2.TASK_STATE_BLOCKED)
        assert "took no requests of its last attempt, which does not count" in blocked.reason
    last = await agent.next_assignment()
    await agent.started(last)
    await agent.completed(last)
    done = await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(done.attempts) == 3


# --- everything real but isolation and the provider

AGENTS = tuple(f"agent-{number}" for number in range(1, 5))
RESET = 3.0


class Limit:
    """A provider that takes a few requests, then none until a reset, and says so."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.reset: float | None = None
        self.seen: list[tuple[float, bool]] = []
        """When each request came, and whether it was taken."""

    def __call__(self, body: dict[str, Any]) -> api.Reply:
        now = time.monotonic()
        if self.free:
            self.free -= 1
        elif self.reset is None:
            self.reset = now + RESET
        taken = self.reset is None or now >= self.reset
        self.seen.append((now, taken))
        if taken:
            return api.Say("hello")
        assert self.reset is not None
        return api.Refuse(429, "rate_limit_error", {"retry-after": f"{self.reset - now:.3f}"})


@pytest.fixture
async def stub() -> AsyncIterator[tuple[Limit, str]]:
    limit = Limit(free=2)
    async with api.MessagesApi(limit).serve() as serving:
        yield limit, serving.url


@pytest.fixture
async def fleet(tmp_path: Path, stub: tuple[Limit, str]) -> AsyncIterator[ControlPlane]:
    """Four sidecars with one key, whose agents know of no rate limits."""
    plane = ControlPlane(tmp_path / "home", AGENTS)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(plane.close)
        await plane.start()
        for agent_id in AGENTS:
            chosen = settings(
                plane.home,
                agent_id=agent_id,
                token=Secret(sidecar_token(agent_id)),
                provider=Provider(stub[1], Secret("sk-one")),
                claude_binary=str(Path(sys.executable).resolve()),
                mcp_tools=False,
            )
            stand_in = str(Path(__file__).parents[1] / "fakes" / "model_agent.py")
            process = SidecarProcess(chosen, {"FAKE_STAND_IN": stand_in})
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        yield plane


async def test_twelve_tasks_on_four_agents_meet_a_limit_and_none_fails_or_is_tried_again(
    fleet: ControlPlane, stub: tuple[Limit, str]
) -> None:
    limit, _ = stub
    operator = fleet.operator()
    tasks = [await operator.submit(driver="claude_code", prompt="ask", retry={"max_attempts": 1}) for _ in range(12)]
    async with asyncio.timeout(50):
        done = [await operator.until(task.task_id, task_pb2.TASK_STATE_SUCCEEDED) for task in tasks]

    assert [(len(task.attempts), task.attempts[0].HasField("failure")) for task in done] == [(1, False)] * 12
    assert {task.agent_id for task in done} == set(AGENTS)
    assert [task.usage.models[0].model for task in done] == ["claude-stub"] * 12

    assert limit.reset is not None
    began = limit.reset - RESET
    refused = [at for at, taken in limit.seen if not taken]
    after = [at for at, taken in limit.seen if taken and at >= limit.reset]
    story = json.dumps({"refused": [at - began for at in refused], "after": [at - limit.reset for at in after]})
    assert 1 <= len(refused) <= len(AGENTS), story  # each agent's gateway ran into it once at most: what was under way
    assert all(at - began < RESET / 2 for at in refused), story
    assert len(after) == 10, story
    window, moments = Window(limit.reset, 1), []
    for _ in after:
        window, at = take(window, limit.reset)
        moments.append(at)
    # The control plane heard of the reset a moment later than it was said, and a start takes its time: never earlier than this.
    assert all(at >= turn - 0.005 for at, turn in zip(after, moments, strict=True)), story
