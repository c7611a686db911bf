"""What is a group of subtasks: which may there be, how does it wait for them, and what comes of it?

A group is a task that no agent gets. It is BLOCKED while one of its subtasks goes on, and ends when the last of them has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Final

from claude_conductor.errors import InvalidArgumentError
from claude_conductor.ids import TaskId
from controlplane.domain.task import Failure, FailureKind, OnFailure, Part, ResourceLimits, Result, Spec, State, Task

WORDS: Final = 32 << 10
"""Characters of what all subtasks said that a group keeps; each gets as many."""
MAX_PARALLEL: Final = 1000
_NAMED: Final = 3


def faults(spec: Spec) -> list[tuple[str, str]]:
    """Return what a group cannot have, as fields with a sentence each; nothing for a task that is no group."""
    if spec.fan_out is None:
        return []
    agents_own = {
        "driver": spec.driver,
        "command": spec.command,
        "workspace": spec.workspace.kind != "empty",
        "agent_id": spec.agent_id,
        "required_labels": spec.required_labels,
        "isolation": spec.allow or spec.limits != ResourceLimits(),
        "writes": spec.writes,
        "setup": spec.setup.command,
        "keep_workspace": spec.keep_workspace,
        "budget": spec.budget.limited,
    }
    found = [
        (f"spec.{name}", f"No agent gets a group: say `{name}` of its subtasks.") for name, said in agents_own.items() if said
    ]
    if spec.parent_task_id:
        found.append(("spec.parent_task_id", "A group is no subtask of another task."))
    if spec.fan_out.parallel > MAX_PARALLEL:
        found.append(("spec.fan_out.parallel", f"At most {MAX_PARALLEL} subtasks at once; 0 is as many as there are agents for."))
    return found


def check(specs: Sequence[Spec], after: Sequence[Sequence[int]], within: Sequence[int | None]) -> None:
    """Refuse groups that make no sense among tasks that are submitted together.

    Args:
        specs: The tasks.
        after: For each, the places of those it waits for.
        within: For each, the place of its group.

    Raises:
        InvalidArgumentError: The details name a task by its place.
    """
    for place, group in enumerate(within):
        if group is None:
            wrong = specs[place].fan_out is not None and place not in within
            message, field = "A group has at least one subtask.", "spec.fan_out"
        elif group >= place or specs[group].fan_out is None:
            wrong, message, field = True, "A subtask stands behind its group, a task with `fan_out`.", "within"
        elif specs[place].fan_out is not None:
            wrong, message, field = True, "A group has no groups within it.", "within"
        else:
            wrong = bool(specs[place].parent_task_id)
            message, field = "The parent of a subtask is its group; leave `parent_task_id` out.", "spec.parent_task_id"
        if wrong:
            raise InvalidArgumentError(message, field=f"tasks[{place}].{field}", task=place)
    if any(group is not None for group in within) and (found := circle(after, within)):
        named = " -> ".join(f"tasks[{place}]" for place in found)
        message = f"These tasks would wait for each other for ever: {named}. A group waits for its subtasks."
        raise InvalidArgumentError(message, next_step="leave one `after` out", field=f"tasks[{found[0]}].after", task=found[0])


def circle(after: Sequence[Sequence[int]], within: Sequence[int | None]) -> list[int]:
    """Return places of tasks that would wait for each other for ever, in a circle; empty if there are none.

    Args:
        after: For each task, the places of those it waits for.
        within: For each task, the place of its group; a group waits for its subtasks, and these for what their group waits for.
    """
    waits: dict[int, set[int]] = {place: set(others) for place, others in enumerate(after)}
    for place, group in enumerate(within):
        if group is not None:
            waits[group].add(place)
            waits[place].update(after[group])
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def subtask(spec: Spec, group: Spec, group_id: TaskId) -> Spec:
    """Return a subtask as one of its group: it waits for what the group waits for."""
    return replace(
        spec,
        parent_task_id=group_id,
        depends_on=tuple(dict.fromkeys((*spec.depends_on, *group.depends_on))),
        follows=tuple(dict.fromkeys((*spec.follows, *group.follows))),
        not_before=max(spec.not_before, group.not_before),
    )


def gathering(group: Task, subtasks: Sequence[TaskId]) -> Task:
    """Return the group as it waits for these."""
    return replace(group, parts=tuple(Part(task_id) for task_id in subtasks), waits_for=frozenset(subtasks), not_before=0.0)


def waiting_for(group: Task) -> str:
    """Return in one sentence what it waits for."""
    left = [part.task_id for part in group.parts if part.state is None]
    named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
    told = f"waits for {len(left)} of {len(group.parts)} subtasks: {named}"
    return f"{told}; {why}" if (why := stopped(group)) else told


def stopped(group: Task) -> str:
    """Return why the subtasks that go on are to be cancelled; empty if they are not."""
    if group.spec.fan_out is None or group.spec.fan_out.on_failure is not OnFailure.STOP:
        return ""
    failed = next((part for part in group.parts if _failed(part)), None)
    return f"subtask {failed.task_id} did not succeed, which stops the others of its group" if failed is not None else ""


def heard(group: Task, task_id: TaskId, state: State, words: str) -> Task:
    """Return the group after the end of a subtask."""
    kept = words.strip()[: WORDS // len(group.parts)]
    parts = tuple(replace(part, state=state, words=kept) if part.task_id == task_id else part for part in group.parts)
    return replace(group, parts=parts, waits_for=group.waits_for - {task_id})


def outcome(group: Task) -> tuple[Task, State, str, Result]:
    """Return what came of a group whose subtasks have all ended: itself, its state, why, and what they said."""
    failed = [part for part in group.parts if _failed(part)]
    said = "\n".join(f"{_standing(part)}\n{part.words}".rstrip() for part in group.parts)
    bare = replace(group, parts=tuple(replace(part, words="") for part in group.parts))
    if not failed:
        return bare, State.SUCCEEDED, f"all {len(group.parts)} subtasks succeeded", Result(summary=said)
    named = ", ".join(map(_standing, failed[:_NAMED])) + (f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")
    why = f"{len(failed)} of {len(group.parts)} subtasks did not succeed: {named}"
    return bare, State.FAILED, why, Result(summary=said, failure=Failure(FailureKind.DEPENDENCY, why))


def words_of(task: Task) -> str:
    """Return what an ended task hands to its group."""
    if task.result is None:
        return task.reason
    return task.result.summary if task.result.failure is None else task.result.failure.message


def _failed(part: Part) -> bool:
    return part.state is not None and part.state is not State.SUCCEEDED


def _standing(part: Part) -> str:
    return f"{part.task_id} ({part.state.value.replace('_', ' ') if part.state is not None else 'open'})"
