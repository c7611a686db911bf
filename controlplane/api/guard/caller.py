"""Who calls?"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from claude_conductor.errors import PermissionDeniedError, UnauthenticatedError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, TenantId


class Role(enum.Enum):
    """What sort of caller it is."""

    OPERATOR = "operator"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    role: Role
    tenant_id: TenantId
    agent_id: AgentId = AgentId("")
    """The agent a sidecar speaks for."""

    @property
    def name(self) -> str:
        """How it is named as a submitter: `operator` or `agent/ID`."""
        return f"agent/{self.agent_id}" if self.role is Role.SIDECAR else "operator"


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """Return who makes the present call.

    Raises:
        UnauthenticatedError: Nobody the guard has let in.
    """
    caller = _CALLER.get()
    if caller is None:
        raise UnauthenticatedError
    return caller


def current_agent() -> tuple[TenantId, AgentId]:
    """Return whose sidecar makes the present call.

    Raises:
        PermissionDeniedError: It is no sidecar.
    """
    caller = current_caller()
    if caller.role is not Role.SIDECAR:
        raise PermissionDeniedError("Only a sidecar opens a session.")
    return caller.tenant_id, caller.agent_id


def set_caller(caller: Caller | None) -> None:
    """Note who makes the present call; it holds for the task that serves it."""
    _CALLER.set(caller)


class Tokens:
    """The tokens that are accepted, as SHA-256 only."""

    def __init__(self, operator_sha256: str, sidecar_sha256: Mapping[str, str]) -> None:
        self._known: list[tuple[bytes, Caller]] = [
            (digest.lower().encode(), Caller(Role.SIDECAR, DEFAULT_TENANT, AgentId(agent_id)))
            for agent_id, digest in sidecar_sha256.items()
            if digest
        ]
        if operator_sha256:
            self._known.insert(0, (operator_sha256.lower().encode(), Caller(Role.OPERATOR, DEFAULT_TENANT)))

    def caller(self, authorization: str) -> Caller:
        """Return who has this `authorization` metadata. Every known token is compared, so the time says nothing.

        Raises:
            UnauthenticatedError: There is none, or nobody has it.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError
        digest = hashlib.sha256(token.encode()).hexdigest().encode()
        found: Caller | None = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise UnauthenticatedError("Nobody has this token.")
        return found
