"""What happens when somebody submits, answers or cancels a task, or lands its patch?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace

from claude_conductor.clock import Clock
from claude_conductor.errors import (
    ConductorError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidArgumentError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from claude_conductor.ids import Mint, TaskId, TenantId
from controlplane.domain import fan_out, setup, sound
from controlplane.domain.caps import Caps
from controlplane.domain.confinement import confined
from controlplane.domain.landing import Landing
from controlplane.domain.lane import lane_of
from controlplane.domain.merging import LandingTold
from controlplane.domain.pauses import Answered
from controlplane.domain.question import Answer
from controlplane.domain.routing import OPERATOR
from controlplane.domain.task import Spec, State, Task
from controlplane.domain.task_machine import CancelRequested, DependencyEnded, admit
from controlplane.domain.write_set import declared, fault
from controlplane.interfaces.task_store import TaskStore
from controlplane.service.shares import Shares
from controlplane.service.tasks import CHILD_GRACE, Tasks
from controlplane.service.work import Work

_log = logging.getLogger(__name__)
MAX_DEPENDENCIES = 100
MIN_MEMORY = 4 << 20
"""Bytes of an agent's memory limit: below it not even the sandbox starts."""
MAX_ATTEMPTS = 100
MAX_REQUEST_ID = 128
_STORE_PAUSE = 0.5
_IN_ONE_GO = 64
"""Tasks that are looked at before others get their turn."""
_PROMPT_WAYS = ("argument", "stdin", "file")


@dataclass(frozen=True, slots=True)
class Submission:
    """A task somebody wants done. `submitter` is authenticated: `operator` or `agent/ID`."""

    tenant_id: TenantId
    submitter: str
    request_id: str
    spec: Spec
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One of several tasks that are submitted together."""

    submission: Submission
    after: tuple[int, ...] = ()
    """Places of tasks before it that must have succeeded before it begins."""
    within: int | None = None
    """Place of the group before it that it is a subtask of."""


@contextmanager
def naming(place: int) -> Iterator[None]:
    """Let errors of the block say which of several tasks they are about."""
    try:
        yield
    except ConductorError as error:
        details = {"task": place, **error.details}
        raise type(error)(error.message, next_step=error.next_step, **details) from error


class Intake:
    """Admits tasks, and records answers to their questions and wishes to end them."""

    def __init__(
        self, store: TaskStore, tasks: Tasks, clock: Clock, mint: Mint, prompt_bytes: int, work: Work, caps: Caps
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._mint = mint
        self._prompt_bytes = prompt_bytes
        self._work = work
        self._caps = caps
        self._shares = Shares(store, tasks, clock)

    async def submit(self, submission: Submission) -> Task:
        """Store a task; return once it is durable. The same request id returns the same task.

        A cycle of dependencies cannot be made: a task depends only on tasks that were there before it.

        Raises:
            InvalidArgumentError: A value cannot be used; the message names the field. Or it is a group, which needs its subtasks.
            TaskNotFoundError: A dependency or the parent does not exist.
            PermissionDeniedError: An agent asks for more than the task it works on was given.
            BudgetExhaustedError: Less is left of its parent's budget than it wants.
            IdempotencyConflictError: The request id was used for a different task.
            StoreUnavailableError: Nothing was stored.
        """
        if submission.spec.fan_out is not None:
            raise InvalidArgumentError(
                "A group is submitted together with its subtasks.",
                next_step="SubmitTasks, or `subtasks` in a file for `conductor apply`",
                field="spec.fan_out",
            )
        task = await self._draft(submission)
        return await self._work.whole(self._admit_within(task), name=f"admit {task.id}")

    async def submit_all(self, wanted: Sequence[Wanted]) -> list[TaskId]:
        """Store tasks in one change, all or none; return their ids, in order, once they are durable.

        Request ids count as with `submit`: tasks that were stored before under them are not stored again.

        Raises:
            ConductorError: As `submit`; the details name the task by its place. Nothing was stored.
        """
        _refuse_repeats([each.submission.request_id for each in wanted])
        fan_out.check(
            [each.submission.spec for each in wanted], [each.after for each in wanted], [each.within for each in wanted]
        )
        known: dict[int, Task] = {}
        while True:
            drafts = await self._draft_all(wanted, known)
            fresh = [place for place in range(len(wanted)) if place not in known]
            earlier = await self._work.whole(
                self._admit_all_within([drafts[place] for place in fresh]), name="admit several tasks"
            )
            if not earlier:
                return [known.get(place, draft).id for place, draft in enumerate(drafts)]
            known |= {fresh[index]: task for index, task in earlier.items()}

    async def _draft_all(self, wanted: Sequence[Wanted], known: Mapping[int, Task]) -> list[Task]:
        drafts: list[Task] = []
        fresh: set[TaskId] = set()
        for place, each in enumerate(wanted):
            with naming(place):
                before = [known.get(other, drafts[other]).id for other in each.after]
                group = None if each.within is None else known.get(each.within, drafts[each.within])
                draft = await self._draft(each.submission, before, fresh, group)
                if place in known:
                    _refuse_another(known[place], draft)
            drafts.append(draft)
            if place not in known:
                fresh.add(draft.id)
            if not (place + 1) % _IN_ONE_GO:
                await asyncio.sleep(0)
        return _gathered(wanted, drafts, known)

    async def _draft(
        self,
        submission: Submission,
        after: Sequence[TaskId] = (),
        fresh: AbstractSet[TaskId] = frozenset(),
        group: Task | None = None,
    ) -> Task:
        """Return the task that is asked for.

        Args:
            submission: By whom and what.
            after: Tasks that it waits for, besides those it names.
            fresh: Tasks that are not stored yet, but with it.
            group: What it is a subtask of.
        """
        parallel = None
        if group is not None and group.spec.fan_out is not None:
            parallel = group.spec.fan_out.parallel
            submission = replace(submission, spec=fan_out.subtask(submission.spec, group.spec, group.id))
        if after:
            depends_on = tuple(dict.fromkeys((*submission.spec.depends_on, *after)))
            submission = replace(submission, spec=replace(submission.spec, depends_on=depends_on))
        spec, waits_for = await self._settled(submission, fresh)
        now = self._clock.now()
        task = Task(
            id=TaskId(self._mint("task_")),
            tenant_id=submission.tenant_id,
            spec=spec,
            state=State.BLOCKED,
            reason="",
            create_time=now,
            submitter=submission.submitter,
            traceparent=submission.traceparent,
            request_id=submission.request_id,
            not_before=spec.not_before,
            waits_for=waits_for,
            state_time=now,
            parallel=parallel,
        )
        return replace(task, lane=lane_of(task, self._caps))

    async def examine(self, submission: Submission) -> Spec:
        """Return what would be stored, without storing it.

        Raises:
            InvalidArgumentError, TaskNotFoundError, PermissionDeniedError, BudgetExhaustedError: As `submit`.
        """
        spec = (await self._settled(submission))[0]
        await self._shares.look(submission.tenant_id, spec)
        return spec

    async def _settled(self, submission: Submission, fresh: AbstractSet[TaskId] = frozenset()) -> tuple[Spec, frozenset[TaskId]]:
        """Return what may be done, and the tasks it waits for."""
        spec = submission.spec
        check(spec, submission.request_id, self._prompt_bytes)
        spec = replace(spec, writes=declared(spec.writes))
        stored = [await self._whole_id(submission.tenant_id, task_id) for task_id in spec.depends_on if task_id not in fresh]
        followed = [await self._whole_id(submission.tenant_id, task_id) for task_id in spec.follows]
        waits_for = frozenset(spec.depends_on) - {other.id for other in stored if other.state is State.SUCCEEDED}
        if spec.parent_task_id and spec.parent_task_id not in fresh:
            parent = await self._whole_id(submission.tenant_id, spec.parent_task_id)
            spec = spec if submission.submitter == OPERATOR else confined(spec, parent)
        return spec, waits_for | {other.id for other in followed if not other.state.final}

    async def _admit_within(self, task: Task) -> Task:
        async with self._shares.of([task]) as (granted, kept):
            if (stored := await self._admit(granted[0])).id == task.id:
                kept()
        return stored

    async def _admit_all_within(self, drafts: Sequence[Task]) -> Mapping[int, Task]:
        async with self._shares.of(drafts) as (granted, kept):
            if not (earlier := await self._admit_all(granted)):
                kept()
        return earlier

    async def _admit(self, task: Task) -> Task:
        stored = await self._tasks.insert(admit(task))
        if stored.id != task.id:
            _refuse_another(stored, task)
            return stored
        return await self._up_to_date(stored)

    async def _admit_all(self, tasks: Sequence[Task]) -> Mapping[int, Task]:
        earlier = await self._tasks.insert_all([admit(task) for task in tasks]) if tasks else {}
        if not earlier:
            for task in tasks:
                if task.waits_for or task.spec.parent_task_id:
                    await self._up_to_date(task)
        return earlier

    async def _up_to_date(self, stored: Task) -> Task:
        """Tell a new task what it may have missed."""
        while True:
            try:
                return await self._heed_parent(await self._catch_up(stored))
            except StoreUnavailableError as error:  # it is stored, and nobody else would tell it
                _log.warning("a new task waits for the store", extra={"task": stored.id, "cause": str(error)})
                await asyncio.sleep(_STORE_PAUSE)

    async def _whole_id(self, tenant_id: TenantId, task_id: str) -> Task:
        task = await self._store.get(tenant_id, task_id)
        if task.id != task_id:
            raise TaskNotFoundError("Dependencies and parents are named by the whole id of their task.", task_id=task_id)
        return task

    async def _catch_up(self, task: Task) -> Task:
        """Hand the task what happened to its dependencies before it was stored: nobody told it then."""
        for other_id in sorted(task.waits_for):
            other = await self._store.get(task.tenant_id, other_id)
            if other.state.final:
                succeeded = other.state is State.SUCCEEDED
                ended = DependencyEnded(other.id, succeeded, self._clock.now(), other.state, fan_out.words_of(other))
                task = await self._tasks.change(task.tenant_id, task.id, ended)
        return task

    async def _heed_parent(self, task: Task) -> Task:
        """End the task if its parent was cancelled before it was stored: nobody told it then."""
        if not task.spec.parent_task_id or task.state.final:
            return task
        parent = await self._store.get(task.tenant_id, task.spec.parent_task_id)
        asked = parent.cancel_reason is not None and not parent.state.final
        if not asked and parent.state is not State.CANCELLED:
            return task
        wish = CancelRequested(
            f"its parent was cancelled: {parent.cancel_reason or parent.reason}", CHILD_GRACE, self._clock.now()
        )
        try:
            return await self._tasks.change(task.tenant_id, task.id, wish)
        except IllegalTransitionError:  # somebody else was faster
            return await self._store.get(task.tenant_id, task.id)

    async def cancel(self, tenant_id: TenantId, task_id: str, reason: str, grace: float) -> Task:
        """Record that somebody wants the task ended; what works on it is told.

        Raises:
            TaskNotFoundError: There is no such task.
            IllegalTransitionError: It has ended already, otherwise than by being cancelled.
        """
        task = await self._store.get(tenant_id, task_id)
        if task.state is State.CANCELLED:
            return task
        return await self._tasks.change(tenant_id, task.id, CancelRequested(reason, grace, self._clock.now()))

    async def answer(self, tenant_id: TenantId, task_id: str, question_id: str, answer: Answer) -> Task:
        """Answer the open question of a task; what works on it is told.

        Args:
            tenant_id: Whose task it is.
            task_id: Its id, or a prefix that only it has.
            question_id: Which question; empty: the open one.
            answer: With who answers; a repeat with the same `request_id` changes nothing.

        Raises:
            TaskNotFoundError: There is no such task.
            InvalidArgumentError: The answer does not fit the question.
            IllegalTransitionError: That question is not open: it was never asked, or is answered, expired or withdrawn.
        """
        task = await self._store.get(tenant_id, task_id)
        return await self._tasks.change(tenant_id, task.id, Answered(question_id, answer, self._clock.now()))

    async def landed(self, tenant_id: TenantId, task_id: str, landing: Landing) -> Task:
        """Record what became of a task's patch; a repeat changes nothing.

        Raises:
            TaskNotFoundError: There is no such task.
            IllegalTransitionError: It did not succeed.
        """
        task = await self._store.get(tenant_id, task_id)
        return await self._tasks.change(tenant_id, task.id, LandingTold(landing, self._clock.now()))


def _refuse_another(stored: Task, asked: Task) -> None:
    if replace(stored.spec, instructions=asked.spec.instructions) != asked.spec:  # a template may have changed meanwhile
        raise IdempotencyConflictError(request_id=asked.request_id, task_id=stored.id)


def _gathered(wanted: Sequence[Wanted], drafts: Sequence[Task], known: Mapping[int, Task]) -> list[Task]:
    """Return the drafts, each group waiting for its subtasks."""
    subtasks: dict[int, list[TaskId]] = {}
    for place, each in enumerate(wanted):
        if each.within is not None:
            subtasks.setdefault(each.within, []).append(known.get(place, drafts[place]).id)
    for group in subtasks.keys() & known.keys():
        if {part.task_id for part in known[group].parts} != set(subtasks[group]):
            raise IdempotencyConflictError(request_id=known[group].request_id, task_id=known[group].id, task=group)
    return [fan_out.gathering(draft, subtasks[place]) if place in subtasks else draft for place, draft in enumerate(drafts)]


def _refuse_repeats(request_ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for place, request_id in enumerate(request_ids):
        if request_id and request_id in seen:
            raise InvalidArgumentError("A request id stands for one task.", field=f"tasks[{place}].request_id", task=place)
        seen.add(request_id)


def check(spec: Spec, request_id: str, prompt_bytes: int) -> None:
    """Refuse what no agent could work on.

    Raises:
        InvalidArgumentError: The message says what is allowed, the details name the field.
    """
    wrong_set = fault(spec.writes, spec.workspace)
    faults: Sequence[tuple[bool, str, str]] = (
        (bool(wrong_set), "spec.writes", wrong_set),
        (len(request_id) > MAX_REQUEST_ID, "request_id", f"A request id has at most {MAX_REQUEST_ID} characters."),
        (len(spec.prompt.encode()) > prompt_bytes, "spec.prompt", f"A prompt has at most {prompt_bytes} bytes."),
        (not 1 <= spec.priority <= 10, "spec.priority", "A priority is 1 (last) to 10 (first)."),
        (spec.timeout <= 0, "spec.timeout", "A time-out is above 0."),
        (not 1 <= spec.retry.max_attempts <= MAX_ATTEMPTS, "spec.retry.max_attempts", "Attempts are 1 to 100."),
        (len(spec.depends_on) > MAX_DEPENDENCIES, "spec.depends_on", "A task depends on at most 100 others."),
        (len(spec.follows) > MAX_DEPENDENCIES, "spec.follows", "A task follows at most 100 others."),
        (spec.prompt_by not in _PROMPT_WAYS, "spec.prompt_by", "A prompt goes by `argument`, `stdin` or `file`."),
        (
            spec.driver == "command" and not spec.command,
            "spec.command",
            "A `command` task needs a command (--cmd); for Claude Code name the driver `claude_code` (--agent claude-code).",
        ),
        (spec.driver == "claude_code" and not spec.prompt, "spec.prompt", "A `claude_code` task needs a prompt."),
        (
            0 < spec.limits.memory_bytes < MIN_MEMORY,
            "spec.isolation.limits.memory_bytes",
            "A memory limit is at least 4m (--memory): less does not hold a program.",
        ),
        (spec.max_turns < 0, "spec.max_turns", "Turns are 0 (no limit) or more."),
        (
            spec.workspace.kind != "empty" and not spec.workspace.location,
            "spec.workspace",
            "A workspace of this kind needs a location.",
        ),
    )
    for wrong, field, message in faults:
        if wrong:
            raise InvalidArgumentError(message, field=field)
    if (found := setup.fault(spec)) is not None:
        raise InvalidArgumentError(found[1], field=found[0])
    for field, message in (*fan_out.faults(spec), *sound.faults(spec)):
        raise InvalidArgumentError(message, field=field)
