"""Which ids does the shell offer? Live ones, or none if nobody answers within a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from claude_conductor.cli.output import printable
from claude_conductor.cli.session import connect
from claude_conductor.errors import ConductorError
from claude_conductor.v1 import message_pb2, task_pb2

_PATIENCE = 1.0
_MOST = 50


def task_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of tasks, newest first, with what they are about."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            tasks, _ = await conductor.tasks.page(size=_MOST)
            return [
                (task.task_id, " ".join(task.spec.prompt.split())[:50]) for task in tasks if task.task_id.startswith(incomplete)
            ]

    return _quietly(ask)


def waiting_task_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of tasks that wait for a human, with what they ask."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            tasks, _ = await conductor.tasks.page(size=_MOST, states=[task_pb2.TASK_STATE_WAITING_FOR_HUMAN])
            found = {task.task_id: " ".join(task.question.text.split())[:50] for task in tasks}
            return [(task_id, printable(text)) for task_id, text in found.items() if task_id.startswith(incomplete)]

    return _quietly(ask)


def agent_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of agents."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            agents = await conductor.agents.list(limit=_MOST)
            return [(agent.agent_id, agent.host) for agent in agents if agent.agent_id.startswith(incomplete)]

    return _quietly(ask)


def schedule_names(incomplete: str) -> list[tuple[str, str]]:
    """Return names of schedules, with when they fire."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            found = await conductor.schedules.list()
            return [(each.name, f"{each.cron} ({each.time_zone})") for each in found if each.name.startswith(incomplete)][:_MOST]

    return _quietly(ask)


def topics(incomplete: str) -> list[tuple[str, str]]:
    """Return names of topics somebody is subscribed to, with how many are."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            counts = Counter(each.topic for each in await conductor.messages.subscriptions())
            found = [(topic, f"{count} subscribed") for topic, count in sorted(counts.items()) if topic.startswith(incomplete)]
            return found[:_MOST]

    return _quietly(ask)


def message_ids(incomplete: str, *states: message_pb2.MessageState.ValueType) -> list[tuple[str, str]]:
    """Return ids of messages in these states (none: all), newest first, with who wrote them to whom."""

    async def ask() -> list[tuple[str, str]]:
        async with asyncio.timeout(_PATIENCE), connect() as conductor:
            records = await conductor.messages.list(limit=_MOST, states=states)
            found = {record.message_id: f"{record.sender} to {record.recipient}" for record in records}
            return [(message_id, about) for message_id, about in found.items() if message_id.startswith(incomplete)]

    return _quietly(ask)


def recipients(incomplete: str) -> list[tuple[str, str]]:
    """Return who a message can be sent to: agents, topics, everyone."""
    if incomplete.startswith("topic/"):
        return [(f"topic/{name}", about) for name, about in topics(incomplete.removeprefix("topic/"))]
    shared = (("broadcast", "everyone"), ("topic/", "its subscribers"))
    return [*agent_ids(incomplete), *(each for each in shared if each[0].startswith(incomplete))]


def any_message_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of messages."""
    return message_ids(incomplete)


def dead_letter_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of dead letters."""
    return message_ids(incomplete, message_pb2.MESSAGE_STATE_DEAD)


def traceable_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of messages and tasks."""
    return [*message_ids(incomplete), *task_ids(incomplete)]


def _quietly(ask: Callable[[], Coroutine[Any, Any, list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    """Return the answer, nothing on failure: a shell at its prompt is no place for an error."""
    try:
        return asyncio.run(ask())
    except (ConductorError, TimeoutError):
        return []
