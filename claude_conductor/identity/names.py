"""What are programs called in certificates? SPIFFE ids (SPIFFE-ID, section 2), and nothing beside them."""

from __future__ import annotations

from typing import Final

from claude_conductor.errors import UnauthenticatedError
from claude_conductor.ids import AgentId, TenantId

TRUST_DOMAIN: Final = "conductor.local"
CONTROL_PLANE: Final = f"spiffe://{TRUST_DOMAIN}/control-plane"
SERVER_NAME: Final = f"control-plane.{TRUST_DOMAIN}"
"""The name every client looks for in the control plane's certificate, whatever the address it dialled. TLS libraries compare DNS
names only, so the control plane's certificate is the one that has more than a SPIFFE id."""

_PARTS: Final = 4


def agent_uri(tenant_id: str, agent_id: str) -> str:
    """Return the SPIFFE id of an agent."""
    return f"spiffe://{TRUST_DOMAIN}/tenant/{tenant_id}/agent/{agent_id}"


def parse_agent_uri(uri: str) -> tuple[TenantId, AgentId]:
    """Return whose SPIFFE id this is.

    Raises:
        UnauthenticatedError: It is no agent's, or one of another trust domain.
    """
    parts = uri.removeprefix(f"spiffe://{TRUST_DOMAIN}/").split("/")
    match parts:
        case ["tenant", tenant_id, "agent", agent_id] if tenant_id and agent_id and len(parts) == _PARTS:
            return TenantId(tenant_id), AgentId(agent_id)
        case _:
            raise UnauthenticatedError("The certificate is no agent's.", name=uri[:200])
