"""The set-up command of a workspace: run before the agent in a sandbox of its own, or skipped because what it makes is kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sidecar.drivers.toolchain import outermost
from agent_sidecar.isolation.interface import Cause, Exit, Handle, IsolationDriver, Level, Spec
from agent_sidecar.run.files import setup_cache, tree
from agent_sidecar.run.files.setup_cache import SetupCache
from agent_sidecar.run.hook import Run
from agent_sidecar.run.hooks.environment import environment
from agent_sidecar.run.hooks.isolation import planned
from agent_sidecar.run.hooks.output import PIECE_BYTES
from agent_sidecar.run.hooks.usage import usage_of
from agent_sidecar.run.lifecycle import SetupFailedError
from agent_sidecar.run.rate import Bucket
from agent_sidecar.run.reports import Reports
from agent_sidecar.run.task import SetupOrder
from agent_sidecar.run.text import one_line
from claude_conductor.clock import Clock
from claude_conductor.errors import StartFailedError
from claude_conductor.telemetry.traces import Tracer, span
from claude_conductor.units import format_duration

STREAM: Final = "setup"
"""Where its output stands in the log, apart from the agent's."""
_BYTES_A_SECOND: Final = 8 << 20
_TAIL_BYTES: Final = 4096
_TAIL_LINES: Final = 5
_DRAIN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Room:
    """Where set-up commands run."""

    driver: IsolationDriver
    sockets: Path
    """An empty folder: a set-up has no door to the sidecar or to a model."""
    toolchains: tuple[Path, ...]
    agent_id: str
    stop_grace: float
    """Seconds between TERM and KILL."""


class SetupHook:
    """Makes the workspace ready.

    Args:
        room: Where the command runs.
        cache: What earlier ones made.
        reports: Told what it writes.
        clock: Tells the time.
        tracer: Times it.
    """

    name = "setup"

    def __init__(self, room: Room, cache: SetupCache, reports: Reports, clock: Clock, tracer: Tracer) -> None:
        self._room = room
        self._cache = cache
        self._reports = reports
        self._clock = clock
        self._tracer = tracer

    async def prepare(self, run: Run) -> None:
        """Run it, or restore what it made for the same files.

        Raises:
            SetupFailedError: It failed or took too long; holds its last lines.
            IsolationRefusedError: The level is not possible here.
            WorkspaceError: A file that decides about it cannot be read.
        """
        order, workspace = run.assignment.setup, run.workspace
        if order is None or workspace is None:
            return
        with span(self._tracer, "workspace setup", parent=run.task_traceparent), run.unhurried(self._clock.monotonic()):
            name = await self._name(run, order, workspace)
            if name and (found := await self._cache.restore(name, workspace)) is not None:
                await asyncio.to_thread(tree.give, workspace, self._room.driver.agent_uid)
                await self._say(run, f"set-up skipped: {', '.join(found)} restored, as {_files(order)} did not change")
                return
            began = self._clock.monotonic()
            await self._progress(run, f"set-up runs: {' '.join(order.command)}")
            await self._run(run, order, workspace)
            await self._progress(run, f"set-up took {format_duration(self._clock.monotonic() - began)}")
            if name and (why := await self._cache.store(name, workspace, order.keep)):
                run.warnings.append(why)

    async def during(self, run: Run) -> None:
        """Nothing to do."""

    async def finish(self, run: Run) -> None:
        """Nothing to take back: the command has ended."""

    async def _name(self, run: Run, order: SetupOrder, workspace: Path) -> str:
        """Return the name of what it makes; empty where it is run anew each time."""
        if not order.cache_files or not self._cache.on:
            return ""
        why = ""
        digests = [await asyncio.to_thread(setup_cache.digest, workspace, path) for path in order.cache_files]
        if run.level is Level.MINIMAL:
            why = "at the level minimal workspaces lie at different paths"
        elif not any(digests):
            why = f"there is no {' and no '.join(order.cache_files)} in the workspace"
        for path in order.keep:
            if await asyncio.to_thread(setup_cache.there, workspace, path):
                why = f"{path} is there before it runs"
        if why:
            await self._say(run, f"set-up is not cached: {why}")
            return ""
        return setup_cache.name_of(run.assignment, order, digests, self._toolchains(run), run.level)

    def _toolchains(self, run: Run) -> tuple[Path, ...]:
        return outermost((*self._room.toolchains, *(run.command.toolchains if run.command is not None else ())))

    async def _run(self, run: Run, order: SetupOrder, workspace: Path) -> None:
        room, assignment = self._room, run.assignment
        variables = environment(room.agent_id, assignment.lease.task_id, run.task_traceparent, assignment.environment)
        del variables["CONDUCTOR_SOCKET"]
        spec = Spec(
            agent_id=room.agent_id,
            run_id=f"{run.run_id}s",
            argv=order.command,
            environment=variables,
            workspace=workspace,
            socket_directory=room.sockets,
            level=run.level,
            limits=run.limits,
            toolchains=self._toolchains(run),
        )
        try:
            handle = await room.driver.start(planned(room.driver, spec))
        except StartFailedError as cause:
            raise SetupFailedError(f"The set-up command could not be started: {cause}") from cause
        tail = bytearray()
        try:
            ended = await self._ended(run, order, handle, tail)
        finally:
            await handle.stop(room.stop_grace)
        if (why := _trouble(order, ended)) is not None:
            raise SetupFailedError(f"{why}{_last_lines(tail)}")

    async def _ended(self, run: Run, order: SetupOrder, handle: Handle, tail: bytearray) -> Exit | None:
        """Return how it ended; None if its time was over first."""
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(run, handle, tail), name=f"set-up output of {run.run_id}")
            ended = None
            with suppress(BrokenPipeError, ConnectionResetError):
                await handle.write_stdin(b"")
            try:
                async with asyncio.timeout(order.timeout) as own:
                    ended = await handle.wait()
            except TimeoutError:
                if not own.expired():
                    raise
                await handle.stop(self._room.stop_grace)
            await asyncio.wait({pump}, timeout=_DRAIN_SECONDS)
            pump.cancel()
        return ended

    async def _pump(self, run: Run, handle: Handle, tail: bytearray) -> None:
        bucket = Bucket(_BYTES_A_SECOND, _BYTES_A_SECOND * 2, self._clock)
        async for _, chunk in handle.output():
            run.life.last = self._clock.monotonic()
            tail += chunk
            del tail[:-_TAIL_BYTES]
            await asyncio.sleep(bucket.take(len(chunk)))
            await self._show(run, chunk)

    async def _show(self, run: Run, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            await self._reports.output(run.assignment.lease, STREAM, run.printed, piece)
            run.printed += len(piece)

    async def _say(self, run: Run, text: str) -> None:
        await self._show(run, f"{text}\n".encode())
        await self._progress(run, text)

    async def _progress(self, run: Run, text: str) -> None:
        await self._reports.progress(run.assignment.lease, one_line(text), usage_of(run, self._clock))


def _files(order: SetupOrder) -> str:
    return ", ".join(order.cache_files)


def _trouble(order: SetupOrder, ended: Exit | None) -> str | None:
    """Return why it failed; None if it did not."""
    if ended is None:
        return f"The set-up command ran longer than its {format_duration(order.timeout)}; raise it with --setup-timeout"
    if ended.cause is Cause.EXITED:
        return f"The set-up command ended with exit code {ended.code}" if ended.code else None
    return f"The set-up command failed: {ended.detail or ended.cause.value.replace('_', ' ')}"


def _last_lines(tail: bytearray) -> str:
    lines = bytes(tail).decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return f": {' / '.join(line.strip() for line in lines)}" if lines else "."
