"""What did the work of the last time use and cost, by what it has in common?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2
from claude_conductor.web.pages.page import Desk, Pages
from claude_conductor.web.words import seconds

MOST: Final = 5000
"""Tasks that are summed up; more are said to be more."""
SPANS: Final = {"1 h": 3600, "24 h": 86_400, "7 d": 7 * 86_400, "30 d": 30 * 86_400}
KEYS: Final[dict[str, Callable[[task_pb2.Task], str]]] = {
    "type": lambda task: task.spec.type,
    "agent": lambda task: task.agent_id,
    "driver": lambda task: task.spec.driver,
    "submitter": lambda task: task.submitter,
}


@dataclass(slots=True)
class Row:
    """Sums over tasks that ended. Times in seconds."""

    key: str = ""
    tasks: int = 0
    succeeded: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unpriced: int = 0
    """Tokens whose cost nobody knows."""

    def add(self, task: task_pb2.Task) -> None:
        """Count a task with all of its attempts."""
        used = task.usage
        self.tasks += 1
        self.succeeded += task.state == task_pb2.TASK_STATE_SUCCEEDED
        self.wall += seconds(used.wall_time)
        self.cpu += used.cpu_seconds
        self.memory = max(self.memory, used.memory_peak_bytes)
        self.tokens_in += used.input_tokens + used.cache_read_tokens + used.cache_write_tokens
        self.tokens_out += used.output_tokens
        self.cost += used.cost_usd
        self.unpriced += used.unpriced_tokens


def rows(tasks: Iterable[task_pb2.Task], key: Callable[[task_pb2.Task], str]) -> tuple[list[Row], Row]:
    """Return the sums by key, the most expensive first, and the sum of all."""
    found: dict[str, Row] = {}
    total = Row("all")
    for task in tasks:
        if task.state in FINAL:
            name = key(task)
            found.setdefault(name, Row(name)).add(task)
            total.add(task)
    return sorted(found.values(), key=lambda row: (-row.cost, -row.wall, row.key)), total


class UsagePage:
    """Sums by type, agent, driver or submitter."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [self._pages.show("/usage", self._show)]

    async def _show(self, request: Request, desk: Desk) -> Response:
        by, since = request.query_params.get("by", "type"), request.query_params.get("since", "24 h")
        if by not in KEYS or since not in SPANS:
            raise InvalidArgumentError("There is no such view.", next_step=f"choose {', '.join(KEYS)} and {', '.join(SPANS)}")
        tasks = await desk.tasks.list(limit=MOST, active_since=time.time() - SPANS[since])
        found, total = rows(tasks, KEYS[by])
        facts = {"rows": found, "total": total, "by": by, "since": since, "keys": list(KEYS), "spans": list(SPANS)}
        return self._pages.write(request, "usage.html", {**facts, "cut": len(tasks) >= MOST, "asking": len(await desk.asking())})
