"""What is one schedule of tasks? A fleet, caps and tasks drawn from a seed, faults for a while, then calm, in which all end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from claude_conductor.errors import BudgetExhaustedError, ConductorError, IllegalTransitionError, StoreUnavailableError
from claude_conductor.ids import AgentId, Incarnation, TaskId, TenantId
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.budget import Budget
from controlplane.domain.caps import Caps
from controlplane.domain.task import IsolationLevel, RetryPolicy, Spec, State, Task, Workspace
from controlplane.domain.write_set import declared
from controlplane.service.intake import Intake, Submission
from tests.simulation.processes import Fate, SeededMint, VirtualClock, task_factory
from tests.simulation.tasks import groups
from tests.simulation.tasks.checker import broken
from tests.simulation.tasks.history import Asked, History, Saved
from tests.simulation.tasks.plane import Kinds, Plane
from tests.simulation.tasks.seeds import PAST_BUGS
from tests.simulation.tasks.slot import Disk, Slot
from tests.simulation.virtual_loop import Stuck, VirtualLoop

CALM_SECONDS = 600.0
"""How long everything may take to end once nothing fails any more; retries pause for at most 5 s here."""
WRITES = (("src/",), ("src/*.py",), ("src/a.py", "docs/"), ("docs/",), (".",), ())
TENANTS = (TenantId("default"), TenantId("other"))


class Noting(MemoryTaskStore):
    """A store that writes down what it took."""

    def __init__(self, clock: VirtualClock, history: History) -> None:
        super().__init__(clock)
        self._history, self._time = history, clock

    async def insert_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        earlier = await super().insert_all(tasks)  # `insert` comes here, too
        for task in () if earlier else tasks:
            self._history.add(Saved(self._time.now(), task))
        return earlier

    async def save(self, task: Task) -> bool:
        saved = await super().save(task)
        if saved:
            self._history.add(Saved(self._time.now(), task))
        return saved


@dataclass(frozen=True)
class Plan:
    """What a seed draws before anything runs."""

    agents: tuple[Agent, ...]
    caps: Caps
    tasks: int
    store_failing: float
    store_honest: bool
    """Whether a failure of the store says that nothing was done, as SQLite's does; else it may come after the effect."""
    cutting: float
    plane_kills: int
    sidecar_kills: int
    freezes: int
    gone: bool
    """Whether a sidecar dies and does not come back."""
    cuts: int
    cancels: int
    seconds: float


def draw(fate: Fate, seed: int) -> Plan:
    """Return a plan. Many are free of most faults, so that the rest is seen clearly."""
    random = fate.random
    calm = random.random() < 0.1

    def blows() -> int:
        return 0 if calm else random.choice((0, 0, 0, 1, 1, 2))

    tenants = TENANTS if random.random() < 0.3 else TENANTS[:1]
    agents = tuple(_agent(fate, number, tenant) for tenant in tenants for number in range(random.choice((1, 2, 2, 3))))
    caps = Caps(
        {"*": random.choice((1, 2, 3))} if random.random() < 0.2 else {},
        {"a": 1} if random.random() < 0.4 else {"*": 2} if random.random() < 0.3 else {},
        {"repo=*": 1} if random.random() < 0.4 else {},
    )
    return Plan(
        agents,
        caps,
        tasks=random.randint(2, 14),
        store_failing=0.0 if calm else random.choice((0.0, 0.0, 0.02, 0.1)),
        store_honest=seed in PAST_BUGS or Random(f"{seed} honest").random() < 0.5,  # aside: an old seed stays its schedule
        cutting=0.0 if calm else random.choice((0.0, 0.01, 0.05)),
        plane_kills=blows(),
        sidecar_kills=blows(),
        freezes=blows(),
        gone=not calm and random.random() < 0.2,
        cuts=blows(),
        cancels=random.choice((0, 0, 1, 2)),
        seconds=random.choice((2.0, 5.0, 10.0)),
    )


def _agent(fate: Fate, number: int, tenant: TenantId) -> Agent:
    random = fate.random
    special = random.random() < 0.3
    return Agent(
        AgentId(f"{tenant}-{number}"),
        tenant,
        Incarnation(""),
        AgentState.IDLE,
        0.0,
        "",
        drivers=("command", "scripted") if random.random() < 0.5 or number == 0 else ("command",),
        labels={"gpu": "yes"} if special else {},
        strongest_level=IsolationLevel.STRICT,
    )


class World:
    """Everything of one schedule."""

    def __init__(self, seed: int, store_type: type[Noting], kinds: Kinds) -> None:
        self._fate = Fate(seed)
        self._writing = Random(f"writes {seed}") if seed % 4 == 2 else None
        self._budgets = Random(f"budgets {seed}") if seed % 4 == 3 else None
        self._groups = Random(f"groups {seed}") if seed % 4 == 1 else None
        self._plan = plan = draw(self._fate, seed)
        self._kinds = kinds
        self._clock = VirtualClock()
        self._mint = SeededMint(self._fate, self._clock)
        self.history = History({agent.id: agent for agent in plan.agents}, plan.caps)
        self._store = store_type(self._clock, self.history)
        self._agent_store = MemoryAgentStore()
        self._lives: Counter[str] = Counter()
        self._disks = {agent.id: Disk() for agent in plan.agents}
        self._slots: dict[str, Slot] = {}
        self._plane = self._new_plane()
        self._submitted: list[Task] = []
        self._impossible: set[str] = set()

    def _new_plane(self) -> Plane:
        plan = self._plan
        self._lives["plane"] += 1
        return Plane(
            *(self._lives["plane"], self._store, self._agent_store, self._fate, self._clock, self._mint),
            *(plan.caps, plan.store_failing, plan.cutting, self._kinds),
            honest=plan.store_honest,
        )

    def _begin_slot(self, agent: Agent) -> None:
        self._lives[agent.id] += 1
        disk = self._disks[agent.id]
        slot = Slot(agent, self._lives[agent.id], disk, lambda: self._plane, self._fate, self.history)
        self._slots[agent.id] = slot
        slot.start()

    async def run(self) -> History:
        """Play the schedule to its end."""
        fate, plan = self._fate, self._plan
        self._plane.start()
        for agent in plan.agents:
            self._begin_slot(agent)
        blows = [self._kill_plane] * plan.plane_kills + [self._kill_slot] * plan.sidecar_kills
        blows += (
            [self._lose_slot] * plan.gone
            + [self._freeze] * plan.freezes
            + [self._cut] * plan.cuts
            + [self._cancel] * plan.cancels
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit_all())
            for blow in blows:
                group.create_task(self._at(fate.random.random() * plan.seconds, blow))
            await asyncio.sleep(plan.seconds)
        fate.faults = False
        await self._come_to_rest()
        self._collect()
        return self.history

    # --- what the submitter does

    async def _submit_all(self) -> None:
        for number in range(self._plan.tasks):
            await asyncio.sleep(self._fate.delay(2 * self._plan.seconds / self._plan.tasks))
            tenant = self._fate.random.choice([agent.tenant_id for agent in self._plan.agents])
            if self._groups is not None and self._groups.random() < 0.4:
                await self._submit_group(tenant, f"request {number}", self._groups)
                continue
            spec = self._spec(tenant)
            submission = Submission(tenant, "operator", f"request {number}", spec)
            task = await self._ask(lambda intake, submission=submission: intake.submit(submission))
            if isinstance(task, Task):
                impossible = spec.driver == "none" or any(other in self._impossible for other in spec.depends_on)
                self._submitted.append(task)
                self._impossible |= {task.id} if impossible else set()
                self.history.add(Asked(task.id, impossible=impossible))
            elif not isinstance(task, BudgetExhaustedError):
                self.history.troubles.append(f"a submission was refused: {task!r}")
                return

    async def _submit_group(self, tenant: TenantId, request: str, random: Random) -> None:
        wanted = groups.draw(random, tenant, request, lambda: self._spec(tenant))
        found = await self._ask(lambda intake: intake.submit_all(wanted))
        if not isinstance(found, list):
            self.history.troubles.append(f"a group was refused: {found!r}")
            return
        self._submitted += [self._store._tasks[task_id] for task_id in found]
        self._impossible |= groups.impossible(wanted, found, self._impossible)
        for task_id in found:
            self.history.add(Asked(task_id, impossible=task_id in self._impossible))

    def _spec(self, tenant: TenantId) -> Spec:
        random = self._fate.random
        earlier = [task.id for task in self._submitted if task.tenant_id == tenant]
        specials = [agent for agent in self._plan.agents if agent.labels and agent.tenant_id == tenant]
        return Spec(
            type=random.choice("ab"),
            prompt="do it",
            driver="none" if random.random() < 0.05 else "scripted",
            priority=random.choice((1, 5, 5, 10)),
            retry=RetryPolicy(random.randint(1, 4), 0.5, 5.0),
            required_labels={"gpu": "yes"} if specials and random.random() < 0.2 and "scripted" in specials[0].drivers else {},
            depends_on=tuple(TaskId(other) for other in random.sample(earlier, min(len(earlier), random.choice((0, 0, 1, 2))))),
            not_before=self._clock.now() + random.random() * 5 if random.random() < 0.1 else 0.0,
            labels={"repo": random.choice("xy")} if random.random() < 0.5 else {},
            workspace=Workspace("git", "/repo") if self._writing else Workspace(),
            writes=declared(self._writing.choice(WRITES)) if self._writing else (),
            **self._nested(earlier),
        )

    def _nested(self, earlier: list[TaskId]) -> dict[str, Any]:
        """Return what makes a task one with a budget, or with a part of that of an earlier one."""
        if (random := self._budgets) is None:
            return {}
        if earlier and random.random() < 0.7:
            wanted = random.choice((None, None, random.randint(1, 60)))
            return {"parent_task_id": random.choice(earlier), "budget": Budget(tokens=wanted)}
        return {"budget": Budget(tokens=random.randint(20, 100))}

    async def _ask(self, call: Callable[[Intake], Awaitable[Any]]) -> Any:
        """Call until there is an answer: over failures of the store, and deaths of the control plane."""
        while True:
            plane = self._plane
            if plane.failure is not None:
                return plane.failure
            if plane.serving and plane.intake is not None:
                answer = plane.process.start(_called(call, plane.intake), "call")
                await asyncio.wait(
                    {answer, dying := asyncio.ensure_future(plane.process.ended.wait())}, return_when="FIRST_COMPLETED"
                )
                dying.cancel()
                if answer.done() and not answer.cancelled():
                    failure = answer.exception()
                    if not isinstance(failure, StoreUnavailableError):
                        return failure if failure is not None else answer.result()
            await asyncio.sleep(0.1)

    async def _cancel(self) -> None:
        if self._submitted:
            task = self._fate.random.choice(self._submitted)
            failure = await self._ask(lambda intake: intake.cancel(task.tenant_id, task.id, "enough", 1.0))
            if isinstance(failure, ConductorError) and not isinstance(failure, IllegalTransitionError):
                self.history.troubles.append(f"a cancellation was refused: {failure!r}")

    # --- what goes wrong

    async def _at(self, seconds: float, blow: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)
        await blow()

    async def _kill_plane(self) -> None:
        self._note("the control plane", self._plane.failure)
        self._plane.kill()
        await self._fate.pause(1.0)
        if not self._plane.process.alive:
            self._plane = self._new_plane()
            self._plane.start()

    async def _kill_slot(self) -> None:
        slot = self._any_slot()
        if slot.process.alive:
            slot.kill()
            await self._fate.pause(1.0)
            if slot.agent.id in self._slots:
                self._begin_slot(slot.agent)

    async def _lose_slot(self) -> None:
        """End a sidecar for good, one whose tasks another can do: the first agent of each tenant runs everything."""
        plain = [agent for agent in self._plan.agents if not agent.labels and not agent.id.endswith("-0")]
        if plain:
            slot = self._slots.pop(self._fate.random.choice(plain).id)
            self._note(slot.agent.id, slot.failure)
            slot.kill()

    async def _freeze(self) -> None:
        self._any_slot().freeze(self._fate.delay(10.0))

    async def _cut(self) -> None:
        self._any_slot().cut()

    def _any_slot(self) -> Slot:
        return self._slots[self._fate.random.choice(sorted(self._slots))]

    # --- how it ends

    async def _come_to_rest(self) -> None:
        try:
            async with asyncio.timeout(CALM_SECONDS):
                while left := self._left():
                    if self._plane.failure is not None:
                        return
                    await asyncio.sleep(0.25)
        except TimeoutError:
            self.history.troubles.append(f"stuck: {left}")
            return
        await asyncio.sleep(1.0)  # what follows from the last end
        self._check_books()

    def _left(self) -> str:
        tasks = list(self._store._tasks.values())
        still_open = [f"{task.id} is {task.state.value}" for task in tasks if not task.state.final and not self._stays(task)]
        busy = [f"{name} has not come to rest" for name, slot in self._slots.items() if not slot.at_rest]
        if self._plane.failure is not None or not self._plane.serving:
            busy.append("the control plane does not serve")
        free = {agent.id for agent in self._plane.registry.free()}
        busy += [f"{name} is not free" for name in self._slots if name not in free]
        return ", ".join(still_open + busy)

    def _stays(self, task: Task) -> bool:
        return task.id in self._impossible and task.state in {State.QUEUED, State.BLOCKED}

    def _check_books(self) -> None:
        plane = self._plane
        if plane.in_hand.counts:
            self.history.troubles.append(f"counted as held when nothing is: {dict(plane.in_hand.counts)}")
        if plane.leases._held:
            self.history.troubles.append(f"leases in force when nothing is held: {list(plane.leases._held)}")
        for task_id in self._impossible:
            task = self._store._tasks[TaskId(task_id)]
            if task.state is State.QUEUED and plane.waiting.reason(task) != "no connected agent runs none":
                self.history.troubles.append(f"{task_id} does not say that nobody can do it: {plane.waiting.reason(task)}")

    def _note(self, who: str, failure: BaseException | None) -> None:
        if failure is not None:
            self.history.troubles.append(f"crash of {who}: {failure!r}")

    def _collect(self) -> None:
        self._note("the control plane", self._plane.failure)
        for name, slot in self._slots.items():
            self._note(name, slot.failure)
            slot.kill()
        self._plane.kill()


def play(seed: int, store_type: type[Noting] = Noting, kinds: Kinds | None = None) -> tuple[History, list[str]]:
    """Play one schedule; return what happened and which promises it broke."""
    loop = VirtualLoop()
    loop.set_task_factory(task_factory)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        asyncio.set_event_loop(None)
        try:
            history = loop.run_until_complete(_played(seed, store_type, kinds or Kinds()))
        except Stuck as stuck:
            history = History(troubles=[f"stuck: {stuck}"])
            loop.wind_up()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        with contextlib.suppress(Stuck):
            loop.run_until_complete(_gathered(left))
    finally:
        logging.disable(level)
        loop.close()
    history.troubles += loop.complaints
    return history, broken(history)


async def _called(call: Callable[[Intake], Awaitable[Any]], intake: Intake) -> Any:
    return await call(intake)


async def _played(seed: int, store_type: type[Noting], kinds: Kinds) -> History:
    return await World(seed, store_type, kinds).run()


async def _gathered(tasks: set[asyncio.Task[object]]) -> None:
    for _ in range(20):
        if all(task.done() for task in tasks):
            return
        await asyncio.sleep(0)
