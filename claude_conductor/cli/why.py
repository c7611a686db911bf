"""`conductor why`: why does a task stand where it does, in one sentence?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from claude_conductor.cli import commands, output, session, task_view
from claude_conductor.cli.budgets import in_short
from claude_conductor.cli.output import Format, FormatOption
from claude_conductor.cli.tasks import TaskArgument
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import TaskNotFoundError
from claude_conductor.units import format_duration
from claude_conductor.v1 import task_pb2

app = commands.app("Say in one sentence why a task stands where it does.")

_NAMED: Final = 3
"""Dependencies that are told in detail."""
_PAUSED: Final = frozenset((task_pb2.TASK_STATE_WAITING_FOR_HUMAN, task_pb2.TASK_STATE_RATE_LIMITED))
_WITH_AGENT: Final = frozenset((task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_LEASED, *_PAUSED))


@app.command()
def why(task: TaskArgument, form: FormatOption = Format.TABLE) -> None:
    """Say in one sentence why a task stands where it does: what it waits for and until when, or how it ended.

    Example: conductor why task_0198
    """
    session.run(_why(task, form))


async def _why(task_id: str, form: Format) -> None:
    async with session.connect() as conductor:
        task = await conductor.tasks.get(task_id)
        waits_for = await _unfinished(conductor, task)
    told = output.printable(sentence(task, waits_for, time.time()))
    if form in (Format.TABLE, Format.WIDE):
        output.say(f"{task.task_id} {told}")
        return
    row = {"task_id": task.task_id, "state": task_view.state(task), "why": told}
    output.show_one(form, row, list, task.task_id)


async def _unfinished(conductor: Conductor, task: task_pb2.Task) -> list[task_pb2.Task]:
    """Return the tasks that a blocked one depends on, or gathers, and that have not ended."""
    if task.state != task_pb2.TASK_STATE_BLOCKED:
        return []
    if task.spec.HasField("fan_out"):
        subtasks = await conductor.tasks.list(parent_task_id=task.task_id)
        return sorted((each for each in subtasks if each.state not in FINAL), key=_likely_first)
    found = []
    for other_id in task.spec.depends_on:
        try:
            other = await conductor.tasks.get(other_id)
        except TaskNotFoundError:
            continue  # it ended so long ago that it is no longer kept
        if other.state not in FINAL:
            found.append(other)
    return found


def _likely_first(task: task_pb2.Task) -> tuple[bool, str]:
    return task.state not in _WITH_AGENT, task.task_id


def sentence(task: task_pb2.Task, waits_for: Sequence[task_pb2.Task], now: float) -> str:
    """Return what goes on after the task's id.

    Args:
        task: The task.
        waits_for: The tasks it depends on that have not ended.
        now: Seconds since the epoch.
    """
    if waits_for:
        named = ", and ".join(_standing(other, now) for other in waits_for[:_NAMED])
        more = f", and {len(waits_for) - _NAMED} more" if len(waits_for) > _NAMED else ""
        return f"is blocked: it waits for {named}{more}"
    return f"is {task_view.state(task)}: {_because(task, now)}"


def _standing(task: task_pb2.Task, now: float) -> str:
    return f"{task.task_id}, which is {task_view.state(task)} ({_because(task, now)})"


def _because(task: task_pb2.Task, now: float) -> str:
    if task.state in FINAL:
        ran = task_view.seconds(task, now)
        took = f" after {format_duration(ran)} on {task.agent_id}" if ran is not None else ""
        merged = f"; {task_view.landing(task)}" if task.HasField("landing") else ""
        return f"{task.reason or 'it ended'}{took}{merged}"
    rest = f"; {in_short(task)}" if task.HasField("budget") else ""
    if task.state not in _WITH_AGENT:
        return (task.reason or "it waits") + rest
    began = task.state_time if task.state in _PAUSED and task.state_time.seconds else task.start_time
    since = f"; for {format_duration(max(0.0, now - began.ToNanoseconds() / 1e9))}" if began.seconds else ""
    said = f"; it said: {task.progress}" if task.progress else ""
    return f"{task.reason or f'{task.agent_id} has it'}{since}{said}{rest}"
