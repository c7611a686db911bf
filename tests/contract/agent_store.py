"""What every AgentStore does. A backend's test class inherits this and gives the fixture `agents`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from claude_conductor.ids import DEFAULT_TENANT, AgentId, Incarnation, TenantId
from controlplane.domain.agent import Agent, ResourceUse, State
from controlplane.domain.task import IsolationLevel, IsolationStatus, ResourceLimits
from controlplane.interfaces.agent_store import AgentStore
from tests.contract.samples import OTHER_TENANT, START


def agent(name: str, tenant: TenantId = DEFAULT_TENANT) -> Agent:
    return Agent(AgentId(name), tenant, Incarnation("inc_1"), State.IDLE, START, "")


class AgentStoreContract:
    async def test_an_agent_comes_back_as_it_was(self, agents: AgentStore) -> None:
        full = replace(
            agent("a"),
            drivers=("command", "claude_code"),
            labels={"zone": "b"},
            isolation=IsolationStatus(IsolationLevel.STRICT, None, "bubblewrap", ("seccomp",), ()),
            use=ResourceUse(1 << 40, 1.5, 3),
            strongest_level=IsolationLevel.STRICT,
            default_limits=ResourceLimits(cpus=0.5),
            capacity=ResourceLimits(1 << 34, 2.0),
            long_running=True,
        )
        await agents.put(full)
        assert await agents.get(DEFAULT_TENANT, AgentId("a")) == full

    async def test_an_unknown_agent_is_none(self, agents: AgentStore) -> None:
        await agents.put(agent("a"))
        assert await agents.get(DEFAULT_TENANT, AgentId("b")) is None
        assert await agents.get(OTHER_TENANT, AgentId("a")) is None

    async def test_the_last_one_wins(self, agents: AgentStore) -> None:
        await agents.put(agent("a"))
        later = replace(agent("a"), state=State.LOST, state_reason="gone")
        await agents.put(later)
        assert list(await agents.all()) == [later]

    async def test_a_removed_agent_is_forgotten(self, agents: AgentStore) -> None:
        for one in (agent("a"), agent("b"), agent("a", OTHER_TENANT)):
            await agents.put(one)
        await agents.remove(DEFAULT_TENANT, AgentId("a"))
        await agents.remove(DEFAULT_TENANT, AgentId("nobody"))
        assert list(await agents.all()) == [agent("b"), agent("a", OTHER_TENANT)]

    async def test_all_agents_come_by_tenant_and_id(self, agents: AgentStore) -> None:
        every = [agent("a"), agent("b"), agent("c"), agent("a", OTHER_TENANT)]
        await asyncio.gather(*(agents.put(one) for one in reversed(every)))
        assert list(await agents.all()) == every
