"""Which agent gets which task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from controlplane.domain.agent import Agent, State
from controlplane.domain.placement import obstacle, place, plan, why_waiting
from controlplane.domain.task import IsolationLevel, Spec, Task
from controlplane.domain.task import State as TaskState


def agent(name: str = "agent-1", **fields: Any) -> Agent:
    plain = Agent(AgentId(name), DEFAULT_TENANT, Incarnation("i"), State.IDLE, 0.0, "", drivers=("command",))
    return replace(plain, **{"strongest_level": IsolationLevel.STRICT, **fields})


def task(number: int = 0, **spec: Any) -> Task:
    asked = Spec(**{"driver": "command", **spec})
    return Task(TaskId(f"task_{number}"), DEFAULT_TENANT, asked, TaskState.QUEUED, "", 0.0, "operator")


@pytest.mark.parametrize(
    ("spec", "fields", "reason"),
    [
        ({}, {}, ""),
        ({"driver": "claude_code"}, {}, "cannot run claude_code"),
        ({"agent_id": "agent-2"}, {}, "is not agent-2"),
        ({"agent_id": "agent-1"}, {}, ""),
        ({"required_labels": {"gpu": "yes"}}, {}, "does not have the label gpu=yes"),
        ({"required_labels": {"gpu": "yes"}}, {"labels": {"gpu": "no"}}, "does not have the label gpu=yes"),
        ({"required_labels": {"gpu": "yes"}}, {"labels": {"gpu": "yes", "x": "y"}}, ""),
        ({"isolation_level": IsolationLevel.STRICT}, {"strongest_level": IsolationLevel.MODERATE}, "cannot isolate at strict"),
        ({"isolation_level": IsolationLevel.MINIMAL}, {"strongest_level": None}, "cannot isolate at minimal"),
        ({"isolation_level": IsolationLevel.MODERATE}, {}, ""),
    ],
)
def test_an_agent_is_able_or_says_what_it_lacks(spec: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    assert obstacle(task(**spec), agent(**fields)) == reason


def test_tenants_do_not_share_agents() -> None:
    assert place(replace(task(), tenant_id=TenantId("other")), [agent()]) is None


def test_specialists_are_spared_and_the_longest_idle_goes_first() -> None:
    special = agent("a", labels={"gpu": "yes"})
    recent, rested = agent("b", state_time=9.0), agent("c", state_time=1.0)
    assert place(task(), [special, recent, rested]) == rested
    assert place(task(required_labels={"gpu": "yes"}), [special, recent, rested]) == special


def test_a_task_nobody_can_do_holds_up_no_other() -> None:
    placed = plan([task(1, driver="none"), task(2), task(3)], [agent("a")])
    assert [(one.id, by.id) for one, by in placed] == [("task_2", "a")]


def test_a_waiting_task_says_in_one_sentence_what_it_waits_for() -> None:
    assert why_waiting(task(), []) == "waits for an agent: none is connected"
    assert why_waiting(task(), [agent()]) == "waits for a free agent"
    assert why_waiting(task(driver="x"), [agent()]) == "no connected agent can do it: agent-1 cannot run x"


DRIVERS = st.sampled_from(["command", "claude_code", "scripted"])


@given(
    ready=st.lists(DRIVERS, max_size=12),
    fleet=st.lists(st.lists(DRIVERS, min_size=1, max_size=3, unique=True), max_size=8),
)
def test_nobody_gets_two_tasks_and_no_possible_pair_is_left_over(ready: list[str], fleet: list[list[str]]) -> None:
    tasks = [task(number, driver=driver) for number, driver in enumerate(ready)]
    agents = [agent(f"a{number}", drivers=tuple(drivers)) for number, drivers in enumerate(fleet)]
    placed = plan(tasks, agents)
    assert len({by.id for _, by in placed}) == len({one.id for one, _ in placed}) == len(placed)
    assert all(not obstacle(one, by) for one, by in placed)
    left_tasks = [one for one in tasks if one.id not in {done.id for done, _ in placed}]
    left_agents = [by for by in agents if by.id not in {busy.id for _, busy in placed}]
    assert not any(not obstacle(one, by) for one in left_tasks for by in left_agents)
