"""The policy is applied to what is true now, cheaply, and refusals are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from claude_conductor.clock import SystemClock
from claude_conductor.errors import PolicyDeniedError, RateLimitedError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TaskId, TenantId
from controlplane.backends.memory.agent_store import MemoryAgentStore
from controlplane.backends.memory.event_log import MemoryEventLog
from controlplane.backends.memory.task_store import MemoryTaskStore
from controlplane.domain.agent import Agent
from controlplane.domain.agent import State as AgentState
from controlplane.domain.events import Event
from controlplane.domain.policy import Effect, Kind, Pattern, Policy, Relation, Rule
from controlplane.domain.rate import Rate
from controlplane.domain.routing import Owner, Recipient, parse_recipient
from controlplane.domain.task import Lease, Spec, State, Task
from controlplane.service.leases import Leases
from controlplane.service.permissions import MOST_REMEMBERED, Permissions
from controlplane.service.rates import Rates
from controlplane.service.registry import Registry
from controlplane.service.watch import Watch

PARENT, CHILD, SIBLING, STRANGER = (f"task_{number:032x}" for number in range(4))
LABELLED = Pattern(labels={"role": "worker"})
WORKERS = Policy((Rule("workers do not write to each other", Effect.DENY, LABELLED, LABELLED),))


class CountingTasks(MemoryTaskStore):
    """Counts how often it is asked."""

    asked = 0

    async def get(self, tenant_id: TenantId, task_id: str) -> Task:
        self.asked += 1
        return await super().get(tenant_id, task_id)


class NoLink:
    """A sidecar nobody speaks to."""

    def end(self, reason: str) -> None:
        del reason


class HandClock(SystemClock):
    """Moved by hand."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Fleet:
    """Agents and tasks, and what the policy says of them."""

    policy: Policy
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.tasks = CountingTasks(self.clock)
        self.watch = Watch(MemoryEventLog())
        self.registry = Registry(MemoryAgentStore(), self.watch, self.clock)
        self.leases = Leases(self.clock, 15.0)
        self.permissions = Permissions(self.policy, self.registry, self.leases, self.tasks, self.watch, self.clock)

    async def agent(self, name: str, *, long_running: bool = True, task_id: str = "", **labels: str) -> Agent:
        agent = Agent(
            id=AgentId(name),
            tenant_id=DEFAULT_TENANT,
            incarnation=Incarnation("1"),
            state=AgentState.IDLE,
            state_time=0.0,
            state_reason="",
            labels=labels,
            task_id=task_id,
            long_running=long_running,
        )
        await self.registry.connect(agent, NoLink(), occupied=False)  # type: ignore[arg-type]
        return agent

    async def task(self, task_id: str, parent: str = "", submitter: str = "operator", **labels: str) -> Task:
        spec = Spec(driver="command", command=("true",), parent_task_id=parent, labels=labels)
        return await self.tasks.insert(Task(TaskId(task_id), DEFAULT_TENANT, spec, State.QUEUED, "", 1.0, submitter))

    def hand_out(self, task: Task, agent: str) -> None:
        held = Task(task.id, task.tenant_id, task.spec, State.LEASED, "", 1.0, task.submitter)
        object.__setattr__(held, "lease", Lease(task.id, 1, 7))
        object.__setattr__(held, "agent_id", AgentId(agent))
        self.leases.arm(held)

    async def may(self, sender: str, receiver: str, kind: str = "note") -> bool:
        return (await self.permissions.decide(DEFAULT_TENANT, sender, parse_recipient(receiver), kind)).allowed

    async def told(self) -> Sequence[Event]:
        await self.watch.flush()
        return [event async for event in _until_quiet(self.watch)]


async def _until_quiet(watch: Watch):
    from controlplane.service.watch import Wanted

    following = watch.follow(0, Wanted(DEFAULT_TENANT, ("message.",)))
    while True:
        try:
            async with asyncio.timeout(0.05):
                yield await anext(following)
        except TimeoutError:
            return


async def test_a_refusal_names_its_rule_and_is_an_event():
    fleet = Fleet(WORKERS)
    await fleet.agent("a", role="worker")
    await fleet.agent("b", role="worker")

    with pytest.raises(PolicyDeniedError, match=r"denied by rule no\. 1 'workers do not write to each other'") as refused:
        await fleet.permissions.check(DEFAULT_TENANT, "agent/a", Recipient(Owner.AGENT, "b"), "note")

    assert refused.value.details == {"sender": "agent/a", "recipient": "b", "type": "note"}
    (event,) = await fleet.told()
    assert (event.type, event.agent_id, event.details["rule"][:20]) == ("message.denied", "a", "denied by rule no. 1")


async def test_a_flood_of_refusals_does_not_push_other_events_out_and_is_counted():
    fleet = Fleet(WORKERS)
    await fleet.agent("a", role="worker")
    for _ in range(1000):
        with pytest.raises(PolicyDeniedError):
            await fleet.permissions.check(DEFAULT_TENANT, "agent/a", Recipient(Owner.AGENT, "a"), "note")
    fleet.clock.seconds += 5.0
    with pytest.raises(PolicyDeniedError):
        await fleet.permissions.check(DEFAULT_TENANT, "agent/a", Recipient(Owner.AGENT, "a"), "note")

    events = await fleet.told()

    assert len(events) == 101
    assert events[-1].details["refusals_not_shown_before"] == "900"


async def test_the_operator_and_notices_of_the_control_plane_meet_no_label_rule():
    fleet = Fleet(Policy((Rule("", Effect.DENY, Pattern(Kind.AGENT)),), Effect.DENY))
    await fleet.agent("a")

    assert not await fleet.may("agent/a", "operator")
    assert await fleet.may("conductor", "a")
    assert not await fleet.may("operator", "a")


async def test_labels_that_change_change_the_decision():
    fleet = Fleet(WORKERS)
    await fleet.agent("a", role="worker")
    await fleet.agent("b")
    assert await fleet.may("agent/a", "b")

    await fleet.agent("b", role="worker")

    assert not await fleet.may("agent/a", "b")


async def test_a_task_has_its_own_labels_and_over_them_those_of_the_slot_that_has_it():
    fleet = Fleet(WORKERS)
    await fleet.agent("slot", long_running=False, role="worker")
    await fleet.agent("b", role="worker")
    task = await fleet.task(PARENT, role="boss")
    assert await fleet.may("agent/b", f"task/{PARENT}")

    fleet.hand_out(task, "slot")
    assert not await fleet.may("agent/b", f"task/{PARENT}")

    fleet.leases.release(task.id)
    assert await fleet.may("agent/b", f"task/{PARENT}")


async def test_a_task_writes_within_its_family_unless_a_rule_says_more():
    fleet = Fleet(Policy())
    await fleet.task(PARENT)
    await fleet.task(CHILD, PARENT)
    await fleet.task(SIBLING, PARENT)
    await fleet.task(STRANGER, SIBLING)

    assert await fleet.may(f"task/{CHILD}", f"task/{PARENT}")
    assert await fleet.may(f"task/{PARENT}", f"task/{CHILD}")
    assert await fleet.may(f"task/{CHILD}", f"task/{SIBLING}")
    assert not await fleet.may(f"task/{CHILD}", f"task/{STRANGER}")
    assert not await fleet.may(f"task/{STRANGER}", f"task/{PARENT}")


async def test_a_decision_is_made_once_however_many_messages_follow():
    fleet = Fleet(Policy())
    await fleet.task(PARENT)
    await fleet.task(CHILD, PARENT)

    for _ in range(100):
        assert await fleet.may(f"task/{CHILD}", f"task/{PARENT}")

    assert fleet.tasks.asked == 2


async def test_what_is_remembered_is_bounded_whatever_types_are_made_up():
    fleet = Fleet(Policy((Rule("", Effect.DENY, types=("secret*",)),)))
    await fleet.agent("a")

    for number in range(MOST_REMEMBERED + 500):
        assert await fleet.may("agent/a", "a", f"note-{number}")
    assert not await fleet.may("agent/a", "a", "secret-1")

    assert len(fleet.permissions) == MOST_REMEMBERED


async def test_peers_are_those_that_may_be_written_to():
    siblings = Rule("", Effect.DENY, Pattern(Kind.TASK), Pattern(Kind.TASK), (Relation.SIBLING,))
    talk = Rule("", Effect.DENY, receiver=Pattern(id="quiet"), types=("note",))
    fleet = Fleet(Policy((siblings, talk, *WORKERS.rules)))
    await fleet.task(PARENT)
    await fleet.task(CHILD, PARENT)
    await fleet.task(SIBLING, PARENT)
    agents = [
        await fleet.agent("me", long_running=False, task_id=CHILD, role="worker"),
        await fleet.agent("mother", long_running=False, task_id=PARENT),
        await fleet.agent("sister", long_running=False, task_id=SIBLING),
        await fleet.agent("worker", role="worker"),
        await fleet.agent("quiet"),
        await fleet.agent("idle", long_running=False),
    ]
    for agent in agents[:3]:
        fleet.hand_out(await fleet.tasks.get(DEFAULT_TENANT, agent.task_id), agent.id)

    seen = await fleet.permissions.peers(DEFAULT_TENANT, f"task/{CHILD}", agents)

    assert [agent.id for agent in seen] == ["mother", "quiet", "idle"]


async def test_of_many_receivers_those_get_a_copy_that_the_policy_allows():
    fleet = Fleet(WORKERS)
    await fleet.agent("a", role="worker")
    await fleet.agent("b", role="worker")
    await fleet.agent("c")

    copies = await fleet.permissions.permitted(DEFAULT_TENANT, "agent/a", ["b", "c", "operator", f"task/{STRANGER}"], "news")

    assert copies == ["c", "operator"]
    assert await fleet.told() == []


def test_a_sender_is_refused_until_the_time_it_is_told_and_not_longer():
    clock = HandClock()
    rates = Rates(Rate(10.0, 20.0), clock)
    rates.check(DEFAULT_TENANT, "a", 20)
    with pytest.raises(RateLimitedError) as refused:
        rates.check(DEFAULT_TENANT, "a", 3)
    assert refused.value.retry_after == pytest.approx(0.3, abs=2e-6)
    rates.check(DEFAULT_TENANT, "b", 20)

    clock.seconds += refused.value.retry_after or 0.0

    rates.check(DEFAULT_TENANT, "a", 3)


def test_senders_that_are_silent_are_forgotten():
    clock = HandClock()
    rates = Rates(Rate(10.0, 20.0), clock)
    for number in range(50_000):
        rates.check(DEFAULT_TENANT, f"agent-{number}", 1)
        clock.seconds += 0.001

    assert len(rates) <= 2048
