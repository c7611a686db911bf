"""Between the session's proto messages and the values the rest of the sidecar works with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from google.protobuf import duration_pb2

from agent_sidecar.egress.tally import Counted
from agent_sidecar.isolation.interface import Level, Limits
from agent_sidecar.run.question import Answer, Closed, Outcome
from agent_sidecar.run.task import (
    Activity,
    Allowance,
    Amount,
    Assignment,
    Cancellation,
    Condition,
    EmptySource,
    Failure,
    FailureKind,
    FolderSource,
    GitSource,
    InForce,
    Lease,
    LimitsAsked,
    ModelUsage,
    Result,
    SetupOrder,
    Source,
    Usage,
)
from claude_conductor.v1 import agent_pb2, session_service_pb2, task_pb2

PATCH_NAME: Final = "changes.patch"
_LEVELS: Final = {
    Level.STRICT: agent_pb2.ISOLATION_LEVEL_STRICT,
    Level.MODERATE: agent_pb2.ISOLATION_LEVEL_MODERATE,
    Level.MINIMAL: agent_pb2.ISOLATION_LEVEL_MINIMAL,
}
_FROM_LEVEL: Final = {number: level for level, number in _LEVELS.items()}
_ACTIVITIES: Final = {activity: agent_pb2.AgentState.Value(f"AGENT_STATE_{activity.name}") for activity in Activity}
_OUTCOMES: Final = {task_pb2.QuestionState.Value(f"QUESTION_STATE_{outcome.name}"): outcome for outcome in Outcome}
_KINDS: Final = {kind: task_pb2.FailureKind.Value(f"FAILURE_KIND_{kind.name}") for kind in FailureKind}
_FROM_KIND: Final = {number: kind for kind, number in _KINDS.items()}


def duration(seconds: float) -> duration_pb2.Duration:
    """Return a duration to the microsecond."""
    made = duration_pb2.Duration()
    made.FromMicroseconds(int(seconds * 1e6))
    return made


def lease_from(lease: task_pb2.Lease) -> Lease:
    """Return the lease."""
    return Lease(lease.task_id, lease.attempt, lease.epoch)


def lease_to(lease: Lease) -> task_pb2.Lease:
    """Return the lease."""
    return task_pb2.Lease(task_id=lease.task_id, attempt=lease.attempt, epoch=lease.epoch)


def assignment_from(assignment: session_service_pb2.TaskAssignment) -> Assignment:
    """Return the assignment; what a newer control plane adds stays in `spec`."""
    spec = assignment.spec
    limits = spec.isolation.limits
    timeout = spec.timeout.ToMicroseconds() / 1e6 if spec.HasField("timeout") else 0.0
    allowance = allowance_from(spec.budget)
    return Assignment(
        lease=lease_from(assignment.lease),
        mailbox=assignment.mailbox or f"task/{assignment.lease.task_id}",
        tenant_id=assignment.tenant_id,
        traceparent=assignment.traceparent,
        driver=spec.driver or "command",
        type=spec.type or "generic",
        prompt=spec.prompt,
        command=tuple(spec.command),
        environment=dict(spec.environment),
        prompt_by=spec.prompt_by or "argument",
        model=spec.model,
        max_turns=spec.max_turns,
        source=_source(spec.workspace),
        level=_FROM_LEVEL.get(spec.isolation.level),
        limits=LimitsAsked(limits.memory_bytes, limits.cpus, limits.pids, limits.workspace_bytes),
        allow=tuple(spec.isolation.allow),
        timeout=min(timeout or 3600.0, math.inf if allowance.seconds is None else allowance.seconds),
        allowance=allowance,
        parent_task_id=spec.parent_task_id,
        writes=tuple(spec.writes),
        setup=_setup(spec.setup),
        keep_workspace=spec.keep_workspace,
        spec=spec.SerializeToString(),
    )


def allowance_from(budget: task_pb2.Budget) -> Allowance:
    """Return what an attempt may use."""
    return Allowance(
        seconds=budget.wall_time.ToMicroseconds() / 1e6 if budget.HasField("wall_time") else None,
        turns=budget.turns if budget.HasField("turns") else None,
        tokens=budget.tokens if budget.HasField("tokens") else None,
        usd=budget.cost_usd if budget.HasField("cost_usd") else None,
    )


def amount_to(amount: Amount) -> task_pb2.Budget:
    """Return what an attempt claims."""
    return task_pb2.Budget(turns=amount.turns, tokens=amount.tokens, cost_usd=amount.usd)


def decision_to(counted: Counted) -> session_service_pb2.EgressDecision:
    """Return what was decided on connections to one target."""
    decision = counted.decision
    return session_service_pb2.EgressDecision(
        host=decision.host, port=decision.port, rule=decision.rule, reason=decision.reason, connections=counted.connections
    )


def _setup(setup: task_pb2.Setup) -> SetupOrder | None:
    if not setup.command:
        return None
    timeout = setup.timeout.ToMicroseconds() / 1e6 if setup.HasField("timeout") else 600.0
    return SetupOrder(tuple(setup.command), timeout, tuple(setup.cache_files), tuple(setup.keep))


def _source(source: task_pb2.WorkspaceSource) -> Source:
    match source.WhichOneof("source"):
        case "git":
            return GitSource(source.git.repository, source.git.ref)
        case "folder":
            return FolderSource(Path(source.folder.path))
        case _:
            return EmptySource()


def cancellation_from(cancellation: session_service_pb2.TaskCancellation, default_grace: float) -> Cancellation:
    """Return the order to end a task."""
    grace = cancellation.grace.ToMicroseconds() / 1e6 if cancellation.HasField("grace") else default_grace
    return Cancellation(grace, cancellation.reason, _FROM_KIND.get(cancellation.kind, FailureKind.CANCELLED))


def closed_from(closed: session_service_pb2.QuestionClosed) -> Closed:
    """Return what became of a question; a state of a newer control plane is the end of it."""
    answer = closed.answer
    answered = Answer(answer.text, answer.option, answer.answered_by) if closed.HasField("answer") else None
    return Closed(_OUTCOMES.get(closed.state, Outcome.WITHDRAWN), answered)


def in_force_to(status: InForce) -> agent_pb2.IsolationStatus:
    """Return what is in force."""
    return agent_pb2.IsolationStatus(
        requested_level=_LEVELS[status.requested],
        effective_level=_LEVELS[status.effective],
        driver=status.driver,
        mechanisms=status.mechanisms,
        degradations=status.degradations,
    )


def spec_to(level: Level, limits: Limits) -> agent_pb2.IsolationSpec:
    """Return level and limits of tasks that choose none."""
    return agent_pb2.IsolationSpec(
        level=_LEVELS[level],
        limits=agent_pb2.ResourceLimits(
            memory_bytes=limits.memory_bytes, cpus=limits.cpus, pids=limits.pids, workspace_bytes=limits.workspace_bytes
        ),
    )


def level_to(level: Level | None) -> agent_pb2.IsolationLevel.ValueType:
    """Return the level; unspecified for none."""
    return _LEVELS[level] if level is not None else agent_pb2.ISOLATION_LEVEL_UNSPECIFIED


def usage_to(usage: Usage) -> task_pb2.TaskUsage:
    """Return the use."""
    return task_pb2.TaskUsage(
        wall_time=duration(usage.wall_seconds),
        cpu_seconds=usage.cpu_seconds,
        memory_peak_bytes=usage.memory_peak_bytes,
        throttled_seconds=usage.throttled_seconds,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        turns=usage.turns,
        cost_usd=usage.cost_usd,
        models=[_model_to(model) for model in usage.models],
        unpriced_tokens=usage.unpriced_tokens,
    )


def _model_to(model: ModelUsage) -> task_pb2.ModelUsage:
    return task_pb2.ModelUsage(
        model=model.model,
        input_tokens=model.input_tokens,
        output_tokens=model.output_tokens,
        cache_read_tokens=model.cache_read_tokens,
        cache_write_tokens=model.cache_write_tokens,
        turns=model.turns,
        cost_usd=model.cost_usd,
        unpriced_tokens=model.unpriced_tokens,
    )


def failure_to(failure: Failure) -> task_pb2.TaskFailure:
    """Return the failure."""
    return task_pb2.TaskFailure(kind=_KINDS[failure.kind], message=failure.message, retryable=failure.retryable)


def result_to(result: Result) -> task_pb2.TaskResult:
    """Return the result; its patch is named, not contained."""
    made = task_pb2.TaskResult(
        summary=result.summary,
        usage=usage_to(result.usage),
        base_commit=result.base_commit,
        warnings=result.warnings,
        workspace=result.workspace,
    )
    if result.exit_code is not None:
        made.exit_code = result.exit_code
    if result.failure is not None:
        made.failure.CopyFrom(failure_to(result.failure))
    if result.in_force is not None:
        made.isolation.CopyFrom(in_force_to(result.in_force))
    if result.rate_limited is not None:
        made.rate_limited.CopyFrom(duration(result.rate_limited))
    if (patch := result.patch) is not None:
        made.patch_artefact_id = patch.artefact_id
        made.patch.CopyFrom(
            task_pb2.PatchSummary(files=patch.files, added_lines=patch.added_lines, removed_lines=patch.removed_lines)
        )
        made.artefacts.append(
            task_pb2.Artefact(
                artefact_id=patch.artefact_id,
                name=PATCH_NAME,
                size_bytes=patch.size_bytes,
                sha256=bytes.fromhex(patch.sha256),
                content_type="text/x-patch",
            )
        )
    return made


def heartbeat_to(leases: tuple[Lease, ...], condition: Condition, *, leaving: bool = False) -> session_service_pb2.Heartbeat:
    """Return the sign of life."""
    return session_service_pb2.Heartbeat(
        leases=[lease_to(lease) for lease in leases],
        state=_ACTIVITIES[condition.activity],
        reason=condition.reason,
        use=agent_pb2.ResourceUse(memory_bytes=condition.memory_bytes, cpu_seconds=condition.cpu_seconds, pids=condition.pids),
        leaving=leaving,
    )
