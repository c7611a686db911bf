"""Windows of provider keys: who is told, whose turn it is, and how the setting changes how fast they open."""

from __future__ import annotations

from typing import Any

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation
from controlplane.domain.agent import Agent, State
from controlplane.domain.placement import plan
from controlplane.domain.task import Spec
from controlplane.service.link import Link
from controlplane.service.windows import Windows
from tests.contract.samples import HandClock, task


class Fleet:
    """Agents that are connected, and what each was told."""

    def __init__(self, *agents: Agent) -> None:
        self.agents = agents
        self.told: list[tuple[str, str, float, float]] = []

    def linked(self) -> list[tuple[Agent, Link]]:
        return [(agent, _Link(self, agent.id)) for agent in self.agents]  # type: ignore[misc]  # as much of a link as is used


class _Link:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name

    def hold(self, credential: str, reset: float, turn: float) -> None:
        self._fleet.told.append((self._name, credential, reset, turn))


def agent(number: int, key: str = "key", **fields: Any) -> Agent:
    known: dict[str, Any] = {"drivers": ("model", "plain"), "credential": key, "credential_drivers": ("model",), **fields}
    return Agent(AgentId(f"agent-{number}"), DEFAULT_TENANT, Incarnation("i"), State.IDLE, 0.0, "", **known)


def test_everybody_with_the_key_is_told_and_who_is_at_work_has_a_turn_of_its_own() -> None:
    clock = HandClock()
    windows = Windows(clock)
    fleet = Fleet(agent(3, task_id="task_c"), agent(1, task_id="task_a"), agent(2), agent(4, "other", task_id="task_d"))
    assert windows.close("key", 10.0, fleet)
    assert fleet.told == [
        ("agent-1", "key", 10.0, 10.0),
        ("agent-2", "key", 10.0, 10.0),
        ("agent-3", "key", 10.0, 11.0),
    ]
    assert not windows.close("key", 10.5, fleet), "the same limit, a moment later"
    assert len(fleet.told) == 3
    assert (windows.look().room, windows.look().next_turn) == ({"key": 0}, clock.time + 11.5)


def test_neither_a_limit_of_no_time_nor_one_of_no_key_closes_anything() -> None:
    windows = Windows(HandClock())
    assert not windows.close("key", 0.0, Fleet(agent(1)))
    assert not windows.close("", 10.0, Fleet(agent(1, "")))
    assert (windows.look().room, windows.look().next_turn) == ({}, None)


def test_who_is_given_a_task_while_the_window_closes_is_told_to_wait_for_its_turn() -> None:
    windows, idle = Windows(HandClock()), agent(2)
    fleet = Fleet(agent(1, task_id="task_a"), idle)
    windows.close("key", 10.0, fleet)  # while the task of agent-2 was written to the store
    windows.began(task(1, spec=Spec(driver="model")), idle, fleet.linked()[1][1])
    assert fleet.told == [("agent-1", "key", 10.0, 10.0), ("agent-2", "key", 10.0, 10.0), ("agent-2", "key", 10.0, 11.0)]


def begun(first: int) -> list[int]:
    """Return how many of a hundred tasks begin in each of the first four seconds after a reset, with agents for all."""
    clock, agents = HandClock(), [agent(number) for number in range(100)]
    windows = Windows(clock, first)
    fleet = Fleet(agent(0))
    windows.close("key", 5.0, Fleet())
    waiting = [task(number, spec=Spec(driver="model")) for number in range(100)]
    counts = [0] * 9
    end = clock.time + 9
    while (at := windows.look().next_turn) is not None and at < end:
        clock.time = at
        placed = plan(waiting, agents, room=windows.look().room)
        assert len(placed) == 1
        for one, chosen in placed:
            windows.began(one, chosen, fleet.linked()[0][1])
            waiting.remove(one)
            agents.remove(chosen)
            counts[int(clock.time - (end - 9))] += 1
    assert not fleet.told
    return counts[:9]


def test_the_setting_says_how_many_begin_in_the_first_second() -> None:
    assert begun(1) == [0, 0, 0, 0, 0, 1, 2, 4, 8]
    assert begun(3) == [0, 0, 0, 0, 0, 3, 6, 12, 24]


def test_only_tasks_that_need_the_key_wait_and_say_so() -> None:
    clock, agents = HandClock(), [agent(1), agent(2)]
    windows = Windows(clock)
    windows.close("key", 60.0, Fleet())
    model, plain = task(1, spec=Spec(driver="model"), lane="a"), task(2, spec=Spec(driver="plain"), lane="b")
    assert [one.id for one, _ in plan([model, plain], agents, room=windows.look().room)] == [plain.id]
    assert "its turn is in 1m" in windows.why(model, agents)
    assert windows.why(plain, agents) == ""
    assert windows.why(model, [*agents, agent(3, "other")]) == "", "somebody with another key can do it"
    clock.pass_(71.0)
    assert (windows.why(model, agents), windows.look().room) == ("", {})
