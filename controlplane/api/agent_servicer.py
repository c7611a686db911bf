"""How does AgentService answer?"""

from __future__ import annotations

from typing import TypeAlias

import grpc

from claude_conductor.v1 import agent_service_pb2 as pb
from claude_conductor.v1.agent_service_pb2_grpc import AgentServiceServicer
from controlplane.api.convert.agent import agent_to_proto
from controlplane.api.guard.caller import Role, current_caller
from controlplane.api.paging import after_token_text, page_size, token_for
from controlplane.service.registry import Registry

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class FleetServicer(AgentServiceServicer):
    """Serves AgentService."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        """Return one agent."""
        del context
        caller = current_caller()
        agent = self._registry.get(caller.tenant_id, request.agent_id)
        return pb.GetAgentResponse(agent=agent_to_proto(agent, for_peers=caller.role is Role.SIDECAR))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        """Return a page of agents."""
        del context
        caller = current_caller()
        size = page_size(request.page_size)
        agents = self._registry.page(caller.tenant_id, after_token_text(request.page_token), size + 1)
        more = token_for(agents[size - 1].id.encode()) if len(agents) > size else ""
        for_peers = caller.role is Role.SIDECAR
        shown = [agent_to_proto(agent, for_peers=for_peers) for agent in agents[:size]]
        return pb.ListAgentsResponse(agents=shown, next_page_token=more)
