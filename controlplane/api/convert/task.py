"""How do tasks travel?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import TaskId
from claude_conductor.v1 import task_pb2 as pb
from controlplane.api.convert import budget, isolation, result
from controlplane.api.convert.landing import landing_to_proto
from controlplane.api.convert.question import question_to_proto
from controlplane.api.convert.values import duration, seconds_of, span_of, timestamp
from controlplane.domain import ledger, setup
from controlplane.domain.accounting import used
from controlplane.domain.budget import Budget, over
from controlplane.domain.task import (
    DEFAULT_PRIORITY,
    Attempt,
    FanOut,
    Lease,
    OnFailure,
    RetryPolicy,
    Setup,
    Spec,
    State,
    Task,
    Workspace,
)
from controlplane.domain.task_type import TaskType, instructions

STATES: Final = {state: pb.TaskState.Value(f"TASK_STATE_{state.name}") for state in State}
SPEC_BYTES: Final = 2 << 20
"""What fits into one frame to a sidecar with room to spare."""
_ON_FAILURE: Final = {OnFailure.FINISH: pb.SUBTASK_FAILURE_FINISH, OnFailure.STOP: pb.SUBTASK_FAILURE_STOP}
_ON_FAILURE_BACK: Final[dict[int, OnFailure]] = {
    pb.SUBTASK_FAILURE_UNSPECIFIED: OnFailure.FINISH,
    **{number: chosen for chosen, number in _ON_FAILURE.items()},
}
_STATES_BACK: Final[dict[int, State]] = {number: state for state, number in STATES.items()}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a submission that does not choose gets. Times in seconds."""

    driver: str
    timeout: float
    max_attempts: int
    retry_delay: float
    retry_max_delay: float = 300.0


def check_size(spec: pb.TaskSpec) -> None:
    """Refuse what is too large to travel.

    Raises:
        InvalidArgumentError: It has more than 2 MiB.
    """
    if spec.ByteSize() > SPEC_BYTES:
        raise InvalidArgumentError("A task has at most 2 MiB; put larger things into its workspace.", field="spec")


def spec_from_proto(spec: pb.TaskSpec, defaults: Defaults, kind: TaskType) -> Spec:
    """Return what was asked for: what was left open is filled in by its type, and then by the defaults.

    Raises:
        InvalidArgumentError: A value has no meaning; the details name the field.
    """
    group = spec.HasField("fan_out")
    return Spec(
        type=kind.name,
        prompt=spec.prompt,
        driver=spec.driver or ("" if group else defaults.driver),
        command=tuple(spec.command),
        prompt_by=spec.prompt_by or "argument",
        environment=dict(spec.environment),
        files=tuple(spec.files),
        workspace=_workspace_from_proto(spec.workspace),
        priority=spec.priority or kind.priority or DEFAULT_PRIORITY,
        timeout=span_of(spec.timeout, "spec.timeout") if spec.HasField("timeout") else kind.timeout or defaults.timeout,
        retry=_retry_from_proto(spec.retry, defaults, kind.max_attempts),
        isolation_level=isolation.level_from_proto(spec.isolation.level, "spec.isolation.level") or kind.isolation_level,
        limits=isolation.limits_from_proto(spec.isolation.limits, "spec.isolation.limits"),
        allow=isolation.allow_from_proto(spec.isolation.allow, "spec.isolation.allow"),
        required_labels=dict(spec.required_labels),
        agent_id=spec.agent_id,
        depends_on=tuple(TaskId(task_id) for task_id in dict.fromkeys(spec.depends_on)),
        parent_task_id=spec.parent_task_id,
        not_before=seconds_of(spec.not_before_time, "spec.not_before_time") if spec.HasField("not_before_time") else 0.0,
        model=spec.model,
        max_turns=spec.max_turns,
        labels=dict(spec.labels),
        instructions="" if group else instructions(kind, spec.prompt, spec.files),
        writes=tuple(spec.writes),
        setup=_setup_from_proto(spec.setup),
        keep_workspace=spec.keep_workspace,
        budget=over(budget.budget_from_proto(spec.budget, "spec.budget"), Budget() if group else kind.budget),
        follows=tuple(TaskId(task_id) for task_id in dict.fromkeys(spec.follows)),
        fan_out=_fan_out_from_proto(spec.fan_out) if group else None,
    )


def _fan_out_from_proto(wanted: pb.FanOut) -> FanOut:
    if wanted.on_failure not in _ON_FAILURE_BACK:
        raise InvalidArgumentError("A failed subtask lets the others FINISH, or it STOPs them.", field="spec.fan_out.on_failure")
    return FanOut(wanted.parallel, _ON_FAILURE_BACK[wanted.on_failure])


def _fan_out_to_proto(wanted: FanOut | None) -> pb.FanOut | None:
    return None if wanted is None else pb.FanOut(parallel=wanted.parallel, on_failure=_ON_FAILURE[wanted.on_failure])


def _setup_from_proto(wanted: pb.Setup) -> Setup:
    timeout = span_of(wanted.timeout, "spec.setup.timeout") if wanted.HasField("timeout") else setup.TIMEOUT
    keep = tuple(wanted.keep) or (setup.KEPT if wanted.command else ())
    return Setup(tuple(wanted.command), timeout, tuple(wanted.cache_files), keep)


def _setup_to_proto(wanted: Setup) -> pb.Setup | None:
    if not wanted.command:
        return None
    timeout = duration(wanted.timeout)
    return pb.Setup(command=wanted.command, timeout=timeout, cache_files=wanted.cache_files, keep=wanted.keep)


def _retry_from_proto(retry: pb.RetryPolicy, defaults: Defaults, max_attempts: int) -> RetryPolicy:
    first = span_of(retry.first_delay, "spec.retry.first_delay") if retry.HasField("first_delay") else defaults.retry_delay
    longest = span_of(retry.max_delay, "spec.retry.max_delay") if retry.HasField("max_delay") else defaults.retry_max_delay
    return RetryPolicy(retry.max_attempts or max_attempts or defaults.max_attempts, first, longest)


def _workspace_from_proto(source: pb.WorkspaceSource) -> Workspace:
    match source.WhichOneof("source"):
        case "git":
            return Workspace("git", source.git.repository, source.git.ref)
        case "folder":
            return Workspace("folder", source.folder.path)
        case _:
            return Workspace()


def _workspace_to_proto(workspace: Workspace) -> pb.WorkspaceSource:
    match workspace.kind:
        case "git":
            return pb.WorkspaceSource(git=pb.GitWorkspace(repository=workspace.location, ref=workspace.ref))
        case "folder":
            return pb.WorkspaceSource(folder=pb.FolderWorkspace(path=workspace.location))
        case _:
            return pb.WorkspaceSource(empty=pb.EmptyWorkspace())


def spec_to_proto(spec: Spec) -> pb.TaskSpec:
    """Return the spec as submitters and sidecars see it."""
    return pb.TaskSpec(
        type=spec.type,
        prompt=spec.prompt,
        driver=spec.driver,
        command=spec.command,
        prompt_by=spec.prompt_by,
        environment=spec.environment,
        files=spec.files,
        workspace=_workspace_to_proto(spec.workspace),
        priority=spec.priority,
        timeout=duration(spec.timeout),
        retry=pb.RetryPolicy(
            max_attempts=spec.retry.max_attempts,
            first_delay=duration(spec.retry.first_delay),
            max_delay=duration(spec.retry.max_delay),
        ),
        isolation=isolation.spec_to_proto(spec.isolation_level, spec.limits, spec.allow),
        required_labels=spec.required_labels,
        agent_id=spec.agent_id,
        depends_on=spec.depends_on,
        parent_task_id=spec.parent_task_id,
        not_before_time=timestamp(spec.not_before or None),
        model=spec.model,
        max_turns=spec.max_turns,
        labels=spec.labels,
        instructions=spec.instructions,
        writes=spec.writes,
        setup=_setup_to_proto(spec.setup),
        keep_workspace=spec.keep_workspace,
        budget=budget.budget_to_proto(spec.budget),
        follows=spec.follows,
        fan_out=_fan_out_to_proto(spec.fan_out),
    )


def spec_to_agent(task: Task) -> pb.TaskSpec:
    """Return the spec as whoever works on it sees it: the prompt is all it is told, and the budget is what it may use."""
    spec = replace(task.spec, budget=ledger.for_attempt(task))
    told = spec_to_proto(spec)
    told.prompt = spec.instructions or spec.prompt
    told.ClearField("instructions")
    return told


def type_to_proto(kind: TaskType) -> pb.TaskType:
    """Return a type of tasks."""
    return pb.TaskType(
        name=kind.name,
        about=kind.about,
        template=kind.template,
        priority=kind.priority,
        timeout=duration(kind.timeout) if kind.timeout else None,
        max_attempts=kind.max_attempts,
        isolation_level=isolation.level_to_proto(kind.isolation_level),
        file=kind.file,
        budget=budget.budget_to_proto(kind.budget),
        problem=kind.problem,
    )


def task_to_proto(task: Task) -> pb.Task:
    """Return the task as clients see it."""
    return pb.Task(
        task_id=task.id,
        tenant_id=task.tenant_id,
        spec=spec_to_proto(task.spec),
        state=STATES[task.state],
        reason=task.reason,
        agent_id=task.agent_id,
        progress=task.progress,
        create_time=timestamp(task.create_time),
        start_time=timestamp(task.start_time),
        end_time=timestamp(task.end_time),
        result=result.result_to_proto(task.result) if task.result is not None and task.state.final else None,
        attempts=[_attempt_to_proto(attempt) for attempt in task.attempts],
        submitter=task.submitter,
        traceparent=task.traceparent,
        version=task.version,
        question=question_to_proto(task.question),
        state_time=timestamp(task.state_time or None),
        usage=result.usage_to_proto(used(task)),
        budget=budget.status_to_proto(task),
        landing=landing_to_proto(task.landing),
    )


def _attempt_to_proto(attempt: Attempt) -> pb.TaskAttempt:
    return pb.TaskAttempt(
        attempt=attempt.attempt,
        agent_id=attempt.agent_id,
        lease_time=timestamp(attempt.lease_time),
        start_time=timestamp(attempt.start_time),
        end_time=timestamp(attempt.end_time),
        failure=result.failure_to_proto(attempt.failure),
        usage=result.usage_to_proto(attempt.usage),
    )


def states_from_proto(states: list[int]) -> frozenset[State]:
    """Return the states a listing asks for.

    Raises:
        InvalidArgumentError: One of them is not a state a task can be in.
    """
    unknown = [number for number in states if number not in _STATES_BACK]
    if unknown:
        raise InvalidArgumentError("This is not a state of a task.", field="states", value=unknown[0])
    return frozenset(_STATES_BACK[number] for number in states)


def lease_to_proto(lease: Lease) -> pb.Lease:
    """Return the fencing token."""
    return pb.Lease(task_id=lease.task_id, attempt=lease.attempt, epoch=lease.epoch)


def lease_from_proto(lease: pb.Lease) -> Lease:
    """Return the fencing token."""
    return Lease(TaskId(lease.task_id), lease.attempt, lease.epoch)
