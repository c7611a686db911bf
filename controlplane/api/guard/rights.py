"""Who may call what? What is not listed here is refused."""

from __future__ import annotations

from typing import Final

from controlplane.api.guard.caller import Role

_BOTH: Final = frozenset({Role.OPERATOR, Role.SIDECAR})
_OPERATOR: Final = frozenset({Role.OPERATOR})
_SIDECAR: Final = frozenset({Role.SIDECAR})
_V1: Final = "/claude_conductor.v1."

OPEN: Final = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)
"""Callable by everybody who can reach the socket."""

RIGHTS: Final = {
    _V1 + "SessionService/Connect": _SIDECAR,
    _V1 + "TaskService/SubmitTask": _BOTH,
    _V1 + "TaskService/SubmitTasks": _OPERATOR,
    _V1 + "TaskService/CheckTask": _OPERATOR,
    _V1 + "TaskService/ListTaskTypes": _OPERATOR,
    _V1 + "TaskService/GetTask": _BOTH,
    _V1 + "TaskService/ListTasks": _OPERATOR,
    _V1 + "TaskService/CancelTask": _OPERATOR,
    _V1 + "TaskService/AnswerTask": _OPERATOR,
    _V1 + "TaskService/RecordLanding": _OPERATOR,
    _V1 + "TaskService/WatchTask": _BOTH,
    _V1 + "TaskService/ReadTaskOutput": _OPERATOR,
    _V1 + "AgentService/GetAgent": _BOTH,
    _V1 + "AgentService/ListAgents": _BOTH,
    _V1 + "MessageService/SendMessage": _OPERATOR,
    _V1 + "MessageService/FetchMessages": _OPERATOR,
    _V1 + "MessageService/AcknowledgeMessages": _OPERATOR,
    _V1 + "MessageService/GetMessage": _OPERATOR,
    _V1 + "MessageService/ListMessages": _OPERATOR,
    _V1 + "MessageService/Request": _OPERATOR,
    _V1 + "MessageService/Subscribe": _BOTH,
    _V1 + "MessageService/Unsubscribe": _BOTH,
    _V1 + "MessageService/ListSubscriptions": _BOTH,
    _V1 + "MessageService/ReceiveMessages": _OPERATOR,
    _V1 + "MessageService/RedriveMessages": _OPERATOR,
    _V1 + "MessageService/PurgeMessages": _OPERATOR,
    _V1 + "EventService/WatchEvents": _OPERATOR,
    _V1 + "ArtefactService/WriteArtefact": _BOTH,
    _V1 + "ArtefactService/ReadArtefact": _BOTH,
    _V1 + "ScheduleService/CreateSchedule": _OPERATOR,
    _V1 + "ScheduleService/GetSchedule": _OPERATOR,
    _V1 + "ScheduleService/ListSchedules": _OPERATOR,
    _V1 + "ScheduleService/PauseSchedule": _OPERATOR,
    _V1 + "ScheduleService/ResumeSchedule": _OPERATOR,
    _V1 + "ScheduleService/DeleteSchedule": _OPERATOR,
    _V1 + "ScheduleService/RunSchedule": _OPERATOR,
    _V1 + "AdminService/GetStatus": _OPERATOR,
}
"""Roles by full method name."""


def allowed(method: str, role: Role) -> bool:
    """Return whether this role may call this method."""
    return role in RIGHTS.get(method, frozenset())
