"""How are tasks followed to their end: a live line each on a terminal, a line per change elsewhere?"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from claude_conductor.cli import complaint, output, task_view
from claude_conductor.client import Conductor
from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import DeadlineExceededError
from claude_conductor.units import format_duration
from claude_conductor.v1 import task_pb2

_REFRESH = 8
"""Times a second the live lines are drawn."""


class Board(AbstractContextManager["Board"]):
    """Shows where tasks stand, on standard error."""

    def __init__(self, tasks: Sequence[task_pb2.Task]) -> None:
        self.tasks = {task.task_id: task for task in tasks}
        """The newest known state of each, in the order they were submitted."""
        console = Console(file=sys.stderr, highlight=False, markup=False)
        live = Live(console=console, get_renderable=self._table, refresh_per_second=_REFRESH)
        self._live = live if sys.stderr.isatty() else None
        self._told: dict[str, tuple[int, str, str]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, task: task_pb2.Task) -> None:
        """Take note of a change."""
        self.tasks[task.task_id] = task
        key = (task.state, task.progress, task.question.question_id)
        if self._live is None and self._told.get(task.task_id) != key:
            self._told[task.task_id] = key
            complaint.note(task_view.line(task, time.time()))

    def _table(self) -> Table:
        now = time.time()
        grid = Table.grid(padding=(0, 2), expand=True)
        for column in range(4):
            grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if column == 3 else None)
        for task in self.tasks.values():
            agent = task_view.holder(task)
            ran = task_view.seconds(task, now) if agent else None
            grid.add_row(
                task.task_id,
                f"{task_view.state(task)}{f' on {agent}' if agent else ''}",
                format_duration(ran) if ran is not None else "",
                output.printable(task_view.saying(task) or task_view.about(task)),
            )
        return grid


async def follow(conductor: Conductor, board: Board, *, timeout: float | None) -> list[task_pb2.Task]:
    """Follow the board's tasks until all are final, and return them.

    Args:
        conductor: Whom to ask.
        board: Told of every change.
        timeout: Seconds at most; None: as long as their own time-outs allow.

    Raises:
        DeadlineExceededError: They are not final yet; they go on.
    """
    try:
        async with asyncio.timeout(timeout):
            await _everyone(conductor, board)
    except TimeoutError as cause:
        open_ones = [task.task_id for task in board.tasks.values() if task.state not in FINAL]
        raise DeadlineExceededError(
            "The tasks have not ended yet; they go on.", next_step=come_back(open_ones), tasks=", ".join(open_ones)
        ) from cause
    return list(board.tasks.values())


async def _everyone(conductor: Conductor, board: Board) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for task_id in board.tasks:
                group.create_task(_one(conductor, board, task_id), name=f"follow {task_id}")
    except ExceptionGroup as failures:  # one is enough to tell a person what happened
        raise failures.exceptions[0] from failures


async def _one(conductor: Conductor, board: Board, task_id: str) -> None:
    async with aclosing(conductor.tasks.watch(task_id)) as changes:
        async for task in changes:
            board.update(task)


def come_back(task_ids: Sequence[str]) -> str:
    """Return how to see what became of tasks that were left alone."""
    if len(task_ids) == 1:
        return f"`conductor tasks wait {task_ids[0]}` waits for it, `conductor tasks cancel {task_ids[0]}` ends it"
    return "`conductor tasks list` shows them, `conductor tasks wait TASK...` waits, `conductor tasks cancel TASK...` ends them"
