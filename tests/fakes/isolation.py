"""A fake isolation driver: runs the argument vector as an ordinary child process, without any isolation. For tests only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

from agent_sidecar.isolation.interface import Capabilities, Cause, Exit, Level, Mechanism, Plan, Refusal, Spec, Stats, Strength

MISSING = Mechanism("bubblewrap", Strength.NO, "this is a fake", "use the real driver")


class FakeHandle:
    """A child process in a session of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stopped = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(4)

        async def pump(name: str, reader: asyncio.StreamReader) -> None:
            while chunk := await reader.read(1 << 16):
                await queue.put((name, chunk))
            await queue.put(None)

        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(pump("stdout", self._process.stdout))
            group.create_task(pump("stderr", self._process.stderr))
            ended = 0
            while ended < 2:
                item = await queue.get()
                if item is None:
                    ended += 1
                else:
                    yield item

    async def write_stdin(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):  # uvloop: the handler is closed
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        self._process.stdin.close()

    async def wait(self) -> Exit:
        code = await self._process.wait()
        if self._stopped:
            return Exit(Cause.STOPPED, signal=-code if code < 0 else None, code=code if code >= 0 else None)
        return Exit(Cause.EXITED, code=code) if code >= 0 else Exit(Cause.SIGNALLED, signal=-code)

    async def stats(self) -> Stats:
        return Stats(memory_bytes=1 << 20, memory_peak_bytes=2 << 20, cpu_seconds=0.25, pids=1)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, grace: float) -> Exit:
        if self._process.returncode is None:
            self._stopped = True
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return await self.wait()


class FakeIsolation:
    """Starts plain processes; refuses the levels it is told to."""

    def __init__(self, *, refused: frozenset[Level] = frozenset(), stand_in: str = "") -> None:
        """Begin. A stand-in is a Python script that is started in place of every agent's program, with its arguments."""
        self._refused = refused
        self._stand_in = (sys.executable, stand_in) if stand_in else ()
        self._handles: list[FakeHandle] = []

    @property
    def agent_uid(self) -> int:
        return os.geteuid()

    def probe(self) -> Capabilities:
        return Capabilities("fake", ())

    def plan(self, spec: Spec) -> Plan | Refusal:
        if spec.level in self._refused:
            return Refusal(spec.level, (MISSING,))
        return Plan(spec, spec.level, ("nothing",))

    async def start(self, plan: Plan) -> FakeHandle:
        spec = plan.spec
        environment = {
            **spec.environment,
            "HOME": str(spec.workspace),
            "CONDUCTOR_SOCKET": str(spec.socket_directory / "agent.sock"),
            "FAKE_LIMIT": str(spec.limits.memory_bytes),
        }
        process = await asyncio.create_subprocess_exec(
            *((*self._stand_in, *spec.argv[1:]) if self._stand_in else spec.argv),
            cwd=spec.workspace,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        handle = FakeHandle(process)
        self._handles.append(handle)
        return handle

    async def sweep(self) -> list[str]:
        return []

    async def close(self) -> None:
        for handle in self._handles:
            await handle.stop(0)
