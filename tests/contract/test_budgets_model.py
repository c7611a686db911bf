"""Never is more used than a budget allows, on every store: nested, side by side, over lost agents and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from claude_conductor.errors import BudgetExhaustedError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, TaskId
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.stores import RedisStores, open_redis
from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.domain import ledger
from controlplane.domain.agent import State as AgentState
from controlplane.domain.budget import Budget, Spent, within
from controlplane.domain.task import Failure, FailureKind, Lease, Result, RetryPolicy, Spec, State, Task, Usage
from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from controlplane.service.intake import Submission
from controlplane.service.results import HasClaimed, HasEnded, Report
from controlplane.service.sessions import Beat, Session
from tests.contract.mailbox_store import LIMITS
from tests.contract.samples import HandClock
from tests.contract.task_services import Counting, Link, Services
from tests.fakes.redis_server import RedisServer, needs_redis, running

AGENTS = ("a", "b", "c")
ROOT = Budget(tokens=1000, turns=40)
AMOUNTS = st.integers(0, 700)


class Spending(RuleBasedStateMachine):
    """Tasks, subtasks of these, and agents that claim and use as much as they get; a subclass says over which store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock, self.counting = HandClock(), Counting()
        self.has: dict[str, Lease] = {}
        self.used: Counter[str] = Counter()
        """Tokens that agents really used, by task."""
        self.of_attempt: Counter[Lease] = Counter()
        self.parents: dict[str, str] = {}
        self.sessions: dict[str, tuple[Session, Link]] = {}
        self.lives: Counter[str] = Counter()
        self.store, self.agents = self.opened()
        self.begin()

    def opened(self) -> tuple[TaskStore, AgentStore]:
        raise NotImplementedError

    def again(self) -> tuple[TaskStore, AgentStore]:
        raise NotImplementedError

    def begin(self) -> None:
        async def life() -> Services:
            services = Services(self.store, self.agents, self.clock, self.counting)
            await services.recover()
            return services

        self.services = self.runner.run(life())
        for name in AGENTS:
            self.connect(name)

    def connect(self, name: str) -> None:
        self.sessions[name] = self.runner.run(self.services.connect(name, f"{name} {self.lives[name]}", self.has.get(name)))

    @initialize()
    def there_is_work(self) -> None:
        self.submit("", Budget(tokens=1000, turns=40))

    @rule()
    def another_task_without_a_parent(self) -> None:
        self.submit("", ROOT)

    @rule(which=st.integers(0, 50), tokens=st.none() | AMOUNTS.filter(bool), turns=st.none() | st.integers(1, 30))
    def a_subtask(self, which: int, tokens: int | None, turns: int | None) -> None:
        parents = sorted(self.parents)
        self.submit(parents[which % len(parents)], Budget(tokens=tokens, turns=turns))

    def submit(self, parent: str, budget: Budget) -> None:
        spec = Spec(prompt="x", driver="scripted", parent_task_id=parent, budget=budget, retry=RetryPolicy(3, 1.0, 2.0))
        try:
            task = self.runner.run(self.services.intake.submit(Submission(DEFAULT_TENANT, "operator", "", spec)))
        except BudgetExhaustedError:
            return
        self.parents[task.id] = parent

    @rule()
    def work_is_given_out(self) -> None:
        self.clock.pass_(3.0)
        self.runner.run(self.services.expiry.round())
        for name in AGENTS:
            self.services.sessions.heartbeat(self.sessions[name][0], Beat((), AgentState.IDLE))
        self.runner.run(self.services.dispatch.round())
        for name, (_, link) in self.sessions.items():
            for task in link.assigned:
                assert task.lease is not None
                self.has[name] = task.lease
            link.assigned.clear()

    @rule(name=st.sampled_from(AGENTS), more=AMOUNTS)
    def a_call_is_made(self, name: str, more: int) -> None:
        """Claim before, use at most that, and tell of it afterwards, or never."""
        lease = self.has.get(name)
        if lease is None or not self.claim(name, lease, self.of_attempt[lease] + more):
            return
        self.of_attempt[lease] += more
        self.used[lease.task_id] += more

    def claim(self, name: str, lease: Lease, tokens: int) -> bool:
        usage = self.usage(lease)
        try:
            self.take(name, HasClaimed(lease, usage, Spent(tokens=tokens, turns=1)))
        except BudgetExhaustedError:
            return False
        return True

    @rule(name=st.sampled_from(AGENTS), kind=st.sampled_from((None, None, FailureKind.EXIT_CODE, FailureKind.WORKSPACE)))
    def an_attempt_ends(self, name: str, kind: FailureKind | None) -> None:
        if (lease := self.has.pop(name, None)) is not None:
            failure = Failure(kind, "failed") if kind is not None else None
            self.take(name, HasEnded(lease, Result(failure=failure, usage=self.usage(lease))))

    @rule(name=st.sampled_from(AGENTS))
    def an_agent_is_lost(self, name: str) -> None:
        self.has.pop(name, None)
        self.lives[name] += 1
        self.connect(name)

    @rule()
    def the_control_plane_dies(self) -> None:
        self.store, self.agents = self.again()
        self.begin()

    def usage(self, lease: Lease) -> Usage:
        return Usage(wall_seconds=self.clock.monotonic(), input_tokens=self.of_attempt[lease])

    def take(self, name: str, report: Report) -> None:
        self.runner.run(self.services.results.take(DEFAULT_TENANT, AgentId(name), report))

    def tasks(self) -> dict[str, Task]:
        listed = self.runner.run(self.store.list(DEFAULT_TENANT, TaskFilter(), "", 1000))
        return {task.id: task for task in listed}

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        tasks = self.tasks()
        total = Counter(self.used)
        for task_id in sorted(tasks, reverse=True):  # subtasks are younger than their parents
            if parent := self.parents[task_id]:
                total[parent] += total[task_id]
        for task in tasks.values():
            assert not within(ledger.gone(task), task.budget), task
            assert total[task.id] <= (task.budget.tokens or 0), f"{total[task.id]} of {task.budget}"
            shares = {share.task_id: share.amount for share in task.shares}
            children = [tasks[each] for each, parent in self.parents.items() if parent == task.id]
            assert set(shares) == {child.id for child in children if not child.state.final or child.shares}
            for child in children:
                assert not within(shares.get(child.id, Spent()), child.budget)

    def teardown(self) -> None:
        """Let everything end: what was not used is back where it came from."""
        for _ in range(200):
            if all(task.state.final for task in self.tasks().values()):
                break
            self.work_is_given_out()
            for name in AGENTS:
                self.an_attempt_ends(name, None)
        tasks = self.tasks()
        assert all(task.state in {State.SUCCEEDED, State.FAILED, State.DEAD} for task in tasks.values())
        assert not any(task.shares for task in tasks.values())
        for task_id, parent in self.parents.items():
            if not parent:
                below = [other for other in tasks if self._root(other) == task_id]
                charged = sum(max(ledger.spent(a.usage).tokens, a.claim.tokens) for each in below for a in tasks[each].attempts)
                assert ledger.gone(tasks[TaskId(task_id)]).tokens == charged
        self.closed()
        self.runner.close()

    def closed(self) -> None:
        """Close what a store needs closed."""

    def _root(self, task_id: str) -> str:
        while parent := self.parents[task_id]:
            task_id = parent
        return task_id


class MemoryBudgets(Spending):
    """In dictionaries, which outlive the services here."""

    def opened(self) -> tuple[TaskStore, AgentStore]:
        return MemoryTaskStore(self.clock), MemoryAgentStore()

    def again(self) -> tuple[TaskStore, AgentStore]:
        return self.store, self.agents


class SqliteBudgets(Spending):
    """In a file, which is opened again when the control plane dies."""

    stores: SqliteStores

    def opened(self) -> tuple[TaskStore, AgentStore]:
        self.folder = tempfile.TemporaryDirectory()
        return self._open()

    def _open(self) -> tuple[TaskStore, AgentStore]:
        async def open_it() -> SqliteStores:
            return open_sqlite(Path(self.folder.name) / "x.db", self.clock, LIMITS)

        self.stores = self.runner.run(open_it())
        return self.stores.tasks, self.stores.agents

    def again(self) -> tuple[TaskStore, AgentStore]:
        self.runner.run(self.stores.close())
        return self._open()

    def closed(self) -> None:
        self.runner.run(self.stores.close())
        self.folder.cleanup()


class RedisBudgets(Spending):
    """In a server of its own, to which the next control plane connects anew."""

    server: RedisServer
    stores: RedisStores

    def opened(self) -> tuple[TaskStore, AgentStore]:
        self.address = parse(self.server.fresh())
        return self._open()

    def _open(self) -> tuple[TaskStore, AgentStore]:
        self.stores = open_redis(self.address, self.clock, LIMITS)
        return self.stores.tasks, self.stores.agents

    def again(self) -> tuple[TaskStore, AgentStore]:
        self.runner.run(self.stores.close())
        return self._open()

    def closed(self) -> None:
        self.runner.run(self.stores.close())


class TestMemory(MemoryBudgets.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples, stateful_step_count=40)


class TestSqlite(SqliteBudgets.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)


@needs_redis
class TestRedis(RedisBudgets.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)

    @classmethod
    def setUpClass(cls) -> None:
        RedisBudgets.server = cls.enterClassContext(running())
