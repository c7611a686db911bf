"""Which calls leave a record, and what does it say?"""

from __future__ import annotations

from typing import Any, Final

import grpc

from claude_conductor.errors import ConductorError
from claude_conductor.rpc import status
from controlplane.api.guard.caller import Caller, known_caller
from controlplane.api.guard.interceptors import Context, Handler, Next, behaviour, rebuilt
from controlplane.api.guard.rights import AUDITED, FOREIGN
from controlplane.domain.identity import Role
from controlplane.service.audit import Audit, Note

_REFUSED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_NAMED: Final = ("task_id", "agent_id", "token_id")
"""Fields of requests that say what a call is about, the first that is set; never a text that a person wrote."""


class Audited(grpc.aio.ServerInterceptor):
    """Records what changes identities and tasks, and every refusal. The outermost but for the trace: it sees how a call ended.

    A call that changed something is answered once its record is durable.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def intercept_service(self, continuation: Next, details: grpc.HandlerCallDetails) -> Handler | None:
        """Wrap the call."""
        handler = await continuation(details)
        if handler is None or details.method in FOREIGN:
            return handler
        action = details.method.rpartition(".")[2]
        always = details.method in AUDITED
        inner = behaviour(handler)

        async def call(request: Any, context: Context) -> Any:  # noqa: ANN401 - whatever the servicer takes and returns
            try:
                answer = await inner(request, context)
            except BaseException:
                self._refused(context, action, request, always=always)
                raise
            if always:
                try:
                    await self._audit.written(_note(action, "ok", _target(request) or _made(answer)))
                except ConductorError as error:  # it has happened; whoever asks again under the same key is told so
                    await status.abort(context, error)
            return answer

        return rebuilt(handler, call)

    def _refused(self, context: Context, action: str, request: object, *, always: bool) -> None:
        code = context.code()
        if isinstance(code, int):
            code = next((each for each in grpc.StatusCode if each.value[0] == code), grpc.StatusCode.UNKNOWN)
        if always or code in _REFUSED:
            outcome = code.name if isinstance(code, grpc.StatusCode) else "CANCELLED"
            self._audit.told(_note(action, outcome, _target(request)))


def _note(action: str, outcome: str, target: str) -> Note:
    caller = known_caller()
    return Note(caller.tenant_id if caller is not None else "", _actor(caller), action, outcome, target)


def _actor(caller: Caller | None) -> str:
    if caller is None:
        return ""
    return caller.name if caller.role is Role.SIDECAR else caller.token_id or caller.name


def _target(request: object) -> str:
    return next((str(found) for name in _NAMED if (found := getattr(request, name, ""))), "")[:200]


def _made(answer: object) -> str:
    """Return the id of what a call made."""
    for name in ("task", "token"):
        made = getattr(answer, name, None)
        if made is not None:
            return _target(made)
    return _target(answer)
