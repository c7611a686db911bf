"""Who calls?"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from claude_conductor.errors import PermissionDeniedError, UnauthenticatedError
from claude_conductor.ids import DEFAULT_TENANT, AgentId, TenantId
from controlplane.domain.identity import Role
from controlplane.service.identities import Identities


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    role: Role
    tenant_id: TenantId
    agent_id: AgentId = AgentId("")
    """The agent a sidecar speaks for."""
    thumbprint: str = ""
    """SHA-256 of the certificate it came with."""
    token_id: str = ""
    """Of the token of a person or a program."""
    end: float = 0.0
    """When that token ends, in seconds since the epoch; 0: it does not."""

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


def known_caller() -> Caller | None:
    """Return who makes the present call, as far as the guard has found out."""
    return _CALLER.get()


def check_runs_conductor() -> None:
    """Refuse whoever is not of the tenant that runs Conductor.

    Raises:
        PermissionDeniedError: The caller is not.
    """
    if current_caller().tenant_id != DEFAULT_TENANT:
        raise PermissionDeniedError("Only the tenant `default` does this: it concerns every tenant.")


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


def bearer_of(authorization: str) -> str:
    """Return the token of an `authorization` metadata.

    Raises:
        UnauthenticatedError: There is none.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError
    return token


class Tokens:
    """The tokens that are accepted, as SHA-256 only: those of this home, then those that were made for people."""

    def __init__(self, operator_sha256: str, sidecar_sha256: Mapping[str, str], identities: Identities | None = None) -> None:
        self._identities = identities
        self._known: list[tuple[bytes, Caller]] = [
            (digest.lower().encode(), Caller(Role.SIDECAR, DEFAULT_TENANT, AgentId(agent_id)))
            for agent_id, digest in sidecar_sha256.items()
            if digest
        ]
        if operator_sha256:
            self._known.insert(0, (operator_sha256.lower().encode(), Caller(Role.ADMIN, DEFAULT_TENANT)))

    def caller(self, authorization: str) -> Caller:
        """Return who has this `authorization` metadata. Every token of this home is compared, so the time says nothing.

        Raises:
            UnauthenticatedError: There is none, or nobody has it.
            AgentQuarantinedError: It is that of an agent that is kept out.
        """
        token = bearer_of(authorization)
        digest = hashlib.sha256(token.encode()).hexdigest().encode()
        found: Caller | None = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        if self._identities is None:
            if found is None:
                raise UnauthenticatedError("Nobody has this token.")
            return found
        if found is None:
            person = self._identities.person(token)
            return Caller(person.role, person.tenant_id, token_id=person.id, end=person.expire_time)
        if found.role is Role.SIDECAR:
            self._identities.check_ban(found.tenant_id, found.agent_id)
        return found
