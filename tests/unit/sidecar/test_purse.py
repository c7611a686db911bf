"""The budget of a run: one question before each call, what it used afterwards, and who is told of a refusal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from agent_sidecar.gateway.estimate import Need
from agent_sidecar.gateway.price import Price
from agent_sidecar.run.lifecycle import Happened, Overdue, conclude
from agent_sidecar.run.purse import RunPurse, over
from agent_sidecar.run.task import Allowance, Amount, Cancellation, FailureKind, Lease, ModelUsage, Usage
from claude_conductor.errors import BudgetExhaustedError, ControlPlaneUnavailableError

LEASE = Lease("task_1", 1, 1)
PRICES = {"m": Price(1e6, 2e6, 1e5, 3e6)}
NEED = Need("m", 10, 20)


@dataclass
class Desk:
    """In place of the control plane; grants up to a limit."""

    tokens: int = 1000
    away: bool = False
    usage: Usage = Usage()
    asked: list[Amount] = field(default_factory=list)
    told: asyncio.Queue[Amount] = field(default_factory=asyncio.Queue)
    refusals: list[str] = field(default_factory=list)

    async def claim(self, lease: Lease, usage: Usage, amount: Amount, seconds: float) -> None:
        assert (lease, usage, seconds > 0) == (LEASE, self.usage, True)
        await asyncio.sleep(0)
        self.asked.append(amount)
        if self.away:
            raise ControlPlaneUnavailableError
        if amount.tokens > self.tokens:
            raise BudgetExhaustedError("No.", next_step="ask for more")

    async def claimed(self, lease: Lease, usage: Usage, amount: Amount) -> None:
        del lease, usage
        self.told.put_nowait(amount)

    def purse(self, **allowance: float | None) -> RunPurse:
        most = Allowance(**allowance)  # type: ignore[arg-type]  # numbers of the right sort
        return RunPurse(LEASE, most, PRICES, lambda: self.usage, self, self.refusals.append)


def used(tokens: int, turns: int = 1) -> Usage:
    return Usage(input_tokens=tokens, turns=9, models=(ModelUsage("m", turns=turns),))


async def test_a_call_is_claimed_on_top_of_what_is_used_and_under_way_and_then_given_back() -> None:
    desk = Desk(usage=used(100))
    purse = desk.purse(tokens=1000)
    await asyncio.gather(purse.reserve(NEED), purse.reserve(NEED))
    assert [each.tokens for each in desk.asked] == [130, 160]
    assert [each.turns for each in desk.asked] == [2, 3], "answers that the gateway counted are the turns"
    desk.usage = used(125, 2)
    purse.give_back(NEED)
    assert await asyncio.wait_for(desk.told.get(), 5) == Amount(3, 155, 0.0)


async def test_a_refused_call_leaves_nothing_reserved_and_its_words_are_told() -> None:
    desk = Desk(tokens=50)
    purse = desk.purse(tokens=1000)
    await purse.reserve(NEED)
    with pytest.raises(BudgetExhaustedError):
        await purse.reserve(NEED)
    assert desk.refusals == ["No. Ask for more."]
    purse.give_back(NEED)
    assert await asyncio.wait_for(desk.told.get(), 5) == Amount()
    await purse.reserve(NEED)


async def test_what_can_never_be_granted_is_not_asked_for() -> None:
    desk = Desk()
    for allowance in ({"tokens": 29}, {"turns": 0}, {"usd": 69.9}):
        with pytest.raises(BudgetExhaustedError, match="may need more than is left"):
            await desk.purse(**allowance).reserve(NEED)
    assert desk.asked == []
    await desk.purse(tokens=30, turns=1, usd=70.0).reserve(NEED)
    assert desk.asked == [Amount(1, 30, 70.0)], "input at its highest price, which is that of a write to the cache"


async def test_a_model_without_a_price_is_refused_where_money_is_limited_and_only_there() -> None:
    desk = Desk()
    with pytest.raises(BudgetExhaustedError, match="no price of the model x is known") as refused:
        await desk.purse(usd=5.0).reserve(Need("x", 1, 1))
    assert "prices.yaml" in refused.value.next_step
    await desk.purse(tokens=5).reserve(Need("x", 1, 1))


async def test_without_an_answer_nothing_is_spent_and_no_budget_is_called_used_up() -> None:
    desk = Desk(away=True)
    purse = desk.purse(tokens=1000)
    with pytest.raises(ControlPlaneUnavailableError):
        await purse.reserve(NEED)
    desk.away = False
    await purse.reserve(NEED)
    assert ([each.tokens for each in desk.asked], desk.refusals) == ([30, 30], [])


def test_an_agent_that_counts_for_itself_is_over_when_it_tells_of_more_than_it_has() -> None:
    told = Usage(input_tokens=5, output_tokens=6, cache_read_tokens=100, turns=3, cost_usd=0.5)
    assert over(Allowance(turns=3, tokens=11, usd=0.5), told) == ""
    assert "--budget-turns" in over(Allowance(turns=2), told)
    assert "--budget-tokens" in over(Allowance(tokens=10), told)
    assert "--budget-usd" in over(Allowance(usd=0.49), told)


def test_a_budget_that_is_used_up_is_why_a_run_failed_unless_somebody_ended_it() -> None:
    def kind(**happened: object) -> FailureKind | None:
        failure = conclude(Happened(**happened))  # type: ignore[arg-type]
        return failure.kind if failure is not None else None

    assert kind(over_budget="x") is FailureKind.BUDGET
    assert kind(over_budget="x", overdue=Overdue.TASK) is FailureKind.BUDGET
    assert kind(over_budget="x", ending=Cancellation(1.0, "no")) is FailureKind.CANCELLED
    assert kind(overdue=Overdue.TASK, timeout=5.0, budget_seconds=5.0) is FailureKind.BUDGET
    assert kind(overdue=Overdue.TASK, timeout=5.0, budget_seconds=9.0) is FailureKind.TIMEOUT
