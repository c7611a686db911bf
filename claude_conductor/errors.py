"""The one hierarchy of errors: what went wrong, what to do next, and nothing of any transport.

A class is a reason. Its docstring is the default message, `advice` says what to do next, and details are keywords:

    raise AgentNotFoundError(agent_id="reviewer")

`claude_conductor.rpc.status` is the only place where a kind meets a gRPC status code, and `claude_conductor.cli.exits` the
only place where it meets an exit code.
"""

from __future__ import annotations

import enum
import inspect
from typing import ClassVar, Self


class Kind(enum.Enum):
    """What sort of failure it is, with the meaning of the gRPC code of the same name."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    FAILED_PRECONDITION = "failed_precondition"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    INTERNAL = "internal"


class ConductorError(Exception):
    """Conductor failed in a way it has no better word for."""

    kind: ClassVar[Kind] = Kind.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    advice: ClassVar[str] = "look at `conductor logs --component controlplane`; if it happens again, report it with that log"

    retry_after: float | None = None
    """Seconds after which a repeat may help, where somebody knows; travels as RetryInfo."""

    def __init__(self, message: str = "", /, *, next_step: str = "", **details: object) -> None:
        """Store what is known.

        Args:
            message: Replaces the class's default sentence where the caller knows more.
            next_step: Replaces the class's advice.
            **details: Named facts (ids, sizes, paths); shown to the user and sent as ErrorInfo metadata, so never secrets.
        """
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0].replace("\n", " ")
        self.next_step = next_step or self.advice
        self.details = {name: str(value) for name, value in details.items()}
        super().__init__(self.message)

    def after(self, seconds: float | None) -> Self:
        """Return the error, with the seconds after which a repeat may help."""
        self.retry_after = seconds
        return self

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.message} ({facts})" if facts else self.message


class InvalidArgumentError(ConductorError):
    """The request has a value that cannot be used."""

    kind, reason = Kind.INVALID_ARGUMENT, "INVALID_ARGUMENT"
    advice = "correct the named field and send the request again"


class MalformedFrameError(InvalidArgumentError):
    """A frame on the stream is not one this protocol version knows."""

    reason = "MALFORMED_FRAME"
    advice = "compare the client with docs/protocol.md and the protocol version in its hello"


class SettingsError(ConductorError):
    """A settings file or variable has a value that cannot be used."""

    kind, reason = Kind.INVALID_ARGUMENT, "SETTINGS_INVALID"
    advice = "correct the named key; `conductor config show --show-origin` lists every key with its value and where it comes from"


class AgentNotFoundError(ConductorError):
    """No agent with this id is known."""

    kind, reason = Kind.NOT_FOUND, "AGENT_NOT_FOUND"
    advice = "`conductor agents list` shows the agents there are"


class TaskNotFoundError(ConductorError):
    """No task with this id is known."""

    kind, reason = Kind.NOT_FOUND, "TASK_NOT_FOUND"
    advice = "`conductor tasks list` shows the tasks there are; finished tasks are kept for 30 days"


class ScheduleNotFoundError(ConductorError):
    """No schedule with this name or id is known."""

    kind, reason = Kind.NOT_FOUND, "SCHEDULE_NOT_FOUND"
    advice = "`conductor schedules list` shows the schedules there are"


class ScheduleExistsError(ConductorError):
    """There is another schedule with this name."""

    kind, reason = Kind.ALREADY_EXISTS, "SCHEDULE_EXISTS"
    advice = "choose another name, or delete that one first: `conductor schedules delete NAME`"


class MessageNotFoundError(ConductorError):
    """No message with this id is known."""

    kind, reason = Kind.NOT_FOUND, "MESSAGE_NOT_FOUND"
    advice = "final states are kept for 24 hours; `conductor messages list` shows what there is"


class MessageNotDeadError(ConductorError):
    """The message is no dead letter."""

    kind, reason = Kind.FAILED_PRECONDITION, "MESSAGE_NOT_DEAD"
    advice = "`conductor messages show MESSAGE` tells where it stands, `conductor dlq list` lists the dead letters"


class ArtefactNotFoundError(ConductorError):
    """No artefact with this id is stored."""

    kind, reason = Kind.NOT_FOUND, "ARTEFACT_NOT_FOUND"
    advice = "`conductor tasks show TASK` lists the artefacts of a task"


class AgentOfflineError(ConductorError):
    """The recipient has no live session, and an ephemeral message does not wait."""

    kind, reason = Kind.UNAVAILABLE, "AGENT_OFFLINE"
    advice = "send it as DURABLE to have it wait in the mailbox"


class IdempotencyConflictError(ConductorError):
    """The idempotency key was used before for a different request."""

    kind, reason = Kind.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT"
    advice = "use a new key for a new request; the same key is for repeating the same one"


class BudgetExhaustedError(ConductorError):
    """Less of the task's budget is left than this would need; nothing was spent."""

    kind, reason = Kind.FAILED_PRECONDITION, "BUDGET_EXHAUSTED"
    advice = "`conductor tasks show TASK` tells what is used and reserved; submit it again with a larger budget"


class IllegalTransitionError(ConductorError):
    """The task is in a state in which this cannot happen."""

    kind, reason = Kind.FAILED_PRECONDITION, "ILLEGAL_TRANSITION"
    advice = "`conductor tasks show TASK` tells its state"


class StaleLeaseError(ConductorError):
    """The lease was given to somebody else meanwhile; this report changed nothing."""

    kind, reason = Kind.FAILED_PRECONDITION, "STALE_LEASE"
    advice = "stop working on the task: another attempt has it"


class UnauthenticatedError(ConductorError):
    """The caller did not say who it is in a way the control plane accepts."""

    kind, reason = Kind.UNAUTHENTICATED, "UNAUTHENTICATED"
    advice = "send metadata `authorization: Bearer TOKEN`; the command line finds its token in CONDUCTOR_HOME/run/operator.token"


class PermissionDeniedError(ConductorError):
    """The caller is known, and not allowed to do this."""

    kind, reason = Kind.PERMISSION_DENIED, "PERMISSION_DENIED"
    advice = "use an identity whose role has this right"


class CertificateError(ConductorError):
    """A certificate, its key or its authority cannot be used."""

    kind, reason = Kind.FAILED_PRECONDITION, "CERTIFICATE_UNUSABLE"
    advice = "`conductor certs show` shows what there is and until when"


class JoinRefusedError(ConductorError):
    """The join token is not valid: it was used, was revoked, its time is over, or it never was one."""

    kind, reason = Kind.UNAUTHENTICATED, "JOIN_REFUSED"
    advice = "make a new one where the control plane runs: `conductor tokens create-join AGENT`"


class TokenNotFoundError(ConductorError):
    """No token with this id is known."""

    kind, reason = Kind.NOT_FOUND, "TOKEN_NOT_FOUND"
    advice = "`conductor tokens list` shows the tokens there are"


class AgentQuarantinedError(ConductorError):
    """The agent is kept out."""

    kind, reason = Kind.PERMISSION_DENIED, "AGENT_QUARANTINED"
    advice = "who runs Conductor can let it in again: `conductor agents release AGENT`"


class AuditBrokenError(ConductorError):
    """The audit chain is not what was written."""

    kind, reason = Kind.FAILED_PRECONDITION, "AUDIT_BROKEN"
    advice = "compare it with an export that you keep elsewhere; what follows the named record is not to be relied on"


class PolicyDeniedError(ConductorError):
    """A rule of the policy does not let this message through."""

    kind, reason = Kind.PERMISSION_DENIED, "POLICY_DENIED"
    advice = "do not repeat it; who runs Conductor can change `policy.messages`"


class RateLimitedError(ConductorError):
    """The sender sends more messages than it may; nothing was stored."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "RATE_LIMITED"
    advice = "send it again after the time in RetryInfo, or raise `limits.messages_a_second` / `limits.messages_at_once`"


class PayloadTooLargeError(ConductorError):
    """The message is larger than a message may be."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE"
    advice = "store it as an artefact and send its id, or raise `limits.payload_bytes`"


class MailboxFullError(ConductorError):
    """The recipient's mailbox is full; nothing was stored."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "MAILBOX_FULL"
    advice = "send again later: the recipient has to read first, or `limits.mailbox_messages` / `limits.mailbox_bytes` be raised"


class SubscriptionLimitError(ConductorError):
    """The mailbox has as many subscriptions, or the topic as many subscribers, as are allowed."""

    kind, reason = Kind.RESOURCE_EXHAUSTED, "SUBSCRIPTION_LIMIT"
    advice = (
        "end subscriptions nobody needs (`conductor messages topics`), or raise `limits.subscriptions` / `limits.subscribers`"
    )


class HopLimitError(ConductorError):
    """The message was forwarded too often; it looks like a loop."""

    kind, reason = Kind.FAILED_PRECONDITION, "HOP_LIMIT_REACHED"
    advice = "stop forwarding between these agents, or raise `limits.hops`"


class MessageExpiredError(ConductorError):
    """The message's deadline had passed when it arrived."""

    kind, reason = Kind.DEADLINE_EXCEEDED, "MESSAGE_EXPIRED"
    advice = "send it with a longer time to live"


class StoreUnavailableError(ConductorError):
    """The store did not take the write; nothing was acknowledged."""

    kind, reason = Kind.UNAVAILABLE, "STORE_UNAVAILABLE"
    advice = "free disk space or repair the store, then repeat with the same key"


class StoreUnreachableError(StoreUnavailableError):
    """The store cannot be reached; nothing was sent to it."""

    kind, reason = Kind.UNAVAILABLE, "STORE_UNREACHABLE"
    advice = "see that it runs and that its address is right, then repeat with the same key"


class ControlPlaneUnavailableError(ConductorError):
    """The control plane does not answer."""

    kind, reason = Kind.UNAVAILABLE, "CONTROL_PLANE_UNAVAILABLE"
    advice = "`conductor start` starts the local set; `conductor status` tells what runs"


class ProtocolVersionError(ConductorError):
    """The two ends speak versions of the protocol that have nothing in common."""

    kind, reason = Kind.FAILED_PRECONDITION, "PROTOCOL_VERSION_MISMATCH"
    advice = "upgrade the older of the two; one minor version apart is supported"


class DeadlineExceededError(ConductorError):
    """It took longer than it was allowed to."""

    kind, reason = Kind.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"
    advice = "allow more time with --timeout, or look at what it waits for with `conductor status`"


class IsolationRefusedError(ConductorError):
    """This host cannot isolate an agent at the level that was asked for."""

    kind, reason = Kind.FAILED_PRECONDITION, "ISOLATION_REFUSED"
    advice = "`conductor doctor` names each missing mechanism and the command that adds it"


class SocketPathTooLongError(ConductorError):
    """The path of a Unix socket is longer than the kernel takes (107 bytes, unix(7))."""

    kind, reason = Kind.INVALID_ARGUMENT, "SOCKET_PATH_TOO_LONG"
    advice = "set CONDUCTOR_HOME to a shorter path"


class AlreadyRunningError(ConductorError):
    """Conductor runs already for this home."""

    kind, reason = Kind.ALREADY_EXISTS, "ALREADY_RUNNING"
    advice = "`conductor status` shows it, `conductor stop` ends it"


class NotRunningError(ConductorError):
    """Conductor does not run for this home."""

    kind, reason = Kind.UNAVAILABLE, "NOT_RUNNING"
    advice = "`conductor start` starts it"


class AddressInUseError(ConductorError):
    """Another program listens on this address."""

    kind, reason = Kind.UNAVAILABLE, "ADDRESS_IN_USE"
    advice = "stop that program, or choose another CONDUCTOR_HOME"


class HomeUnusableError(ConductorError):
    """Conductor's home cannot be used."""

    kind, reason = Kind.FAILED_PRECONDITION, "HOME_UNUSABLE"
    advice = "make the folder writable for you, or set CONDUCTOR_HOME to one that is"


class StartFailedError(ConductorError):
    """A part of Conductor did not become ready."""

    kind, reason = Kind.UNAVAILABLE, "START_FAILED"
    advice = "the log named here says why; `conductor doctor` checks the host"


class MissingProgramError(ConductorError):
    """A program that is needed is not installed."""

    kind, reason = Kind.FAILED_PRECONDITION, "PROGRAM_MISSING"
    advice = "install it, or name its path in the settings"


class ProviderUnavailableError(ConductorError):
    """The model provider could not be reached, or its answer broke off."""

    kind, reason = Kind.UNAVAILABLE, "PROVIDER_UNAVAILABLE"
    advice = "check the network and the provider's base URL in the settings; the agent repeats the call by itself"


class AgentHungUpError(ConductorError):
    """The agent closed its connection, or stopped reading, before the answer was complete."""

    kind, reason = Kind.UNAVAILABLE, "AGENT_HUNG_UP"
    advice = "nothing has to be done: the call was ended on both sides"


class WorkspaceError(ConductorError):
    """The workspace of the task could not be prepared or read."""

    kind, reason = Kind.FAILED_PRECONDITION, "WORKSPACE_UNUSABLE"
    advice = "check the repository and reference of the task"


ALL: tuple[type[ConductorError], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, type) and issubclass(value, ConductorError)
)
"""Every reason there is, for the tables that must be complete."""
