"""What can be asked about agents?"""

from __future__ import annotations

from claude_conductor.client.call import Caller
from claude_conductor.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc


class Agents:
    """The agents there are."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._stub = agent_service_pb2_grpc.AgentServiceStub(caller.channel)

    async def get(self, agent_id: str) -> agent_pb2.Agent:
        """Return one agent.

        Raises:
            AgentNotFoundError: There is none.
        """
        return (await self._caller.unary(self._stub.GetAgent, agent_service_pb2.GetAgentRequest(agent_id=agent_id))).agent

    async def quarantine(self, agent_id: str, reason: str) -> None:
        """Take an agent out: its streams end and what it has is revoked.

        Raises:
            AgentNotFoundError: There is none.
        """
        request = agent_service_pb2.QuarantineAgentRequest(agent_id=agent_id, reason=reason)
        await self._caller.unary(self._stub.QuarantineAgent, request)

    async def release(self, agent_id: str) -> None:
        """Let an agent in again.

        Raises:
            AgentNotFoundError: There is none.
        """
        await self._caller.unary(self._stub.ReleaseAgent, agent_service_pb2.ReleaseAgentRequest(agent_id=agent_id))

    async def list(self, *, limit: int = 1000) -> list[agent_pb2.Agent]:
        """Return up to `limit` agents by id, over as many pages as it takes."""
        found: list[agent_pb2.Agent] = []
        token = ""
        while len(found) < limit:
            request = agent_service_pb2.ListAgentsRequest(page_size=min(1000, limit - len(found)), page_token=token)
            answer = await self._caller.unary(self._stub.ListAgents, request)
            found += answer.agents
            token = answer.next_page_token
            if not token:
                break
        return found
