"""What becomes of an agent's reports about its task?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from claude_conductor.clock import Clock
from claude_conductor.errors import StaleLeaseError, TaskNotFoundError
from claude_conductor.ids import AgentId, TenantId
from controlplane.domain.budget import Spent
from controlplane.domain.events import Event
from controlplane.domain.ledger import Claimed
from controlplane.domain.pauses import Asked, LimitEnded, RateLimited, Withdrawn
from controlplane.domain.question import Question, QuestionKind
from controlplane.domain.task import Attempt, FailureKind, IsolationStatus, Lease, Result, Task, Usage
from controlplane.domain.task_machine import Completed, Progressed, Started
from controlplane.interfaces.output_log import OutputChunk
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.leases import Leases
from controlplane.service.output import Output
from controlplane.service.registry import Registry
from controlplane.service.tasks import Tasks
from controlplane.service.watch import Watch


@dataclass(frozen=True, slots=True)
class HasStarted:
    """The agent's process runs."""

    lease: Lease
    isolation: IsolationStatus


@dataclass(frozen=True, slots=True)
class HasProgressed:
    """A line of progress, or only the use so far."""

    lease: Lease
    text: str | None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class HasClaimed:
    """Model calls are about to begin, or are over."""

    lease: Lease
    usage: Usage
    claim: Spent


@dataclass(frozen=True, slots=True)
class HasPrinted:
    """Live output."""

    lease: Lease
    chunk: OutputChunk


@dataclass(frozen=True, slots=True)
class HasEnded:
    """The attempt is over."""

    lease: Lease
    result: Result


@dataclass(frozen=True, slots=True)
class HasAsked:
    """The agent asks a human."""

    lease: Lease
    question_id: str
    kind: QuestionKind
    text: str
    options: tuple[str, ...]
    raw: str
    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class HasWithdrawn:
    """The agent does not wait for the answer any more."""

    lease: Lease
    question_id: str
    expired: bool


@dataclass(frozen=True, slots=True)
class IsRateLimited:
    """The model provider takes no requests for some seconds."""

    lease: Lease
    seconds: float
    why: str
    credential: str = ""
    """The one the provider said it about; empty where only a turn is waited for."""


@dataclass(frozen=True, slots=True)
class LimitHasEnded:
    """The model provider takes requests again."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Decision:
    """What the agent's proxy decided on connections to one target."""

    host: str
    port: int
    rule: str
    """What allowed it; empty: refused."""
    reason: str
    connections: int
    """So far in this attempt."""


@dataclass(frozen=True, slots=True)
class HasReached:
    """The agent asked for hosts."""

    lease: Lease
    decisions: tuple[Decision, ...]


Pause = HasAsked | HasWithdrawn | IsRateLimited | LimitHasEnded
Report = HasStarted | HasProgressed | HasClaimed | HasPrinted | HasEnded | Pause | HasReached


class Results:
    """Takes reports. A report under a lease that is not in force changes nothing; one that was taken before is harmless."""

    def __init__(
        self,
        store: TaskStore,
        tasks: Tasks,
        leases: Leases,
        registry: Registry,
        output: Output,
        watch: Watch,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._leases = leases
        self._registry = registry
        self._output = output
        self._watch = watch
        self._clock = clock
        self._jitter = jitter

    async def take(self, tenant_id: TenantId, agent_id: AgentId, report: Report) -> None:
        """Act on a report of this agent. A result that is refused is told to watchers: somebody did that work.

        Raises:
            StaleLeaseError: The lease is not in force, or not this agent's, and the report is not a repeat.
            TaskNotFoundError: There is no such task.
            InvalidArgumentError, IllegalTransitionError, IdempotencyConflictError: A question cannot be asked, or not now.
            BudgetExhaustedError: Less is left than is claimed.
            StoreUnavailableError: Nothing was changed.
        """
        try:
            await self._take(tenant_id, agent_id, report)
        except StaleLeaseError:
            if isinstance(report, HasEnded):
                await self._tell_refused(tenant_id, agent_id, report.lease)
            raise

    async def _take(self, tenant_id: TenantId, agent_id: AgentId, report: Report) -> None:
        lease = report.lease
        held = self._leases.get(lease.task_id)
        if held is None or held.lease != lease or held.agent_id != agent_id or held.tenant_id != tenant_id:
            if not isinstance(report, HasAsked) and await self._is_repeat(tenant_id, agent_id, lease):
                return
            raise StaleLeaseError(task_id=lease.task_id, attempt=lease.attempt)
        now = self._clock.now()
        match report:
            case HasStarted(isolation=isolation):
                await self._tasks.change(tenant_id, lease.task_id, Started(lease, isolation, now))
                self._registry.isolated(tenant_id, agent_id, lease.task_id, isolation)
            case HasProgressed(text=text, usage=usage):
                await self._tasks.change(tenant_id, lease.task_id, Progressed(lease, text, usage))
            case HasClaimed(usage=usage, claim=claim):
                await self._tasks.change(tenant_id, lease.task_id, Claimed(lease, usage, claim, now))
            case HasPrinted(chunk=chunk):
                await self._output.append(lease.task_id, lease.attempt, chunk)
            case HasEnded(result=result):
                await self._tasks.change(tenant_id, lease.task_id, Completed(lease, result, now, self._jitter()))
            case HasAsked() | HasWithdrawn():
                await self._question(tenant_id, report, now)
            case IsRateLimited(seconds=seconds, why=why, credential=credential):
                self._registry.windows.close(credential, seconds, self._registry)
                await self._tasks.change(tenant_id, lease.task_id, RateLimited(lease, now + seconds, why, now))
            case HasReached(decisions=decisions):
                self._publish(tenant_id, agent_id, lease, decisions)
            case LimitHasEnded():
                await self._tasks.change(tenant_id, lease.task_id, LimitEnded(lease, now))

    async def _question(self, tenant_id: TenantId, report: HasAsked | HasWithdrawn, now: float) -> None:
        lease = report.lease
        event: Asked | Withdrawn
        if isinstance(report, HasAsked):
            question = Question(
                id=report.question_id,
                text=report.text,
                attempt=lease.attempt,
                ask_time=now,
                expire_time=now + report.timeout,
                kind=report.kind,
                options=report.options,
                raw=report.raw,
            )
            event = Asked(lease, question, now)
        else:
            event = Withdrawn(lease, report.question_id, report.expired, now)
        self._tell_asker(await self._tasks.change(tenant_id, lease.task_id, event), lease)

    def _publish(self, tenant_id: TenantId, agent_id: AgentId, lease: Lease, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            where = f"{decision.host}:{decision.port}" + (f": {decision.reason}" if decision.reason else "")
            kind, verb = ("task.egress_allowed", "may") if decision.rule else ("task.egress_refused", "may not")
            facts = {"host": decision.host, "port": str(decision.port), "rule": decision.rule, "reason": decision.reason}
            details = {**facts, "connections": str(decision.connections), "attempt": str(lease.attempt)}
            summary = f"{agent_id} {verb} reach {where}"
            self._watch.publish(Event(kind, self._clock.now(), summary, tenant_id, lease.task_id, agent_id, details))

    def _tell_asker(self, task: Task, lease: Lease) -> None:
        """Say what became of a question that is closed; the sidecar may have missed it, or asked again."""
        connected = self._registry.connected(task.tenant_id, task.agent_id)
        if connected is not None and task.question is not None and not task.question.open:
            connected.link.close_question(lease, task.question)

    async def _tell_refused(self, tenant_id: TenantId, agent_id: AgentId, lease: Lease) -> None:
        try:
            task = await self._store.get(tenant_id, lease.task_id)
        except TaskNotFoundError:
            return  # nobody could look it up
        self._tasks.result_refused(task, agent_id, lease)

    async def _is_repeat(self, tenant_id: TenantId, agent_id: AgentId, lease: Lease) -> bool:
        """Return whether this attempt was this agent's and ended by its own report: then everything it says was taken before."""
        try:
            task = await self._store.get(tenant_id, lease.task_id)
        except TaskNotFoundError:
            return False
        of_this = [attempt for attempt in task.attempts if attempt.attempt == lease.attempt and attempt.agent_id == agent_id]
        return any(attempt.end_time is not None and not _was_lost(attempt) for attempt in of_this)


def _was_lost(attempt: Attempt) -> bool:
    return attempt.failure is not None and attempt.failure.kind is FailureKind.AGENT_LOST
