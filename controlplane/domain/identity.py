"""Who may come in, as whom, and until when? Tokens and bans as values; nobody's secret is in them, only its SHA-256."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from claude_conductor.ids import AgentId, TenantId


class Role(enum.Enum):
    """What sort of caller it is."""

    ADMIN = "admin"
    """Who runs Conductor: everything, identities and the authority included."""
    OPERATOR = "operator"
    """Who works with it."""
    VIEWER = "viewer"
    """Who looks on."""
    AGENT = "agent"
    """A program in the place of an agent; it talks to a sidecar, and has no rights here."""
    SIDECAR = "sidecar"
    """Speaks for one agent."""


LISTED_SECONDS = 7 * 86_400.0
"""How long an ended token of a person can be seen in lists."""
PEOPLE = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
"""Roles that a token for people and programs may have."""


class Purpose(enum.Enum):
    """What a token is for."""

    JOIN = "join"
    """Makes a sidecar an agent's, once."""
    AGENT = "agent"
    """Is sent with each call of a sidecar over a network, beside the certificate it is bound to."""
    PERSON = "person"
    """Says who a person or a program is."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored. Times in seconds since the epoch."""

    id: str
    sha256: str
    """Of the secret, hexadecimal."""
    purpose: Purpose
    tenant_id: TenantId
    role: Role
    create_time: float
    expire_time: float
    name: str = ""
    """What whoever made it calls it."""
    agent_id: AgentId = AgentId("")
    thumbprint: str = ""
    """SHA-256 of the certificate it is bound to, hexadecimal."""
    certificate_end: float = 0.0
    """When that certificate ends; until then its owner may have the token renewed."""
    level: str = ""
    """Of a join token: the isolation level of the agent."""
    redeem_time: float = 0.0
    """When a join token was used; 0: not yet."""
    revoke_time: float = 0.0
    """0: it was not."""

    @property
    def kept_until(self) -> float:
        """When it may be forgotten: an agent's, of which there are many, at its end; others can be listed a while longer."""
        if self.purpose is Purpose.AGENT:
            return max(self.expire_time, self.certificate_end)
        return self.expire_time + LISTED_SECONDS

    def valid(self, now: float) -> bool:
        """Tell whether it is accepted."""
        return now < self.expire_time and not self.revoke_time and not self.redeem_time

    def renewable(self, now: float) -> bool:
        """Tell whether the owner of its certificate may have another token."""
        return now < self.certificate_end and not self.revoke_time


@dataclass(frozen=True, slots=True)
class Ban:
    """An agent that is kept out until somebody lifts it."""

    tenant_id: TenantId
    agent_id: AgentId
    reason: str
    time: float
