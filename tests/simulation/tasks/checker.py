"""Does a history keep every promise of docs/design/tasks.md? Pure: history in, broken promises out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from claude_conductor.ids import DEFAULT_TENANT, TaskId
from controlplane.domain import ledger
from controlplane.domain.budget import within
from controlplane.domain.caps import Group, capped, full
from controlplane.domain.placement import obstacle
from controlplane.domain.task import MAX_LOSSES, FailureKind, Lease, State, Task, queue_order
from controlplane.domain.write_set import Writers, claim_of
from tests.simulation.tasks.history import Asked, Ended, History, Saved, Told, Used

SLACK = 2.0
"""Seconds in which the control plane may not have seen yet who is in the queue: its store fails, or it was just started."""
ENDS_BY_REPORT = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT})


@dataclass
class _Facts:
    """What is known at one moment of the replay."""

    history: History
    now: dict[str, Task] = field(default_factory=dict)
    ended: dict[Lease, Ended] = field(default_factory=dict)
    leases: set[Lease] = field(default_factory=set)
    counted: set[Lease] = field(default_factory=set)
    used: Counter[str] = field(default_factory=Counter)
    """Tokens, by task; those of its subtasks are its own as well."""

    def counts(self) -> Counter[Group]:
        held = (task for task in self.now.values() if task.state.held)
        return Counter(group for task in held for group in capped(task, self.history.caps))


def broken(history: History) -> list[str]:
    """Return every promise that was broken, in words; empty is what is wanted."""
    facts = _Facts(history)
    found = list(history.troubles)
    for happening in history.happenings:
        match happening:
            case Ended():
                facts.ended[happening.lease] = happening
            case Saved(task=task):
                before = facts.now.get(task.id)
                found += _changed(before, task, facts) if before is not None else ()
                facts.now[task.id] = task
                found += _held(task, facts)
                found += _joined(task, facts)
                if name := within(ledger.gone(task), task.budget):
                    found.append(f"promised too much: {task.id} has {ledger.gone(task)} of {task.budget}: {name}")
            case Used():
                found += _used(happening, facts)
            case _:
                pass
    found += _in_turn(history)
    found += _at_the_end(facts)
    return found


def _used(happening: Used, facts: _Facts) -> Iterator[str]:
    """What a task and its subtasks use is within its budget, whoever is told what, and when."""
    task: Task | None = facts.now[happening.lease.task_id]
    while task is not None:
        facts.used[task.id] += happening.tokens
        if task.budget.tokens is not None and facts.used[task.id] > task.budget.tokens:
            yield f"over its budget: {task.id} used {facts.used[task.id]} of {task.budget.tokens}"
        task = facts.now.get(TaskId(task.spec.parent_task_id))


def _changed(before: Task, task: Task, facts: _Facts) -> Iterator[str]:
    name = f"{task.id}, version {task.version}"
    if task.version != before.version + 1:
        yield f"a change was lost: {name} follows version {before.version}"
    if before.state.final and task == replace(before, version=task.version, shares=task.shares, settled=task.settled):
        return  # a subtask ended after it
    if before.state.final:
        yield f"it ended and went on: {name} is {task.state.value} after {before.state.value}"
    if before.lease is not None and task.lease is not None and before.lease != task.lease:
        yield f"two leases: {name} was given to {task.agent_id} while {before.agent_id} had it"
    if task.lease is not None and before.lease is None:
        yield from _handed_out(before, task, facts)
    failed = task.failures > before.failures
    if task.spec.fan_out is not None:
        if failed or task.state not in {State.BLOCKED, State.SUCCEEDED, State.FAILED, State.CANCELLED}:
            yield f"a group as if an agent had it: {name} is {task.state.value}"
    elif failed or task.state in ENDS_BY_REPORT:
        yield from _counted(before, task, facts, failed=failed)
    if task.losses > MAX_LOSSES or task.failures > task.spec.retry.max_attempts:
        yield f"tried too often: {name} failed {task.failures} times and lost {task.losses} agents"


def _handed_out(before: Task, task: Task, facts: _Facts) -> Iterator[str]:
    assert task.lease is not None
    if task.lease in facts.leases or task.lease.attempt != len(before.attempts) + 1:
        yield f"a lease is used again: {task.lease}"
    facts.leases.add(task.lease)
    if before.state is not State.QUEUED:
        yield f"not queued and given to {task.agent_id}: {task.id} was {before.state.value}"
    for other in task.spec.depends_on:
        if other not in facts.now or facts.now[other].state is not State.SUCCEEDED:
            yield f"out of order: {task.id} was given out before {other}, which it depends on, succeeded"
    if why := obstacle(task, facts.history.agents[task.agent_id]):
        yield f"given to one who cannot: {task.id} to {task.agent_id}, which {why}"


def _counted(before: Task, task: Task, facts: _Facts, *, failed: bool) -> Iterator[str]:
    """A result counts once, and only that of the lease in force."""
    if before.lease is None:  # a task that it depends on did not succeed, or nothing is left of its budget
        if task.state is not State.FAILED or failed:
            yield f"a result without a lease: {task.id} is {task.state.value}"
        return
    if _out_of_budget(task) and task.losses > before.losses:
        return  # its agent was lost, and nothing is left for another attempt
    if before.lease in facts.counted:
        yield f"counted twice: {before.lease}"
    facts.counted.add(before.lease)
    ended = facts.ended.get(before.lease)
    if ended is None or ended.agent_id != before.agent_id:
        yield f"a result that nobody made: {task.id} is {task.state.value} by {before.lease}"
    elif (ended.failure is None) != (task.state is State.SUCCEEDED):
        yield f"another result than was reported: {task.id} is {task.state.value} after {ended.failure}"


def _out_of_budget(task: Task) -> bool:
    failure = task.result.failure if task.result is not None else None
    return failure is not None and failure.kind is FailureKind.BUDGET


def _held(task: Task, facts: _Facts) -> Iterator[str]:
    if not task.state.held:
        return
    theirs = [other.id for other in facts.now.values() if other.state.held and other.agent_id == task.agent_id]
    if len(theirs) > 1:
        yield f"two tasks at once: {task.agent_id} has {sorted(theirs)}"
    counts = facts.counts()
    for group, most in capped(task, facts.history.caps).items():
        if counts[group] > most:
            yield f"cap exceeded: {group} has {counts[group]} of {most}"
    others = {other.id: claim_of(other) for other in facts.now.values() if other.state.held and other.id != task.id}
    if found := Writers(others).before(task):
        yield f"two write the same: {task.id} is with an agent, and {found[0].task_id}, which writes {found[1]} too"


def _in_turn(history: History) -> Iterator[str]:
    """Who is given an agent does not go before somebody who waits longer and could have had it."""
    saved = [happening for happening in history.happenings if isinstance(happening, Saved)]
    since: dict[str, tuple[float, Task]] = {}
    passed: dict[str, list[tuple[float, Task]]] = defaultdict(list)
    now: dict[str, Task] = {}
    full_at: dict[str, float] = {}
    for each in saved:
        task, at = each.task, each.at
        was_held = task.id in now and now[task.id].state.held
        for over_at, over in passed.pop(task.id, ()):
            if at > over_at + SLACK:
                yield f"passed over: {task.id} stayed in the queue for {at - over_at:.1f} s after {over.id} went before it"
        if task.state.held and not was_held:
            agent = history.agents[task.agent_id]
            for waiting_since, waiting in since.values():
                long_enough = waiting_since < at - SLACK and full_at.get(waiting.id, 0.0) < at - SLACK
                ahead = waiting.tenant_id == task.tenant_id and queue_order(waiting) < queue_order(task)
                if long_enough and ahead and waiting.id != task.id and not obstacle(waiting, agent):
                    passed[waiting.id].append((at, task))
        now[task.id] = task
        since.pop(task.id, None)
        if task.state is State.QUEUED:
            since[task.id] = (at, task)
        counts = Counter(g for other in now.values() if other.state.held for g in capped(other, history.caps))
        for other_id, (_, other) in since.items():
            if full(other, history.caps, counts) or _waits_for_files(other, now.values()):
                full_at[other_id] = at
                passed.pop(other_id, None)


def _joined(task: Task, facts: _Facts) -> Iterator[str]:
    """A group ends when all of its subtasks have, and succeeds if all of them did; unless somebody cancels it."""
    if task.spec.fan_out is None or task.state not in {State.SUCCEEDED, State.FAILED}:
        return
    states = [facts.now[part.task_id].state if part.task_id in facts.now else State.BLOCKED for part in task.parts]
    well = all(state is State.SUCCEEDED for state in states)
    if not all(state.final for state in states) or well != (task.state is State.SUCCEEDED):
        yield f"joined wrongly: {task.id} is {task.state.value} with {[state.value for state in states]}"


def _waits_for_files(task: Task, others: Iterable[Task]) -> bool:
    """Tell whether somebody who has an agent, or who is before the task in the queue, writes the same files."""
    ahead = (
        other for other in others if other.state.held or (other.state is State.QUEUED and queue_order(other) < queue_order(task))
    )
    return bool(task.spec.writes) and Writers({other.id: claim_of(other) for other in ahead}).before(task) is not None


def _at_the_end(facts: _Facts) -> Iterator[str]:
    """Everything that was accepted ends, unless nobody can do it; and what a sidecar was told is true."""
    if all(task.state.final for task in facts.now.values()):
        kept = (task for task in facts.now.values() if task.shares and task.tenant_id == DEFAULT_TENANT)
        yield from (f"never given back: {task.id} keeps {task.shares}" for task in kept)
    for happening in facts.history.happenings:
        match happening:
            case Asked(task_id=task_id, impossible=impossible):
                state = facts.now[task_id].state if task_id in facts.now else None
                if state is None:
                    yield f"lost: {task_id} was accepted and is nowhere"
                elif not (state.final or (impossible and state in {State.QUEUED, State.BLOCKED})):
                    yield f"starved: {task_id} is {state.value} at the end"
            case Told(lease=lease, taken=True, failure=None):
                if facts.now[lease.task_id].state is not State.SUCCEEDED:
                    yield f"taken and not counted: {lease} is {facts.now[lease.task_id].state.value}"
            case Told(lease=lease, taken=False) if lease in facts.counted:
                yield f"refused and counted: {lease}"
            case _:
                pass
