"""How the process of a long-running agent is kept alive: started in its sandbox, watched, and started again with a pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.drivers.driver import AgentDriver, TaskOrder
from agent_sidecar.drivers.toolchain import outermost
from agent_sidecar.egress.door import PORT, SOCKET
from agent_sidecar.isolation.interface import Cause, Exit, Handle, IsolationDriver, Level, Spec, Stats
from agent_sidecar.run.files import tree
from agent_sidecar.run.hooks.egress import variables
from agent_sidecar.run.hooks.environment import SOCKETS, environment
from agent_sidecar.run.hooks.isolation import in_force, planned
from agent_sidecar.run.runner import Bounds, Surroundings
from agent_sidecar.run.task import InForce
from claude_conductor.errors import ConductorError

_log = logging.getLogger(__name__)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""A process that lived this long is started again at once."""
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """What is kept alive, and where."""

    agent_id: str
    driver: AgentDriver
    isolation: IsolationDriver
    home: Path
    """Its own folder, shown to it as /workspace."""
    sockets: Path
    toolchains: tuple[Path, ...]
    environment: Mapping[str, str]
    """Added to its environment."""
    allow: tuple[str, ...] = ()
    """Hosts that the proxy beside it lets it reach; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Told:
    """Whom the keeper tells."""

    output: Callable[[str, bytes], Awaitable[None]]
    ended: Callable[[str, Exit | None], None]
    """Why in a sentence, and how; None if it could not even be started."""
    changed: Callable[[], None]


class Keeper:
    """Keeps one program alive.

    Args:
        program: What.
        bounds: Level and limits.
        surroundings: What it works with.
        told: Whom it tells.
        random: Returns a number from 0 up to 1.
    """

    def __init__(
        self, program: Program, bounds: Bounds, surroundings: Surroundings, told: Told, random: Callable[[], float]
    ) -> None:
        self._program = program
        self._bounds = bounds
        self._with = surroundings
        self._told = told
        self._random = random
        self._stopping = False
        self.handle: Handle | None = None
        self.in_force: InForce | None = None
        self.stats = Stats()
        self.spoke = False
        """Whether this process has called its sidecar."""
        self.trouble = ""
        """Why there is no process, or why the last one ended."""
        self._last_end = ""

    async def serve(self) -> None:
        """Start the program again whenever it ends, until stopped."""
        failures = 0
        while not self._stopping:
            began = self._with.clock.monotonic()
            try:
                await self._live_once()
            except (ConductorError, OSError) as error:
                self.trouble = f"the agent's program cannot be started: {error}"
                _log.error("long-running agent could not be started", extra={"cause": str(error)})
                self._told.ended(self.trouble, None)
            self._told.changed()
            steady = self._with.clock.monotonic() - began > _STEADY_SECONDS
            failures = 0 if steady else failures + 1
            bound = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures, 12))
            await asyncio.sleep(bound * (0.5 + self._random() / 2))

    async def stop(self) -> None:
        """End the program for good."""
        self._stopping = True
        await self.end(self._bounds.stop_grace)

    async def end(self, grace: float) -> None:
        """End the present process; unless stopped, another is started."""
        if self.handle is not None:
            await self.handle.stop(grace)

    async def _live_once(self) -> None:
        """Start the process and return when it has ended."""
        program = self._program
        await asyncio.to_thread(self._make_home)
        plan = planned(program.isolation, self._spec())
        self.spoke = False
        await self._with.mailboxes.new_process(program.agent_id, self._last_end)
        self.in_force = in_force(plan, self._bounds.level, program.isolation.probe().driver, program.allow)
        handle = await program.isolation.start(plan)
        self.handle, self.trouble = handle, ""
        try:
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(self._pump(handle), name="output of the long-running agent")
                look = group.create_task(self._look(handle), name="statistics of the long-running agent")
                with suppress(BrokenPipeError, ConnectionResetError):
                    await handle.write_stdin(b"")
                ended = await handle.wait()
                await asyncio.wait({pump}, timeout=1.0)
                pump.cancel()
                look.cancel()
        finally:
            self.handle = None
            await handle.stop(0)
        self._last_end = f"its program ended: {_how(ended)}"
        self.trouble = f"the agent's program ended ({ended.detail or ended.cause.value}) and is started again"
        facts = {"cause": ended.cause.value, "code": ended.code, "detail": ended.detail}
        _log.log(logging.INFO if ended.cause is Cause.STOPPED else logging.WARNING, "long-running agent ended", extra=facts)
        self._told.ended(self.trouble, ended)

    def _spec(self) -> Spec:
        program = self._program
        command = program.driver.command(TaskOrder(task_id="", type="", prompt="", environment=program.environment))
        sockets = str(program.sockets) if self._bounds.level is Level.MINIMAL else SOCKETS
        proxied = variables() if program.allow else {}
        return Spec(
            agent_id=program.agent_id,
            run_id=self._with.mint("run_"),
            argv=command.argv,
            environment={**environment(program.agent_id, "", "", command.environment, sockets), **proxied},
            bridges={PORT: SOCKET} if program.allow else {},
            workspace=program.home,
            socket_directory=program.sockets,
            level=self._bounds.level,
            limits=self._bounds.limits,
            toolchains=outermost((*program.toolchains, *command.toolchains)),
        )

    def _make_home(self) -> None:
        home = self._program.home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.lstat().st_uid != self._program.isolation.agent_uid:
            tree.give(home, self._program.isolation.agent_uid)

    async def _pump(self, handle: Handle) -> None:
        async for stream, chunk in handle.output():
            await self._told.output(stream, chunk)

    async def _look(self, handle: Handle) -> None:
        while True:
            self.stats = await handle.stats()
            await asyncio.sleep(_LOOK_SECONDS)


def _how(ended: Exit) -> str:
    if ended.cause is Cause.EXITED and ended.code is not None:
        return f"exit code {ended.code}"
    return ended.detail or ended.cause.value.replace("_", " ")
