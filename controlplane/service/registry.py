"""Which agents are there, which are connected, and what does each of them do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from claude_conductor.clock import Clock
from claude_conductor.errors import AgentNotFoundError
from claude_conductor.ids import AgentId, Incarnation, TenantId
from controlplane.domain.agent import Agent, ResourceUse, State
from controlplane.domain.events import Event
from controlplane.domain.task import IsolationStatus
from controlplane.interfaces.agent_store import AgentStore
from controlplane.service.link import Link
from controlplane.service.watch import Watch
from controlplane.service.windows import Windows

Key = tuple[TenantId, AgentId]


@dataclass(slots=True, eq=False)
class Connected:
    """A live session of an agent."""

    key: Key
    incarnation: Incarnation
    link: Link
    long_running: bool
    said: State = State.IDLE
    """What its sidecar said last."""
    occupied: bool = False
    """It works on something that is no longer its task; it is not free before it says so."""
    ready: bool = False
    """It may be given work: it was welcomed, and is not about to leave."""


class Registry:
    """Every agent with the one truth about its state. What it knows of sessions ends with the process."""

    def __init__(self, store: AgentStore, watch: Watch, clock: Clock, windows: Windows | None = None) -> None:
        """Begin with nobody.

        Args:
            store: Of agents.
            watch: Told of what they do.
            clock: Tells the time.
            windows: Of the provider credentials that agents use.
        """
        self.windows = windows or Windows(clock)
        self._store = store
        self._watch = watch
        self._clock = clock
        self._agents: dict[Key, Agent] = {}
        self._connected: dict[Key, Connected] = {}
        self.labels_version = 0
        """Grows whenever the labels of an agent change."""

    async def load(self) -> None:
        """Read every agent there ever was; none is connected yet."""
        for agent in await self._store.all():
            self._agents[agent.tenant_id, agent.id] = replace(
                agent, state=State.LOST, state_reason="not connected since the control plane started", task_id=""
            )

    async def connect(self, agent: Agent, link: Link, *, occupied: bool) -> Connected:
        """Make the agent known and connected, ending an older session of it. Durable when it returns.

        Args:
            agent: As its hello describes it, with the task it holds.
            link: The way to it.
            occupied: Whether it works on something that is not its task any more.
        """
        key = (agent.tenant_id, agent.id)
        older = self._connected.get(key)
        if older is not None:
            older.link.end("a newer session of this agent took over")
        connected = Connected(key, agent.incarnation, link, agent.long_running, occupied=occupied)
        self._connected[key] = connected
        known = self._agents.get(key)
        self.labels_version += known is None or known.labels != agent.labels
        self._agents[key] = agent
        self._settle(key, "its sidecar connected", always=True)
        try:
            await self._store.put(self._agents[key])
        except BaseException:  # the session does not begin, so nobody would ever end it
            if self._connected.get(key) is connected:
                del self._connected[key]
                self._settle(key, "its session could not begin")
            raise
        return connected

    def holds(self, connected: Connected) -> bool:
        """Return whether this is the agent's present session; a newer one may have taken over while it began."""
        return self._connected.get(connected.key) is connected

    async def disconnect(self, connected: Connected, reason: str) -> None:
        """The session ended. That is not the end of the agent: what it holds, it holds until its leases end."""
        if self._connected.get(connected.key) is not connected:
            return
        del self._connected[connected.key]
        self._settle(connected.key, reason)
        await self._store.put(self._agents[connected.key])

    async def leave(self, connected: Connected) -> None:
        """The session ended, and its sidecar will not come back by itself: nobody looks for the agent any more.

        One that holds a task is not forgotten before its lease has ended, nor is one whose mailbox others write to.
        """
        agent = self._agents[connected.key]
        if agent.task_id or agent.long_running:
            await self.disconnect(connected, "its sidecar was stopped")
        elif self._connected.get(connected.key) is connected:
            del self._connected[connected.key], self._agents[connected.key]
            summary = f"{agent.id} left: its sidecar was stopped"
            self._watch.publish(Event("agent.left", self._clock.now(), summary, agent.tenant_id, "", agent.id))
            await self._store.remove(*connected.key)

    def said(self, connected: Connected, state: State, reason: str, use: ResourceUse) -> bool:
        """Note a sign of life; return whether the agent became free by it."""
        if self._connected.get(connected.key) is not connected:
            return False
        before = self.is_free(connected)
        idle_for_us = not connected.occupied and not self._agents[connected.key].task_id
        # A sign of life written before its task's end arrived must not keep the agent from new work.
        stays = state is State.STARTING or (state is State.STALLED and connected.long_running)
        connected.said = State.IDLE if idle_for_us and not stays else state
        if state is State.IDLE:
            connected.occupied = False
        self._agents[connected.key] = replace(self._agents[connected.key], use=use)
        self._settle(connected.key, reason)
        return self.is_free(connected) and not before

    def took(self, tenant_id: TenantId, agent_id: AgentId, task_id: str) -> None:
        """Note that the agent was given a task."""
        key = (tenant_id, agent_id)
        if key in self._agents:
            self._agents[key] = replace(self._agents[key], task_id=task_id)
            connected = self._connected.get(key)
            if connected is not None and connected.said is State.IDLE:
                connected.said = State.WORKING
            self._settle(key, f"works on {task_id}")

    def isolated(self, tenant_id: TenantId, agent_id: AgentId, task_id: str, isolation: IsolationStatus) -> None:
        """Note what is in force around the agent while it works on the task."""
        key = (tenant_id, agent_id)
        agent = self._agents.get(key)
        if agent is not None and agent.task_id == task_id:
            self._agents[key] = replace(agent, isolation=isolation)

    def freed(self, tenant_id: TenantId, agent_id: AgentId, task_id: str, *, done: bool) -> None:
        """Note that the task is no longer the agent's. Unless it is done, the agent may still be busy ending it."""
        key = (tenant_id, agent_id)
        agent = self._agents.get(key)
        if agent is None or agent.task_id != task_id:
            return
        # A process per task is gone with its task, and what was in force around it with it.
        isolation = agent.isolation if agent.long_running else IsolationStatus(requested_level=agent.default_level)
        self._agents[key] = replace(agent, task_id="", isolation=isolation)
        connected = self._connected.get(key)
        if connected is not None:
            connected.occupied = connected.occupied or not done
            if connected.said is not State.STARTING:
                connected.said = State.IDLE
        self._settle(key, "has no task")

    def is_free(self, connected: Connected) -> bool:
        """Return whether it can be given a task."""
        agent = self._agents[connected.key]
        return connected.ready and not (connected.occupied or agent.task_id) and connected.said is State.IDLE

    def free(self) -> list[Agent]:
        """Return the agents that can be given a task."""
        return [self._agents[connected.key] for connected in self._connected.values() if self.is_free(connected)]

    def connected(self, tenant_id: TenantId, agent_id: AgentId) -> Connected | None:
        """Return the live session of an agent."""
        return self._connected.get((tenant_id, agent_id))

    def all_connected(self) -> list[Connected]:
        """Return every live session."""
        return list(self._connected.values())

    def linked(self) -> list[tuple[Agent, Link]]:
        """Return every connected agent with the way to it."""
        return [(self._agents[key], connected.link) for key, connected in self._connected.items()]

    def live_agents(self) -> list[Agent]:
        """Return every connected agent."""
        return [self._agents[key] for key in self._connected]

    def present(self) -> list[Agent]:
        """Return every agent that is connected, or has a task although it is not."""
        return [agent for key, agent in self._agents.items() if agent.task_id or key in self._connected]

    def long_running(self, tenant_id: TenantId) -> set[AgentId]:
        """Return the agents with a mailbox of their own, connected or not."""
        return {agent.id for (tenant, _), agent in self._agents.items() if tenant == tenant_id and agent.long_running}

    def find(self, tenant_id: TenantId, agent_id: str) -> Agent | None:
        """Return an agent, or None."""
        return self._agents.get((tenant_id, AgentId(agent_id)))

    def get(self, tenant_id: TenantId, agent_id: str) -> Agent:
        """Return an agent.

        Raises:
            AgentNotFoundError: There is none with this id.
        """
        agent = self.find(tenant_id, agent_id)
        if agent is None:
            raise AgentNotFoundError(agent_id=agent_id)
        return agent

    def page(self, tenant_id: TenantId, after: str, limit: int) -> Sequence[Agent]:
        """Return agents by id, those above `after`."""
        ids = sorted(agent_id for tenant, agent_id in self._agents if tenant == tenant_id and agent_id > after)
        return [self._agents[tenant_id, agent_id] for agent_id in ids[:limit]]

    def counts(self) -> dict[str, int]:
        """Return how many agents are in each state."""
        counts: dict[str, int] = {}
        for agent in self._agents.values():
            counts[agent.state.value] = counts.get(agent.state.value, 0) + 1
        return counts

    def _settle(self, key: Key, reason: str, *, always: bool = False) -> None:
        agent, connected = self._agents[key], self._connected.get(key)
        state = _state(agent, connected)
        if state is agent.state and not always:
            return
        now = self._clock.now()
        self._agents[key] = replace(agent, state=state, state_time=now, state_reason=reason)
        summary = f"{agent.id} is {state.value.replace('_', ' ')}: {reason}"
        self._watch.publish(Event(f"agent.{state.value}", now, summary, agent.tenant_id, agent.task_id, agent.id))


def _state(agent: Agent, connected: Connected | None) -> State:
    if connected is None:
        return State.LOST
    if connected.said in {State.STARTING, State.STALLED}:
        return connected.said
    if agent.task_id or connected.occupied:
        return connected.said if connected.said in {State.WAITING_FOR_HUMAN, State.RATE_LIMITED} else State.WORKING
    return State.IDLE
