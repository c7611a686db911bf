"""Whether there is room for a task on a host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controlplane.domain.agent import Agent, State
from controlplane.domain.placement import plan, why_waiting
from controlplane.domain.room import Rooms, asks
from controlplane.domain.task import ResourceLimits, Task
from tests.unit.controlplane.domain.test_placement import GIGABYTE, agent, task

HOST = ResourceLimits(8 * GIGABYTE, 4.0, 1000)


def slot(number: int, host: str = "host-1", **fields: Any) -> Agent:
    own = ResourceLimits(GIGABYTE, 0.5, 100)
    return agent(f"agent-{number}", host=host, capacity=HOST, default_limits=own, **fields)


def big(number: int, memory: int = 6, **spec: Any) -> Task:
    return task(number, limits=ResourceLimits(memory * GIGABYTE), **spec)


def busy(number: int, held: Task, **fields: Any) -> Agent:
    return slot(number, task_id=held.id, state=State.WORKING, **fields)


def test_what_is_with_agents_of_the_host_leaves_the_rest() -> None:
    held = big(1)
    rooms = Rooms([busy(1, held), slot(2), slot(3, "host-2")], {held.id: held.spec.limits})
    assert rooms.lacking(big(2, 2), slot(2)) == ""
    assert rooms.lacking(big(2, 3), slot(2)) == "waits for 3.0 GiB of memory: host-1 has 2.0 GiB left of 8.0 GiB"
    assert rooms.lacking(big(2, 3), slot(3, "host-2")) == ""


def test_a_task_that_asks_for_nothing_counts_with_its_agents_limits_and_waits_for_nothing() -> None:
    rooms = Rooms([busy(number, task(number)) for number in range(7)], {})
    assert not asks(task())
    assert rooms.lacking(task(), slot(9)) == ""
    assert rooms.lacking(big(9, 1), slot(9)) == ""
    assert rooms.lacking(big(9, 2), slot(9)) != ""
    wanted = task(limits=ResourceLimits(cpus=1.0))
    assert rooms.lacking(wanted, slot(9)) == "waits for 1 processors: host-1 has 0.5 left of 4"
    assert rooms.lacking(task(limits=ResourceLimits(pids=301)), slot(9)).startswith("waits for 301 processes")


def test_the_sandbox_of_a_long_running_agent_counts_once_and_is_room_for_its_tasks() -> None:
    lasting = slot(1, long_running=True)
    assert Rooms([lasting, slot(2)], {}).lacking(big(1, 8), slot(2)) != ""
    assert Rooms([lasting, slot(2)], {}).lacking(big(1, 7), slot(2)) == ""
    assert Rooms([lasting], {}).lacking(big(1, 8), lasting) == ""


def test_what_a_host_does_not_say_bounds_nothing() -> None:
    assert Rooms([agent()], {}).lacking(big(1, 999), agent()) == ""


def test_a_parent_is_no_hindrance_to_its_child() -> None:
    parent = big(1)
    rooms = Rooms([busy(1, parent), slot(2)], {parent.id: parent.spec.limits})
    assert rooms.lacking(big(2, parent_task_id=parent.id), slot(2)) == ""


def test_one_round_gives_away_no_more_than_there_is() -> None:
    agents = [slot(number) for number in range(4)]
    placed = plan([big(number, 3) for number in range(4)], agents, rooms=Rooms(agents, {}))
    assert [given.id for given, _ in placed] == ["task_00000", "task_00001"]


def test_a_task_without_room_goes_where_there_is_some() -> None:
    held = big(1)
    there = [busy(1, held), slot(2), slot(3, "host-2")]
    placed = plan([big(2)], there[1:], rooms=Rooms(there, {held.id: held.spec.limits}))
    assert [agent.id for _, agent in placed] == ["agent-3"]


def test_who_waits_for_room_is_not_passed_for_ever_by_smaller_ones() -> None:
    held = task(1)
    there = [busy(1, held), slot(2), slot(3, "host-2")]
    later = [replace(task(number), queue_time=10.0) for number in (3, 4)]
    placed = plan([big(2, 8, agent_id="agent-2"), *later], there[1:], rooms=Rooms(there, {}))
    assert [(given.id, agent.id) for given, agent in placed] == [("task_00003", "agent-3")]


def test_a_subtask_is_let_through_to_a_host_that_is_kept() -> None:
    parent = task(1)
    there = [busy(1, parent), slot(2)]
    child = replace(task(3, parent_task_id=parent.id), queue_time=10.0)
    placed = plan([big(2, 8), child], there[1:], rooms=Rooms(there, {}))
    assert [given.id for given, _ in placed] == [child.id]


def test_subtasks_are_found_behind_others_that_want_the_same() -> None:
    parent = task(1)
    there = [busy(1, parent), slot(2)]
    first, child = (replace(each, queue_time=10.0) for each in (task(3), task(4, parent_task_id=parent.id)))
    placed = plan([big(2, 8), first, child], there[1:], rooms=Rooms(there, {}))
    assert [given.id for given, _ in placed] == [child.id]
    siblings = [big(number, parent_task_id=f"task_{number}") for number in (5, 6)]
    assert siblings[0].lane != siblings[1].lane


def test_a_waiting_task_names_the_resource_that_is_taken() -> None:
    held = big(1)
    there = [busy(1, held), slot(2)]
    rooms = Rooms(there, {held.id: held.spec.limits})
    assert why_waiting(big(2), there, rooms=rooms).startswith("waits for 6.0 GiB of memory: host-1 has 2.0 GiB")
    assert why_waiting(big(2, 9), there, rooms=rooms) == "no connected agent has 9.0 GiB of memory to give"
    assert why_waiting(big(2, 2), there, rooms=rooms) == "waits for its turn"
