"""How do tasks reach the queue, all of them or, where one of them cannot be, none?"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from claude_conductor.cli import complaint
from claude_conductor.cli.request import spec
from claude_conductor.cli.task_file import Entry, in_order
from claude_conductor.client import Conductor
from claude_conductor.errors import ConductorError
from claude_conductor.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Planned:
    """A task that will be submitted."""

    label: str
    """What people call it until it has an id."""
    spec: task_pb2.TaskSpec
    request_id: str
    after: tuple[int, ...] = ()
    """Those planned tasks that must have succeeded before it; all of them stand before it in the plan."""


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
        )
        for index in order
        for _ in range(count)
    ]


def repeatable(entries: Sequence[Entry], source: str, run: str) -> list[Planned]:
    """Return what to submit, under keys that are the same whenever the same is asked for again.

    A key stands for the file, the name of the run, the task's name and content, and the keys of what it waits for. So a call that
    broke off goes on where it was, a task that changed is a new one, and so is whatever waits for it.

    Args:
        entries: Of a file.
        source: Which file.
        run: Name of the run; another one makes every task a new one.
    """
    planned: list[Planned] = []
    seen: dict[str, int] = {}
    order = in_order(entries)
    places = {index: place for place, index in enumerate(order)}
    for index in order:
        entry, wanted = entries[index], _spec(entries[index])
        after = tuple(places[other] for other in entry.after)
        parts = [source, run, entry.name, wanted.SerializeToString(deterministic=True).hex()]
        content = json.dumps([*parts, sorted(planned[place].request_id for place in after)])
        seen[content] = seen.get(content, 0) + 1
        digest = hashlib.sha256(f"{seen[content]} {content}".encode()).hexdigest()
        planned.append(Planned(entry.label(index), wanted, f"apply-{digest[:40]}", after))
    return planned


def _spec(entry: Entry) -> task_pb2.TaskSpec:
    wanted = spec(entry.request)
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


async def submit(
    conductor: Conductor, planned: Sequence[Planned], traceparent: str, submitted: Callable[[Planned, task_pb2.Task], None]
) -> list[task_pb2.Task]:
    """Submit what was checked, in order, and return the tasks.

    Args:
        conductor: To whom.
        planned: What; what a task waits for stands before it.
        traceparent: W3C trace context they belong to.
        submitted: Told of each.

    Raises:
        ConductorError: One was refused all the same; those before it stay.
    """
    tasks: list[task_pb2.Task] = []
    try:
        for each in planned:
            wanted = task_pb2.TaskSpec()
            wanted.CopyFrom(each.spec)
            wanted.depends_on.extend(tasks[place].task_id for place in each.after)
            tasks.append(await conductor.tasks.submit(wanted, request_id=each.request_id, traceparent=traceparent))
            submitted(each, tasks[-1])
    except ConductorError:
        if len(planned) > 1:
            complaint.note(f"{len(tasks)} of {len(planned)} tasks were submitted")
        raise
    return tasks
