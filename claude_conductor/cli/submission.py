"""How do tasks reach the queue, all of them or, where one of them cannot be, none?"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Final

from claude_conductor.cli import complaint
from claude_conductor.cli.request import spec
from claude_conductor.cli.task_file import Entry, in_order
from claude_conductor.client import Conductor
from claude_conductor.errors import ConductorError, InvalidArgumentError
from claude_conductor.v1 import task_pb2, task_service_pb2

MOST_TOGETHER: Final = 1000
"""Tasks of one request."""
MOST_BYTES: Final = (2 << 20) - 4096
"""Of one request, with room for what is around the tasks."""
_FRAME_BYTES: Final = 128
"""What a task takes besides its content: its key, its length, and a whole id instead of a place."""
_LOOKS: Final = 32


@dataclass(frozen=True, slots=True)
class Planned:
    """A task that will be submitted."""

    label: str
    """What people call it until it has an id."""
    spec: task_pb2.TaskSpec
    request_id: str
    after: tuple[int, ...] = ()
    """Those planned tasks that must have succeeded before it; all of them stand before it in the plan."""
    within: int | None = None
    """The planned group before it that it is a subtask of."""


def plan(entries: Sequence[Entry], count: int = 1) -> list[Planned]:
    """Return what to submit, each task as often as `count` says, none of them a repeat of an earlier call.

    Entries wait for others only where `count` is 1.
    """
    order = in_order(entries)
    places = {index: place for place, index in enumerate(order)}
    return [
        Planned(
            entries[index].label(index),
            _spec(entries[index]),
            secrets.token_hex(16),
            tuple(places[other] for other in entries[index].after),
            _group_place(entries[index], places),
        )
        for index in order
        for _ in range(count)
    ]


def repeatable(entries: Sequence[Entry], source: str, run: str) -> list[Planned]:
    """Return what to submit, under keys that are the same whenever the same is asked for again.

    A key stands for the file, the name of the run, the task's name and content, and the keys of what it waits for. So a call that
    broke off goes on where it was, a task that changed is a new one, and so are whatever waits for it, and its whole group.

    Args:
        entries: Of a file.
        source: Which file.
        run: Name of the run; another one makes every task a new one.
    """
    keys = _keys(entries, source, run)
    order = in_order(entries)
    places = {index: place for place, index in enumerate(order)}
    return [
        Planned(
            entries[index].label(index),
            _spec(entries[index]),
            keys[index],
            tuple(places[other] for other in entries[index].after),
            _group_place(entries[index], places),
        )
        for index in order
    ]


def _keys(entries: Sequence[Entry], source: str, run: str) -> dict[int, str]:
    subtasks: dict[int, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.within is not None:
            subtasks.setdefault(entry.within, []).append(index)
    waits = {index: [*entry.after, *subtasks.get(index, [])] for index, entry in enumerate(entries)}
    keys: dict[int, str] = {}
    seen: dict[str, int] = {}
    for index in TopologicalSorter(waits).static_order():
        entry = entries[index]
        parts = [source, run, entry.name, _spec(entry).SerializeToString(deterministic=True).hex()]
        if index in subtasks:  # a group with another subtask is another group
            parts.append(" ".join(keys[each] for each in subtasks[index]))
        content = json.dumps([*parts, sorted(keys[other] for other in entry.after)])
        seen[content] = seen.get(content, 0) + 1
        keys[index] = _key(f"{seen[content]} {content}")
        for each in subtasks.get(index, []):  # and so are the subtasks of another group
            keys[each] = _key(f"{keys[index]} {keys[each]}")
    return keys


def _key(content: str) -> str:
    return f"apply-{hashlib.sha256(content.encode()).hexdigest()[:40]}"


def _group_place(entry: Entry, places: Mapping[int, int]) -> int | None:
    return None if entry.within is None else places[entry.within]


def _spec(entry: Entry) -> task_pb2.TaskSpec:
    if entry.group is None:
        wanted = spec(entry.request)
    else:
        asked = entry.request
        wanted = task_pb2.TaskSpec(prompt=asked.prompt, priority=asked.priority, labels=asked.labels, fan_out=entry.group)
    wanted.depends_on.extend(entry.depends_on)
    return wanted


async def know_agents(conductor: Conductor, planned: Sequence[Planned]) -> None:
    """Refuse tasks for agents nobody knows: they would wait for ever.

    Raises:
        AgentNotFoundError: Names one.
    """
    for agent_id in sorted({each.spec.agent_id for each in planned if each.spec.agent_id}):
        await conductor.agents.get(agent_id)


async def check(conductor: Conductor, planned: Sequence[Planned]) -> list[task_pb2.TaskSpec]:
    """Return what would be stored, in order, after the control plane looked at every task.

    Raises:
        ConductorError: One of them would be refused; says which. Nothing was submitted.
    """
    await know_agents(conductor, planned)
    answers: dict[bytes, task_pb2.TaskSpec] = {}
    for each in planned:
        key = each.spec.SerializeToString(deterministic=True)
        if key not in answers:
            try:
                answers[key] = await conductor.tasks.check(each.spec)
            except ConductorError:
                if len(planned) > 1:
                    complaint.note(f"nothing was submitted: task {each.label} would be refused")
                raise
    return [answers[each.spec.SerializeToString(deterministic=True)] for each in planned]


def requests(planned: Sequence[Planned]) -> list[list[Planned]]:
    """Return the tasks in as few parts as one request each may hold, in order. Of a part all tasks are submitted, or none.

    Raises:
        InvalidArgumentError: They do not fit into one request, and groups are among them, which are submitted in one.
    """
    parts: list[list[Planned]] = []
    room = 0
    for each in planned:
        size = each.spec.ByteSize() + _FRAME_BYTES * (1 + len(each.after))
        if not parts or size > room or len(parts[-1]) == MOST_TOGETHER:
            parts.append([])
            room = MOST_BYTES
        parts[-1].append(each)
        room -= size
    if len(parts) > 1 and any(each.within is not None for each in planned):
        raise InvalidArgumentError(
            f"Tasks with groups among them are at most {MOST_TOGETHER} tasks and {MOST_BYTES >> 20} MiB in one call.",
            next_step="divide the file",
            tasks=len(planned),
        )
    return parts


async def prepare(conductor: Conductor, planned: Sequence[Planned]) -> None:
    """Refuse what would leave half of the tasks submitted; what one request holds is checked with it.

    Raises:
        ConductorError: One of them would be refused; says which. Nothing was submitted.
    """
    await (check if len(requests(planned)) > 1 else know_agents)(conductor, planned)


async def submit(
    conductor: Conductor, planned: Sequence[Planned], traceparent: str, submitted: Callable[[Planned, str], None]
) -> list[task_pb2.Task]:
    """Submit what was prepared, in order, and return the tasks.

    Args:
        conductor: To whom.
        planned: What; what a task waits for stands before it.
        traceparent: W3C trace context they belong to.
        submitted: Told of each, with its id.

    Raises:
        ConductorError: One was refused. If one request holds them all, none was submitted; otherwise those before it stay.
    """
    if len(planned) == 1:
        task = await conductor.tasks.submit(planned[0].spec, request_id=planned[0].request_id, traceparent=traceparent)
        submitted(planned[0], task.task_id)
        return [task]
    task_ids: list[str] = []
    for part in requests(planned):
        try:
            found = await conductor.tasks.submit_all(_together(part, task_ids), traceparent=traceparent)
        except ConductorError as error:
            _explain(error, part, len(task_ids), len(planned))
            raise
        task_ids += found
        for each, task_id in zip(part, found, strict=True):
            submitted(each, task_id)
    return await _look(conductor, task_ids)


def _together(part: Sequence[Planned], before: Sequence[str]) -> list[task_service_pb2.TaskSubmission]:
    """Return a request's tasks; what they wait for is among them, or was submitted `before`."""
    found: list[task_service_pb2.TaskSubmission] = []
    for each in part:
        after = [place - len(before) for place in each.after if place >= len(before)]
        wanted = task_service_pb2.TaskSubmission(request_id=each.request_id, spec=each.spec, after=after, within=each.within)
        wanted.spec.depends_on.extend(before[place] for place in each.after if place < len(before))
        found.append(wanted)
    return found


def _explain(error: ConductorError, part: Sequence[Planned], submitted: int, wanted: int) -> None:
    """Say which task was refused, in the words of who submits, and what became of the others."""
    place = error.details.pop("task", "")
    label = part[int(place)].label if place.isdigit() and int(place) < len(part) else ""
    if submitted:
        complaint.note(f"{submitted} of {wanted} tasks were submitted")
    elif label:
        complaint.note(f"nothing was submitted: task {label} would be refused")


async def _look(conductor: Conductor, task_ids: Sequence[str]) -> list[task_pb2.Task]:
    tasks: list[task_pb2.Task] = []
    for first in range(0, len(task_ids), _LOOKS):
        tasks += await asyncio.gather(*(conductor.tasks.get(task_id) for task_id in task_ids[first : first + _LOOKS]))
    return tasks
