"""The services of tasks do what the model says, on every store, whatever is asked of them in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from claude_conductor.errors import IdempotencyConflictError, IllegalTransitionError, StaleLeaseError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, TaskId
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.backends.redis.address import parse
from controlplane.backends.redis.stores import RedisStores, open_redis
from controlplane.backends.sqlite.stores import SqliteStores, open_sqlite
from controlplane.domain.agent import State as AgentState
from controlplane.domain.question import Answer, QuestionKind
from controlplane.domain.task import Failure, FailureKind, IsolationStatus, Lease, Result, RetryPolicy, Spec, State, Task
from controlplane.interfaces.agent_store import AgentStore
from controlplane.interfaces.task_store import TaskFilter, TaskStore
from controlplane.service.intake import Submission
from controlplane.service.results import HasAsked, HasEnded, HasStarted, Report
from controlplane.service.sessions import Beat, Session
from tests.contract.mailbox_store import LIMITS
from tests.contract.samples import HandClock
from tests.contract.task_model import FINAL, FIRST_DELAY, HELD, MAX_DELAY, Model, ModelAgent, ModelTask
from tests.contract.task_services import LEASE, Counting, Link, Services
from tests.fakes.redis_server import RedisServer, needs_redis, running

AGENTS = ("a", "b")
KEYS = ("", "", "", "one", "two")
PRIORITIES = st.sampled_from((1, 4, 5, 5, 6, 10))
OUTCOMES = (None, None, FailureKind.EXIT_CODE, FailureKind.WORKSPACE, FailureKind.TIMEOUT, FailureKind.CANCELLED)


class TaskLife(RuleBasedStateMachine):
    """Asks services and model the same; a subclass says over which store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.counting = Counting()
        self.model = Model(LEASE)
        self.lives: Counter[str] = Counter()
        self.sessions: dict[str, tuple[Session, Link]] = {}
        self.succeeded: Counter[str] = Counter()
        self.store, self.agents = self.opened()
        self.services = self.begun()

    def opened(self) -> tuple[TaskStore, AgentStore]:
        raise NotImplementedError

    def begun(self) -> Services:
        async def begin() -> Services:
            services = Services(self.store, self.agents, self.clock, self.counting)
            await services.recover()
            return services

        return self.runner.run(begin())

    @initialize(priorities=st.lists(PRIORITIES, min_size=2, max_size=5))
    def everybody_connects_and_there_is_work(self, priorities: list[int]) -> None:
        for name in AGENTS:
            self.model.agents[name] = ModelAgent()
            self.connect(name)
        self.submit_some(priorities)

    @rule(priorities=st.lists(PRIORITIES, min_size=1, max_size=4))
    def submit_some(self, priorities: list[int]) -> None:
        """Submit tasks that need nothing but an agent."""
        for priority in priorities:
            self._submit(Spec(prompt="do it", driver="scripted", priority=priority, retry=RetryPolicy(2, FIRST_DELAY, MAX_DELAY)))

    def connect(self, name: str) -> None:
        agent = self.model.agents[name]
        self.sessions[name] = self.runner.run(self.services.connect(name, f"{name} {self.lives[name]}", agent.has))
        self._heed(name)

    def _heed(self, name: str) -> None:
        """Do at the sidecar what it was told."""
        link, agent = self.sessions[name][1], self.model.agents[name]
        agent.has = None if agent.has in link.revoked else agent.has
        link.revoked.clear()

    # --- submitters

    @rule(
        key=st.sampled_from(KEYS),
        priority=PRIORITIES,
        attempts=st.integers(1, 3),
        delay=st.sampled_from((0.0, 0.0, 0.0, 30.0)),
        data=st.data(),
    )
    def submit(self, key: str, priority: int, attempts: int, delay: float, data: st.DataObject) -> None:
        known = sorted(self.model.tasks)
        depends_on = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else []
        parent = data.draw(st.sampled_from(["", "", *known]))
        now = self.clock.now()
        spec = Spec(
            prompt="do it",
            driver="scripted",
            priority=priority,
            retry=RetryPolicy(attempts, FIRST_DELAY, MAX_DELAY),
            depends_on=tuple(TaskId(other) for other in depends_on),
            parent_task_id=parent,
            not_before=now + delay if delay else 0.0,
        )
        earlier = self.model.with_key(key, now)
        if earlier is not None:
            submission = Submission(DEFAULT_TENANT, "operator", key, spec)
            same = self.runner.run(self.store.get(DEFAULT_TENANT, earlier.id)).spec == spec
            if same:
                assert self.runner.run(self.services.intake.submit(submission)).id == earlier.id
            else:
                with pytest.raises(IdempotencyConflictError):
                    self.runner.run(self.services.intake.submit(submission))
            return
        self._submit(spec, key)

    def _submit(self, spec: Spec, key: str = "") -> None:
        now = self.clock.now()
        task = self.runner.run(self.services.intake.submit(Submission(DEFAULT_TENANT, "operator", key, spec)))
        expected = ModelTask(
            *(task.id, spec.priority, spec.retry.max_attempts, key, now, set(), spec.not_before, spec.parent_task_id)
        )
        self.model.submit(expected, list(spec.depends_on), now)

    @precondition(lambda self: any(task.key for task in self.model.tasks.values()))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Send a request again, as a client does that has lost the answer."""
        keys = sorted({task.key for task in self.model.tasks.values() if task.key})
        key = data.draw(st.sampled_from(keys))
        earlier = self.model.with_key(key, self.clock.now())
        if earlier is not None:
            spec = self.runner.run(self.store.get(DEFAULT_TENANT, earlier.id)).spec
            submission = Submission(DEFAULT_TENANT, "operator", key, spec)
            assert self.runner.run(self.services.intake.submit(submission)).id == earlier.id

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]
        cancelling = self.services.intake.cancel(DEFAULT_TENANT, task.id, "enough", 1.0)
        if task.state in FINAL and task.state is not State.CANCELLED:
            with pytest.raises(IllegalTransitionError):
                self.runner.run(cancelling)
        else:
            self.runner.run(cancelling)
            if task.state is not State.CANCELLED:
                self.model.cancel(task, self.clock.now())

    @precondition(lambda self: any(task.question for task in self.model.tasks.values()))
    @rule(option=st.integers(1, 2), data=st.data())
    def answer(self, option: int, data: st.DataObject) -> None:
        asked = sorted(task.id for task in self.model.tasks.values() if task.question)
        task = self.model.tasks[data.draw(st.sampled_from(asked))]
        answering = self.services.intake.answer(DEFAULT_TENANT, task.id, task.question, Answer("operator", "", option))
        if task.state is State.WAITING_FOR_HUMAN:
            self.runner.run(answering)
            task.state, task.answered = State.RUNNING, option
        else:  # the first answer counts
            with pytest.raises(IllegalTransitionError):
                self.runner.run(answering)

    # --- agents

    @rule()
    def dispatch(self) -> None:
        expected, free = self.model.next(), set(self.model.free())
        self.runner.run(self.services.dispatch.round())
        given: list[tuple[Task, str]] = []
        for name, (_, link) in self.sessions.items():
            given += [(task, name) for task in link.assigned]
            link.assigned.clear()
        assert sorted(task.id for task, _ in given) == sorted(expected)
        assert {name for _, name in given} <= free
        assert len({name for _, name in given}) == len(given)
        for task, name in given:
            assert task.lease is not None
            assert task.lease not in [lease for lease, _ in self.model.given]
            self.model.hand_out(task.id, task.lease, name, self.clock.now())

    @rule(name=st.sampled_from(AGENTS))
    def beat(self, name: str) -> None:
        agent = self.model.agents[name]
        leases = (agent.has,) if agent.has is not None else ()
        state = AgentState.WORKING if agent.has is not None else AgentState.IDLE
        self.services.sessions.heartbeat(self.sessions[name][0], Beat(leases, state))
        if agent.has is not None and (task := self.model.in_force(agent.has, name)) is not None:
            task.deadline = self.clock.now() + LEASE
        if state is AgentState.IDLE:
            agent.occupied = False
        self._heed(name)

    def any_lease(self, data: st.DataObject) -> tuple[Lease, str]:
        """Draw a lease, most often one in force."""
        current = [(task.lease, task.agent) for task in self.model.held() if task.lease is not None]
        return data.draw(st.sampled_from((current or self.model.given) if data.draw(st.booleans()) else self.model.given))

    def report(self, lease: Lease, name: str, report: Report) -> ModelTask | None:
        """Report, and return the task if the report counts; what was taken before is harmless, all else is refused."""
        task = self.model.in_force(lease, name)
        repeat = (lease.task_id, lease.attempt, name) in self.model.ended_by_report and not isinstance(report, HasAsked)
        taking = self.services.results.take(DEFAULT_TENANT, AgentId(name), report)
        if task is not None or repeat:
            self.runner.run(taking)
            return task
        with pytest.raises(StaleLeaseError):
            self.runner.run(taking)
        return None

    @precondition(lambda self: self.model.given)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        lease, name = self.any_lease(data)
        task = self.report(lease, name, HasStarted(lease, IsolationStatus()))
        if task is not None and task.state is State.LEASED:
            task.state = State.RUNNING

    @precondition(lambda self: self.model.given)
    @rule(outcome=st.sampled_from(OUTCOMES), data=st.data())
    def complete(self, outcome: FailureKind | None, data: st.DataObject) -> None:
        lease, name = self.any_lease(data)
        failure = None if outcome is None else Failure(outcome, "it failed")
        task = self.report(lease, name, HasEnded(lease, Result(failure=failure)))
        if self.model.agents[name].has == lease:
            self.model.agents[name].has = None
        if task is not None:
            self.model.complete(task, outcome, self.clock.now())
            self.succeeded[task.id] += outcome is None

    @precondition(lambda self: any(task.state is State.RUNNING for task in self.model.held()))
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task for task in self.model.held() if task.state is State.RUNNING]))
        assert task.lease is not None
        question = f"question {self.counting.bits(64)}"
        asked = HasAsked(task.lease, question, QuestionKind.QUESTION, "which?", ("this", "that"), "", 3600.0)
        assert self.report(task.lease, task.agent, asked) is task
        task.state, task.question, task.answered = State.WAITING_FOR_HUMAN, question, 0

    # --- time and death

    @rule(seconds=st.sampled_from((0.5, 1.5, 4.0, 6.0, LEASE - 0.5)))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @rule(seconds=st.sampled_from((LEASE, 61.0, 61.0, 86_400.0)))
    def much_time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: self.model.held())
    @rule(halves=st.integers(1, 3))
    def everybody_works_for_a_while(self, halves: int) -> None:
        for _ in range(halves):
            self._pass(LEASE / 2)
            for name in AGENTS:
                self.beat(name)

    def _pass(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.runner.run(self.services.expiry.round())
        self.model.pass_time(self.clock.now())

    @rule(name=st.sampled_from(AGENTS))
    def a_sidecar_is_started_anew(self, name: str) -> None:
        agent, self.lives[name] = self.model.agents[name], self.lives[name] + 1
        agent.has = None
        for task in self.model.held():
            if task.agent == name:
                self.model.lose(task, self.clock.now())
        self.connect(name)
        agent.occupied = False

    @rule(name=st.sampled_from(AGENTS))
    def a_stream_breaks(self, name: str) -> None:
        """What was cut off is told again; a lease that the sidecar still has begins anew."""
        before = self.model.agents[name].has
        task = self.model.in_force(before, name) if before is not None else None
        if task is not None:
            task.deadline = self.clock.now() + LEASE
        self.connect(name)
        self.model.agents[name].occupied = before is not None and task is None
        for again in self.sessions[name][1].assigned:
            assert again.lease is not None
            assert self.model.in_force(again.lease, name) is not None
            self.model.agents[name].has = again.lease
        self.sessions[name][1].assigned.clear()

    @rule()
    def the_control_plane_dies(self) -> None:
        """No lease ends by it: all begin anew."""
        self.store, self.agents = self.again()
        self.services = self.begun()
        now = self.clock.now()
        for task in self.model.held():
            task.deadline = now + LEASE
        for task in self.model.tasks.values():
            if task.state is State.BLOCKED and not task.waits_for and task.not_before <= now:
                task.state, task.queued = State.QUEUED, now
        self.runner.run(self.services.expiry.round())
        for name in AGENTS:
            self.a_stream_breaks(name)

    def again(self) -> tuple[TaskStore, AgentStore]:
        return self.store, self.agents

    # --- what holds at any time

    @invariant()
    def every_task_is_the_models(self) -> None:
        stored = self.runner.run(self.store.list(DEFAULT_TENANT, TaskFilter(), "", 10_000))
        assert {task.id for task in stored} == set(self.model.tasks)
        for task in stored:
            expected = self.model.tasks[task.id]
            assert (task.state, task.lease, task.failures, task.losses) == (
                *(expected.state, expected.lease, expected.failures, expected.losses),
            ), task.id
            assert task.waits_for == expected.waits_for
            if task.question is not None and task.question.answer is not None and expected.answered:
                assert task.question.answer.option == expected.answered

    @invariant()
    def promises_hold(self) -> None:
        """Said once more without the model's own words: a wrong model must not excuse a wrong service."""
        stored = self.runner.run(self.store.list(DEFAULT_TENANT, TaskFilter(), "", 10_000))
        held = [task for task in stored if task.state in HELD]
        assert len({task.agent_id for task in held}) == len(held), "an agent has two"
        assert {task.id: task.lease for task in held} == {
            held.lease.task_id: held.lease for held in self.services.leases.of_tenant(DEFAULT_TENANT)
        }
        assert sum(self.services.in_hand.counts.values()) == len(held)
        assert all(count == 1 for count in (+self.succeeded).values()), "a result counted twice"
        by_id = {task.id: task for task in stored}
        for task in stored:
            done = [attempt for attempt in task.attempts if attempt.end_time is not None and attempt.failure is None]
            assert len(done) == (task.state is State.SUCCEEDED)
            if task.attempts:
                assert all(by_id[other].state is State.SUCCEEDED for other in task.spec.depends_on), "out of order"
        keys = Counter(task.key for task in self.model.tasks.values() if task.key and task.created > self.clock.now() - 86_400)
        assert all(count == 1 for count in keys.values()), "a key stands for two"

    def teardown(self) -> None:
        self.runner.close()


class MemoryTasks(TaskLife):
    """In dictionaries."""

    def opened(self) -> tuple[TaskStore, AgentStore]:
        return MemoryTaskStore(self.clock), MemoryAgentStore()


class SqliteTasks(TaskLife):
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

    def teardown(self) -> None:
        self.runner.run(self.stores.close())
        super().teardown()
        self.folder.cleanup()


class RedisTasks(TaskLife):
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

    def teardown(self) -> None:
        self.runner.run(self.stores.close())
        super().teardown()


class TestMemory(MemoryTasks.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples, stateful_step_count=40)


class TestSqlite(SqliteTasks.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)


@needs_redis
class TestRedis(RedisTasks.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)

    @classmethod
    def setUpClass(cls) -> None:
        RedisTasks.server = cls.enterClassContext(running())
