"""How are the calls of one client served? Each in a task of its own, so that a long wait holds up nobody and can be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from claude_conductor.agent_tools import actions
from claude_conductor.agent_tools.advice import one_line
from claude_conductor.agent_tools.mail import Heard, nobody_listens
from claude_conductor.agent_tools.mcp import protocol, tools
from claude_conductor.agent_tools.mcp.catalogue import TOOLS
from claude_conductor.agent_tools.mcp.protocol import Id, Json, Notification, Refused, Request, Server
from claude_conductor.agent_tools.mcp.tools import Bench, Outcome
from claude_conductor.errors import ConductorError

_log = logging.getLogger(__name__)
MOST_CALLS: Final = 32
"""Calls at once; more are refused."""
_REMEMBERED: Final = 16
"""Answers whose messages come back if the client says afterwards that it had cancelled the call."""
_LAST_SECONDS: Final = 1.0

Write = Callable[[bytes], Awaitable[None]]


class McpServer:
    """Serves one client.

    Args:
        server: What it says of itself.
        bench: What the tools work with.
        write: Writes one line to the client; lines of several tasks never mix.
    """

    def __init__(self, server: Server, bench: Bench, write: Write) -> None:
        self._server = server
        self._bench = bench
        self._write = write
        self._running: dict[Id, asyncio.Task[None]] = {}
        self._answered: OrderedDict[Id, Outcome] = OrderedDict()

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Answer until the client closes its side; what still runs then is cancelled."""
        async with asyncio.TaskGroup() as group:
            async for line in lines:
                incoming, batch = protocol.read(line)
                if batch:
                    group.create_task(self._answer_batch(incoming), name="batch")
                    continue
                for each in incoming:
                    await self._take(each, group)
            await self._wind_up()

    async def _wind_up(self) -> None:
        """Let calls that are about to end do so, and cancel the others."""
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=_LAST_SECONDS)
        for task in list(self._running.values()):
            task.cancel()

    async def _take(
        self, incoming: Request | Notification | Refused, group: asyncio.TaskGroup, into: list[Json] | None = None
    ) -> None:
        """Answer what can be answered at once, and begin what cannot."""
        match incoming:
            case Notification():
                if incoming.method == "notifications/cancelled":
                    self._cancel(incoming.params.get("requestId"))
            case Refused():
                await self._give(incoming.answer, into)
            case Request():
                answer = self._at_once(incoming)
                if answer is not None:
                    await self._give(answer, into)
                else:
                    self._begin(incoming, group, into)

    def _begin(self, request: Request, group: asyncio.TaskGroup, into: list[Json] | None) -> None:
        task = group.create_task(self._call(request, into), name=f"call {request.id}")
        self._running[request.id] = task
        task.add_done_callback(lambda _: self._running.pop(request.id, None))

    async def _answer_batch(self, incoming: list[Request | Notification | Refused]) -> None:
        answers: list[Json] = []
        async with asyncio.TaskGroup() as group:
            for each in incoming:
                await self._take(each, group, answers)
        if answers:
            await self._write(protocol.written(answers))

    def _at_once(self, request: Request) -> Json | None:
        """Answer what needs no waiting; None for a call that may begin."""
        if (refusal := protocol.unsupported(request)) is not None:
            return refusal
        match request.method:
            case "initialize":
                return protocol.initialized(request, self._server)
            case "server/discover":
                return protocol.discovered(request, self._server)
            case "tools/list":
                return protocol.listed(request, self._server, TOOLS)
            case "tools/call":
                return self._refusal(request)
            case "ping":
                return protocol.success(request, self._server, {})
            case _:
                return protocol.failure(request.id, protocol.METHOD_NOT_FOUND, f"There is no method {request.method}.")

    def _refusal(self, request: Request) -> Json | None:
        """Return why a call is not even begun; None if it is."""
        name, arguments = request.params.get("name"), request.params.get("arguments", {})
        if name not in tools.CALLS:
            message = f"There is no tool {name!r}; there are: {', '.join(tools.CALLS)}."
            return protocol.failure(request.id, protocol.INVALID_PARAMS, message)
        if not isinstance(arguments, dict | None):
            return protocol.failure(request.id, protocol.INVALID_PARAMS, "`arguments` is an object.")
        if request.id in self._running:
            return protocol.failure(request.id, protocol.INVALID_REQUEST, "A call with this id is under way.")
        if len(self._running) >= MOST_CALLS:
            return protocol.failure(request.id, protocol.TOO_MANY, f"{MOST_CALLS} calls are under way; wait until one has ended.")
        return None

    async def _call(self, request: Request, into: list[Json] | None) -> None:
        """Call a tool and give its answer; whatever happens in it, the client gets one."""
        try:
            arguments = request.params.get("arguments") or {}
            outcome = await tools.call(self._bench, request.params["name"], arguments, self._listener(request))
        except ConductorError as error:
            await self._give(protocol.called(request, self._server, one_line(error), failed=True), into)
            return
        except Exception as error:  # noqa: BLE001 - the outermost handler: a fault of ours must not end the agent's only way out
            _log.exception("a tool failed")
            text = f"The tool itself is at fault ({type(error).__name__}). Next: go on without it and mention it in your result."
            await self._give(protocol.called(request, self._server, text, failed=True), into)
            return
        await self._hand_over(request, outcome, into)

    async def _hand_over(self, request: Request, outcome: Outcome, into: list[Json] | None) -> None:
        """Give the answer; its messages are acknowledged behind it, and held again if it could not be given."""
        try:
            await self._give(protocol.called(request, self._server, outcome.text, failed=False), into)
        except BaseException:
            self._bench.desk.mail.put_back(outcome.taken)
            raise
        if not outcome.taken:
            return
        self._answered[request.id] = outcome
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
        if outcome.acknowledge:
            try:
                await actions.acknowledge(self._bench.desk, outcome.taken)
            except ConductorError as error:
                _log.warning("messages could not be acknowledged: %s", error)

    def _cancel(self, identity: object) -> None:
        """End a call. The client has stopped to listen, so what an answer on its way holds is kept for the next one."""
        if not isinstance(identity, str | int):
            return
        task, answered = self._running.get(identity), self._answered.pop(identity, None)
        if answered is not None:
            self._bench.desk.mail.put_back(answered.taken)
        elif task is not None:
            task.cancel()

    def _listener(self, request: Request) -> Heard:
        """Return what tells the client of a wait, if it asked to be told."""
        token = request.meta.get("progressToken")
        if not isinstance(token, str | int):
            return nobody_listens

        async def heard(waited: float, longest: float, what: str) -> None:
            await self._write(protocol.written(protocol.progress(token, waited, longest, what)))

        return heard

    async def _give(self, answer: Json, into: list[Json] | None) -> None:
        if into is not None:
            into.append(answer)
        else:
            await self._write(protocol.written(answer))
