"""Budgets: carved out of the parent's, kept over restarts, asked for before each call, and an end with a failure of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent_sidecar.gateway.price import Price
from agent_sidecar.settings import Provider
from claude_conductor.rpc.status import from_call
from claude_conductor.settings.secret import Secret
from claude_conductor.v1 import task_pb2, task_service_pb2
from tests.fakes import messages_api as api
from tests.fakes.control_plane import ControlPlane, Operator, sidecar_token
from tests.fakes.sidecar import Sidecar
from tests.fakes.sidecar_process import SidecarProcess, settings

FREE = api.INPUT_TOKENS + api.OUTPUT_TOKENS + api.CACHE_WRITE_TOKENS
"""What counts of each answer of the stub."""
KEY = "sk-canary-of-the-budget"
PRICES = {"claude-stub": Price(1000.0, 10_000.0, 100.0, 1250.0)}
COST = (api.INPUT_TOKENS * 1000 + api.OUTPUT_TOKENS * 10_000 + api.CACHE_READ_TOKENS * 100 + api.CACHE_WRITE_TOKENS * 1250) / 1e6


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return from_call(error).reason


# --- a real control plane, scripted sidecars


async def restarted(control_plane: ControlPlane, agent: Sidecar) -> None:
    control_plane.kill()
    await agent.disconnect()
    await control_plane.start()
    await agent.connect()


async def test_subtasks_share_what_the_parent_has_and_the_rest_comes_back_also_over_a_restart(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    parent = await operator.submit(budget={"tokens": 1000, "cost_usd": 2.0})
    work = await agent.next_assignment()
    assert (work.spec.budget.tokens, work.spec.budget.HasField("turns")) == (1000, False)
    await agent.started(work)

    first = await operator.submit("one", parent_task_id=parent.task_id, budget={"tokens": 600})
    assert (first.budget.limit.tokens, first.budget.limit.cost_usd) == (600, 1.0)
    assert (await operator.submit("one", parent_task_id=parent.task_id, budget={"tokens": 600})).task_id == first.task_id
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.submit(parent_task_id=parent.task_id, budget={"tokens": 500})
    assert reason_of(refused.value) == "BUDGET_EXHAUSTED"
    assert "has 400 tokens left of its 1000 tokens" in (refused.value.details() or "")
    stands = (await operator.task(parent.task_id)).budget
    assert (stands.reserved.tokens, stands.left.tokens, stands.used.tokens) == (600, 400, 0)

    await restarted(control_plane, agent)
    operator = control_plane.operator()
    claim = task_pb2.Budget(tokens=400, cost_usd=0.5, turns=1)
    assert await agent.committed(await agent.report(work.lease, budget={"claimed": claim})) is None
    assert (await operator.task(parent.task_id)).budget.left.tokens == 0
    claim.tokens = 401
    told = await agent.committed(await agent.report(work.lease, budget={"claimed": claim}))
    assert told is not None
    assert (told.reason, "1000 tokens" in told.message) == ("BUDGET_EXHAUSTED", True)

    await agent.completed(work, usage={"input_tokens": 100})
    child = await agent.next_assignment()
    await agent.completed(child, usage={"input_tokens": 50, "cost_usd": 0.25})
    await operator.until(first.task_id, task_pb2.TASK_STATE_SUCCEEDED)
    stands = (await operator.task(parent.task_id)).budget
    async with asyncio.timeout(10):
        while stands.reserved.tokens:  # told right after the end of the subtask
            stands = (await operator.task(parent.task_id)).budget
    assert (stands.used.tokens, stands.left.tokens) == (150, 850)
    assert stands.used.cost_usd == 0.25


async def test_a_task_whose_time_is_used_up_is_ended_by_the_control_plane_also_when_a_subtask_has_the_time(
    control_plane: ControlPlane, sidecar
) -> None:
    operator, agent = control_plane.operator(), await sidecar("agent-1")
    parent = await operator.submit(budget={"wall_time": {"seconds": 600}})
    work = await agent.next_assignment()
    await agent.started(work)
    await operator.submit(parent_task_id=parent.task_id, budget={"wall_time": {"seconds": 598}})
    cancelled = await agent.next_cancellation()
    assert (cancelled.lease, cancelled.kind) == (work.lease, task_pb2.FAILURE_KIND_BUDGET)
    failure = task_pb2.TaskFailure(kind=cancelled.kind, message=cancelled.reason)
    await agent.completed(work, failure=failure, usage={"wall_time": {"seconds": 2}})
    ended = await operator.until(parent.task_id, task_pb2.TASK_STATE_FAILED)
    assert (ended.result.failure.kind, ended.result.failure.retryable) == (task_pb2.FAILURE_KIND_BUDGET, False)
    assert "--budget-time" in ended.reason


@pytest.mark.parametrize(
    "budget", [{"tokens": 0}, {"turns": -1}, {"cost_usd": float("nan")}, {"cost_usd": -2.0}, {"wall_time": {"seconds": -1}}]
)
async def test_an_absurd_budget_is_refused_and_nothing_is_made(shared: ControlPlane, budget: dict[str, Any]) -> None:
    operator = Operator(shared.channel())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.submit(budget=budget)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- everything real but isolation and the provider


class Fleet:
    """A control plane and one sidecar beside a provider."""

    def __init__(self, plane: ControlPlane, stub: api.MessagesApi, sidecar: SidecarProcess) -> None:
        self.plane, self.stub, self.sidecar = plane, stub, sidecar

    async def ended(self, budget: dict[str, Any], **wanted: Any) -> Any:
        operator = self.plane.operator()
        task = await operator.submit(driver="claude_code", prompt=json.dumps(wanted), budget=budget, retry={"max_attempts": 1})
        async with asyncio.timeout(50):
            request = task_service_pb2.WatchTaskRequest(task_id=task.task_id)
            async for answer in operator.tasks.WatchTask(request, **operator.call):
                if answer.task.HasField("result"):
                    return answer.task
        raise AssertionError


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    plane = ControlPlane(tmp_path / "home", ("agent-1",))
    async with AsyncExitStack() as stack:
        stub = await stack.enter_async_context(api.MessagesApi(lambda _: api.Say("hello")).serve())
        stack.push_async_callback(plane.close)
        await plane.start()
        chosen = settings(
            plane.home,
            token=Secret(sidecar_token("agent-1")),
            provider=Provider(stub.url, Secret(KEY), PRICES),
            claude_binary=str(Path(sys.executable).resolve()),
            mcp_tools=False,
        )
        process = SidecarProcess(chosen, {"FAKE_STAND_IN": str(Path(__file__).parents[1] / "fakes" / "spending_agent.py")})
        stack.push_async_callback(process.stop, signal.SIGKILL)
        await process.start()
        yield Fleet(plane, stub, process)


def asked(fleet: Fleet) -> int:
    return sum(seen.method == "POST" for seen in fleet.stub.seen)


async def test_the_call_that_might_be_too_much_is_not_made_and_the_task_says_why(fleet: Fleet) -> None:
    task = await fleet.ended({"tokens": 3 * FREE + 200}, calls=50, max_tokens=100)
    assert 3 <= asked(fleet) <= (3 * FREE + 200) // FREE
    assert (task.state, task.result.failure.kind) == (task_pb2.TASK_STATE_FAILED, task_pb2.FAILURE_KIND_BUDGET)
    assert "Raise it with --budget-tokens" in task.result.failure.message
    assert not task.result.failure.retryable
    assert task.usage.input_tokens == asked(fleet) * api.INPUT_TOKENS
    assert task.budget.used.tokens == asked(fleet) * FREE
    assert task.budget.reserved.tokens == 0
    statuses, _, body = task.result.summary.partition("402 ")
    assert statuses == "200 " * asked(fleet)
    error = json.loads(body)
    assert (error["type"], error["error"]["type"]) == ("error", "billing_error")


@pytest.mark.parametrize(("budget", "flag"), [({"turns": 6}, "turns"), ({"cost_usd": 12.0}, "usd")])
async def test_calls_side_by_side_never_use_more_than_there_is(fleet: Fleet, budget: dict[str, Any], flag: str) -> None:
    task = await fleet.ended(budget, calls=100, at_once=8, max_tokens=100)
    assert task.result.failure.kind == task_pb2.FAILURE_KIND_BUDGET, fleet.sidecar.log()
    assert f"--budget-{flag}" in task.reason
    assert asked(fleet) >= 1
    assert task.usage.models[0].turns == asked(fleet)
    assert task.usage.cost_usd == pytest.approx(asked(fleet) * COST)
    assert task.budget.used.turns <= 6
    assert task.budget.used.cost_usd <= 12.0


async def test_within_its_budget_a_task_succeeds_and_what_was_reserved_is_given_back(fleet: Fleet) -> None:
    task = await fleet.ended({"tokens": 10_000, "turns": 3, "cost_usd": 50.0}, calls=3)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task.reason
    assert (task.budget.used.turns, task.budget.left.turns, task.budget.used.tokens) == (3, 0, 3 * FREE)
    assert task.budget.left.cost_usd == pytest.approx(50.0 - 3 * COST)


async def test_with_a_budget_in_money_a_model_without_a_price_is_not_asked(fleet: Fleet) -> None:
    task = await fleet.ended({"cost_usd": 100.0}, model="claude-unheard-of")
    assert asked(fleet) == 0
    assert task.result.failure.kind == task_pb2.FAILURE_KIND_BUDGET
    assert "no price of the model claude-unheard-of is known. Add it to config/prices.yaml" in task.reason
    counted = await fleet.ended({"tokens": 10_000}, model="claude-unheard-of")
    assert counted.state == task_pb2.TASK_STATE_SUCCEEDED, "tokens are counted whatever they cost"


async def test_time_is_up_for_an_agent_without_a_gateway(fleet: Fleet) -> None:
    operator = fleet.plane.operator()
    wanted = json.dumps({"calls": 0, "sleep": 60})
    task = await operator.submit(driver="command", command=["agent", wanted], budget={"wall_time": {"seconds": 1}})
    ended = await operator.until(task.task_id, task_pb2.TASK_STATE_FAILED)
    assert (ended.result.failure.kind, len(ended.attempts)) == (task_pb2.FAILURE_KIND_BUDGET, 1)
    assert "--budget-time" in ended.reason
