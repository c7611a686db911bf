"""Who may call what? What is not listed here is refused."""

from __future__ import annotations

from typing import Final

from controlplane.domain.identity import Role

_ADMIN: Final = frozenset({Role.ADMIN})
_OPERATOR: Final = _ADMIN | {Role.OPERATOR}
_VIEWER: Final = _OPERATOR | {Role.VIEWER}
_SIDECAR: Final = frozenset({Role.SIDECAR})
_V1: Final = "/claude_conductor.v1."

FOREIGN: Final = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)
"""Served by libraries, in their own way."""

OPEN: Final = FOREIGN | {_V1 + "CertificateService/GetAuthority", _V1 + "EnrolmentService/Enrol"}
"""Callable by everybody who can reach the listener."""

RIGHTS: Final = {
    _V1 + "SessionService/Connect": _SIDECAR,
    _V1 + "TaskService/SubmitTask": _OPERATOR | _SIDECAR,
    _V1 + "TaskService/SubmitTasks": _OPERATOR,
    _V1 + "TaskService/CheckTask": _VIEWER,
    _V1 + "TaskService/ListTaskTypes": _VIEWER,
    _V1 + "TaskService/GetTask": _VIEWER | _SIDECAR,
    _V1 + "TaskService/ListTasks": _VIEWER,
    _V1 + "TaskService/CancelTask": _OPERATOR,
    _V1 + "TaskService/AnswerTask": _OPERATOR,
    _V1 + "TaskService/RecordLanding": _OPERATOR,
    _V1 + "TaskService/WatchTask": _VIEWER | _SIDECAR,
    _V1 + "TaskService/ReadTaskOutput": _VIEWER,
    _V1 + "AgentService/GetAgent": _VIEWER | _SIDECAR,
    _V1 + "AgentService/ListAgents": _VIEWER | _SIDECAR,
    _V1 + "MessageService/SendMessage": _OPERATOR,
    _V1 + "MessageService/FetchMessages": _OPERATOR,
    _V1 + "MessageService/AcknowledgeMessages": _OPERATOR,
    _V1 + "MessageService/GetMessage": _VIEWER,
    _V1 + "MessageService/ListMessages": _VIEWER,
    _V1 + "MessageService/Request": _OPERATOR,
    _V1 + "MessageService/Subscribe": _OPERATOR | _SIDECAR,
    _V1 + "MessageService/Unsubscribe": _OPERATOR | _SIDECAR,
    _V1 + "MessageService/ListSubscriptions": _VIEWER | _SIDECAR,
    _V1 + "MessageService/ReceiveMessages": _OPERATOR,
    _V1 + "MessageService/RedriveMessages": _OPERATOR,
    _V1 + "MessageService/PurgeMessages": _OPERATOR,
    _V1 + "EventService/WatchEvents": _VIEWER,
    _V1 + "ArtefactService/WriteArtefact": _OPERATOR | _SIDECAR,
    _V1 + "ArtefactService/ReadArtefact": _VIEWER | _SIDECAR,
    _V1 + "AdminService/GetStatus": _VIEWER,
    _V1 + "AuditService/ListAuditRecords": _ADMIN,
    _V1 + "AuditService/GetAuditHeads": _ADMIN,
    _V1 + "EnrolmentService/Renew": _SIDECAR,
    _V1 + "CredentialService/CreateToken": _ADMIN,
    _V1 + "CredentialService/CreateJoinToken": _ADMIN,
    _V1 + "CredentialService/ListTokens": _ADMIN,
    _V1 + "CredentialService/RevokeToken": _ADMIN,
    _V1 + "AgentService/QuarantineAgent": _ADMIN,
    _V1 + "AgentService/ReleaseAgent": _ADMIN,
    _V1 + "CertificateService/IssueCertificate": _ADMIN,
    _V1 + "CertificateService/RotateAuthority": _ADMIN,
    _V1 + "ScheduleService/CreateSchedule": _OPERATOR,
    _V1 + "ScheduleService/GetSchedule": _VIEWER,
    _V1 + "ScheduleService/ListSchedules": _VIEWER,
    _V1 + "ScheduleService/PauseSchedule": _OPERATOR,
    _V1 + "ScheduleService/ResumeSchedule": _OPERATOR,
    _V1 + "ScheduleService/DeleteSchedule": _OPERATOR,
    _V1 + "ScheduleService/RunSchedule": _OPERATOR,
}
"""Roles by full method name."""


AUDITED: Final = frozenset(
    {
        *(_V1 + "TaskService/" + name for name in ("SubmitTask", "SubmitTasks", "CancelTask", "AnswerTask")),
        *(_V1 + f"ScheduleService/{verb}Schedule" for verb in ("Create", "Pause", "Resume", "Delete", "Run")),
        *(_V1 + "MessageService/" + name for name in ("RedriveMessages", "PurgeMessages")),
        *(_V1 + "AgentService/" + name for name in ("QuarantineAgent", "ReleaseAgent")),
        *(_V1 + "CertificateService/" + name for name in ("IssueCertificate", "RotateAuthority")),
        *(_V1 + "EnrolmentService/" + name for name in ("Enrol", "Renew")),
        *(_V1 + "CredentialService/" + name for name in ("CreateToken", "CreateJoinToken", "RevokeToken")),
    }
)
"""Leave a record also when they succeed; every refusal does."""


def allowed(method: str, role: Role) -> bool:
    """Return whether this role may call this method."""
    return role in RIGHTS.get(method, frozenset())
