"""What is the fleet doing? Every agent with its state, since when and why, and what waits; one agent, which can be taken out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_conductor.v1 import agent_pb2, task_pb2
from claude_conductor.web import words
from claude_conductor.web.pages.page import Desk, Form, Pages, back

_ORDER: Final = ("waiting_for_human", "stalled", "rate_limited", "lost", "working", "starting", "idle")
"""What somebody has to look after comes first."""
_RECENT: Final = 8
_HELD: Final = (
    task_pb2.TASK_STATE_LEASED,
    task_pb2.TASK_STATE_RUNNING,
    task_pb2.TASK_STATE_WAITING_FOR_HUMAN,
    task_pb2.TASK_STATE_RATE_LIMITED,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar, in thousandths of its width."""

    name: str
    count: int
    left: int
    width: int


def parts(counts: Iterable[tuple[str, int]]) -> list[Part]:
    """Return a bar of these counts; each part is as wide as its share, one that is not empty wide enough to be seen."""
    given = [(name, count) for name, count in counts if count]
    weights = [max(count, sum(each for _, each in given) / 60) for _, count in given]
    found, left = [], 0.0
    for (name, count), weight in zip(given, weights, strict=True):
        width = 1000 * weight / sum(weights)
        found.append(Part(name, count, round(left), round(left + width) - round(left)))
        left += width
    return found


def rank(agent: agent_pb2.Agent) -> tuple[int, str]:
    """Return where an agent stands in the table."""
    state = words.word(agent.state, "agent")
    return (_ORDER.index(state) if state in _ORDER else 0, agent.agent_id)


class Fleet:
    """The first page, and the page of an agent."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [
            self._pages.show("/", self._show),
            self._pages.show("/agents/{agent_id}", self._agent),
            self._pages.act("/agents/{agent_id}/quarantine", self._quarantine),
            self._pages.act("/agents/{agent_id}/release", self._release),
        ]

    async def _show(self, request: Request, desk: Desk) -> Response:
        status, agents, asking = await desk.admin.status(), await desk.agents.list(), await desk.asking()
        recent, _ = await desk.tasks.page(size=_RECENT)
        held = {task.task_id: task for task in await desk.tasks.list(states=_HELD, limit=len(agents) or 1)}
        order = ("running", "waiting_for_human", "rate_limited", "leased", "queued", "blocked")
        ends = ("succeeded", "failed", "timed_out", "dead", "cancelled")
        facts = {
            "status": status,
            "agents": [(agent, held.get(agent.task_id)) for agent in sorted(agents, key=rank)],
            "asking": len(asking),
            "open": parts((name, status.tasks.get(name, 0)) for name in order),
            "ended": [(name, status.tasks.get(name, 0)) for name in ends if status.tasks.get(name, 0)],
            "recent": recent,
        }
        return self._pages.write(request, "fleet.html", facts)

    async def _agent(self, request: Request, desk: Desk) -> Response:
        agent = await desk.agents.get(request.path_params["agent_id"])
        return self._pages.write(request, "agent.html", {"agent": agent, "asking": len(await desk.asking())})

    async def _quarantine(self, request: Request, desk: Desk, form: Form) -> Response:
        agent_id = request.path_params["agent_id"]
        await desk.agents.quarantine(agent_id, form.get("reason") or "taken out in the dashboard")
        return back(f"/agents/{quote(agent_id)}")

    async def _release(self, request: Request, desk: Desk, form: Form) -> Response:
        del form
        agent_id = request.path_params["agent_id"]
        await desk.agents.release(agent_id)
        return back(f"/agents/{quote(agent_id)}")
