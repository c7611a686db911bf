"""What became of the tasks, what does one of them do at this moment, and how is a new one submitted?"""

from __future__ import annotations

import secrets
import shlex
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_conductor.client.tasks import FINAL
from claude_conductor.errors import InvalidArgumentError
from claude_conductor.v1 import task_pb2
from claude_conductor.v1.task_pb2 import GitWorkspace, TaskSpec, WorkspaceSource
from claude_conductor.web import words
from claude_conductor.web.pages.page import Desk, Form, Pages, back

PAGE: Final = 50
FILTERS: Final = {
    "all": (),
    "open": ("blocked", "queued", "leased", "running", "waiting_for_human", "rate_limited"),
    "queued": ("blocked", "queued"),
    "at work": ("leased", "running", "rate_limited"),
    "asking": ("waiting_for_human",),
    "succeeded": ("succeeded",),
    "failed": ("failed", "timed_out", "dead"),
    "cancelled": ("cancelled",),
}
"""Words of the filter, and the states each stands for."""


class TaskPages:
    """The list, a task's page, and the form for a new one."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return what is served."""
        return [
            self._pages.show("/tasks", self._list),
            self._pages.show("/tasks/new", self._new),
            self._pages.act("/tasks/new", self._submit),
            self._pages.show("/tasks/{task_id}", self._task),
            self._pages.act("/tasks/{task_id}/cancel", self._cancel),
            self._pages.act("/tasks/{task_id}/answer", self._answer),
        ]

    async def _list(self, request: Request, desk: Desk) -> Response:
        chosen = request.query_params.get("state", "all")
        if chosen not in FILTERS:
            raise InvalidArgumentError("There is no such filter.", next_step=f"choose {', '.join(FILTERS)}", state=chosen[:40])
        states = [task_pb2.TaskState.ValueType(words.number_of(name, "task")) for name in FILTERS[chosen]]
        tasks, following = await desk.tasks.page(size=PAGE, token=request.query_params.get("page", ""), states=states)
        facts = {"tasks": tasks, "following": quote(following), "chosen": chosen, "filters": list(FILTERS)}
        return self._pages.write(request, "tasks.html", {**facts, "asking": len(await desk.asking())})

    async def _task(self, request: Request, desk: Desk) -> Response:
        task = await desk.tasks.get(request.path_params["task_id"])
        facts = {
            "task": task,
            "final": task.state in FINAL,
            "waiting": task.state == task_pb2.TASK_STATE_WAITING_FOR_HUMAN,
            "command": shlex.join(task.spec.command),
            "children": await desk.tasks.list(parent_task_id=task.task_id, limit=PAGE),
            "asking": len(await desk.asking()),
        }
        return self._pages.write(request, "task.html", facts)

    async def _new(self, request: Request, desk: Desk) -> Response:
        return await self._form(request, desk, Form(b""), "")

    async def _form(self, request: Request, desk: Desk, form: Form, problem: str, status: int = 200) -> Response:
        facts = {
            "types": await desk.tasks.types(),
            "drivers": sorted({driver for agent in await desk.agents.list() for driver in agent.drivers}),
            "form": form,
            "problem": problem,
            "request_id": form.get("request_id") or f"web-{secrets.token_hex(12)}",
            "asking": len(await desk.asking()),
        }
        return self._pages.write(request, "new.html", facts, status)

    async def _submit(self, request: Request, desk: Desk, form: Form) -> Response:
        try:
            task = await desk.tasks.submit(_spec(form), request_id=form.get("request_id"))
        except InvalidArgumentError as error:
            return await self._form(request, desk, form, f"{error.message} {error.next_step}.", 400)
        return back(f"/tasks/{task.task_id}")

    async def _cancel(self, request: Request, desk: Desk, form: Form) -> Response:
        del form
        task = await desk.tasks.cancel(request.path_params["task_id"], reason="cancelled in the dashboard")
        return back(f"/tasks/{task.task_id}")

    async def _answer(self, request: Request, desk: Desk, form: Form) -> Response:
        """Answer by a button (an option) or in words; an answer to a question that is closed is refused by the control plane."""
        option = form.get("option")
        task = await desk.tasks.answer(
            request.path_params["task_id"],
            text=form.get("text"),
            option=int(option) if option.isdecimal() and len(option) < 4 else 0,
            question_id=form.get("question_id"),
        )
        return back("/inbox" if form.get("from") == "inbox" else f"/tasks/{task.task_id}")


def _spec(form: Form) -> TaskSpec:
    """Return what a form asks for; what it leaves empty takes the control plane's defaults."""
    try:
        command = shlex.split(form.get("command"))
    except ValueError as cause:
        raise InvalidArgumentError(f"The command cannot be read: {cause}.", next_step="close its quotes") from cause
    priority = form.get("priority") or "0"
    if not priority.isdecimal() or len(priority) > 3:
        raise InvalidArgumentError("A priority is 1 (last) to 10 (first).", next_step="correct it")
    spec = TaskSpec(
        type=form.get("type"), driver=form.get("driver"), prompt=form.get("prompt"), command=command, priority=int(priority)
    )
    if repository := form.get("repository"):
        spec.workspace.CopyFrom(WorkspaceSource(git=GitWorkspace(repository=repository, ref=form.get("ref"))))
    return spec
