"""How do the frames of a sidecar become what the services understand?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_conductor.errors import InvalidArgumentError, MalformedFrameError
from claude_conductor.ids import Incarnation
from claude_conductor.v1 import session_service_pb2 as pb
from controlplane.api.convert import budget, isolation
from controlplane.api.convert.agent import STATES_BACK as AGENT_STATES
from controlplane.api.convert.agent import use_from_proto
from controlplane.api.convert.message import STATES_BACK as MESSAGE_STATES
from controlplane.api.convert.question import asked_from_proto
from controlplane.api.convert.result import result_from_proto, usage_from_proto
from controlplane.api.convert.task import lease_from_proto
from controlplane.api.convert.values import span_of
from controlplane.domain.message import Receipt, State
from controlplane.domain.task import IsolationLevel, Lease
from controlplane.interfaces.output_log import OutputChunk
from controlplane.service.results import (
    Decision,
    HasClaimed,
    HasEnded,
    HasPrinted,
    HasProgressed,
    HasReached,
    HasStarted,
    HasWithdrawn,
    IsRateLimited,
    LimitHasEnded,
    Report,
)
from controlplane.service.sessions import Beat, Hello, Receipts

_LARGEST = (1 << 63) - 1
_OUTPUT_CHUNK = 64 << 10
_PROGRESS = 1 << 10
_DECISIONS = 100
_HOST = 300
_RECEIPT_STATES = frozenset({State.AT_SIDECAR, State.SEEN, State.ACKED, State.BOUNCED, State.DEAD})
_TEXT = 1 << 10
_CREDENTIAL = 64


def hello_from_proto(hello: pb.SidecarHello) -> Hello:
    """Return the hello.

    Raises:
        InvalidArgumentError: A value cannot be used; the details name it.
    """
    if not hello.incarnation:
        raise InvalidArgumentError("A sidecar names its incarnation.", field="hello.incarnation")
    default = hello.default_isolation
    return Hello(
        protocol_version=hello.protocol_version,
        incarnation=Incarnation(hello.incarnation),
        drivers=tuple(hello.drivers),
        labels=dict(hello.labels),
        strongest_level=isolation.level_from_proto(hello.strongest_level, "hello.strongest_level"),
        default_level=isolation.level_from_proto(default.level, "hello.default_isolation.level") or IsolationLevel.STRICT,
        default_limits=isolation.limits_from_proto(default.limits, "hello.default_isolation.limits"),
        active_leases=tuple(lease_from_proto(lease) for lease in hello.active_leases),
        mailbox_positions={name: min(position, _LARGEST) for name, position in hello.mailbox_positions.items()},
        version=hello.version,
        pid=hello.pid,
        host=hello.host,
        long_running=hello.long_running,
        isolation=isolation.status_from_proto(hello.isolation),
        capacity=isolation.limits_from_proto(hello.capacity, "hello.capacity"),
        credential=hello.credential.credential_id[:_CREDENTIAL],
        credential_drivers=tuple(hello.credential.drivers),
        credential_closed=span_of(hello.credential.closed, "hello.credential.closed"),
    )


def beat_from_proto(beat: pb.Heartbeat) -> Beat:
    """Return the sign of life.

    Raises:
        InvalidArgumentError: It has no state.
    """
    if beat.state not in AGENT_STATES:
        raise InvalidArgumentError("A heartbeat says what the agent does.", field="heartbeat.state", value=beat.state)
    leases = tuple(lease_from_proto(lease) for lease in beat.leases)
    return Beat(leases, AGENT_STATES[beat.state], beat.reason, use_from_proto(beat.use), beat.leaving)


def receipts_from_proto(receipts: pb.Receipts) -> Receipts:
    """Return the receipts by mailbox, in order.

    Raises:
        InvalidArgumentError: A state is none a sidecar may report, or the positions are none.
    """
    by_mailbox: dict[str, list[Receipt]] = {}
    for receipt in receipts.receipts:
        state = MESSAGE_STATES.get(receipt.state)
        if state is None or state not in _RECEIPT_STATES:
            raise InvalidArgumentError("A sidecar reports AT_SIDECAR, SEEN, ACKED, BOUNCED or DEAD.", field="receipts.state")
        if not 0 < receipt.from_position <= receipt.to_position <= _LARGEST:
            raise InvalidArgumentError("Positions begin at 1, and the last is not before the first.", field="receipts")
        of_mailbox = by_mailbox.setdefault(receipt.mailbox, [])
        reason, last_error = receipt.reason[:_TEXT], receipt.last_error[:_TEXT]
        of_mailbox.append(Receipt(receipt.from_position, receipt.to_position, state, reason, receipt.attempt, last_error))
    return Receipts({name: tuple(of_mailbox) for name, of_mailbox in by_mailbox.items()})


def report_from_proto(report: pb.TaskReport) -> Report:
    """Return the report.

    Raises:
        InvalidArgumentError: A value cannot be used.
        MalformedFrameError: It reports nothing this version knows.
    """
    read = _REPORTS.get(report.WhichOneof("report") or "")
    if read is None:
        raise MalformedFrameError("A report says that a task started, progressed, printed, asked, reached, waits or ended.")
    return read(lease_from_proto(report.lease), report)


def _reached(lease: Lease, report: pb.TaskReport) -> HasReached:
    return HasReached(lease, tuple(map(_decision, report.egress.decisions[:_DECISIONS])))


def _decision(decision: pb.EgressDecision) -> Decision:
    host, rule, reason = (text[:_HOST] for text in (decision.host, decision.rule, decision.reason))
    return Decision(host, decision.port, rule, reason, decision.connections)


def _limit(lease: Lease, report: pb.TaskReport) -> Report:
    if report.HasField("rate_limit_ended"):
        return LimitHasEnded(lease)
    limited = report.rate_limited
    seconds = span_of(limited.retry_delay, "rate_limited.retry_delay")
    return IsRateLimited(lease, seconds, limited.reason[:_TEXT], limited.credential_id[:_CREDENTIAL])


def _chunk(output: pb.TaskOutput) -> OutputChunk:
    if output.stream not in {"stdout", "stderr", "setup"}:
        raise InvalidArgumentError("Output comes from `stdout`, `stderr` or `setup`.", field="output.stream", value=output.stream)
    if len(output.data) > _OUTPUT_CHUNK or output.offset > _LARGEST:
        raise InvalidArgumentError("A piece of output has at most 64 KiB.", field="output.data", bytes=len(output.data))
    return OutputChunk(output.offset, output.stream, output.data)


_REPORTS: Mapping[str, Callable[[Lease, pb.TaskReport], Report]] = {
    "started": lambda lease, report: HasStarted(lease, isolation.status_from_proto(report.started.isolation)),
    "progress": lambda lease, report: HasProgressed(
        lease, report.progress.text[:_PROGRESS], usage_from_proto(report.progress.usage)
    ),
    "used": lambda lease, report: HasProgressed(lease, None, usage_from_proto(report.used)),
    "budget": lambda lease, report: HasClaimed(
        lease, usage_from_proto(report.budget.used), budget.spent_from_proto(report.budget.claimed, "budget.claimed")
    ),
    "output": lambda lease, report: HasPrinted(lease, _chunk(report.output)),
    "completed": lambda lease, report: HasEnded(lease, result_from_proto(report.completed)),
    "asked": lambda lease, report: asked_from_proto(lease, report.asked),
    "withdrawn": lambda lease, report: HasWithdrawn(lease, report.withdrawn.question_id, report.withdrawn.expired),
    "rate_limited": _limit,
    "rate_limit_ended": _limit,
    "egress": _reached,
}
