"""Which agent gets which task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from controlplane.domain.agent import Agent, State
from controlplane.domain.caps import Caps, Group, full
from controlplane.domain.lane import lane_of
from controlplane.domain.placement import obstacle, plan, ranked, why_waiting
from controlplane.domain.task import IsolationLevel, ResourceLimits, Spec, Task
from controlplane.domain.task import State as TaskState

CAPS = Caps({"busy": 2}, {"refactor": 1, "*": 3}, {"repo=*": 1, "repo=big": 2})
OTHER = TenantId("other")
GIGABYTE = 1 << 30


def agent(name: str = "agent-1", **fields: Any) -> Agent:
    plain = Agent(AgentId(name), DEFAULT_TENANT, Incarnation("i"), State.IDLE, 0.0, "", drivers=("command",))
    return replace(plain, **{"strongest_level": IsolationLevel.STRICT, **fields})


def task(number: int = 0, **spec: Any) -> Task:
    asked = Spec(**{"driver": "command", **spec})
    made = Task(TaskId(f"task_{number:05}"), DEFAULT_TENANT, asked, TaskState.QUEUED, "", 0.0, "operator")
    return replace(made, lane=lane_of(made, CAPS))


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
        ({"isolation_level": IsolationLevel.STRICT}, {"long_running": True, "default_level": IsolationLevel.STRICT}, ""),
        (
            {"isolation_level": IsolationLevel.STRICT},
            {"long_running": True, "default_level": IsolationLevel.MINIMAL},
            "cannot isolate at strict",
        ),
        ({"limits": ResourceLimits(memory_bytes=GIGABYTE)}, {}, ""),
        ({"limits": ResourceLimits(GIGABYTE, 2)}, {"capacity": ResourceLimits(GIGABYTE, 2)}, ""),
        ({"limits": ResourceLimits(GIGABYTE)}, {"default_limits": ResourceLimits(1)}, ""),
        (
            {"limits": ResourceLimits(GIGABYTE + 1)},
            {"capacity": ResourceLimits(GIGABYTE)},
            "does not have 1.0 GiB of memory to give",
        ),
        ({"limits": ResourceLimits(cpus=2.5)}, {"capacity": ResourceLimits(cpus=2)}, "does not have 2.5 processors to give"),
        (
            {"limits": ResourceLimits(pids=9)},
            {"long_running": True, "default_limits": ResourceLimits(pids=8)},
            "does not have 9 processes to give",
        ),
        (
            {"limits": ResourceLimits(workspace_bytes=9)},
            {"long_running": True, "default_limits": ResourceLimits(workspace_bytes=8)},
            "does not have a workspace of 9 B to give",
        ),
    ],
)
def test_an_agent_is_able_or_says_what_it_lacks(spec: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    assert obstacle(task(**spec), agent(**fields)) == reason


def test_tenants_do_not_share_agents() -> None:
    assert ranked(replace(task(), tenant_id=TenantId("other")), [agent()]) == []


def test_specialists_are_spared_and_the_longest_idle_goes_first() -> None:
    special = agent("a", labels={"gpu": "yes"})
    recent, rested = agent("b", state_time=9.0), agent("c", state_time=1.0)
    assert ranked(task(), [special, recent, rested]) == [rested, recent, special]
    assert ranked(task(required_labels={"gpu": "yes"}), [special, recent, rested]) == [special]


def test_a_task_nobody_can_do_holds_up_no_other() -> None:
    placed = plan([task(1, driver="none"), task(2), task(3)], [agent("a")])
    assert [one.id for one, _ in placed] == ["task_00002"]


def given(placed: list[tuple[Task, Agent]]) -> list[str]:
    return [f"{one.tenant_id} {one.id.removeprefix('task_').lstrip('0')}" for one, _ in placed]


def of(tenant: TenantId, *tasks: Task) -> list[Task]:
    return [replace(one, tenant_id=tenant, lane=lane_of(replace(one, tenant_id=tenant), CAPS)) for one in tasks]


def test_within_a_tenant_the_order_of_the_queue_holds_over_all_lanes() -> None:
    ready = [
        replace(task(1), queue_time=5.0),
        replace(task(2), queue_time=9.0),
        replace(task(3, type="analysis"), queue_time=7.0),
        task(4, priority=1),
    ]
    assert given(plan(ready, [agent(f"a{number}") for number in range(3)])) == ["default 1", "default 3", "default 2"]


@pytest.mark.parametrize(("already", "first"), [({}, "default"), ({Group(DEFAULT_TENANT): 1}, "other")])
def test_the_tenant_with_the_fewest_tasks_with_agents_goes_next(already: dict[Group, int], first: str) -> None:
    ready = [*(task(number) for number in range(1, 10)), *of(OTHER, replace(task(11), queue_time=99.0), task(12))]
    free = [agent("a"), agent("b"), *(replace(agent(name), tenant_id=OTHER) for name in ("c", "d"))]
    assert [line.split()[0] for line in given(plan(ready, free, already))][:2] == [first, *({"default", "other"} - {first})]


def test_ten_thousand_tasks_of_one_tenant_delay_no_other() -> None:
    ready = [*(task(number) for number in range(10_000)), *of(OTHER, replace(task(1), queue_time=1e6))]
    free = [agent("a"), replace(agent("b"), tenant_id=OTHER)]
    assert sorted(given(plan(ready, free))) == ["default ", "other 1"]


def test_a_cap_of_a_type_holds_in_one_round_and_over_what_is_with_agents_already() -> None:
    ready = [task(1, type="refactor"), task(2, type="refactor"), task(3)]
    free = [agent(f"a{number}") for number in range(3)]
    assert given(plan(ready, free, {}, CAPS)) == ["default 1", "default 3"]
    assert given(plan(ready, free, {Group(DEFAULT_TENANT, "type", "refactor"): 1}, CAPS)) == ["default 3"]
    assert given(plan(ready, free, {Group(OTHER, "type", "refactor"): 1}, CAPS)) == ["default 1", "default 3"]


def test_a_cap_for_each_that_is_not_named_counts_each_by_itself() -> None:
    types = [task(number, type="ab"[number % 2]) for number in range(10)]
    free = [agent(f"a{number}") for number in range(10)]
    assert len(plan(types, free, {}, CAPS)) == 6
    labels = [task(number, labels={"repo": ("one", "two", "big")[number % 3], "run": str(number)}) for number in range(9)]
    chosen = plan(labels, free, {}, Caps(labels=CAPS.labels))
    assert sorted(one.spec.labels["repo"] for one, _ in chosen) == ["big", "big", "one", "two"]


def test_a_cap_of_a_tenant_holds() -> None:
    busy = of(TenantId("busy"), *(task(number, type=str(number)) for number in range(4)))
    free = [replace(agent(f"a{number}"), tenant_id=TenantId("busy")) for number in range(4)]
    assert len(plan(busy, free, {}, CAPS)) == 2
    assert len(plan(busy, free, {Group(TenantId("busy")): 1}, CAPS)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"},
        {"driver": "x"},
        {"agent_id": "x"},
        {"required_labels": {"x": "y"}},
        {"isolation_level": IsolationLevel.STRICT},
        {"limits": ResourceLimits(1)},
        {"limits": ResourceLimits(cpus=1)},
        {"labels": {"repo": "x"}},
    ],
)
def test_tasks_that_want_something_else_are_in_another_lane(change: dict[str, Any]) -> None:
    assert task(1, **change).lane != task(1).lane == task(2).lane
    assert task(1, **change).lane == task(2, **change).lane


def test_labels_without_a_cap_and_what_a_task_is_about_make_no_lane() -> None:
    assert task(1, prompt="p", priority=9, labels={"run": "7"}).lane == task(1).lane
    assert of(OTHER, task(1))[0].lane != task(1).lane


LABEL = {"required_labels": {"gpu": "yes"}}


@pytest.mark.parametrize(
    ("spec", "agents", "known", "reason"),
    [
        ({}, [], True, "waits for an agent: none is connected"),
        ({}, [agent()], True, "waits for its turn"),
        ({}, [agent(state=State.WORKING)], True, "waits for agent-1 to be free"),
        (
            {},
            [agent("a", state=State.WORKING), agent("b", state=State.STALLED)],
            True,
            "waits for a free agent: 2 can do it, and none of them is free",
        ),
        ({"driver": "x"}, [agent()], True, "no connected agent runs x"),
        (LABEL, [agent(), agent("b")], True, "no connected agent has the label gpu=yes"),
        ({"driver": "x", **LABEL}, [agent()], True, "no connected agent runs x, and none has the label gpu=yes"),
        (
            {"driver": "x", **LABEL},
            [agent(drivers=("x",)), agent("b", labels={"gpu": "yes"})],
            True,
            "no connected agent can do it: agent-1 does not have the label gpu=yes; b cannot run x",
        ),
        (
            {"isolation_level": IsolationLevel.STRICT},
            [agent(strongest_level=IsolationLevel.MINIMAL)],
            True,
            "no connected agent isolates at strict",
        ),
        (
            {"limits": ResourceLimits(8 * GIGABYTE)},
            [agent(capacity=ResourceLimits(GIGABYTE))],
            True,
            "no connected agent has 8.0 GiB of memory to give",
        ),
        ({"agent_id": "x"}, [agent()], False, "waits for x, which nobody here knows"),
        ({"agent_id": "x"}, [], True, "waits for x, which is not connected"),
        ({"agent_id": "agent-1", "driver": "y"}, [agent()], True, "waits for agent-1, which cannot run y"),
        ({"agent_id": "agent-1"}, [agent(state=State.WORKING)], True, "waits for agent-1 to be free"),
    ],
)
def test_a_waiting_task_says_in_one_sentence_what_it_waits_for(
    spec: dict[str, Any], agents: list[Agent], known: bool, reason: str
) -> None:
    assert why_waiting(task(**spec), agents, known=known) == reason


def test_a_capped_task_shows_the_cap_unless_nobody_could_do_it_anyway() -> None:
    capped = full(task(type="refactor"), CAPS, {Group(DEFAULT_TENANT, "type", "refactor"): 1})
    assert capped == "waits for a place: type refactor has 1 of 1 (`tasks.concurrency.types`)"
    assert why_waiting(task(), [agent()], full=capped) == capped
    assert why_waiting(task(driver="x"), [agent()], full=capped) == "no connected agent runs x"
    busy = of(TenantId("busy"), task())[0]
    assert "tenant busy has 2 of 2 (`tasks.concurrency.tenants`)" in full(busy, CAPS, {Group(TenantId("busy")): 2})
    big = task(labels={"repo": "big"})
    assert full(big, CAPS, {Group(DEFAULT_TENANT, "label", "repo=big"): 1}) == ""
    assert "label repo=big has 2 of 2" in full(big, CAPS, {Group(DEFAULT_TENANT, "label", "repo=big"): 2})


DRIVERS = st.sampled_from(["command", "claude_code", "scripted"])


@drawn(
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
