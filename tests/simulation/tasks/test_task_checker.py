"""The checker of tasks sees every broken promise: written by hand, and planted in the real code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from claude_conductor.clock import Clock
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.budget import Budget, Share, Spent
from controlplane.domain.caps import Caps
from controlplane.domain.task import Attempt, FanOut, Lease, Part, Spec, State, Task, Workspace
from controlplane.service.in_hand import InHand
from controlplane.service.leases import Leases
from controlplane.service.results import HasClaimed, Report, Results
from controlplane.service.tasks import Tasks
from tests.simulation.tasks.checker import broken
from tests.simulation.tasks.history import Asked, Ended, History, Saved, Told, Used
from tests.simulation.tasks.plane import Kinds
from tests.simulation.tasks.world import Noting, play

ONE, TWO = TaskId("task_1"), TaskId("task_2")


def agent(name: str, **more: object) -> Agent:
    plain = Agent(AgentId(name), DEFAULT_TENANT, Incarnation("i"), AgentState.IDLE, 0.0, "", drivers=("command",))
    return replace(plain, **more)  # type: ignore[arg-type]


def lease(task_id: TaskId = ONE, attempt: int = 1, epoch: int = 7) -> Lease:
    return Lease(task_id, attempt, epoch)


def versions(task_id: TaskId = ONE, by: str = "a", **spec: object) -> list[Task]:
    """A task from its submission to its success."""
    asked = Spec(driver="command", **spec)  # type: ignore[arg-type]
    queued = Task(task_id, DEFAULT_TENANT, asked, State.QUEUED, "", 0.0, "operator", queue_time=0.0)
    attempt = Attempt(1, AgentId(by), 1.0)
    held = replace(queued, state=State.LEASED, version=2, lease=lease(task_id), agent_id=AgentId(by), attempts=(attempt,))
    running = replace(held, state=State.RUNNING, version=3)
    return [queued, held, running, replace(running, state=State.SUCCEEDED, version=4, lease=None)]


def good() -> History:
    """Two tasks, the second after the first, by one agent; both well."""
    history = History({"a": agent("a"), "b": agent("b", drivers=("other",))}, Caps(types={"generic": 1}))
    for number, steps in enumerate((versions(), versions(TWO, depends_on=(ONE,)))):
        at = 10.0 * number
        history.add(Saved(at, steps[0]))
        history.add(Asked(steps[0].id))
        history.add(Saved(at + 0.1, steps[1]))
        history.add(Saved(at + 0.2, steps[2]))
        history.add(Ended(lease(steps[0].id), "a", None))
        history.add(Saved(at + 0.3, steps[3]))
        history.add(Told(lease(steps[0].id), taken=True, failure=None))
    return history


def test_a_good_history_of_tasks_keeps_every_promise() -> None:
    assert broken(good()) == []


Change = Callable[[History], None]


def saved(number: int, **fields: object) -> Change:
    """Change one of the saved versions (8 in all)."""

    def change(history: History) -> None:
        places = [index for index, each in enumerate(history.happenings) if isinstance(each, Saved)]
        each = history.happenings[places[number]]
        assert isinstance(each, Saved)
        history.happenings[places[number]] = Saved(each.at, replace(each.task, **fields))  # type: ignore[arg-type]

    return change


def without(kind: type[object], number: int) -> Change:
    def change(history: History) -> None:
        del history.happenings[[index for index, each in enumerate(history.happenings) if isinstance(each, kind)][number]]

    return change


def more(*happenings: Saved | Told | Asked | Ended) -> Change:
    return lambda history: history.happenings.extend(happenings)


def other_caps(history: History) -> None:
    """Another task of the same type was with somebody all the time."""
    held = replace(versions(TaskId("task_0"))[1], agent_id=AgentId("b"))
    history.happenings.insert(0, Saved(0.0, held))


def passed_over(history: History) -> None:
    """An older task waited for the agent all the time."""
    history.caps = Caps()
    old = replace(versions(TaskId("task_0"))[0], queue_time=-100.0)
    history.happenings.insert(0, Saved(-5.0, old))
    for number, each in enumerate(versions(TaskId("task_0"))[1:]):
        history.happenings.append(Saved(20.0 + number, each))
    history.happenings.insert(1, Ended(lease(TaskId("task_0")), "a", None))


def same_files(history: History) -> None:
    """Another task with an agent writes what the first one writes."""
    for number, paths in ((0, ("src/",)), (1, ("src/",))):
        saved(number, spec=replace(versions()[0].spec, writes=paths, workspace=Workspace("git", "/repo")))(history)
    held = versions(TaskId("task_0"), by="b", writes=("src/a.py",), workspace=Workspace("git", "/repo"))[1]
    history.caps = Caps()
    history.happenings.insert(0, Saved(0.0, held))


RUNNING_AGAIN = replace(versions()[2], version=5)
BROKEN: dict[str, tuple[str, Change]] = {
    "a version is left out": ("a change was lost", saved(2, version=4)),
    "an ended task goes on": ("it ended and went on", more(Saved(30.0, RUNNING_AGAIN))),
    "a lease is replaced": ("two leases", saved(2, lease=lease(epoch=8), agent_id=AgentId("b"))),
    "an epoch comes twice": ("a lease is used again", saved(5, lease=lease(ONE))),
    "an attempt is left out": ("a lease is used again", saved(1, lease=lease(attempt=2))),
    "it was not queued": ("not queued", saved(0, state=State.BLOCKED)),
    "a dependency had not ended": ("out of order", saved(3, state=State.RUNNING, lease=lease())),
    "a dependency failed": ("out of order", saved(3, state=State.FAILED)),
    "the agent cannot": ("given to one who cannot", saved(1, agent_id=AgentId("b"))),
    "nobody made the result": ("a result that nobody made", without(Ended, 0)),
    "it came to another end": ("another result", saved(3, state=State.FAILED)),
    "a failure counts without an end": ("another result", saved(3, state=State.BLOCKED, failures=1)),
    "too many attempts": ("tried too often", saved(3, failures=4)),
    "an agent has two": (
        "two tasks at once",
        more(Saved(30.0, replace(versions(TaskId("task_3"))[1])), Saved(31.0, versions(TaskId("task_4"))[1])),
    ),
    "a cap is exceeded": ("cap exceeded", other_caps),
    "two write the same file": ("two write the same", same_files),
    "a newer task goes first": ("passed over", passed_over),
    "an accepted task is nowhere": ("lost", more(Asked("task_9"))),
    "a task never ends": ("starved", more(Asked("task_9"), Saved(30.0, versions(TaskId("task_9"))[0]))),
    "a success was taken and not counted": ("taken and not counted", saved(7, state=State.CANCELLED)),
    "a result was refused and counted": ("refused and counted", more(Told(lease(), taken=False, failure=None))),
}


@pytest.mark.parametrize(("says", "change"), BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_about_tasks_is_seen(says: str, change: Change) -> None:
    history = good()
    change(history)
    assert any(each.startswith(says) for each in broken(history)), broken(history)


def test_a_group_that_ends_before_its_subtasks_or_otherwise_than_they_is_seen() -> None:
    spec = Spec(fan_out=FanOut())
    group = Task(TaskId("task_9"), DEFAULT_TENANT, spec, State.BLOCKED, "", 0.0, "operator", parts=(Part(ONE), Part(TWO)))
    ended = replace(group, state=State.SUCCEEDED, version=2)
    history = good()
    history.happenings.insert(0, Saved(0.0, group))
    history.add(Saved(30.0, ended))
    assert broken(history) == []
    history.happenings[-1] = Saved(30.0, replace(ended, state=State.FAILED))
    assert any(each.startswith("joined wrongly") for each in broken(history))
    history.happenings.pop()
    history.happenings.insert(4, Saved(0.4, replace(ended, state=State.FAILED)))
    assert any(each.startswith("joined wrongly") for each in broken(history))


def test_tenants_are_not_compared_with_each_other() -> None:
    history = good()
    passed_over(history)
    for number in (0, 9, 10, 11):
        saved(number, tenant_id=TenantId("other"))(history)
    assert not any(each.startswith("passed over") for each in broken(history))


def test_a_budget_that_is_promised_twice_or_exceeded_or_kept_is_seen() -> None:
    history = good()
    task = replace(versions()[3], version=5, budget=Budget(tokens=10), shares=(Share(TWO, Spent(tokens=11)),))
    history.add(Saved(20.0, task))
    history.add(Used(lease(), 11))
    found = broken(history)
    for says in ("promised too much", "over its budget", "never given back"):
        assert any(each.startswith(says) for each in found), found


# --- planted in the real code


class CountsNothing(InHand):
    def took(self, task: Task) -> None:
        del task


class TrustsEverybody(Results):
    """Takes a report under the lease in force, whatever lease it was made under."""

    async def take(self, tenant_id: TenantId, agent_id: AgentId, report: Report) -> None:
        held = self._leases.get(report.lease.task_id)
        if held is not None:
            report, agent_id = replace(report, lease=held.lease), held.agent_id
        await super().take(tenant_id, agent_id, report)


class NeverEnds(Leases):
    def __init__(self, clock: Clock, duration: float) -> None:
        super().__init__(clock, duration * 1e6)


class SaysAllIsWell(Tasks):
    async def tell_dependents(self, task: Task, *, succeeded: bool) -> None:
        del succeeded
        await super().tell_dependents(task, succeeded=True)


class GivesAllBack(Tasks):
    """Says of each subtask that it used nothing."""

    async def settle(self, task: Task) -> None:
        await super().settle(replace(task, attempts=(), settled=Spent()))


class GivesNothingBack(Tasks):
    async def settle(self, task: Task) -> None: ...


class GrantsEverything(Results):
    """Takes every claim, and enters none."""

    async def take(self, tenant_id: TenantId, agent_id: AgentId, report: Report) -> None:
        if not isinstance(report, HasClaimed):
            await super().take(tenant_id, agent_id, report)


class EntersUseOnly(Results):
    """Takes what is claimed for what was used: calls under way are nobody's."""

    async def take(self, tenant_id: TenantId, agent_id: AgentId, report: Report) -> None:
        if isinstance(report, HasClaimed):
            report = replace(report, claim=Spent(tokens=report.usage.input_tokens))
        await super().take(tenant_id, agent_id, report)


class TellsNobody(Tasks):
    async def tell_dependents(self, task: Task, *, succeeded: bool) -> None: ...


class LastWins(Noting):
    """A store without compare-and-set, of which some read what was true a moment ago."""

    reads = 0

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        self.reads += 1
        now = await super().get(tenant_id, task_id)
        before = [each.task for each in self._history.happenings if isinstance(each, Saved) and each.task.id == now.id]
        return before[-2] if len(before) > 1 and self.reads % 5 == 0 else now

    async def save(self, task: Task) -> bool:
        return await super().save(task) or await super().save(replace(task, version=self._tasks[task.id].version + 1))


class OneLane(Noting):
    """A store that shows one lane only."""

    async def ready(self, each: int) -> Sequence[Task]:
        found = await super().ready(each)
        return [task for task in found if task.lane == min(other.lane for other in found)]


class NewestFirst(Noting):
    async def ready(self, each: int) -> Sequence[Task]:
        found = await super().ready(1000)
        newest: dict[str, Task] = {task.lane: task for task in found}
        return list(newest.values())[:each]


class Forgets(Noting):
    """A store that takes the end of a task and loses it."""

    async def save(self, task: Task) -> bool:
        return True if task.state is State.SUCCEEDED and task.spec.priority == 10 else await super().save(task)


PLANTED: dict[str, tuple[str, type[Noting], Kinds]] = {
    "nothing is counted for caps": ("cap exceeded", Noting, Kinds(in_hand=CountsNothing)),
    "nothing is known of what tasks write": ("two write the same", Noting, Kinds(in_hand=CountsNothing)),
    "stale results count": ("a result that nobody made", Noting, Kinds(results=TrustsEverybody)),
    "leases never end": ("stuck", Noting, Kinds(leases=NeverEnds)),
    "dependents are told of success whatever happened": ("out of order", Noting, Kinds(tasks=SaysAllIsWell)),
    "subtasks give back what they used": ("over its budget", Noting, Kinds(tasks=GivesAllBack)),
    "subtasks give nothing back": ("never given back", Noting, Kinds(tasks=GivesNothingBack)),
    "every claim is granted": ("over its budget", Noting, Kinds(results=GrantsEverything)),
    "calls under way are not entered": ("over its budget", Noting, Kinds(results=EntersUseOnly)),
    "dependents are not told": ("starved", Noting, Kinds(tasks=TellsNobody)),
    "the store compares nothing": ("it ended and went on", LastWins, Kinds()),
    "the store shows one lane": ("starved", OneLane, Kinds()),
    "the newest goes first": ("passed over", NewestFirst, Kinds()),
    "the store loses an end": ("taken and not counted", Forgets, Kinds()),
}


@pytest.mark.parametrize(("says", "store", "kinds"), PLANTED.values(), ids=PLANTED)
def test_an_error_that_is_planted_in_the_services_is_found(says: str, store: type[Noting], kinds: Kinds) -> None:
    for seed in range(300):
        if any(each.startswith(says) for each in play(seed, store, kinds)[1]):
            return
    pytest.fail("no schedule found it")
