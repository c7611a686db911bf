"""How does AgentService answer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import grpc

from claude_conductor.errors import AgentNotFoundError, InvalidArgumentError
from claude_conductor.v1 import agent_service_pb2 as pb
from claude_conductor.v1.agent_service_pb2_grpc import AgentServiceServicer
from controlplane.api.convert.agent import agent_to_proto
from controlplane.api.guard.caller import Caller, current_caller
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.domain.agent import Agent
from controlplane.domain.identity import Role
from controlplane.service.directory import Directory
from controlplane.service.permissions import Permissions
from controlplane.service.quarantine import Quarantine
from controlplane.service.registry import Registry

_REASON_BYTES = 1024
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class FleetServicer(AgentServiceServicer):
    """Serves AgentService."""

    def __init__(self, registry: Registry, directory: Directory, permissions: Permissions, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._registry = registry
        self._directory = directory
        self._permissions = permissions

    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        """Return one agent."""
        del context
        caller = current_caller()
        agent = self._registry.get(caller.tenant_id, request.agent_id)
        if not await self._visible(caller, [agent]):
            raise AgentNotFoundError(agent_id=request.agent_id)
        return pb.GetAgentResponse(agent=agent_to_proto(agent, for_peers=caller.role is Role.SIDECAR))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        """Return a page of agents."""
        del context
        caller = current_caller()
        size = page_size(request.page_size)
        agents = self._registry.page(caller.tenant_id, after_token_text(request.page_token), size + 1)
        more = token_for(agents[size - 1].id.encode()) if len(agents) > size else ""
        for_peers = caller.role is Role.SIDECAR
        shown = [agent_to_proto(agent, for_peers=for_peers) for agent in await self._visible(caller, agents[:size])]
        return pb.ListAgentsResponse(agents=shown, next_page_token=more)

    async def QuarantineAgent(self, request: pb.QuarantineAgentRequest, context: Context) -> pb.QuarantineAgentResponse:
        """Take an agent out."""
        del context
        if len(request.reason.encode()) > _REASON_BYTES:
            raise InvalidArgumentError(f"A reason has at most {_REASON_BYTES} bytes.", field="reason")
        tenant_id = current_caller().tenant_id
        agent = self._registry.get(tenant_id, request.agent_id)
        await self._quarantine.begin(tenant_id, agent.id, request.reason or "somebody took it out")
        return pb.QuarantineAgentResponse()

    async def ReleaseAgent(self, request: pb.ReleaseAgentRequest, context: Context) -> pb.ReleaseAgentResponse:
        """Let an agent in again."""
        del context
        tenant_id = current_caller().tenant_id
        await self._quarantine.end(tenant_id, self._registry.get(tenant_id, request.agent_id).id)
        return pb.ReleaseAgentResponse()

    async def _visible(self, caller: Caller, agents: Sequence[Agent]) -> Sequence[Agent]:
        """Return those the caller may see: people all, an agent those it may write to."""
        if caller.role is not Role.SIDECAR:
            return agents
        agent = self._registry.get(caller.tenant_id, caller.agent_id)
        sender = await self._directory.sender(caller.tenant_id, agent.id, "", long_running=agent.long_running)
        return await self._permissions.peers(caller.tenant_id, sender, agents)
